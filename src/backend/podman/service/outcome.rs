//! What follows from the steps that were carried out.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::errors;
use super::super::plan::{Attempt, Step};
use super::super::replica::Tracked;
use super::super::steps::Effect;
use super::{Batch, Failed, ImageState, Service, Whereabouts};
use crate::domain::status::Desired;
use crate::error::{Error, Kind};

/// First pause after trouble with the engine, and before a failed creation is tried again; both grow.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_RETRY: Duration = Duration::from_mins(10);
/// So many failures in a row are not told to who waits for a removal: now and then the engine cannot do what it can a moment
/// later, and the removal goes on in any case.
const PATIENT: u32 = 3;

fn grown(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.min(20))).min(longest)
}

impl Service {
    pub(super) fn finish_batch(&mut self, effects: Vec<Effect>) {
        let Some(Batch { steps, generation, .. }) = self.batch.take() else { return };
        self.progress = None;
        let before = self.trouble;
        // What was tried for an earlier record says nothing about the present one.
        let present = generation == self.record.generation;
        if present {
            for step in &steps {
                self.abandoned(step);
            }
        }
        for effect in effects {
            if present || !matches!(effect, Effect::Failed(_) | Effect::RecordGone) {
                self.take_effect(effect);
            }
        }
        if self.trouble == before {
            self.trouble = 0;
        } else {
            for id in steps.iter().filter_map(Step::ends) {
                self.change(id, Tracked::goes_on);
            }
        }
        for step in &steps {
            if let Step::Restart { id } = step {
                self.restarts.queue.retain(|queued| queued != id);
                let until = Instant::now() + self.record.spec.start_timeout.duration();
                self.restarts.gate = Some((id.clone(), until));
            }
        }
    }

    /// A replacement was given up: the reason must be kept before its container is forgotten.
    fn abandoned(&mut self, step: &Step) {
        let Step::Abandon { new, .. } = step else { return };
        let Some(container) = self.containers.get(new) else { return };
        let exit = container.member(&self.digest).exit;
        let words = container.first_words();
        if let Some(error) = errors::not_executable(words, &self.record.spec) {
            let detail = format!("the new version: {}; the old one stays", error.detail);
            self.fail(Error { detail, ..error }, false);
            return;
        }
        let said = words.last().map_or_else(String::new, |line| format!(" (\"{}\")", line.escape_debug()));
        let detail = match (exit, container.last_answer()) {
            (Some((code, _)), _) => format!("the new version ended with status {code}{said}; the old one stays"),
            (None, Some(detail)) => {
                format!("the new version was not healthy within {}: {detail}; the old one stays", self.record.spec.start_timeout)
            }
            (None, None) => format!("the new version was not ready within {}; the old one stays", self.record.spec.start_timeout),
        };
        let kind = if exit.is_some() { Kind::StartFailed } else { Kind::Timeout };
        self.fail(Error::new(kind, detail).remedy("look at the logs, correct the change and apply it again"), false);
    }

    fn take_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Seen(observed, asked) => self.see(observed, asked),
            Effect::Made(id) => self.making.has_made(id),
            Effect::Gone(id) => self.forget(&id),
            Effect::Started(id) => {
                if self.containers.get_mut(&id).is_some_and(Tracked::restarted) {
                    self.shared.metrics.container_restarts.with_label_values(&["exit"]).inc();
                }
            }
            Effect::Warned(warnings) => {
                for warning in warnings {
                    if !self.warnings.contains(&warning) {
                        self.warnings.push(warning);
                    }
                }
            }
            Effect::ImageNeeded if matches!(self.image, ImageState::Ready(_)) => {
                let detail = format!("the image {} was fetched and is gone again", self.record.spec.image);
                self.fail(Error::new(Kind::ImageNotFound, detail).remedy("see who removes images on this machine"), false);
            }
            Effect::ImageNeeded => self.image = ImageState::Needed,
            Effect::ImageReady(reference) => self.image = ImageState::Ready(reference),
            Effect::Failed(error) => {
                // A replica that stood before is wanted back; a change that is refused waits for the next change.
                let changing = self.containers.values().any(|container| *container.observed.digest != *self.digest);
                let again = errors::may_pass(error.kind) || (self.established && !changing);
                self.fail(error, again);
                self.making.has_failed(true);
            }
            Effect::Refused(id, error) => self.refused(&id, error),
            Effect::RecordGone => self.look_for_record(),
            Effect::Purged => self.whereabouts = Whereabouts::Gone,
            Effect::Again(error) => self.again(&error),
        }
    }

    pub(super) fn fail(&mut self, error: Error, again: bool) {
        let pause = grown(FIRST_RETRY, self.attempts, LONGEST_RETRY);
        let again = if again { Attempt::At(Timestamp::now() + pause) } else { Attempt::Never };
        self.attempts = self.attempts.saturating_add(1);
        self.making.has_failed(false);
        tracing::warn!(service = %self.record.name, %error, "the service could not be brought to what its record says");
        self.failed = Some(Failed { error, again });
    }

    /// A container that exists could not be started. Of a service that never stood, that is a failed creation.
    fn refused(&mut self, id: &str, error: Error) {
        self.answer_restarts(&Err(error.clone()));
        if self.established {
            tracing::warn!(service = %self.record.name, container = id, %error, "a container could not be started");
            self.change(id, |container| container.refuse(Timestamp::now()));
        } else {
            self.fail(error, false);
        }
    }

    /// The engine could not be asked, or a removal failed: later.
    pub(super) fn again(&mut self, error: &Error) {
        self.making.end_turn();
        self.blocked = Some(Instant::now() + grown(FIRST_PAUSE, self.trouble, LONGEST_PAUSE));
        self.trouble = self.trouble.saturating_add(1);
        tracing::warn!(service = %self.record.name, %error, "a step failed and is repeated");
        self.answer_restarts(&Err(error.clone()));
        self.restarts.queue.clear();
        let may_pass = error.kind == Kind::Internal && self.trouble <= PATIENT;
        if self.record.desired == Desired::Removed && !may_pass {
            for reply in self.removals.drain(..) {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

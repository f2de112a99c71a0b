//! What a service's task hears of: changes of its record, of its containers, and wishes of callers.

use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::super::client::EngineError;
use super::super::errors;
use super::super::lost_network::Lost;
use super::super::missing::{self, Fate};
use super::super::observed::Observed;
use super::super::plan::Step;
use super::super::records::Stored;
use super::super::replica::{RunId, Tracked};
use super::super::shared::Shared;
use super::super::turns;
use super::{ImageState, Service, Whereabouts, making};
use crate::domain::status::{Desired, Progress, Record, ReplicaState};
use crate::error::{Error, Kind, Result};

/// What is wrong with a container that the engine has left without a network.
const CUT_OFF: &str = "the engine has lost its network; it is started again";

/// What is wrong with one whose published port nobody serves any more.
const UNREACHABLE: &str = "the engine has lost what serves its port; it is started again";

/// Something a service's task is told.
#[derive(Debug)]
pub(in super::super) enum Message {
    /// The record, as it was found or written.
    Record(Stored),
    /// Its containers at the start of its task, looked at since the moment given.
    Found(Vec<Observed>, Instant),
    /// Its containers in the engine's list, which was asked for at the moment given.
    Listed(Vec<Observed>, Instant),
    /// The engine says that something happened to a container at that time.
    Touched(String, Timestamp),
    /// The list of volumes does not have its record.
    RecordMissing,
    /// The engine answers again.
    Connected,
    /// How far the pull is.
    Progress(Progress),
    /// Restart every replica that runs.
    Restart(oneshot::Sender<Result<()>>, Span),
    /// Answer when nothing is left of it; the record of the deletion comes separately.
    Remove(oneshot::Sender<Result<()>>),
}

/// What runs beside the steps.
pub(super) enum Aside {
    Checked {
        id: String,
        run: RunId,
        outcome: Option<Result<(), String>>,
        lost: Option<Lost>,
    },
    Looked {
        id: String,
        asked: Instant,
        found: Result<Option<Observed>, EngineError>,
    },
    /// The record of this generation was missing.
    Missed {
        record: Arc<Record>,
        fate: Fate,
    },
    /// It is this manager's turn to make something, and these are the containers that there are then.
    Turn {
        turn: turns::Making,
        asked: Instant,
        found: Result<Vec<Observed>, EngineError>,
    },
    /// All is to be restarted, and these are the containers that there are.
    Restart {
        reply: oneshot::Sender<Result<()>>,
        cause: Span,
        asked: Instant,
        found: Result<Vec<Observed>, EngineError>,
    },
}

/// Counts as one of the first looks until it is dropped, also by a panic.
pub(super) struct FirstLook(pub(super) Arc<Shared>);

impl Drop for FirstLook {
    fn drop(&mut self) {
        self.0.seen();
    }
}

impl Service {
    pub(in super::super) fn hear(&mut self, message: Message) {
        match message {
            Message::Record(stored) => self.change_record(&stored),
            Message::Found(containers, asked) => self.found(containers, asked),
            Message::Listed(containers, asked) => self.take_list(containers, asked),
            Message::Touched(id, at) => self.touched(&id, at),
            Message::RecordMissing => self.look_for_record(),
            Message::Connected => self.blocked = None,
            Message::Progress(progress) => self.progress = self.is_fetching().then_some(progress),
            Message::Restart(reply, cause) => self.look_before_restart(reply, cause),
            Message::Remove(reply) => self.removals.push(reply),
        }
    }

    fn is_fetching(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| batch.steps.contains(&Step::Fetch))
    }

    fn change_record(&mut self, stored: &Stored) {
        if stored.is_newer_than(&self.record) {
            self.take_record(stored);
        } else if !stored.is_other_than(&self.record) && stored.written_here {
            // It was found before its writer told of it.
            self.cause = stored.cause.clone();
            self.making.is_ours();
        }
    }

    fn take_record(&mut self, stored: &Stored) {
        let digest = stored.record.spec.container_digest();
        if *digest != *self.digest {
            self.image = ImageState::before(&stored.record.spec);
            self.digest = digest.into();
        }
        // What stood was another service of that name.
        self.established &= stored.record.created_at == self.record.created_at;
        self.record = stored.record.clone();
        self.cause = stored.cause.clone();
        self.whereabouts = Whereabouts::Known;
        self.remove_volumes = stored.remove_volumes;
        self.making.begin_anew(stored, |container| self.containers.contains_key(container));
        self.warnings = self.shared.warnings_for(&self.record.spec);
        self.failed = None;
        self.attempts = 0;
        self.blocked = None;
        if self.record.desired != Desired::Running {
            self.restarts.queue.clear();
            let error = Error::new(Kind::Cancelled, "the service was stopped or deleted while it was restarted");
            self.answer_restarts(&Err(error.remedy("start it if it is meant to run")));
        }
        // A pull may be dropped half-way; what is still wanted of it is asked for again.
        if self.is_fetching() {
            self.batch = None;
            self.progress = None;
        }
    }

    fn take_list(&mut self, listed: Vec<Observed>, asked: Instant) {
        self.recall(|_| true);
        // What the list does not have, or has in another state, gets a closer look: a list is coarse, and may be older
        // than what has been done since.
        let known: Vec<_> = self.containers.iter().map(|(id, one)| (id.clone(), one.is_newer_than(asked))).collect();
        for (id, newer) in known {
            if !newer && !listed.iter().any(|observed| observed.id == id) {
                self.look(id);
            }
        }
        for observed in listed {
            let known = self.containers.get(&observed.id);
            let as_known = known.is_some_and(|known| {
                known.is_newer_than(asked)
                    || (known.observed.state == observed.state && known.observed.address == observed.address)
            });
            if !as_known {
                self.look(observed.id);
            }
        }
    }

    /// Takes in containers that were looked at before the task began.
    fn found(&mut self, containers: Vec<Observed>, asked: Instant) {
        for observed in containers {
            self.see(observed, asked);
        }
    }

    fn touched(&mut self, id: &str, at: Timestamp) {
        // The engine's own steps come back as events a quarter of a second later; what was looked at since is known.
        let age = Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or_default();
        let since = Instant::now().checked_sub(age);
        let known = self.containers.get(id).zip(since).is_some_and(|(container, since)| container.is_newer_than(since));
        if known {
            self.recall(|container| container.observed.id == id);
        } else {
            self.look(id.to_owned());
        }
    }

    /// Asks the engine about one container.
    pub(super) fn look(&self, id: String) {
        let (shared, port) = (self.shared.clone(), self.record.spec.front_port());
        let look = async move {
            let asked = Instant::now();
            let found = shared.look(&id, port).await;
            Aside::Looked { id, asked, found }
        };
        self.aside.push(look.instrument(self.cause.clone()).boxed());
    }

    pub(super) fn take_aside(&mut self, aside: Aside) {
        match aside {
            Aside::Checked { id, run, outcome, lost } => {
                // It may have died: that is known sooner by asking than by the engine's event.
                let outcome = match lost {
                    Some(Lost::All) => Some(Err(CUT_OFF.to_owned())),
                    Some(Lost::Port) => Some(Err(UNREACHABLE.to_owned())),
                    Some(Lost::Namespace(_)) | None => outcome,
                };
                if let Some(lost) = lost {
                    self.change(&id, |container| container.cut_off(run, lost, Timestamp::now()));
                }
                let Some(container) = self.containers.get_mut(&id) else { return };
                if lost.is_none() {
                    container.attached();
                }
                if container.checked(run, outcome, &self.record.spec) {
                    self.look(id);
                }
            }
            Aside::Looked { id, asked, found } => match found {
                Ok(Some(observed)) => self.see(observed, asked),
                Ok(None) => {
                    if self.containers.get(&id).is_some_and(|container| !container.is_newer_than(asked)) {
                        self.forget(&id);
                    }
                }
                Err(error) => tracing::debug!(service = %self.record.name, container = id, %error, "cannot look at a container"),
            },
            Aside::Missed { record, fate } if Arc::ptr_eq(&record, &self.record) => self.missed(fate),
            Aside::Missed { .. } => {}
            Aside::Turn { turn, asked, found } => self.take_turn(turn, asked, found),
            Aside::Restart { reply, cause, asked, found } => match found {
                Ok(found) => {
                    self.see_all(found, asked);
                    self.cause = cause;
                    self.restart(reply);
                }
                Err(error) => {
                    let _ = reply.send(Err(errors::engine(error, "look at the containers")));
                }
            },
        }
    }

    /// Takes in what the engine said of a container.
    pub(super) fn see(&mut self, observed: Observed, asked: Instant) {
        self.accept(&observed);
        let check = &self.record.spec.health_check;
        let id = observed.id.clone();
        let kept = self.shared.pasts.of(&id);
        let container = match self.containers.entry(id.clone()) {
            Entry::Occupied(known) => {
                let container = known.into_mut();
                container.recall(kept.as_ref());
                container.observe(observed, asked, check);
                container
            }
            Entry::Vacant(new) => new.insert(Tracked::new(observed, asked, check, kept.clone().unwrap_or_default())),
        };
        self.shared.pasts.keep(&id, container.past(), kept.as_ref());
        // Nothing has run yet, so that is a failed creation and no crash.
        let failure = errors::not_executable(container.first_words(), &self.record.spec);
        if let Some(error) = failure.filter(|_| self.failed.is_none() && !self.containers.values().any(Tracked::is_ready)) {
            self.established = false;
            self.fail(error, false);
        }
    }

    /// Changes what is known of a container, going on from what all managers know, and has them know of it.
    pub(super) fn change<T>(&mut self, id: &str, change: impl FnOnce(&mut Tracked) -> T) -> Option<T> {
        let container = self.containers.get_mut(id)?;
        let kept = self.shared.pasts.of(id);
        container.recall(kept.as_ref());
        let changed = change(container);
        self.shared.pasts.keep(id, container.past(), kept.as_ref());
        Some(changed)
    }

    /// Takes in what other managers have come to know of some containers.
    pub(super) fn recall(&mut self, which: impl Fn(&Tracked) -> bool) {
        for (id, container) in self.containers.iter_mut().filter(|(_, container)| which(container)) {
            container.recall(self.shared.pasts.of(id).as_ref());
        }
    }

    /// The container is gone.
    pub(super) fn forget(&mut self, id: &str) {
        self.containers.remove(id);
        self.shared.pasts.forget(id);
    }

    /// Takes in all containers that there are.
    pub(super) fn see_all(&mut self, found: Vec<Observed>, asked: Instant) {
        let is_gone = |(id, known): (&String, &Tracked)| {
            (!known.is_newer_than(asked) && found.iter().all(|found| found.id != *id)).then(|| id.clone())
        };
        for id in self.containers.iter().filter_map(is_gone).collect::<Vec<_>>() {
            self.forget(&id);
        }
        for observed in found {
            self.see(observed, asked);
        }
    }

    /// What has just been started by another manager may be known here as ended still, and is restarted all the same.
    fn look_before_restart(&self, reply: oneshot::Sender<Result<()>>, cause: Span) {
        let (shared, record) = (self.shared.clone(), self.record.clone());
        let look = async move {
            let asked = Instant::now();
            let found = making::look_at_all(&shared, &record).await;
            Aside::Restart { reply, cause, asked, found }
        };
        self.aside.push(look.boxed());
    }

    fn restart(&mut self, reply: oneshot::Sender<Result<()>>) {
        if self.record.desired != Desired::Running {
            let error = Error::new(Kind::Conflict, format!("the service '{}' is not meant to run", self.record.name));
            let _ = reply.send(Err(error.remedy("start it instead")));
            return;
        }
        // What waits for its next attempt gets it now.
        self.failed = None;
        self.blocked = None;
        let (mut running, ended): (Vec<_>, Vec<_>) = (self.containers.values())
            .map(|one| (one.observed.state, one.observed.ordinal, one.observed.id.clone()))
            .partition(|(state, ..)| *state == ReplicaState::Running);
        for (.., id) in ended {
            self.change(&id, |container| container.forgive(Timestamp::now()));
        }
        running.sort_by(|one, other| (one.1, &one.2).cmp(&(other.1, &other.2)));
        self.restarts.queue = running.into_iter().map(|(.., id)| id).collect();
        self.restarts.waiting.push(reply);
    }

    /// Finds out what has become of the record. Nothing is done for the service until that is known.
    pub(super) fn look_for_record(&mut self) {
        if self.record.desired == Desired::Removed || self.whereabouts != Whereabouts::Known {
            return;
        }
        self.whereabouts = Whereabouts::Missing;
        let (shared, record) = (self.shared.clone(), self.record.clone());
        let look = async move {
            let fate = missing::fate(&shared, &record).await;
            Aside::Missed { record, fate }
        };
        self.aside.push(look.boxed());
    }

    fn missed(&mut self, fate: Fate) {
        self.whereabouts = Whereabouts::Known;
        match fate {
            // Whichever is there counts, also where clocks make it look older.
            Fate::Found(stored) if stored.is_other_than(&self.record) => self.take_record(&stored),
            Fate::Deleted => self.whereabouts = Whereabouts::Gone,
            Fate::Found(_) | Fate::Restored | Fate::Unknown => {}
        }
    }
}

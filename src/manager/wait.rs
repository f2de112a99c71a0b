//! Waiting for a service to get somewhere, by watching the view.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::Manager;
use crate::domain::name::ServiceName;
use crate::domain::status::{Desired, Phase, Record, Replica, ReplicaState, ServiceState};
use crate::error::{Error, Kind};

/// How long a change waits before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// Not at all: the change is recorded.
    None,
    /// Until all its processes run.
    Started,
    /// Until all its replicas are healthy, or its start timeout ends.
    #[default]
    Healthy,
}

/// How a caller waits: until when, and as long as it is not cancelled.
///
/// Cancelling undoes what is not done yet, as a failure does: a creation leaves nothing, a change puts the former state
/// back. A caller that just goes away cancels nothing.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    /// Until when.
    pub wait: Wait,
    /// Cancelled when the caller gives up on purpose.
    pub cancelled: CancellationToken,
}

impl From<Wait> for Patience {
    fn from(wait: Wait) -> Self {
        Self { wait, ..Self::default() }
    }
}

/// How waiting ended.
#[derive(Debug)]
pub enum Outcome {
    /// It got there.
    Reached,
    /// Its time is over, or it will not get there by itself; the service exists all the same.
    NotReached,
    /// The change cannot be carried out.
    Failed(Error),
    /// It was deleted meanwhile.
    Gone,
    /// Another change replaced the one waited for.
    Overtaken,
}

/// How waiting ended, and the service as it was then; nothing when it was not there.
#[derive(Debug)]
pub struct Waited {
    /// How it ended.
    pub outcome: Outcome,
    /// What was judged.
    pub seen: Option<Arc<ServiceState>>,
}

/// How long a change that nobody waits for may take to be seen in the view.
const SEEN: Duration = Duration::from_secs(5);

impl Manager {
    /// Waits until `judge` says how it ended; `NotReached` after `limit`, of which no time passes while the service
    /// `is_excused`, or after the longest time that anybody waits.
    async fn wait_while(
        &self,
        name: &ServiceName,
        patience: &Patience,
        limit: Duration,
        is_excused: fn(&ServiceState) -> bool,
        judge: impl Fn(&ServiceState) -> Option<Outcome>,
    ) -> Waited {
        let mut view = self.backend.view();
        let mut seen = None;
        let (mut left, mut looked) = (limit, Instant::now());
        let watch = async {
            loop {
                seen = view.borrow_and_update().services.get(name).cloned();
                let outcome = match &seen {
                    // Whatever was waited for, it will not be.
                    Some(service) if service.record.desired == Desired::Removed => Some(Outcome::Gone),
                    Some(service) => judge(service),
                    None => Some(Outcome::Gone),
                };
                if let Some(outcome) = outcome {
                    return outcome;
                }
                let excused = seen.as_deref().is_some_and(is_excused);
                let until_changed = tokio::time::timeout(if excused { Duration::MAX } else { left }, view.changed()).await;
                match until_changed {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Outcome::Failed(Error::shutting_down()),
                    Err(_) => return Outcome::NotReached,
                }
                let now = Instant::now();
                if !excused {
                    left = left.saturating_sub(now - looked);
                }
                looked = now;
            }
        };
        let outcome = tokio::select! {
            waited = tokio::time::timeout(self.settings.max_wait, watch) => waited.unwrap_or(Outcome::NotReached),
            () = patience.cancelled.cancelled() => {
                Outcome::Failed(Error::called_off("the request was cancelled by its caller"))
            }
        };
        Waited { outcome, seen }
    }

    /// Waits until `judge` says how it ended; `NotReached` after `limit`.
    pub(super) async fn wait_until(
        &self,
        name: &ServiceName,
        patience: &Patience,
        limit: Duration,
        judge: impl Fn(&ServiceState) -> Option<Outcome>,
    ) -> Waited {
        self.wait_while(name, patience, limit, |_| false, judge).await
    }

    /// Waits for the change of `generation` as `patience` says. A newer record is waited for as well if it `is_so`: says
    /// what this one was for. A service does not start before its images are there, so pulls do not count.
    pub(super) async fn wait_for(
        &self,
        name: &ServiceName,
        generation: u64,
        patience: &Patience,
        limit: Duration,
        is_so: &(dyn Fn(&Record) -> bool + Send + Sync),
    ) -> Waited {
        if patience.wait == Wait::None {
            return self.until_seen(name, generation).await;
        }
        // Of several replicas some may run before the images of others are where those are to be.
        let is_pulling = |service: &ServiceState| service.phase == Phase::Pulling || service.progress.is_some();
        self.wait_while(name, patience, limit, is_pulling, |service| judge(service, generation, patience.wait, is_so)).await
    }

    /// Waits until whoever reads sees the record of `generation`, or a newer one.
    pub(super) async fn until_seen(&self, name: &ServiceName, generation: u64) -> Waited {
        let is_seen = |service: &ServiceState| (service.record.generation >= generation).then_some(Outcome::Reached);
        self.wait_until(name, &Patience::default(), SEEN, is_seen).await
    }
}

fn judge(service: &ServiceState, generation: u64, wait: Wait, is_so: &dyn Fn(&Record) -> bool) -> Option<Outcome> {
    if service.record.generation > generation && !is_so(&service.record) {
        return Some(Outcome::Overtaken);
    }
    if service.record.generation < generation {
        return None;
    }
    // A change that cannot be carried out leaves what was there running.
    if let Some(failure) = &service.failure {
        return Some(Outcome::Failed(failure.clone()));
    }
    match service.phase {
        Phase::Failed => Some(Outcome::Failed(
            Error::new(Kind::StartFailed, "the service could not be started")
                .remedy("its 'message' and 'reasons' (mcp-manager status NAME) say why; correct that, and apply it again"),
        )),
        Phase::Running => Some(Outcome::Reached),
        // A changed service that is to stay stopped is where it should be.
        Phase::Stopped if service.record.desired == Desired::Stopped => Some(Outcome::Reached),
        Phase::Deleting => Some(Outcome::Gone),
        // An unhealthy one may get well for as long as it has time to start.
        Phase::CrashLoop | Phase::Exited => Some(Outcome::NotReached),
        Phase::Starting | Phase::Degraded if wait == Wait::Started => {
            let wanted = usize::try_from(service.record.spec.replicas).unwrap_or(usize::MAX);
            let digest = service.record.spec.container_digest();
            let started = |replica: &&Replica| replica.state == ReplicaState::Running && replica.spec_digest == digest;
            let running = service.replicas.iter().filter(started).count();
            (running >= wanted).then_some(Outcome::Reached)
        }
        _ => None,
    }
}

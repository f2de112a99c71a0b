//! How changes of services are recorded when others make theirs, how their end is waited for, and what is told of it.

use std::sync::Arc;
use std::time::Duration;

use super::Manager;
use super::views::ServiceDetail;
use super::wait::{Outcome, Patience, Waited};
use super::wanted::Wanted;
use crate::backend::{Change, Places};
use crate::domain::name::ServiceName;
use crate::domain::status::{Desired, Phase, Record, ServiceState};
use crate::error::{Error, Kind, Result};

/// How often a change is tried again when another one came in between, and the pause before that.
const ATTEMPTS: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Outcomes, as answers tell them.
pub(super) const CREATED: &str = "created";
pub(super) const CHANGED: &str = "changed";
pub(super) const RETRIED: &str = "retried";
pub(super) const UNCHANGED: &str = "unchanged";

/// A service that was to be there.
pub(super) enum Found {
    /// It was not, and is now.
    New(Arc<Record>),
    /// It was, or somebody else has just created it.
    Old(Arc<ServiceState>),
}

/// What became of a change of a record.
pub(super) struct Recorded {
    pub(super) before: Arc<Record>,
    pub(super) after: Arc<Record>,
    /// [`CHANGED`], [`RETRIED`] or [`UNCHANGED`].
    pub(super) outcome: &'static str,
}

/// Whether a service is not what its record says, and will not be until somebody asks for it again.
pub(super) fn has_failed(service: &ServiceState) -> bool {
    service.record.desired == Desired::Running && (service.phase == Phase::Failed || service.failure.is_some())
}

impl Manager {
    /// Records a new service; `AlreadyExists` when somebody else was quicker.
    pub(super) async fn record_creation(&self, name: &ServiceName, wanted: &Wanted) -> Result<Arc<Record>> {
        self.is_free(name)?;
        let places = self.backend.places().await?;
        let recorded = || places.at_present(&self.snapshot());
        let reservation = self.capacity.reserve(recorded, name, wanted.spec.most_replicas())?;
        let record = self.backend.create(name, wanted.change(Desired::Running)).await;
        drop((reservation, places));
        record
    }

    /// The service of that name, created if there is none. Of several who ask for it at once, one creates it.
    pub(super) async fn create_or_find(&self, name: &ServiceName, wanted: &Wanted) -> Result<Found> {
        let mut taken = None;
        for _ in 0..ATTEMPTS {
            if let Ok(service) = self.service(name) {
                return Ok(Found::Old(service));
            }
            match self.record_creation(name, wanted).await {
                Ok(record) => return Ok(Found::New(record)),
                // Another manager's service may be seen a moment later.
                Err(error) if error.kind == Kind::AlreadyExists => taken = Some(error),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(taken.unwrap_or_else(|| busy(name)))
    }

    /// Waits for a new service. A failed creation leaves nothing: its caller has the reason, so the record is of no more use.
    pub(super) async fn see_created(&self, record: &Arc<Record>, patience: Patience) -> Result<ServiceDetail> {
        let name = &record.name;
        let is_so = |present: &Record| is_same(present, record);
        let waited = self.wait_for(name, record.generation, &patience, record.spec.start_timeout.duration(), &is_so).await;
        if matches!(waited.outcome, Outcome::Failed(_))
            && self.service(name).is_ok_and(|present| is_so(&present.record))
            && let Err(left) = self.backend.remove(name, false).await
            && left.kind != Kind::NotFound
        {
            tracing::error!(service = %name, error = %left, "what a failed creation left could not be removed");
        }
        self.told(name, waited, CREATED)
    }

    /// Records a change, waits for it, and puts the former state back when it cannot be carried out. `is_so` is whether a
    /// record says what the change is for.
    pub(super) async fn change(
        &self,
        name: &ServiceName,
        patience: Patience,
        edit: impl Fn(&Record) -> Result<Change> + Send + Sync,
        is_so: impl Fn(&Record) -> bool + Send + Sync,
    ) -> Result<ServiceDetail> {
        let Recorded { before, after, outcome } = self.record_change(name, edit, &is_so).await?;
        let limit = self.change_limit(&after);
        let waited = self.wait_for(name, after.generation, &patience, limit, &is_so).await;
        if matches!(waited.outcome, Outcome::Failed(_)) && outcome == CHANGED {
            let former = Change { spec: before.spec.clone(), template: before.template.clone(), desired: before.desired };
            match self.backend.update(name, after.generation, former).await {
                // Who has the answer and looks at the service sees what the answer says of it.
                Ok(restored) => {
                    self.until_seen(name, restored.generation).await;
                }
                // Whoever has changed it meanwhile wants something else.
                Err(overtaken) if overtaken.kind == Kind::Conflict => {}
                Err(stuck) => {
                    tracing::error!(service = %name, error = %stuck, "the former state could not be put back after a failed change");
                }
            }
        }
        self.told(name, waited, outcome)
    }

    /// Records what `edit` makes of the present record, unless that is what `is_so` says it is to be already; what is, and
    /// has failed, is recorded once more, upon which the backend tries it again.
    pub(super) async fn record_change(
        &self,
        name: &ServiceName,
        edit: impl Fn(&Record) -> Result<Change> + Send + Sync,
        is_so: &(dyn Fn(&Record) -> bool + Send + Sync),
    ) -> Result<Recorded> {
        for _ in 0..ATTEMPTS {
            let service = self.service(name)?;
            let current = service.record.clone();
            if current.desired == Desired::Removed {
                let message = format!("'{name}' is being deleted");
                return Err(Error::new(Kind::Conflict, message).remedy("try again when it is gone"));
            }
            let outcome = match (is_so(&current), has_failed(&service)) {
                (false, _) => CHANGED,
                (true, true) => RETRIED,
                (true, false) => return Ok(Recorded { before: current.clone(), after: current, outcome: UNCHANGED }),
            };
            let change = edit(&current)?;
            // Who takes no further places need not wait for a turn.
            let (wanted, had) = (change.spec.most_replicas(), current.spec.most_replicas());
            let grows = wanted > had;
            let places = if grows { self.backend.places().await? } else { Places::of(&self.snapshot()) };
            let reserved = self.capacity.reserve(|| places.at_present(&self.snapshot()), name, wanted.max(had));
            let reservation = match reserved {
                // Another request is about to change it.
                Err(error) if error.kind == Kind::AlreadyExists => {
                    drop(places);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                other => other?,
            };
            match self.backend.update(name, current.generation, change).await {
                Err(error) if error.kind == Kind::Conflict => {
                    drop((reservation, places));
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other.map(|after| Recorded { before: current, after, outcome }),
            }
        }
        Err(busy(name))
    }

    /// A change may stop the old containers before it starts the new ones.
    fn change_limit(&self, record: &Record) -> Duration {
        let each = record.spec.start_timeout.duration() + record.spec.stop_timeout.duration();
        each.saturating_mul(record.spec.replicas.max(1)).min(self.settings.max_wait)
    }

    /// What is told of a change: the service as it was seen when the waiting ended, not as somebody may have made it since.
    pub(super) fn told(&self, name: &ServiceName, waited: Waited, outcome: &str) -> Result<ServiceDetail> {
        let Waited { outcome: end, seen } = waited;
        match (end, seen) {
            (Outcome::Failed(error), _) => Err(error),
            (Outcome::Gone, _) | (_, None) => Err(gone(name)),
            (Outcome::Overtaken, Some(seen)) => Err(overtaken(&seen, outcome)),
            (Outcome::Reached | Outcome::NotReached, Some(seen)) => {
                Ok(ServiceDetail { outcome: Some(outcome.to_owned()), ..self.detail(&seen) })
            }
        }
    }
}

/// Whether two records want the same to run.
fn is_same(one: &Record, other: &Record) -> bool {
    one.spec == other.spec && one.template == other.template
}

fn gone(name: &ServiceName) -> Error {
    Error::new(Kind::Cancelled, format!("'{name}' was deleted while the request waited for it"))
        .remedy("create it again if it is still wanted")
}

fn busy(name: &ServiceName) -> Error {
    Error::new(Kind::Conflict, format!("'{name}' is being changed by others all the time")).remedy("try again")
}

/// What was asked for was recorded, and replaced by somebody else's change before it was carried out.
fn overtaken(seen: &ServiceState, outcome: &str) -> Error {
    let Record { name, generation, updated_at, .. } = &*seen.record;
    let was = match outcome {
        UNCHANGED => "was as asked for",
        RETRIED => "was tried again",
        CREATED => "was created",
        _ => "was changed",
    };
    let message = format!("'{name}' {was}, and then changed by another request (generation {generation}, {updated_at:.0})");
    Error::new(Kind::Conflict, message)
        .remedy(format!("look at GET /containers/{name}, and repeat the request if it is still wanted"))
}

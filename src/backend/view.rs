//! The live view that readers of a backend see, and the events that follow from its changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use crate::domain::name::ServiceName;
use crate::domain::status::{Health, Phase, Replica, ReplicaState, ServiceEvent, ServiceState, Snapshot};
use crate::error::{Error, Result};

/// So many events are kept for a slow reader.
const EVENTS: usize = 1024;

/// Owner of the view. Writers are the services' tasks; each replaces its own service only.
#[derive(Debug)]
pub(in crate::backend) struct View {
    snapshot: watch::Sender<Arc<Snapshot>>,
    events: broadcast::Sender<ServiceEvent>,
    sequence: AtomicU64,
}

impl View {
    pub(in crate::backend) fn new() -> Self {
        Self {
            snapshot: watch::Sender::new(Arc::new(Snapshot::default())),
            events: broadcast::Sender::new(EVENTS),
            sequence: AtomicU64::new(1),
        }
    }

    pub(in crate::backend) fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    pub(in crate::backend) fn events(&self) -> broadcast::Receiver<ServiceEvent> {
        self.events.subscribe()
    }

    pub(in crate::backend) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    pub(in crate::backend) fn get(&self, name: &ServiceName) -> Option<Arc<ServiceState>> {
        self.snapshot.borrow().services.get(name).cloned()
    }

    /// A service that has to be there.
    pub(in crate::backend) fn find(&self, name: &ServiceName) -> Result<Arc<ServiceState>> {
        let snapshot = self.snapshot();
        let found = snapshot.services.get(name).cloned();
        found.ok_or_else(|| Error::not_found("service", name.as_str(), snapshot.services.keys().map(AsRef::as_ref)))
    }

    /// Waits until it is known what there is: `first` at most for the very first look, `again` for an engine that was
    /// there before. False if it is not known by then.
    pub(in crate::backend) async fn is_known_within(&self, first: Duration, again: Duration) -> bool {
        let mut view = self.subscribe();
        let limit = if view.borrow().as_of.is_some() { again } else { first };
        let looked = async { view.wait_for(|snapshot| snapshot.connected).await.is_ok() };
        tokio::time::timeout(limit, looked).await.unwrap_or(false)
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        self.snapshot.send_modify(|snapshot| change(Arc::make_mut(snapshot)));
    }

    /// Replaces one service.
    pub(in crate::backend) fn put(&self, state: ServiceState) {
        let state = Arc::new(state);
        let mut before = None;
        self.change(|snapshot| before = snapshot.services.insert(state.record.name.clone(), state.clone()));
        for event in changes(before.as_deref(), &state) {
            self.announce(&state.record.name, event);
        }
    }

    /// Takes a service out.
    pub(in crate::backend) fn remove(&self, name: &ServiceName) {
        let mut before = None;
        self.change(|snapshot| before = snapshot.services.remove(name));
        if before.is_some() {
            self.announce(name, Happening::new("removed", "the service is deleted".to_owned()));
        }
    }

    /// Whether the engine answers; hearing of it is dated.
    pub(in crate::backend) fn connected(&self, connected: bool) {
        self.change(|snapshot| {
            snapshot.connected = connected;
            if connected {
                snapshot.as_of = Some(Timestamp::now());
            }
        });
    }

    /// The engine has said something.
    pub(in crate::backend) fn heard(&self) {
        let now = Timestamp::now();
        // It is shown in seconds, and every change of the view costs its readers a look.
        if self.snapshot.borrow().as_of.is_none_or(|at| now.duration_since(at).as_secs() >= 1) {
            self.change(|snapshot| snapshot.as_of = Some(now));
        }
    }

    /// Everything has been seen and asked for its health once.
    pub(in crate::backend) fn synced(&self) {
        self.change(|snapshot| snapshot.synced = true);
    }

    /// Something happened to a service that its state does not tell.
    pub(in crate::backend) fn say(&self, service: &ServiceName, kind: &'static str, message: String) {
        self.announce(service, Happening::new(kind, message));
    }

    fn announce(&self, service: &ServiceName, happening: Happening) {
        // Nobody listening is no error.
        let _ = self.events.send(ServiceEvent {
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
            at: Timestamp::now(),
            service: service.clone(),
            kind: happening.kind.to_owned(),
            message: happening.message,
            replica: happening.replica,
            phase: happening.phase,
        });
    }
}

/// An event before it is numbered and dated.
#[derive(Debug, PartialEq, Eq)]
struct Happening {
    kind: &'static str,
    message: String,
    replica: Option<u32>,
    phase: Option<Phase>,
}

impl Happening {
    const fn new(kind: &'static str, message: String) -> Self {
        Self { kind, message, replica: None, phase: None }
    }
}

/// What happened between two states of a service.
fn changes(before: Option<&ServiceState>, after: &ServiceState) -> Vec<Happening> {
    let mut happenings = Vec::new();
    let generation = before.map(|before| before.record.generation);
    if generation != Some(after.record.generation) {
        happenings.push(Happening::new("changed", format!("the record is at generation {}", after.record.generation)));
    }
    for replica in &after.replicas {
        let before = before.and_then(|before| before.replicas.iter().find(|other| other.id == replica.id));
        happenings.extend(replica_changes(before, replica));
    }
    let progress =
        after.progress.as_ref().filter(|progress| before.and_then(|before| before.progress.as_ref()) != Some(progress));
    happenings.extend(progress.map(|progress| Happening::new("progress", progress.message.clone())));
    let failure = after.failure.as_ref().map(|failure| &failure.detail);
    if let Some(detail) =
        failure.filter(|detail| before.and_then(|before| before.failure.as_ref()).map(|error| &error.detail) != Some(*detail))
    {
        happenings.push(Happening::new("failed", detail.clone()));
    }
    if before.map(|before| before.phase) != Some(after.phase) {
        let message = match before {
            Some(before) => format!("{} → {}", before.phase.as_str(), after.phase.as_str()),
            None => after.phase.as_str().to_owned(),
        };
        happenings.push(Happening::new("phase", message));
    }
    for happening in &mut happenings {
        happening.phase = Some(after.phase);
    }
    happenings
}

fn replica_changes(before: Option<&Replica>, after: &Replica) -> Vec<Happening> {
    let mut happenings = Vec::new();
    let mut say = |kind, message| happenings.push(Happening { replica: Some(after.ordinal), ..Happening::new(kind, message) });
    let was = before.map(|before| before.state);
    let restarted = before.is_some_and(|before| before.started_at != after.started_at);
    match after.state {
        ReplicaState::Running if was != Some(ReplicaState::Running) || restarted => {
            say("replica_started", format!("replica {} runs", after.ordinal));
        }
        ReplicaState::Exited if was != Some(ReplicaState::Exited) => {
            let code = after.last_exit.as_ref().map_or_else(String::new, |exit| format!(" with status {}", exit.code));
            say("replica_exited", format!("replica {} ended{code}", after.ordinal));
        }
        _ => {}
    }
    if before.map_or(Health::Starting, |before| before.health) != after.health {
        let message = match (after.health, &after.health_detail) {
            (Health::Healthy, _) => format!("replica {} is healthy", after.ordinal),
            (Health::Unhealthy, Some(detail)) => format!("replica {} is unhealthy: {detail}", after.ordinal),
            (Health::Unhealthy, None) => format!("replica {} is unhealthy", after.ordinal),
            (Health::Starting, _) => format!("replica {} is starting", after.ordinal),
        };
        say("health", message);
    }
    happenings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::ServiceSpec;
    use crate::domain::status::{Desired, Record};

    fn replica(state: ReplicaState, health: Health) -> Replica {
        Replica {
            ordinal: 1,
            id: "c".into(),
            name: "mcp-echo-1-1".into(),
            state,
            health,
            health_detail: None,
            address: None,
            spec_digest: String::new(),
            started_at: None,
            restarts: 0,
            last_exit: None,
            next_start: None,
        }
    }

    fn state(phase: Phase, replicas: Vec<Replica>) -> ServiceState {
        let record = Record {
            name: "echo".parse().unwrap(),
            generation: 1,
            desired: Desired::Running,
            spec: Arc::new(ServiceSpec::default()),
            template: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        };
        ServiceState {
            record: Arc::new(record),
            phase,
            replicas,
            failure: None,
            progress: None,
            warnings: Vec::new(),
            reasons: Vec::new(),
        }
    }

    #[test]
    fn events_follow_from_what_changed_and_from_nothing_else() {
        let view = View::new();
        let mut events = view.events();
        let mut kinds = || std::iter::from_fn(|| events.try_recv().ok()).map(|event| event.kind).collect::<Vec<_>>();
        view.put(state(Phase::Pending, vec![]));
        assert_eq!(kinds(), ["changed", "phase"]);
        view.put(state(Phase::Starting, vec![replica(ReplicaState::Running, Health::Starting)]));
        assert_eq!(kinds(), ["replica_started", "phase"]);
        view.put(state(Phase::Running, vec![replica(ReplicaState::Running, Health::Healthy)]));
        assert_eq!(kinds(), ["health", "phase"]);
        view.put(state(Phase::Running, vec![replica(ReplicaState::Running, Health::Healthy)]));
        assert_eq!(kinds(), Vec::<String>::new());
        view.remove(&"echo".parse().unwrap());
        assert_eq!(kinds(), ["removed"]);
        view.remove(&"echo".parse().unwrap());
        assert_eq!(kinds(), Vec::<String>::new());
    }

    #[test]
    fn a_reader_s_snapshot_does_not_change_under_it() {
        let view = View::new();
        view.put(state(Phase::Pending, vec![]));
        let held = view.snapshot();
        view.put(state(Phase::Running, vec![]));
        assert_eq!(held.services["echo"].phase, Phase::Pending);
        assert_eq!(view.snapshot().services["echo"].phase, Phase::Running);
    }
}

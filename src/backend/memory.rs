//! A stateful fake: services that exist in memory only, for unit tests and demonstrations.
//!
//! It keeps records, walks through the same phases as an engine and can be told to fail, exit or turn unhealthy. It
//! proves nothing about containers; that is what the contract suite over the real backends is for.

mod build;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use super::{Backend, BackendInfo, Build, Built, Change, ImageDetail, ImageInfo, LogStream, Plan, RegistryCredentials, taken};
use crate::domain::name::ServiceName;
use crate::domain::spec::PullPolicy;
use crate::domain::status::{
    Desired, Exit, Health, LogLine, LogQuery, Phase, Progress, Record, Replica, ReplicaState, ReplicaStats, ServiceEvent,
    ServiceState, Snapshot, Stream,
};
use crate::error::{Error, Kind, Result};
use crate::lifecycle::Tasks;

/// The "machine" that services run on. It outlives a [`Memory`], as an engine outlives a manager.
#[derive(Debug)]
pub struct Engine {
    state: Mutex<State>,
    view: watch::Sender<Arc<Snapshot>>,
    events: broadcast::Sender<ServiceEvent>,
    lines: broadcast::Sender<(ServiceName, LogLine)>,
    /// How long each step (pull, start, stop) takes.
    step: Duration,
}

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<ServiceName, ServiceState>,
    logs: BTreeMap<ServiceName, Vec<LogLine>>,
    /// Images with their labels.
    images: BTreeMap<String, BTreeMap<String, String>>,
    sequence: u64,
}

impl Engine {
    /// An empty machine on which each step takes `step`.
    #[must_use]
    pub fn new(step: Duration) -> Arc<Self> {
        let snapshot = Snapshot { synced: true, connected: true, as_of: Some(Timestamp::now()), ..Snapshot::default() };
        Arc::new(Self {
            state: Mutex::default(),
            view: watch::Sender::new(Arc::new(snapshot)),
            events: broadcast::Sender::new(1024),
            lines: broadcast::Sender::new(1024),
            step,
        })
    }

    /// Makes one replica healthy or unhealthy, as its checks would.
    pub fn set_health(&self, name: &ServiceName, ordinal: u32, health: Health) {
        self.change(name, |service| {
            for replica in service.replicas.iter_mut().filter(|replica| replica.ordinal == ordinal) {
                replica.health = health;
            }
            service.phase = running_phase(service);
        });
    }

    /// Ends one replica's process; nothing starts it again.
    pub fn exit(&self, name: &ServiceName, ordinal: u32, code: i64) {
        self.change(name, |service| {
            for replica in service.replicas.iter_mut().filter(|replica| replica.ordinal == ordinal) {
                replica.state = ReplicaState::Exited;
                replica.last_exit = Some(Exit { code, oom_killed: false, at: Timestamp::now(), last_log_lines: Vec::new() });
            }
            service.phase = running_phase(service);
        });
    }

    /// Writes a line to a service's log.
    pub fn log(&self, name: &ServiceName, replica: u32, stream: Stream, line: &str) {
        let line = LogLine { replica, stream: Some(stream), timestamp: Some(Timestamp::now()), line: line.to_owned() };
        self.lock().logs.entry(name.clone()).or_default().push(line.clone());
        // Nobody following is fine.
        let _ = self.lines.send((name.clone(), line));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements, so a panic of another holder does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a service and publishes the new view; nothing happens when it is gone.
    fn change(&self, name: &ServiceName, edit: impl FnOnce(&mut ServiceState)) {
        let mut state = self.lock();
        let Some(service) = state.services.get_mut(name) else { return };
        let before = service.phase;
        edit(service);
        let after = service.phase;
        if before != after {
            self.emit(&mut state, name, "phase", format!("{name} is {}", after.as_str()), Some(after));
        }
        self.publish(&state);
    }

    fn emit(&self, state: &mut State, name: &ServiceName, kind: &str, message: String, phase: Option<Phase>) {
        state.sequence += 1;
        let event = ServiceEvent {
            sequence: state.sequence,
            at: Timestamp::now(),
            service: name.clone(),
            kind: kind.to_owned(),
            message,
            replica: None,
            phase,
        };
        let _ = self.events.send(event);
    }

    fn publish(&self, state: &State) {
        let services = state.services.iter().map(|(name, service)| (name.clone(), Arc::new(service.clone()))).collect();
        let snapshot = Snapshot { services, synced: true, connected: true, as_of: Some(Timestamp::now()) };
        self.view.send_replace(Arc::new(snapshot));
    }

    /// Works towards the record of `generation`; stops as soon as another one has replaced it.
    async fn converge(self: Arc<Self>, name: ServiceName, generation: u64) {
        let Some(record) = self.lock().services.get(&name).map(|service| service.record.clone()) else { return };
        if record.desired == Desired::Stopped {
            self.step(&name, generation, |service| service.phase = Phase::Stopping).await;
            self.step(&name, generation, |service| {
                for replica in &mut service.replicas {
                    replica.state = ReplicaState::Exited;
                }
                service.phase = Phase::Stopped;
            })
            .await;
            return;
        }
        self.step(&name, generation, |service| service.phase = Phase::Pulling).await;
        if record.spec.image.contains("missing") {
            let error = Error::new(Kind::ImageNotFound, format!("the image '{}' does not exist", record.spec.image))
                .remedy("check the name and the tag; here every image exists whose name does not contain 'missing'");
            self.step(&name, generation, |service| {
                service.phase = Phase::Failed;
                service.failure = Some(error);
            })
            .await;
            return;
        }
        self.lock().images.entry(record.spec.image.clone()).or_default();
        let digest = record.spec.container_digest();
        self.step(&name, generation, |service| {
            service.phase = Phase::Starting;
            service.failure = None;
            service.replicas.retain(|replica| replica.ordinal <= record.spec.replicas && replica.spec_digest == digest);
            for ordinal in 1..=record.spec.replicas {
                if !service.replicas.iter().any(|replica| replica.ordinal == ordinal) {
                    service.replicas.push(replica(&name, generation, ordinal, &digest));
                }
            }
            service.replicas.sort_by_key(|replica| replica.ordinal);
            for replica in service.replicas.iter_mut().filter(|replica| replica.state != ReplicaState::Running) {
                replica.state = ReplicaState::Running;
                replica.health = Health::Starting;
                replica.started_at = Some(Timestamp::now());
            }
        })
        .await;
        for ordinal in 1..=record.spec.replicas {
            self.log(&name, ordinal, Stream::Stdout, "started");
        }
        self.step(&name, generation, |service| {
            for replica in &mut service.replicas {
                replica.health = Health::Healthy;
            }
            service.phase = running_phase(service);
        })
        .await;
    }

    /// One step of [`Engine::converge`]: waits, then changes the service if it still is of `generation`.
    async fn step(&self, name: &ServiceName, generation: u64, edit: impl FnOnce(&mut ServiceState)) {
        tokio::time::sleep(self.step).await;
        self.change(name, |service| {
            if service.record.generation == generation {
                edit(service);
            }
        });
    }
}

fn running_phase(service: &ServiceState) -> Phase {
    let ready = service.ready().count();
    let exited = service.replicas.iter().filter(|replica| replica.state == ReplicaState::Exited).count();
    match (ready, service.replicas.len()) {
        (ready, all) if ready == all => Phase::Running,
        (0, all) if exited == all => Phase::Exited,
        (0, _) => Phase::Unhealthy,
        _ => Phase::Degraded,
    }
}

fn replica(name: &ServiceName, generation: u64, ordinal: u32, digest: &str) -> Replica {
    Replica {
        ordinal,
        id: format!("memory-{name}-{generation}-{ordinal}"),
        name: format!("{name}-{generation}-{ordinal}"),
        state: ReplicaState::Created,
        health: Health::Starting,
        health_detail: None,
        address: None,
        spec_digest: digest.to_owned(),
        started_at: None,
        restarts: 0,
        last_exit: None,
        next_start: None,
    }
}

/// The backend over an [`Engine`].
#[derive(Debug, Clone)]
pub struct Memory {
    engine: Arc<Engine>,
    tasks: Tasks,
}

impl Memory {
    /// A backend over `engine`, as a manager started beside it would make one.
    #[must_use]
    pub fn over(engine: Arc<Engine>, tasks: Tasks) -> Self {
        Self { engine, tasks }
    }

    fn service(&self, name: &ServiceName) -> Result<ServiceState> {
        let state = self.engine.lock();
        let names = state.services.keys().map(ServiceName::as_str);
        state.services.get(name).cloned().ok_or_else(|| Error::not_found("service", name.as_str(), names))
    }

    fn converge(&self, name: &ServiceName, generation: u64) {
        self.tasks.spawn("memory service", self.engine.clone().converge(name.clone(), generation));
    }
}

#[async_trait]
impl Backend for Memory {
    fn view(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.engine.view.subscribe()
    }

    fn events(&self) -> broadcast::Receiver<ServiceEvent> {
        self.engine.events.subscribe()
    }

    async fn info(&self) -> Result<BackendInfo> {
        let reason = "nothing runs in the memory backend".to_owned();
        let limits = ["memory_limit", "cpu_limit", "pids_limit", "storage_limit"];
        Ok(BackendInfo {
            kind: "memory",
            version: env!("CARGO_PKG_VERSION").to_owned(),
            architecture: "none".to_owned(),
            rootless: true,
            unenforced_limits: limits.into_iter().map(|limit| (limit.to_owned(), reason.clone())).collect(),
            details: BTreeMap::new(),
        })
    }

    async fn create(&self, name: &ServiceName, change: Change) -> Result<Arc<Record>> {
        let record = Arc::new(change.first(name));
        let mut state = self.engine.lock();
        if state.services.contains_key(name) {
            return Err(taken(name));
        }
        let service = ServiceState {
            record: record.clone(),
            phase: Phase::Pending,
            replicas: Vec::new(),
            failure: None,
            progress: None,
            warnings: Vec::new(),
            reasons: Vec::new(),
        };
        state.services.insert(name.clone(), service);
        self.engine.emit(&mut state, name, "created", format!("{name} was created"), Some(Phase::Pending));
        self.engine.publish(&state);
        drop(state);
        self.converge(name, 1);
        Ok(record)
    }

    async fn update(&self, name: &ServiceName, expected: u64, change: Change) -> Result<Arc<Record>> {
        let current = self.service(name)?.record;
        if current.generation != expected {
            return Err(super::overtaken(name));
        }
        let record = Arc::new(change.after(&current));
        self.engine.change(name, |service| {
            service.record = record.clone();
            service.failure = None;
            service.phase = Phase::Pending;
        });
        self.converge(name, record.generation);
        Ok(record)
    }

    async fn plan(&self, name: &ServiceName, change: Change) -> Result<Plan> {
        let now = self.service(name).ok();
        Ok(Plan::of_containers(name, now.as_ref(), change, |next, ordinal| format!("{name}-{}-{ordinal}", next.generation)))
    }

    async fn restart(&self, name: &ServiceName) -> Result<()> {
        self.service(name)?;
        tokio::time::sleep(self.engine.step).await;
        self.engine.change(name, |service| {
            for replica in service.replicas.iter_mut().filter(|replica| replica.state == ReplicaState::Running) {
                replica.started_at = Some(Timestamp::now());
            }
        });
        Ok(())
    }

    async fn remove(&self, name: &ServiceName, _volumes: bool) -> Result<()> {
        self.service(name)?;
        self.engine.change(name, |service| service.phase = Phase::Deleting);
        tokio::time::sleep(self.engine.step).await;
        let mut state = self.engine.lock();
        if state.services.remove(name).is_some() {
            state.logs.remove(name);
            self.engine.emit(&mut state, name, "removed", format!("{name} was removed"), None);
        }
        self.engine.publish(&state);
        Ok(())
    }

    async fn logs(&self, name: &ServiceName, query: LogQuery) -> Result<LogStream> {
        self.service(name)?;
        if query.previous {
            return Err(super::no_previous());
        }
        let wanted = {
            let query = query.clone();
            move |line: &LogLine| {
                query.stream.is_none_or(|stream| line.stream == Some(stream))
                    && query.replica.is_none_or(|replica| replica == line.replica)
                    && query.since.is_none_or(|since| line.timestamp.is_some_and(|at| at >= since))
                    && query.until.is_none_or(|until| line.timestamp.is_some_and(|at| at < until))
            }
        };
        let follower = self.engine.lines.subscribe();
        let all = self.engine.lock().logs.get(name).cloned().unwrap_or_default();
        let mut lines: Vec<LogLine> = all.into_iter().filter(|line| wanted(line)).collect();
        if let Some(tail) = query.tail {
            let mut taken = BTreeMap::<u32, u32>::new();
            lines.reverse();
            lines.retain(|line| {
                let count = taken.entry(line.replica).or_default();
                *count += 1;
                *count <= tail
            });
            lines.reverse();
        }
        let past = futures_util::stream::iter(lines.into_iter().map(Ok));
        if !query.follow {
            return Ok(past.boxed());
        }
        let (name, query_name) = (name.clone(), name.clone());
        let new = BroadcastStream::new(follower).filter_map(move |line| {
            let line = line.ok().filter(|(service, line)| *service == name && wanted(line)).map(|(_, line)| Ok(line));
            std::future::ready(line)
        });
        let mut view = self.view();
        let (engine, gone) = (self.engine.clone(), query_name);
        let removed = async move {
            // The engine is held so that the view goes on being written.
            let _engine = engine;
            let _ = view.wait_for(|snapshot| !snapshot.services.contains_key(&gone)).await;
        };
        Ok(past.chain(new).take_until(removed).boxed())
    }

    async fn stats(&self, name: &ServiceName) -> Result<Vec<ReplicaStats>> {
        let service = self.service(name)?;
        let running = service.replicas.iter().filter(|replica| replica.state == ReplicaState::Running);
        Ok(running
            .map(|replica| ReplicaStats {
                replica: replica.ordinal,
                cpu_seconds: Some(0.0),
                cpu_percent: None,
                memory_bytes: Some(0),
                memory_limit_bytes: None,
                pids: Some(0),
                network_received_bytes: None,
                network_sent_bytes: None,
                source: "memory".to_owned(),
            })
            .collect())
    }

    async fn inspect(&self, name: &ServiceName) -> Result<Vec<Value>> {
        let service = self.service(name)?;
        let look = |id: &str| json!({"Id": id, "Config": {"Image": service.record.spec.image}});
        Ok(service.replicas.iter().map(|replica| look(&replica.id)).collect())
    }

    async fn pull(
        &self,
        image: &str,
        _policy: PullPolicy,
        _credentials: Option<RegistryCredentials>,
        progress: Arc<dyn Fn(Progress) + Send + Sync>,
    ) -> Result<ImageInfo> {
        progress(Progress { message: "asking the registry".to_owned(), done: 0, total: None });
        tokio::time::sleep(self.engine.step).await;
        let info = build::pulled(image)?;
        self.engine.lock().images.entry(image.to_owned()).or_default();
        Ok(info)
    }

    async fn images(&self) -> Result<Vec<ImageInfo>> {
        Ok(self.engine.lock().images.keys().map(|image| build::info(image)).collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageDetail>> {
        Ok(self.engine.lock().images.get(reference).map(|labels| build::detail(reference, labels.clone())))
    }

    async fn build(&self, wanted: Build, progress: Arc<dyn Fn(Progress) + Send + Sync>) -> Result<Built> {
        tokio::time::sleep(self.engine.step).await;
        Ok(build::make(wanted, &progress, &mut self.engine.lock().images))
    }

    async fn run(&self, cancelled: CancellationToken) {
        cancelled.cancelled().await;
    }
}

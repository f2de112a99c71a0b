//! Services in rootless Podman.
//!
//! | file | what it is for |
//! |---|---|
//! | `settings` | what the backend is told |
//! | `supervise` | the engine's process |
//! | `client`, `engine_error` | the engine's API |
//! | `names`, `records`, `observed` | what is kept in the engine, and how it is read back |
//! | `name_server` | what an earlier network left |
//! | `missing` | records that are not where they were |
//! | `watch` | list, events, comparison: what there is |
//! | `plan`, `phase`, `replica`, `past` | pure: what to do next, and where a service stands |
//! | `health`, `listening` | asking whether a replica is well |
//! | `service`, `steps` | one task a service: does it, in its turn |
//! | `container`, `secrets`, `images`, `abilities`, `errors` | what a container is made of, and why it may not be |
//! | `build` | making images |
//! | `bridge` | the bridge in containers of servers that speak stdio |
//! | `turns`, `pasts` | several managers on one engine: locks, and what they have seen of containers |
//! | `logs`, `frames`, `stats` | looking into containers |
//!
//! Routes, policy and everything that callers may do are decided elsewhere.

mod abilities;
mod bridge;
mod build;
mod client;
mod container;
mod engine_error;
mod errors;
mod frames;
mod health;
mod images;
mod listening;
mod local_images;
mod logs;
mod lost_network;
mod missing;
mod name_server;
mod names;
mod observed;
mod past;
mod pasts;
mod phase;
mod plan;
mod records;
mod replica;
mod secrets;
mod service;
mod settings;
mod shared;
mod shipped;
mod stats;
mod steps;
mod supervise;
mod turns;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Mutex, broadcast, oneshot, watch as watch_channel};
use tokio_util::sync::CancellationToken;
use tracing::Span;

pub use settings::{CredentialSource, LabelSource, SecretSource, Settings};
pub use turns::session_key_file;

use self::client::Engine;
use self::names::Names;
use self::records::Stored;
use self::service::Message;
use self::shared::Shared;
use self::supervise::{Place, Supervisor};
use super::{
    Backend, BackendInfo, Build, Built, Change, ImageDetail, ImageInfo, LogStream, Places, Plan, RegistryCredentials, taken,
};
use crate::domain::name::ServiceName;
use crate::domain::spec::{MountSource, PullPolicy, Transport};
use crate::domain::status::{Desired, LogQuery, Progress, Record, ReplicaStats, ServiceEvent, ServiceState, Snapshot};
use crate::error::{Error, Kind, Result};
use crate::lifecycle::Tasks;
use crate::telemetry::Metrics;

/// How long a change waits for the first look at the engine, and for an engine that is being started again.
const FIRST_LOOK: Duration = Duration::from_secs(15);
const RESTART: Duration = Duration::from_secs(5);

/// The backend over one Podman engine.
pub struct Podman {
    shared: Arc<Shared>,
    /// What sees to it that an engine runs, when that is the manager's to do; taken by [`Backend::run`].
    supervisor: Mutex<Option<Box<Supervisor>>>,
    stats: stats::Samples,
}

impl Podman {
    /// Finds the engine, or starts one. A given socket need not answer yet: it is waited for by [`Backend::run`].
    pub async fn connect(settings: Settings, tasks: Tasks, metrics: Metrics) -> Result<Arc<Self>> {
        let names = Names::new(&settings.instance)?;
        let mut place = Place::find(&settings).await;
        if let Place::Supervised(supervisor) = &mut place {
            supervisor.ensure().await?;
        }
        let engine = Engine::new(&place.socket());
        let shared = Shared::new(settings, names, engine, tasks, metrics, boot_time());
        let supervisor = match place {
            Place::Supervised(supervisor) => Some(supervisor),
            Place::Theirs(_) => None,
        };
        Ok(Arc::new(Self { shared: Arc::new(shared), supervisor: Mutex::new(supervisor), stats: stats::Samples::default() }))
    }

    /// Waits until it is known what there is; changes made before could take what exists for free.
    async fn ready(&self) -> Result<()> {
        let known = self.shared.view.is_known_within(FIRST_LOOK, RESTART).await;
        if known { Ok(()) } else { Err(errors::away()) }
    }

    fn state(&self, name: &ServiceName) -> Result<Arc<ServiceState>> {
        self.shared.view.find(name)
    }

    /// What a spec asks for that this backend or machine cannot do.
    fn check(&self, change: &Change) -> Result<()> {
        match change.spec.transport {
            Transport::Http => {}
            Transport::Stdio | Transport::Sse => {
                bridge::program(self.shared.settings.bridge.as_deref())?;
            }
        }
        for (index, mount) in change.spec.volumes.iter().enumerate() {
            if let MountSource::Volume(volume) = &mount.source
                && names::is_record(volume)
            {
                let message = format!("'{volume}' is a name of volumes in which the manager keeps records");
                return Err(Error::invalid_field(
                    format!("volumes[{index}]"),
                    message,
                    "choose a name that does not end in .rNUMBER",
                ));
            }
        }
        if self.shared.settings.require_limits {
            self.shared.abilities().require_for(&change.spec)?;
        }
        Ok(())
    }

    /// Counts what a change that is about to be made asks for and does not get.
    fn count_unenforced(&self, change: &Change) {
        for (limit, _) in self.shared.abilities().missing_for(&change.spec) {
            self.shared.metrics.limits_unenforced.with_label_values(&[limit]).inc();
        }
    }

    /// Writes the record that follows `before`, tells the service's task, and takes the old record away.
    async fn write_next(&self, before: &Record, change: Change, remove_volumes: bool) -> Result<Arc<Record>> {
        let shared = &self.shared;
        let record = change.after(before);
        records::write(&shared.engine, &shared.names, &record, remove_volumes).await?;
        let stored = Stored { record: Arc::new(record), remove_volumes, cause: Span::current(), written_here: true };
        let old = shared.names.record(&before.name, before.generation);
        let removed = shared.engine.remove_volume(&old).await;
        if !removed.map_err(|error| errors::engine(error, "remove the old record of the service"))? {
            self.not_overtaken(&stored.record).await?;
        }
        shared.tell(before.name.as_str(), Message::Record(stored.clone()));
        Ok(stored.record)
    }

    /// After a record was written: whether another one of the same service is newer, in which case ours goes again.
    async fn not_overtaken(&self, record: &Record) -> Result<()> {
        let shared = &self.shared;
        let volumes = shared.engine.volumes(names::SERVICE, record.name.as_str()).await;
        let volumes = volumes.map_err(|error| errors::engine(error, "read the records of the service"))?;
        let found = records::sort(&shared.names, &volumes);
        if found.newest.get(&record.name).is_none_or(|stored| stored.record.generation <= record.generation) {
            return Ok(());
        }
        let ours = shared.names.record(&record.name, record.generation);
        shared.engine.remove_volume(&ours).await.map_err(|error| errors::engine(error, "take the record back"))?;
        Err(records::overtaken(&record.name))
    }
}

/// When this machine was started; the engine's containers cannot have run before.
fn boot_time() -> Timestamp {
    let statistics = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = statistics.lines().find_map(|line| line.strip_prefix("btime "));
    let second = line.and_then(|second| second.trim().parse().ok());
    second.and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[async_trait]
impl Backend for Podman {
    fn view(&self) -> watch_channel::Receiver<Arc<Snapshot>> {
        self.shared.view.subscribe()
    }

    fn events(&self) -> broadcast::Receiver<ServiceEvent> {
        self.shared.view.events()
    }

    async fn info(&self) -> Result<BackendInfo> {
        self.ready().await?;
        Ok(self.shared.abilities().to_info())
    }

    async fn places(&self) -> Result<Places> {
        self.ready().await?;
        let turn = self.shared.turns.wait().await;
        let found = records::load(&self.shared.engine, &self.shared.names).await;
        let found = found.map_err(|error| errors::engine(error, "count the containers"))?;
        let replicas = found.newest.into_iter().map(|(name, stored)| (name, stored.record.spec.replicas)).collect();
        Ok(Places::held_by(replicas, turn))
    }

    async fn create(&self, name: &ServiceName, change: Change) -> Result<Arc<Record>> {
        self.ready().await?;
        if self.shared.view.get(name).is_some() {
            return Err(taken(name));
        }
        self.check(&change)?;
        self.count_unenforced(&change);
        let record = change.first(name);
        let shared = &self.shared;
        records::write(&shared.engine, &shared.names, &record, false).await.map_err(|error| match error.kind {
            Kind::Conflict => taken(name),
            _ => error,
        })?;
        let (record, cause) = (Arc::new(record), Span::current());
        let stored = Stored { record, remove_volumes: false, cause, written_here: true };
        shared.adopt(&stored, Message::Connected, false, false);
        // Another manager may have changed a service of this name a moment ago, so that its first record is gone. Work
        // has begun meanwhile; in that rare case it is taken back.
        if let Err(error) = self.not_overtaken(&stored.record).await {
            if error.kind == Kind::Conflict {
                return Err(taken(name));
            }
            tracing::warn!(service = %name, %error, "the records could not be compared; the next comparison will");
        }
        Ok(stored.record)
    }

    async fn update(&self, name: &ServiceName, expected: u64, change: Change) -> Result<Arc<Record>> {
        self.ready().await?;
        let state = self.state(name)?;
        if state.record.generation != expected {
            return Err(records::overtaken(name));
        }
        if state.record.desired == Desired::Removed {
            return Err(Error::new(Kind::Conflict, format!("the service '{name}' is being deleted"))
                .remedy("wait until it is gone, then create it anew"));
        }
        self.check(&change)?;
        self.count_unenforced(&change);
        self.write_next(&state.record, change, false).await
    }

    async fn plan(&self, name: &ServiceName, change: Change) -> Result<Plan> {
        self.ready().await?;
        self.check(&change)?;
        let shared = &self.shared;
        let warnings = shared.warnings_for(&change.spec);
        let container = |next: &Record, ordinal| shared.names.container(name, next.generation, ordinal);
        Ok(Plan { warnings, ..Plan::of_containers(name, shared.view.get(name).as_deref(), change, container) })
    }

    async fn restart(&self, name: &ServiceName) -> Result<()> {
        self.ready().await?;
        self.state(name)?;
        let (reply, answer) = oneshot::channel();
        if !self.shared.tell(name.as_str(), Message::Restart(reply, Span::current())) {
            return Err(Error::not_found("service", name.as_str(), []));
        }
        answer.await.unwrap_or_else(|_| Err(Error::shutting_down()))
    }

    async fn remove(&self, name: &ServiceName, volumes: bool) -> Result<()> {
        self.ready().await?;
        let state = self.state(name)?;
        let (reply, answer) = oneshot::channel();
        if state.record.desired != Desired::Removed {
            let before = &state.record;
            let change = Change { spec: before.spec.clone(), template: before.template.clone(), desired: Desired::Removed };
            match self.write_next(before, change, volumes).await {
                Ok(_) => {}
                // Overtaken by another deletion: then that one is waited for.
                Err(error) if error.kind == Kind::Conflict && self.is_being_removed(name).await => {}
                Err(error) => return Err(error),
            }
        }
        if !self.shared.tell(name.as_str(), Message::Remove(reply)) {
            return Ok(());
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) if self.shared.view.get(name).is_none() => Ok(()),
            Err(_) => Err(Error::shutting_down().remedy("the deletion goes on by itself when it runs again")),
        }
    }

    async fn logs(&self, name: &ServiceName, query: LogQuery) -> Result<LogStream> {
        self.ready().await?;
        self.state(name)?;
        logs::stream(self.shared.clone(), name.clone(), query).await
    }

    async fn stats(&self, name: &ServiceName) -> Result<Vec<ReplicaStats>> {
        let state = self.state(name)?;
        self.stats.of(&self.shared, &state).await
    }

    async fn inspect(&self, name: &ServiceName) -> Result<Vec<Value>> {
        let state = self.state(name)?;
        let mut described = Vec::new();
        for replica in &state.replicas {
            match self.shared.engine.inspect(&replica.id).await {
                Ok(value) => described.push(value),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(errors::engine(error, "look at a container")),
            }
        }
        Ok(described)
    }

    async fn pull(
        &self,
        image: &str,
        policy: PullPolicy,
        credentials: Option<RegistryCredentials>,
        progress: Arc<dyn Fn(Progress) + Send + Sync>,
    ) -> Result<ImageInfo> {
        self.ready().await?;
        Ok(shipped::fetch(&self.shared, image, policy, credentials, progress).await?.info)
    }

    async fn images(&self) -> Result<Vec<ImageInfo>> {
        let images = self.shared.engine.images().await.map_err(|error| errors::engine(error, "list the images"))?;
        let info = |image: podman_api::models::LibpodImageSummary| ImageInfo {
            id: image.id.unwrap_or_default(),
            names: image.names.or(image.repo_tags).unwrap_or_default(),
            size_bytes: image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        };
        Ok(images.into_iter().map(info).collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageDetail>> {
        self.ready().await?;
        build::look(&self.shared.engine, reference).await
    }

    async fn build(&self, build: Build, progress: Arc<dyn Fn(Progress) + Send + Sync>) -> Result<Built> {
        self.ready().await?;
        let base = shipped::fetch(&self.shared, &build.base, PullPolicy::Missing, None, progress.clone()).await?;
        build::build(&self.shared, build, base.reference, progress).await
    }

    async fn run(&self, cancelled: CancellationToken) {
        let supervisor = self.supervisor.lock().await.take();
        let follow = async {
            watch::follow(self.shared.clone(), cancelled.clone()).await;
            // The services' tasks end with it; what they work on goes on without them.
            self.shared.cancelled.cancel();
        };
        match supervisor {
            Some(mut supervisor) => {
                tokio::join!(follow, supervisor.run(&self.shared.metrics, cancelled.clone()));
            }
            None => follow.await,
        }
    }
}

impl Podman {
    /// Whether the newest record of a service says that it is being deleted; the service's task is told of it.
    async fn is_being_removed(&self, name: &ServiceName) -> bool {
        let Ok(volumes) = self.shared.engine.volumes(names::SERVICE, name.as_str()).await else { return false };
        match records::sort(&self.shared.names, &volumes).newest.remove(name) {
            Some(stored) if stored.record.desired == Desired::Removed => {
                self.shared.tell(name.as_str(), Message::Record(stored));
                true
            }
            Some(_) => false,
            None => true,
        }
    }
}

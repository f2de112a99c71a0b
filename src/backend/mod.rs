//! Where services run: one trait, its contract, and its implementations.
//!
//! A backend keeps a live view of its services ([`Backend::view`]) and works towards what their records say. Callers
//! change records and watch the view; they never drive containers step by step, so that a manager that dies at any
//! moment leaves nothing that its successor cannot finish. What a backend must keep to is written at each method and
//! checked by the contract suite, which every backend passes.

mod bridge;
pub mod kubernetes;
pub mod memory;
mod plan;
pub mod podman;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{broadcast, watch};
use utoipa::ToSchema;

use crate::domain::name::ServiceName;
use crate::domain::spec::{PullPolicy, ServiceSpec};
use crate::domain::status::{Desired, LogLine, LogQuery, Progress, Record, ReplicaStats, ServiceEvent, Snapshot};
use crate::domain::template::TemplateReference;
use crate::error::{Error, Kind, Result};

pub use plan::{Plan, PlannedAction, PlannedObject};

/// What a backend runs on and can enforce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, schemars::JsonSchema)]
pub struct BackendInfo {
    /// `podman`, `kubernetes` or `memory`.
    pub kind: &'static str,
    /// Version of the engine.
    pub version: String,
    /// Processor architecture of its machine, as in image indexes (`amd64`).
    pub architecture: String,
    /// Whether containers run without root rights on the host.
    pub rootless: bool,
    /// Limits that cannot be enforced, with the reason for each: `memory_limit`, `cpu_limit`, `pids_limit`, `storage_limit`.
    pub unenforced_limits: BTreeMap<String, String>,
    /// Further facts for people (cgroup version, runtime, storage driver, network backend).
    pub details: BTreeMap<String, String>,
}

/// A change to a service's record.
#[derive(Debug, Clone)]
pub struct Change {
    /// How it runs.
    pub spec: Arc<ServiceSpec>,
    /// The template it comes from.
    pub template: Option<TemplateReference>,
    /// Whether it should run.
    pub desired: Desired,
}

impl Change {
    /// The first record of a service.
    fn first(self, name: &ServiceName) -> Record {
        let now = Timestamp::now();
        let (desired, spec, template) = (self.desired, self.spec, self.template);
        Record { name: name.clone(), generation: 1, desired, spec, template, created_at: now, updated_at: now }
    }

    /// The record that follows `before`.
    fn after(self, before: &Record) -> Record {
        Record {
            generation: before.generation + 1,
            desired: self.desired,
            spec: self.spec,
            template: self.template,
            updated_at: Timestamp::now(),
            ..before.clone()
        }
    }
}

/// The name of a new service is another one's.
fn taken(name: &ServiceName) -> Error {
    Error::new(Kind::AlreadyExists, format!("there is a service '{name}' already"))
        .remedy("choose another name, or change that one")
}

/// A change was made from a record that is not the present one any more.
fn overtaken(name: &ServiceName) -> Error {
    Error::new(Kind::Conflict, format!("'{name}' was changed by somebody else meanwhile"))
        .remedy("look at it again and repeat the change")
}

/// Logs of the container before the present one are asked for, and there is none.
fn no_previous() -> Error {
    Error::new(Kind::NotSupported, "a container that is started again is the same here, and its log goes on")
        .remedy("leave out 'previous'")
}

/// An image as the backend has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, schemars::JsonSchema)]
pub struct ImageInfo {
    /// Id (digest of its configuration).
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// More of an image, for templates made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDetail {
    /// What lists show of it.
    pub info: ImageInfo,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// TCP ports that it says it listens on.
    pub ports: Vec<u16>,
}

/// An image to be made: what a script leaves in a container of another image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Its name.
    pub image: String,
    /// The image that it begins with.
    pub base: String,
    /// What is run in it, for `sh`, without rights but `capabilities`. Its output may say what
    /// [`crate::domain::package::said`] reads.
    pub script: String,
    /// How many steps the script says.
    pub steps: u64,
    /// The script has to say what it installed, as packages resolve to whatever their registry has.
    pub says_lock: bool,
    /// What the script may do beyond what every process may.
    pub capabilities: Vec<String>,
    /// Variables of the script and of the image.
    pub environment: BTreeMap<String, String>,
    /// Program of the image; none when empty.
    pub entrypoint: Vec<String>,
    /// Arguments of the program, or, where there is none, the program.
    pub command: Vec<String>,
    /// Who it runs as, `UID:GID`.
    pub user: String,
    /// Working directory of the image, which the script makes.
    pub directory: String,
    /// Labels of the image, beside those that the script says.
    pub labels: BTreeMap<String, String>,
    /// Make it even if there is one of its name.
    pub refresh: bool,
}

/// What became of a [`Build`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built {
    /// The image is there; somebody else may have made it meanwhile.
    Made,
    /// The script ended with this code, having said these lines. Nothing is left of it.
    Failed(i64, Vec<String>),
}

/// Credentials for a registry.
#[derive(Clone)]
pub struct RegistryCredentials {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for RegistryCredentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RegistryCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A turn at taking places for containers: what is recorded at this moment, by whichever manager. Until it is dropped no
/// other manager of the installation gets one.
pub struct Places {
    /// Replicas of each service, as its record wants them.
    pub replicas: BTreeMap<ServiceName, u32>,
    /// The view tells of what is recorded from now on.
    grows: bool,
    held: Option<Box<dyn std::any::Any + Send>>,
}

impl Places {
    /// What a view says, for a manager that has its backend to itself.
    #[must_use]
    pub fn of(view: &Snapshot) -> Self {
        let replicas = view.services.iter().map(|(name, service)| (name.clone(), service.record.spec.most_replicas())).collect();
        Self { replicas, grows: true, held: None }
    }

    /// The same, counted anew in `view` where others may have recorded something meanwhile.
    #[must_use]
    pub fn at_present(&self, view: &Snapshot) -> BTreeMap<ServiceName, u32> {
        if self.grows { Self::of(view).replicas } else { self.replicas.clone() }
    }

    /// With something that ends the turn when it is dropped.
    #[must_use]
    pub fn held_by(replicas: BTreeMap<ServiceName, u32>, held: impl std::any::Any + Send) -> Self {
        Self { replicas, grows: false, held: Some(Box::new(held)) }
    }

    /// A turn that requests of this manager may share: the view tells what others have recorded before it, and what
    /// these requests record.
    #[must_use]
    pub fn shared(view: &Snapshot, held: impl std::any::Any + Send) -> Self {
        Self { held: Some(Box::new(held)), ..Self::of(view) }
    }
}

impl std::fmt::Debug for Places {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut told = formatter.debug_struct("Places");
        told.field("replicas", &self.replicas).field("grows", &self.grows).field("held", &self.held.is_some()).finish()
    }
}

/// A stream of log lines; an error ends it.
pub type LogStream = BoxStream<'static, Result<LogLine>>;

/// Where services run.
///
/// Contract, checked by `tests/integration/contract/`:
/// - Records are durable and atomic: after `create`, `update` and `remove` return, a new backend over the same engine
///   sees the same.
/// - The view follows the engine by events; reading it asks nobody.
/// - Nothing is left behind after `remove` has returned: no container, record, secret or port.
/// - Errors are semantic: `AlreadyExists`, `NotFound`, `Conflict`, `NotSupported`, `BackendUnavailable`.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The live view. The first value may be empty and not yet `synced`.
    fn view(&self) -> watch::Receiver<Arc<Snapshot>>;

    /// What happens, as it happens; a slow reader misses the oldest.
    fn events(&self) -> broadcast::Receiver<ServiceEvent>;

    /// What the backend runs on and can enforce.
    async fn info(&self) -> Result<BackendInfo>;

    /// A turn at taking places, for as long as what comes back is kept: count, write the record, drop it.
    async fn places(&self) -> Result<Places> {
        Ok(Places::of(&self.view().borrow()))
    }

    /// Writes the record of a new service and starts to work towards it. Returns when the record is durable and the
    /// service is in the view. `AlreadyExists` when there is one of that name, also in another manager.
    async fn create(&self, name: &ServiceName, change: Change) -> Result<Arc<Record>>;

    /// Replaces the record of an existing service, if its generation is still `expected` (`Conflict` otherwise), and
    /// works towards it: replicas are added and removed, containers whose digest differs are replaced one by one.
    async fn update(&self, name: &ServiceName, expected: u64, change: Change) -> Result<Arc<Record>>;

    /// What `create`, or `update` where there is a service of that name, would do with this change. Refused as they would
    /// refuse it; nothing is written, and no secret value is in it.
    async fn plan(&self, name: &ServiceName, change: Change) -> Result<Plan>;

    /// Stops and starts every replica that runs, one after the other; returns when the last has been started.
    async fn restart(&self, name: &ServiceName) -> Result<()>;

    /// Deletes a service: interrupts what is going on with it, stops and removes its containers and its record. Named
    /// volumes stay unless `volumes` is set. Returns when nothing of it is left. Safe to repeat until it succeeds.
    async fn remove(&self, name: &ServiceName, volumes: bool) -> Result<()>;

    /// The log lines that `query` asks for, replicas merged by time.
    async fn logs(&self, name: &ServiceName, query: LogQuery) -> Result<LogStream>;

    /// What each running replica uses.
    async fn stats(&self, name: &ServiceName) -> Result<Vec<ReplicaStats>>;

    /// The engine's own description of each replica, for people; the caller redacts secrets.
    async fn inspect(&self, name: &ServiceName) -> Result<Vec<Value>>;

    /// Makes an image available, reporting progress.
    async fn pull(
        &self,
        image: &str,
        policy: PullPolicy,
        credentials: Option<RegistryCredentials>,
        progress: Arc<dyn Fn(Progress) + Send + Sync>,
    ) -> Result<ImageInfo>;

    /// The images at hand.
    async fn images(&self) -> Result<Vec<ImageInfo>>;

    /// What is known of an image; nothing when it is not at hand.
    async fn image(&self, reference: &str) -> Result<Option<ImageDetail>>;

    /// Makes an image with a script, reporting each step. Two builds of one image wait for each other, also over several
    /// managers. Nothing but the image stays, however it ends; dropping the future breaks it off.
    async fn build(&self, build: Build, progress: Arc<dyn Fn(Progress) + Send + Sync>) -> Result<Built>;

    /// Does the backend's work until `cancelled`: follows events, reconciles, checks health, restarts. Running services
    /// go on when it ends.
    async fn run(&self, cancelled: tokio_util::sync::CancellationToken);
}

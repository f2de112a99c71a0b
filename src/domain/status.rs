//! What is known of a running service: its phase, its replicas, its reasons.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::name::ServiceName;
use super::reason::Reason;
use super::spec::ServiceSpec;
use super::template::TemplateReference;
use crate::error::Error;

/// Whether the user wants the service to run. It survives restarts of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// It should run.
    Running,
    /// It should stay stopped.
    Stopped,
    /// It is being deleted.
    Removed,
}

/// Where a service stands, over all its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Accepted; nothing has been done yet.
    Pending,
    /// Its image is being pulled.
    Pulling,
    /// Its containers are being created.
    Creating,
    /// It runs and has not been found healthy yet.
    Starting,
    /// All replicas are healthy.
    Running,
    /// Some replicas are healthy, not all.
    Degraded,
    /// It runs, and its health checks fail.
    Unhealthy,
    /// It keeps ending by itself and waits for its next start.
    CrashLoop,
    /// It ended by itself, and its restart policy leaves it there.
    Exited,
    /// It is being stopped.
    Stopping,
    /// It is stopped because the user wants it so.
    Stopped,
    /// It could not be created; `failure` says why.
    Failed,
    /// It is being deleted.
    Deleting,
}

impl Phase {
    /// Every phase, for filters, metrics and documentation.
    pub const ALL: [Self; 13] = [
        Self::Pending,
        Self::Pulling,
        Self::Creating,
        Self::Starting,
        Self::Running,
        Self::Degraded,
        Self::Unhealthy,
        Self::CrashLoop,
        Self::Exited,
        Self::Stopping,
        Self::Stopped,
        Self::Failed,
        Self::Deleting,
    ];

    /// Its name as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Pulling => "pulling",
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::CrashLoop => "crash_loop",
            Self::Exited => "exited",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }
}

/// Health of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Not known yet.
    Starting,
    /// Its last check succeeded.
    Healthy,
    /// As many checks in a row failed as its spec allows.
    Unhealthy,
}

/// State of one replica's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// Created, never started.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited,
}

/// How a replica's process ended last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct Exit {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i64,
    /// The kernel killed it for want of memory.
    pub oom_killed: bool,
    /// When.
    #[schemars(with = "String")]
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The last lines it logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_log_lines: Vec<String>,
}

/// One container of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct Replica {
    /// Number of the replica, from 1.
    pub ordinal: u32,
    /// Container id or pod name.
    pub id: String,
    /// Name of the container or pod.
    pub name: String,
    /// State of the container.
    pub state: ReplicaState,
    /// Health of the service in it.
    pub health: Health,
    /// What the last failed health check said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_detail: Option<String>,
    /// Where the manager and the proxy reach its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[schemars(with = "Option<String>")]
    pub address: Option<SocketAddr>,
    /// Digest of the spec it was made from ([`ServiceSpec::container_digest`]).
    pub spec_digest: String,
    /// When its process started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// How often it was started again after it ended by itself.
    pub restarts: u32,
    /// How it ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// When it will be started again, while it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    #[schemars(with = "Option<String>")]
    pub next_start: Option<Timestamp>,
}

impl Replica {
    /// Whether requests may be sent to it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == ReplicaState::Running && self.health == Health::Healthy
    }
}

/// How far a pull is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct Progress {
    /// What is being done, in words.
    pub message: String,
    /// Bytes that have arrived; while an image is made, the number of the step.
    pub done: u64,
    /// Bytes in all, of the layers that have begun to arrive, absent before the first has; or the number of steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// What a service is, as its record says it: written once with each change, read back after every restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: ServiceName,
    /// Grows by one with every change.
    pub generation: u64,
    /// Whether it should run.
    pub desired: Desired,
    /// How it runs.
    pub spec: Arc<ServiceSpec>,
    /// The template it came from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateReference>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the record was written.
    pub updated_at: Timestamp,
}

/// Everything the live view knows of one service.
#[derive(Debug, Clone)]
pub struct ServiceState {
    /// What it should be.
    pub record: Arc<Record>,
    /// Where it stands.
    pub phase: Phase,
    /// Its containers, by ordinal.
    pub replicas: Vec<Replica>,
    /// Why it failed, while `phase` is [`Phase::Failed`] or a change could not be carried out.
    pub failure: Option<Error>,
    /// How far the present step is.
    pub progress: Option<Progress>,
    /// What the engine could not enforce or had to say.
    pub warnings: Vec<String>,
    /// Why it is not as it should be, as far as its backend knows more of that than the replicas say.
    pub reasons: Vec<Reason>,
}

impl ServiceState {
    /// The replicas that requests may be sent to.
    pub fn ready(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.is_ready())
    }
}

/// The live view of all services at one moment. It is replaced as a whole and never changed in place.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The services, by name.
    pub services: BTreeMap<ServiceName, Arc<ServiceState>>,
    /// Whether everything that exists has been seen and asked for its health at least once since the start.
    pub synced: bool,
    /// Whether the engine answers at present.
    pub connected: bool,
    /// When the engine was last heard of.
    pub as_of: Option<Timestamp>,
}

impl Snapshot {
    /// Containers that all services together may come to.
    #[must_use]
    pub fn most_containers(&self) -> u32 {
        self.services.values().map(|service| service.record.spec.most_replicas()).sum()
    }
}

/// What happens to a service, for `GET /containers/{name}/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct ServiceEvent {
    /// Number of the event, growing, since the manager's start.
    pub sequence: u64,
    /// When.
    #[schemars(with = "String")]
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Name of the service.
    #[schemars(with = "String")]
    #[schema(value_type = String)]
    pub service: ServiceName,
    /// What: `phase`, `replica_started`, `replica_exited`, `health`, `progress`, `changed`, `removed`, `failed`.
    pub kind: String,
    /// In a sentence.
    pub message: String,
    /// Replica it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<u32>,
    /// Phase of the service after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
}

/// Which of a service's output streams a log line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a service's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct LogLine {
    /// Replica that wrote it.
    pub replica: u32,
    /// Stream it was written to; absent where the engine does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// When, as the engine saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    #[schemars(with = "Option<String>")]
    pub timestamp: Option<Timestamp>,
    /// The line, without its end.
    pub line: String,
}

/// Which log lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// So many of the last lines of each replica; all when absent.
    pub tail: Option<u32>,
    /// Only lines from this moment on.
    pub since: Option<Timestamp>,
    /// Only lines before this moment.
    pub until: Option<Timestamp>,
    /// Only this stream.
    pub stream: Option<Stream>,
    /// Only this replica.
    pub replica: Option<u32>,
    /// What the container before the present one logged, where the engine makes a new one for each start.
    pub previous: bool,
    /// Go on with new lines until the caller goes away or the service is removed.
    pub follow: bool,
}

/// What one replica uses at the moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct ReplicaStats {
    /// Number of the replica.
    pub replica: u32,
    /// CPU time used since its start, in seconds; absent where it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// CPU use since the last look, in percent of one CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// Memory in use, in bytes; absent while it has not been measured yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Memory limit in force, in bytes; absent when nothing enforces one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads; absent where they are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Bytes received, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_received_bytes: Option<u64>,
    /// Bytes sent, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_sent_bytes: Option<u64>,
    /// Where the figures come from: `engine`, `proc` or `metrics.k8s.io`.
    pub source: String,
}

//! How to run a service: [`SpecInput`] as people write it, [`ServiceSpec`] as it runs.
//!
//! Input is parsed raw, merged (template below, request above) and then resolved once; a [`ServiceSpec`] is complete
//! and valid, and nothing after it validates again. What needs a look at the machine (does a host path lead out of the
//! allow-list through a symbolic link, does an image exist) is not decided here.

mod autoscaling;
mod difference;
mod input;
mod mounts;
mod placement;
mod resolve;
mod rules;
pub(in crate::domain) mod schema;
mod spelling;
#[cfg(test)]
mod tests;
mod values;
mod variables;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::hex;
use crate::domain::quantity::{Bytes, MilliCpu, Span};

pub use autoscaling::{Autoscaling, AutoscalingInput};
pub use difference::differences;
pub use input::{HealthCheckInput, SpecInput, also_named};
pub use placement::{Placement, Toleration};
pub use resolve::{Defaults, PARTS, Variables, resolve, violations, violations_anywhere};
pub(super) use resolve::{believed, member};
pub use rules::{CPU, MEMORY, PIDS, REPLICAS, STORAGE, is_image, pids, replicas, too_large};
pub(super) use rules::{MAX_ENTRIES, is_variable};
pub use schema::{says, within};
pub use spelling::{EnvironmentValue, PortNumber, VolumeInput, Volumes, Words};
pub use values::{Mount, MountSource, PullPolicy, RestartPolicy, SessionMode, Transport};
pub use variables::{SECRET_VARIABLES, labels_of_others, secret_variable, unknown_secrets};

/// A complete, valid description of how a service runs.
///
/// It is written as JSON into the labels of what it describes, so every field has a default and unknown fields are
/// ignored: managers of different versions read each other's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, schemars::JsonSchema)]
#[serde(default)]
pub struct ServiceSpec {
    /// Image reference with its tag.
    pub image: String,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command; empty keeps it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Working directory inside the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// User (and group) inside the container; the image's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Port on which the service listens inside the container; none for a service without network face.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Further container ports published on fixed loopback ports of the host: container port to host port.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<u16, u16>,
    /// Environment variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Environment variables filled from secrets: variable to name of the secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Mounted host directories and named volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Mount>,
    /// In-memory directories and their sizes.
    pub tmpfs: BTreeMap<String, Bytes>,
    /// Limit of memory.
    pub memory_limit: Bytes,
    /// Limit of CPU time.
    pub cpu_limit: MilliCpu,
    /// Limit of processes and threads.
    pub pids_limit: u32,
    /// Limit of the container's writable layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_limit: Option<Bytes>,
    /// What happens when the service ends by itself.
    pub restart_policy: RestartPolicy,
    /// How its health is found out.
    pub health_check: HealthCheck,
    /// Labels of the user's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Networks it is attached to besides the manager's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// How clients talk to it.
    pub transport: Transport,
    /// Whether clients share one process of a stdio server.
    pub session_mode: SessionMode,
    /// Sessions that the bridge holds at once in one replica; by the process limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u32>,
    /// How long nothing may happen on a session of the bridge before it ends; the bridge's own default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_idle_timeout: Option<Span>,
    /// How many containers run it.
    pub replicas: u32,
    /// Replicas by load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// When its image is pulled.
    pub pull_policy: PullPolicy,
    /// How long a start may take before it counts as failed.
    pub start_timeout: Span,
    /// How long it may take to stop by itself before it is killed.
    pub stop_timeout: Span,
    /// Root file system is read-only.
    pub read_only: bool,
    /// Processes cannot gain privileges.
    pub no_new_privileges: bool,
    /// Linux capabilities kept; all others are dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// May open connections to the outside.
    pub egress: bool,
    /// Which nodes of a cluster it may run on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Placement>,
}

/// How a service's health is found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, schemars::JsonSchema)]
#[serde(default)]
pub struct HealthCheck {
    /// The question that is asked.
    pub probe: Probe,
    /// Time between two checks.
    pub interval: Span,
    /// A check without an answer by then has failed.
    pub timeout: Span,
    /// So many failures in a row make the service unhealthy.
    pub retries: u32,
    /// Failures within this time after the start do not count.
    pub start_period: Span,
}

/// The question a health check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// `GET` of this path on the service's port answers with a status below 400.
    Http(String),
    /// The service's port accepts a connection.
    Tcp,
    /// This command ends with status 0 inside the container.
    Command(Vec<String>),
    /// Healthy as long as its process runs.
    Process,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { probe: Probe::Process, interval: Span(30_000), timeout: Span(5_000), retries: 3, start_period: Span(30_000) }
    }
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            image: String::new(),
            entrypoint: None,
            command: Vec::new(),
            working_dir: None,
            user: None,
            port: None,
            ports: BTreeMap::new(),
            environment: BTreeMap::new(),
            secrets: BTreeMap::new(),
            volumes: Vec::new(),
            tmpfs: BTreeMap::new(),
            memory_limit: Bytes(512 << 20),
            cpu_limit: MilliCpu(500),
            pids_limit: 256,
            storage_limit: None,
            restart_policy: RestartPolicy::default(),
            health_check: HealthCheck::default(),
            labels: BTreeMap::new(),
            networks: Vec::new(),
            transport: Transport::default(),
            session_mode: SessionMode::default(),
            max_sessions: None,
            session_idle_timeout: None,
            replicas: 1,
            autoscaling: None,
            pull_policy: PullPolicy::default(),
            start_timeout: Span(60_000),
            stop_timeout: Span(10_000),
            read_only: true,
            no_new_privileges: true,
            cap_add: Vec::new(),
            egress: false,
            kubernetes: None,
        }
    }
}

/// Port on which the bridge listens for a server that does not.
pub const BRIDGE_PORT: u16 = 8000;

/// What is shown in the place of a secret value.
pub const REDACTED: &str = "[redacted]";

impl ServiceSpec {
    /// Port at which the service is reached inside its container: the bridge's, where there is one. Beside a server that
    /// listens itself the bridge takes a port of its own.
    #[must_use]
    pub fn front_port(&self) -> Option<u16> {
        let port = self.port?;
        if self.transport != Transport::Sse {
            return Some(port);
        }
        (BRIDGE_PORT..=u16::MAX).find(|front| *front != port && !self.ports.contains_key(front))
    }

    /// Most containers that may run it.
    #[must_use]
    pub fn most_replicas(&self) -> u32 {
        self.autoscaling.as_ref().map_or(self.replicas, |autoscaling| autoscaling.max.max(self.replicas))
    }

    /// A digest of everything that a running container embodies: equal digests mean that no container must be replaced.
    /// The number of replicas, what changes it, and the time-outs of the manager's own waiting are left out.
    #[must_use]
    pub fn container_digest(&self) -> String {
        let embodied = Self { replicas: 1, autoscaling: None, start_timeout: Span(0), ..self.clone() };
        // A struct of plain values always serialises; an empty digest would only cause one replacement too many.
        let text = serde_json::to_vec(&embodied).unwrap_or_default();
        hex(&Sha256::digest(&text)[..16])
    }

    /// Which locks of the default this spec opens, in words for the API and the dashboard.
    #[must_use]
    pub fn loosened(&self) -> Vec<String> {
        let mut loosened = Vec::new();
        if !self.read_only {
            loosened.push("the root file system is writable".to_owned());
        }
        if !self.no_new_privileges {
            loosened.push("processes may gain privileges".to_owned());
        }
        if !self.cap_add.is_empty() {
            loosened.push(format!("keeps the capabilities {}", self.cap_add.join(", ")));
        }
        if self.egress {
            loosened.push("may open connections to the outside".to_owned());
        }
        for network in &self.networks {
            loosened.push(format!("is attached to the network '{network}' and reaches what that reaches"));
        }
        for mount in &self.volumes {
            if let MountSource::Host(path) = &mount.source {
                let mode = if mount.read_only { "read" } else { "read and write" };
                loosened.push(format!("may {mode} {path} of the host"));
            }
        }
        loosened
    }

    /// Whether two containers of it may run side by side while one replaces the other: not when they share files.
    #[must_use]
    pub fn allows_overlap(&self) -> bool {
        self.volumes.iter().all(|mount| mount.read_only) && self.ports.is_empty()
    }
}

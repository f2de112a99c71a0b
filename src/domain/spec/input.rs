//! A spec as people write it: every field optional, several spellings, nothing decided yet.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::autoscaling::AutoscalingInput;
use super::placement::Placement;
use super::rules;
use super::schema::{self, within};
use super::spelling::{EnvironmentValue, PortNumber, Volumes, Words, health_command};
use super::values::{PullPolicy, RestartPolicy, SessionMode, Transport};
use crate::domain::quantity::{Bytes, MilliCpu, Span};

/// A health check as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = also_named("command", "cmd"))]
pub struct HealthCheckInput {
    /// Path that answers with a status below 400 when the service is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::url_path)]
    pub path: Option<String>,
    /// Command that ends with status 0 inside the container when the service is healthy: a list of words, or one text. A
    /// text with operators of the shell (`curl -f http://localhost/ || exit 1`) is given to `/bin/sh -c`.
    #[serde(default, alias = "cmd", deserialize_with = "health_command", skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::some_words)]
    pub command: Option<Words>,
    /// Time between two checks (default: the setting `HEALTH_CHECK_INTERVAL`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = within(rules::INTERVAL))]
    pub interval: Option<Span>,
    /// Time a check may take (default 5 s, or the interval divided by `retries` where that is shorter, but at least 1 s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = within(rules::PROBE_TIMEOUT))]
    pub timeout: Option<Span>,
    /// Failures in a row that make it unhealthy (default 3).
    #[serde(default, deserialize_with = "rules::retries", skip_serializing_if = "Option::is_none")]
    #[schemars(transform = within(rules::RETRIES))]
    pub retries: Option<u32>,
    /// Time after the start in which failures do not count (default 30 s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = within(rules::UP_TO_AN_HOUR))]
    pub start_period: Option<Span>,
}

macro_rules! spec_input {
    ($( $(#[$meta:meta])* $field:ident: $type:ty, )*) => {
        /// How to run a service, as a template or a request says it. Every field is optional here; what a service
        /// cannot do without is checked when the input is resolved.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct SpecInput {
            $( $(#[$meta])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $field: Option<$type>, )*
        }

        impl SpecInput {
            /// This input with everything that `above` says on top. Environment, labels and secrets are merged by key, the
            /// health check field by field, and other fields are replaced; in whichever of its forms `above` says it.
            #[must_use]
            pub fn overlaid(mut self, above: Self) -> Self {
                self.give_way(&above);
                let health_check = laid(self.health_check.take(), above.health_check.clone());
                merge(&mut self.environment, above.environment.as_ref());
                merge(&mut self.labels, above.labels.as_ref());
                merge(&mut self.secrets, above.secrets.as_ref());
                let (environment, labels, secrets) = (self.environment.take(), self.labels.take(), self.secrets.take());
                Self { environment, labels, secrets, health_check, ..Self { $( $field: above.$field.or(self.$field), )* } }
            }
        }
    };
}

/// Tells a schema that the property `name` may also be called `alias`; deriving it overlooks serde's aliases.
pub fn also_named(name: &'static str, alias: &'static str) -> impl FnMut(&mut Schema) {
    move |schema| {
        if let Some(Value::Object(properties)) = schema.get_mut("properties")
            && let Some(property) = properties.get(name).cloned()
        {
            properties.insert(alias.to_owned(), property);
        }
    }
}

/// Tells the schema of an enum which other spellings of its values are read.
pub(super) fn also_spelled(spellings: &'static [&'static str]) -> impl FnMut(&mut Schema) {
    move |schema| {
        if let Some(Value::Array(values)) = schema.get_mut("oneOf") {
            values.push(json!({"type": "string", "enum": spellings, "description": "Other spellings."}));
        }
    }
}

impl SpecInput {
    /// Takes away what `above` says in another form. A probe replaces one of any other kind.
    fn give_way(&mut self, above: &Self) {
        let (mut own, over) = (self.health_check.as_mut(), above.health_check.as_ref());
        if above.health_check_path.is_some() || over.is_some_and(|over| over.path.is_some() || over.command.is_some()) {
            self.health_check_path = None;
            if let Some(own) = &mut own {
                (own.path, own.command) = (None, None);
            }
        }
        if above.health_check_interval.is_some() || over.is_some_and(|over| over.interval.is_some()) {
            self.health_check_interval = None;
            if let Some(own) = own {
                own.interval = None;
            }
        }
        if above.network.is_some() || above.networks.is_some() {
            (self.network, self.networks) = (None, None);
        }
    }

    /// What it does not say is said elsewhere, by a template or by the service itself: nothing of it is missing then, and
    /// which variables of the manager it may use is not known.
    pub fn leave_to_others(&mut self) {
        self.image.get_or_insert_with(|| "image".to_owned());
        self.port.get_or_insert(1);
        let values = self.environment.iter_mut().flat_map(BTreeMap::values_mut);
        values.filter(|EnvironmentValue(text)| text.contains("${")).for_each(|EnvironmentValue(text)| text.clear());
    }
}

fn laid(below: Option<HealthCheckInput>, above: Option<HealthCheckInput>) -> Option<HealthCheckInput> {
    let Some(above) = above else { return below };
    let below = below.unwrap_or_default();
    Some(HealthCheckInput {
        path: above.path.or(below.path),
        command: above.command.or(below.command),
        interval: above.interval.or(below.interval),
        timeout: above.timeout.or(below.timeout),
        retries: above.retries.or(below.retries),
        start_period: above.start_period.or(below.start_period),
    })
}

fn merge<V: Clone>(below: &mut Option<BTreeMap<String, V>>, above: Option<&BTreeMap<String, V>>) {
    if let Some(above) = above {
        below.get_or_insert_default().extend(above.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

spec_input! {
    /// Image reference, e.g. `docker.io/library/nginx:latest`.
    #[schemars(transform = schema::image)]
    image: String,
    /// Replaces the image's entrypoint.
    entrypoint: Words,
    /// Replaces the image's command.
    command: Words,
    /// Arguments after the command.
    args: Words,
    /// Working directory inside the container.
    #[schemars(transform = schema::working_dir)]
    working_dir: String,
    /// User, or user:group, inside the container.
    #[schemars(transform = schema::user)]
    user: String,
    /// Port on which the service listens inside the container.
    #[serde(deserialize_with = "rules::port")]
    #[schemars(transform = within(rules::PORTS))]
    port: u16,
    /// Container ports published on fixed loopback ports of the host: `{"80": 8080}`.
    #[schemars(transform = schema::ports)]
    ports: BTreeMap<String, PortNumber>,
    /// Environment variables. `${NAME}` stands for the manager's own variable where the template's `allowed_env` names it.
    #[schemars(transform = schema::environment)]
    environment: BTreeMap<String, EnvironmentValue>,
    /// Environment variables filled from secrets: `{"API_KEY": "name-of-secret"}`.
    #[schemars(transform = schema::secrets)]
    secrets: BTreeMap<String, String>,
    /// Mounted host directories and named volumes.
    volumes: Volumes,
    /// In-memory directories and their sizes: `{"/run": "16m"}`.
    #[schemars(transform = schema::tmpfs)]
    tmpfs: BTreeMap<String, Bytes>,
    /// Limit of memory (default: the setting `DEFAULT_MEMORY_LIMIT`).
    #[schemars(transform = within(rules::MEMORY))]
    memory_limit: Bytes,
    /// Limit of CPU time (default: the setting `DEFAULT_CPU_LIMIT`).
    #[schemars(transform = within(rules::CPU))]
    cpu_limit: MilliCpu,
    /// Limit of processes and threads (default 256).
    #[serde(deserialize_with = "rules::pids")]
    #[schemars(transform = within(rules::PIDS))]
    pids_limit: u32,
    /// Limit of the container's writable layer.
    #[schemars(transform = within(rules::STORAGE))]
    storage_limit: Bytes,
    /// What happens when the service ends by itself.
    restart_policy: RestartPolicy,
    /// How its health is found out.
    health_check: HealthCheckInput,
    /// Short for `health_check.path`.
    #[schemars(transform = schema::url_path)]
    health_check_path: String,
    /// Short for `health_check.interval`.
    #[schemars(transform = within(rules::INTERVAL))]
    health_check_interval: Span,
    /// Labels of your own.
    #[schemars(transform = schema::labels)]
    labels: BTreeMap<String, EnvironmentValue>,
    /// A network it is attached to besides the manager's own.
    #[schemars(transform = schema::network)]
    network: String,
    /// Networks it is attached to besides the manager's own.
    #[schemars(transform = schema::networks)]
    networks: Vec<String>,
    /// How clients talk to it.
    transport: Transport,
    /// Whether clients share one process of a stdio server.
    session_mode: SessionMode,
    /// Sessions that the bridge holds at once in one replica (default: a sixteenth of `pids_limit`, at most 64).
    #[serde(deserialize_with = "rules::max_sessions")]
    #[schemars(transform = within(rules::MAX_SESSIONS))]
    max_sessions: u32,
    /// How long nothing may happen on a session of the bridge before it ends (default 10 minutes).
    #[schemars(transform = within(rules::SESSION_IDLE))]
    session_idle_timeout: Span,
    /// How many containers run it.
    #[serde(deserialize_with = "rules::replicas")]
    #[schemars(transform = within(rules::REPLICAS))]
    replicas: u32,
    /// Replicas by load, in a cluster.
    autoscaling: AutoscalingInput,
    /// When its image is pulled.
    pull_policy: PullPolicy,
    /// How long a start may take (default 60 s).
    #[schemars(transform = within(rules::START))]
    start_timeout: Span,
    /// How long it may take to stop by itself before it is killed (default 10 s).
    #[schemars(transform = within(rules::UP_TO_AN_HOUR))]
    stop_timeout: Span,
    /// Read-only root file system (default true).
    read_only: bool,
    /// Processes cannot gain privileges (default true).
    no_new_privileges: bool,
    /// Linux capabilities to keep; all others are dropped.
    #[schemars(transform = schema::capabilities)]
    cap_add: Vec<String>,
    /// May open connections to the outside (default false).
    egress: bool,
    /// Which nodes of a cluster it may run on.
    kubernetes: Placement,
}

//! From [`SpecInput`] to [`ServiceSpec`]: defaults filled in, every rule checked, all violations reported at once.

use std::collections::BTreeSet;

use super::rules::{self, Check};
use super::values::Transport;
use super::{BRIDGE_PORT, HealthCheck, Probe, ServiceSpec, SpecInput};
use crate::domain::fields::bounded;
use crate::domain::quantity::{Bytes, MilliCpu, Span};
use crate::error::FieldError;

/// The shortest time that a check of health has where nothing is said of it.
const QUICKEST: Span = Span(1_000);

/// What a spec gets where neither template nor request says anything, and the bounds set by the installation.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Setting `DEFAULT_MEMORY_LIMIT`.
    pub memory_limit: Bytes,
    /// Setting `DEFAULT_CPU_LIMIT`.
    pub cpu_limit: MilliCpu,
    /// Setting `default_pids_limit`.
    pub pids_limit: u32,
    /// Setting `HEALTH_CHECK_INTERVAL`.
    pub health_interval: Span,
    /// Setting `start_timeout`.
    pub start_timeout: Span,
    /// Directory against which relative host paths are resolved.
    pub working_directory: String,
    /// Host directories below which services may mount; empty forbids host mounts.
    pub allowed_host_paths: Vec<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        let spec = ServiceSpec::default();
        Self {
            memory_limit: spec.memory_limit,
            cpu_limit: spec.cpu_limit,
            pids_limit: spec.pids_limit,
            health_interval: spec.health_check.interval,
            start_timeout: spec.start_timeout,
            working_directory: "/".to_owned(),
            allowed_host_paths: Vec::new(),
        }
    }
}

/// Looks up a variable of the manager's own environment that the template's allow-list names; `None` when unset.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Resolves `input`. `allowed_env` names the manager's variables that environment values may reference.
pub fn resolve(
    input: SpecInput,
    defaults: &Defaults,
    allowed_env: &[String],
    variables: Variables<'_>,
) -> Result<ServiceSpec, Vec<FieldError>> {
    let mut check = Check::default();
    let base = ServiceSpec::default();
    let transport = input.transport.unwrap_or_default();
    // The bridge listens for a server that does not.
    let port = input.port.or((transport == Transport::Stdio).then_some(BRIDGE_PORT));
    let image = check.image(input.image.clone());
    check.that(port != Some(0), "port", "is 0", "use 1 to 65535");
    let mut health_check = health(&mut check, &input, port, defaults);
    check.that(transport != Transport::Sse || port.is_some(), "port", "is missing", "name the port on which the server listens");
    if transport != Transport::Http && health_check.probe == Probe::Tcp {
        // The bridge knows how its server is.
        health_check.probe = Probe::Http("/health".to_owned());
    }
    let (autoscaling, replicas) = check.autoscaling(input.autoscaling, input.replicas);
    let environment = check.environment(input.environment.unwrap_or_default(), allowed_env, variables);
    let volumes = check.volumes(input.volumes.unwrap_or_default(), defaults);
    let spec = ServiceSpec {
        image,
        entrypoint: check.words("entrypoint", input.entrypoint).filter(|words| !words.is_empty()),
        command: {
            let mut command = check.words("command", input.command).unwrap_or_default();
            command.extend(check.words("args", input.args).unwrap_or_default());
            command
        },
        working_dir: check.working_dir(input.working_dir),
        user: check.user(input.user),
        port,
        ports: check.ports(input.ports.unwrap_or_default(), autoscaling.as_ref().map_or(replicas, |autoscaling| autoscaling.max)),
        secrets: check.secrets(input.secrets.unwrap_or_default(), &environment),
        tmpfs: check.tmpfs(input.tmpfs.unwrap_or_default(), &volumes),
        environment,
        volumes,
        memory_limit: check.within("memory_limit", input.memory_limit.unwrap_or(defaults.memory_limit), rules::MEMORY),
        cpu_limit: check.within("cpu_limit", input.cpu_limit.unwrap_or(defaults.cpu_limit), rules::CPU),
        pids_limit: check.within("pids_limit", input.pids_limit.unwrap_or(defaults.pids_limit), rules::PIDS),
        storage_limit: input.storage_limit.map(|limit| check.within("storage_limit", limit, rules::STORAGE)),
        restart_policy: input.restart_policy.unwrap_or_default(),
        health_check,
        labels: check.labels(input.labels.unwrap_or_default()),
        networks: check.networks(input.network, input.networks.unwrap_or_default()),
        transport,
        session_mode: input.session_mode.unwrap_or_default(),
        max_sessions: input.max_sessions.map(|most| check.within("max_sessions", most, rules::MAX_SESSIONS)),
        session_idle_timeout: input
            .session_idle_timeout
            .map(|span| check.within("session_idle_timeout", span, rules::SESSION_IDLE)),
        replicas: check.within("replicas", replicas, rules::REPLICAS),
        autoscaling,
        pull_policy: input.pull_policy.unwrap_or_default(),
        start_timeout: check.within("start_timeout", input.start_timeout.unwrap_or(defaults.start_timeout), rules::START),
        stop_timeout: check.within("stop_timeout", input.stop_timeout.unwrap_or(base.stop_timeout), rules::UP_TO_AN_HOUR),
        read_only: input.read_only.unwrap_or(base.read_only),
        no_new_privileges: input.no_new_privileges.unwrap_or(base.no_new_privileges),
        cap_add: check.capabilities(input.cap_add.unwrap_or_default()),
        egress: input.egress.unwrap_or(base.egress),
        kubernetes: check.placement(input.kubernetes),
    };
    if check.errors.is_empty() {
        check.size(&spec);
    }
    if check.errors.is_empty() { Ok(spec) } else { Err(bounded(check.errors)) }
}

/// Members of specs and templates whose entries or elements stand for themselves: one that cannot be read says nothing
/// about the others, which are kept and looked at.
pub const PARTS: [&str; 11] = [
    "environment",
    "labels",
    "ports",
    "secrets",
    "tmpfs",
    "volumes",
    "networks",
    "cap_add",
    "required_env_vars",
    "allowed_env",
    "capabilities",
];

/// Rules that `input` breaks wherever and with whatever it is used: host paths and the values of the manager's variables
/// are left to the moment of use. `unread` is as with [`violations`].
#[must_use]
pub fn violations_anywhere(input: SpecInput, allowed_env: &[String], unread: &BTreeSet<String>) -> Vec<FieldError> {
    let anywhere = Defaults { allowed_host_paths: vec!["/".to_owned()], ..Defaults::default() };
    violations(input, &anywhere, allowed_env, &|_| Some(String::new()), unread)
}

/// Rules that `input` breaks. `unread` are the fields with errors of their own, about which nothing is said but for the
/// entries of [`PARTS`] that could be read.
#[must_use]
pub fn violations(
    mut input: SpecInput,
    defaults: &Defaults,
    allowed_env: &[String],
    variables: Variables<'_>,
    unread: &BTreeSet<String>,
) -> Vec<FieldError> {
    if unread.contains("port") {
        // Rules about other fields should not complain that there is none.
        input.port = Some(1);
    }
    believed(resolve(input, defaults, allowed_env, variables).err().unwrap_or_default(), unread)
}

/// Those of the errors of what could be read that are true, with the places that elements of lists had as they were
/// written. `unread` is as with [`violations`].
pub(in crate::domain) fn believed(errors: Vec<FieldError>, unread: &BTreeSet<String>) -> Vec<FieldError> {
    let is_true = |error: &FieldError| {
        let member = member(&error.field);
        !unread.contains(member) || PARTS.contains(&member)
    };
    let as_written = |error: FieldError| FieldError { field: as_written(&error.field, unread).unwrap_or(error.field), ..error };
    errors.into_iter().filter(is_true).map(as_written).collect()
}

/// The path of an element before others were taken out of its list.
fn as_written(path: &str, unread: &BTreeSet<String>) -> Option<String> {
    let element = |path: &str| {
        let (member, rest) = path.split_once('[')?;
        let (index, rest) = rest.split_once(']')?;
        Some((member.to_owned(), index.parse::<usize>().ok()?, rest.to_owned()))
    };
    let (member, mut index, rest) = element(path)?;
    let taken = unread.iter().filter_map(|path| element(path)).filter(|(list, ..)| *list == member);
    let taken: BTreeSet<_> = taken.map(|(_, taken, _)| taken).collect();
    for taken in &taken {
        index += usize::from(*taken <= index);
    }
    (!taken.is_empty()).then(|| format!("{member}[{index}]{rest}"))
}

/// The outermost member that a path leads through.
pub(in crate::domain) fn member(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

/// The health check, from its long form and the two short ones. Errors name the form that was written.
fn health(check: &mut Check, input: &SpecInput, port: Option<u16>, defaults: &Defaults) -> HealthCheck {
    let written = input.health_check.clone().unwrap_or_default();
    let base = HealthCheck::default();
    let mut once = |short: &str, long: &str, agree: bool| {
        check.that(agree, short, &format!("says something else than '{long}'"), "keep one of them")
    };
    let agree = written.path.is_none() || [None, written.path.as_ref()].contains(&input.health_check_path.as_ref());
    once("health_check_path", "health_check.path", agree);
    let agree = written.interval.is_none() || [None, written.interval].contains(&input.health_check_interval);
    once("health_check_interval", "health_check.interval", agree);
    let (path, path_field) = match (written.path, &input.health_check_path) {
        (Some(path), _) => (Some(path), "health_check.path"),
        (None, path) => (path.clone(), "health_check_path"),
    };
    let interval_field = match (written.interval, input.health_check_interval) {
        (None, Some(_)) => "health_check_interval",
        _ => "health_check.interval",
    };
    if let Some(path) = &path {
        check.url_path(path_field, path);
        check.that(port.is_some(), path_field, "needs a port to ask", "set 'port'");
        check.that(written.command.is_none(), "health_check.command", "is there beside a path", "keep one of them");
    }
    let probe = match (check.health_command(written.command), path, port) {
        (Some(command), _, _) => Probe::Command(command),
        (None, Some(path), _) => Probe::Http(path),
        (None, None, Some(_)) => Probe::Tcp,
        (None, None, None) => Probe::Process,
    };
    let interval = written.interval.or(input.health_check_interval).unwrap_or(defaults.health_interval);
    let interval = check.within(interval_field, interval, rules::INTERVAL);
    let retries = check.within("health_check.retries", written.retries.unwrap_or(base.retries), rules::RETRIES);
    // What hangs is found out within two intervals then. No check is asked to be quicker than a busy machine can be, but by
    // who says so.
    let share = Span(interval.0 / u64::from(retries.max(1))).max(QUICKEST);
    HealthCheck {
        probe,
        interval,
        timeout: check.within("health_check.timeout", written.timeout.unwrap_or(base.timeout.min(share)), rules::PROBE_TIMEOUT),
        retries,
        start_period: check.within(
            "health_check.start_period",
            written.start_period.unwrap_or(base.start_period),
            rules::UP_TO_AN_HOUR,
        ),
    }
}

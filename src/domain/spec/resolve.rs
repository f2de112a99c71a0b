//! From [`SpecInput`] to [`ServiceSpec`]: defaults filled in, every rule checked, all violations reported at once.

use std::collections::BTreeMap;

use super::values::{Mount, MountSource, Transport};
use super::{EnvironmentValue, HealthCheck, Probe, ServiceSpec, SpecInput, Volumes};
use crate::domain::quantity::{Bytes, MilliCpu, Span};
use crate::error::FieldError;

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

/// Smallest memory limit that the engines accept.
const MIN_MEMORY: Bytes = Bytes(6 << 20);
const MAX_REPLICAS: u32 = 100;
const MAX_WAIT: Span = Span(3_600_000);
const DEFAULT_TMPFS: Bytes = Bytes(64 << 20);
const MAX_ENTRIES: usize = 1000;
const MAX_TEXT: usize = 32 * 1024;

/// Resolves `input`. `allowed_env` names the manager's variables that environment values may reference.
pub fn resolve(
    input: SpecInput,
    defaults: &Defaults,
    allowed_env: &[String],
    variables: Variables<'_>,
) -> Result<ServiceSpec, Vec<FieldError>> {
    let mut check = Check { errors: Vec::new() };
    let base = ServiceSpec::default();
    let image = check.image(input.image.as_deref());
    let transport = input.transport.unwrap_or_default();
    let port = check.port(input.port, transport);
    let health_check = check.health(&input, port, defaults);
    let mut command = input.command.map(|words| words.0).unwrap_or_default();
    command.extend(input.args.map(|words| words.0).unwrap_or_default());
    check.words("command", &command);
    let entrypoint = input.entrypoint.map(|words| words.0).filter(|words| !words.is_empty());
    check.words("entrypoint", entrypoint.as_deref().unwrap_or_default());
    let replicas = input.replicas.unwrap_or(1);
    check.that(
        (1..=MAX_REPLICAS).contains(&replicas),
        "replicas",
        "is out of range",
        "use 1 to 100; stop the service to run none",
    );
    let ports = check.ports(input.ports.unwrap_or_default(), replicas);
    let environment = check.environment(input.environment.unwrap_or_default(), allowed_env, variables);
    let secrets = check.secrets(input.secrets.unwrap_or_default(), &environment);
    let labels = check.labels(input.labels.unwrap_or_default());
    let volumes = check.volumes(input.volumes.unwrap_or_default(), defaults);
    let tmpfs = check.tmpfs(input.tmpfs.unwrap_or_default(), &volumes);
    let memory_limit = input.memory_limit.unwrap_or(defaults.memory_limit);
    check.that(memory_limit >= MIN_MEMORY, "memory_limit", "is below 6m", "give the service at least 6m");
    let cpu_limit = input.cpu_limit.unwrap_or(defaults.cpu_limit);
    check.that(cpu_limit.0 >= 10, "cpu_limit", "is below 0.01", "give the service at least 0.01 CPUs");
    let pids_limit = input.pids_limit.unwrap_or(defaults.pids_limit);
    check.that(pids_limit >= 1, "pids_limit", "is 0", "allow at least one process");
    let start_timeout = input.start_timeout.unwrap_or(defaults.start_timeout);
    check.that(start_timeout <= MAX_WAIT, "start_timeout", "is above one hour", "use at most 1h");
    let stop_timeout = input.stop_timeout.unwrap_or(base.stop_timeout);
    check.that(stop_timeout <= MAX_WAIT, "stop_timeout", "is above one hour", "use at most 1h");
    let cap_add = check.capabilities(input.cap_add.unwrap_or_default());
    let mut networks = input.networks.unwrap_or_default();
    networks.extend(input.network);
    networks.sort_unstable();
    networks.dedup();
    for (index, network) in networks.iter().enumerate() {
        check.that(plain_name(network), &format!("networks[{index}]"), "is not a network name", NAME_REMEDY);
    }
    check.text("user", input.user.as_deref());
    check.text("working_dir", input.working_dir.as_deref());
    if !check.errors.is_empty() {
        return Err(check.errors);
    }
    Ok(ServiceSpec {
        image,
        entrypoint,
        command,
        working_dir: input.working_dir,
        user: input.user,
        port,
        ports,
        environment,
        secrets,
        volumes,
        tmpfs,
        memory_limit,
        cpu_limit,
        pids_limit,
        storage_limit: input.storage_limit,
        restart_policy: input.restart_policy.unwrap_or_default(),
        health_check,
        labels,
        networks,
        transport,
        session_mode: input.session_mode.unwrap_or_default(),
        replicas,
        pull_policy: input.pull_policy.unwrap_or_default(),
        start_timeout,
        stop_timeout,
        read_only: input.read_only.unwrap_or(true),
        no_new_privileges: input.no_new_privileges.unwrap_or(true),
        cap_add,
        egress: input.egress.unwrap_or(false),
    })
}

const NAME_REMEDY: &str = "use letters, digits, '.', '_' and '-', starting with a letter or digit, 63 characters at most";

/// A name as engines take it for volumes, networks and secrets.
fn plain_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether `path` is absolute and has no `.`, `..` or empty parts and no control characters.
fn clean_absolute(path: &str) -> bool {
    path.len() < 4096
        && !path.chars().any(char::is_control)
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.trim_end_matches('/').split('/').all(|part| !part.is_empty() && part != "." && part != ".."))
}

/// `path` made absolute against `base`, with `.` and `..` resolved as text.
fn normalised(path: &str, base: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    fn that(&mut self, holds: bool, field: &str, message: &str, remedy: &str) {
        if !holds {
            self.errors.push(FieldError::new(field, message, remedy));
        }
    }

    fn text(&mut self, field: &str, text: Option<&str>) {
        let Some(text) = text else { return };
        let right = !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
        self.that(right, field, "is empty, too long or has control characters", "write one line of plain text");
    }

    fn words(&mut self, field: &str, words: &[String]) {
        let right = words.len() <= MAX_ENTRIES && words.iter().all(|word| word.len() <= MAX_TEXT && !word.contains('\0'));
        self.that(right, field, "has too many or too long words, or a NUL character", "use at most 1000 words of 32 KiB");
    }

    fn image(&mut self, image: Option<&str>) -> String {
        let remedy = "name an image, e.g. docker.io/library/nginx:latest";
        let Some(image) = image else {
            self.errors.push(FieldError::new("image", "is missing", remedy));
            return String::new();
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
        let right = (1..=512).contains(&image.len())
            && image.bytes().all(allowed)
            && image.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
            && !image.contains("//")
            && !image.split('/').any(|part| part == "..");
        self.that(right, "image", "is not an image reference", remedy);
        image.to_owned()
    }

    fn port(&mut self, port: Option<u16>, transport: Transport) -> Option<u16> {
        self.that(port != Some(0), "port", "is 0", "use 1 to 65535");
        match transport {
            // The bridge listens for a server that does not.
            Transport::Stdio => port.or(Some(8000)),
            Transport::Http | Transport::Sse => port,
        }
    }

    fn ports(&mut self, ports: BTreeMap<String, super::PortNumber>, replicas: u32) -> BTreeMap<u16, u16> {
        self.that(
            ports.is_empty() || replicas == 1,
            "ports",
            "fixed host ports cannot be shared by replicas",
            "use one replica, or leave 'ports' out: the service's own port is routed by its name",
        );
        let mut read = BTreeMap::new();
        for (container, host) in ports {
            match container.trim_end_matches("/tcp").parse::<u16>() {
                Ok(port) if port > 0 => {
                    read.insert(port, host.0);
                }
                _ => self.errors.push(FieldError::new(
                    format!("ports.{}", container.escape_debug()),
                    "is not a container port",
                    "write {\"80\": 8080}",
                )),
            }
        }
        read
    }

    fn health(&mut self, input: &SpecInput, port: Option<u16>, defaults: &Defaults) -> HealthCheck {
        let check = input.health_check.clone().unwrap_or_default();
        let base = HealthCheck::default();
        let path = check.path.or_else(|| input.health_check_path.clone());
        if let Some(path) = &path {
            let right = path.starts_with('/') && path.len() <= 2048 && path.chars().all(|c| c.is_ascii_graphic());
            self.that(right, "health_check.path", "is not a path", "start it with '/', e.g. /health");
            self.that(port.is_some(), "health_check.path", "needs a port to ask", "set 'port'");
            self.that(check.command.is_none(), "health_check", "has both a path and a command", "keep one of them");
        }
        let probe = match (check.command, path, port) {
            (Some(command), _, _) if !command.0.is_empty() => {
                self.words("health_check.command", &command.0);
                // Compose's spelling of the same two forms.
                let words = match command.0.split_first() {
                    Some((first, rest)) if first == "CMD" => rest.to_vec(),
                    Some((first, rest)) if first == "CMD-SHELL" => {
                        vec!["/bin/sh".into(), "-c".into(), rest.join(" ")]
                    }
                    _ => command.0,
                };
                Probe::Command(words)
            }
            (_, Some(path), _) => Probe::Http(path),
            (_, None, Some(_)) => Probe::Tcp,
            (_, None, None) => Probe::Process,
        };
        let interval = check.interval.or(input.health_check_interval).unwrap_or(defaults.health_interval);
        let timeout = check.timeout.unwrap_or(base.timeout);
        let retries = check.retries.unwrap_or(base.retries);
        self.that((100..=MAX_WAIT.0).contains(&interval.0), "health_check.interval", "is out of range", "use 100ms to 1h");
        self.that((10..=MAX_WAIT.0).contains(&timeout.0), "health_check.timeout", "is out of range", "use 10ms to 1h");
        self.that((1..=100).contains(&retries), "health_check.retries", "is out of range", "use 1 to 100");
        HealthCheck { probe, interval, timeout, retries, start_period: check.start_period.unwrap_or(base.start_period) }
    }

    fn environment(
        &mut self,
        environment: BTreeMap<String, EnvironmentValue>,
        allowed: &[String],
        variables: Variables<'_>,
    ) -> BTreeMap<String, String> {
        self.that(environment.len() <= MAX_ENTRIES, "environment", "has more than 1000 variables", "use fewer");
        let mut read = BTreeMap::new();
        for (name, EnvironmentValue(value)) in environment.into_iter().take(MAX_ENTRIES) {
            let field = format!("environment.{}", name.escape_debug());
            let right = (1..=256).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic() && c != '=');
            self.that(right, &field, "is not a variable name", "use letters, digits and '_'");
            self.that(value.len() <= MAX_TEXT, &field, "is longer than 32 KiB", "pass large values as a file in a volume");
            self.that(!value.contains('\0'), &field, "has a NUL character", "remove it");
            match expand(&value, allowed, variables) {
                Ok(value) => {
                    read.insert(name, value);
                }
                Err((message, remedy)) => self.errors.push(FieldError::new(field, message, remedy)),
            }
        }
        read
    }

    fn secrets(&mut self, secrets: BTreeMap<String, String>, environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        for (variable, secret) in &secrets {
            let field = format!("secrets.{}", variable.escape_debug());
            let right = (1..=256).contains(&variable.len()) && variable.chars().all(|c| c.is_ascii_graphic() && c != '=');
            self.that(right, &field, "is not a variable name", "use letters, digits and '_'");
            self.that(plain_name(secret), &field, "is not the name of a secret", NAME_REMEDY);
            self.that(!environment.contains_key(variable), &field, "is also set in 'environment'", "set it in one place");
        }
        secrets
    }

    fn labels(&mut self, labels: BTreeMap<String, EnvironmentValue>) -> BTreeMap<String, String> {
        self.that(labels.len() <= MAX_ENTRIES, "labels", "has more than 1000 labels", "use fewer");
        let labels = labels.into_iter().map(|(name, EnvironmentValue(value))| (name, value));
        labels
            .inspect(|(name, value)| {
                let field = format!("labels.{}", name.escape_debug());
                let right = (1..=256).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic() && c != '=');
                self.that(right, &field, "is not a label name", "use letters, digits, '.', '_', '-' and '/'");
                let own = name.starts_with("io.mcp-manager.");
                self.that(!own, &field, "belongs to the manager", "use another prefix");
                self.that(
                    value.len() <= MAX_TEXT && !value.contains('\0'),
                    &field,
                    "has a bad value",
                    "use at most 32 KiB of text",
                );
            })
            .collect()
    }

    fn volumes(&mut self, volumes: Volumes, defaults: &Defaults) -> Vec<Mount> {
        self.that(volumes.0.len() <= 100, "volumes", "has more than 100 entries", "use fewer");
        let mut mounts: Vec<Mount> = Vec::new();
        for (index, volume) in volumes.0.into_iter().take(100).enumerate() {
            let field = format!("volumes[{index}]");
            let (Some(source), Some(target)) = (volume.host_path, volume.container_path) else {
                self.errors.push(FieldError::new(field, "lacks host_path or container_path", "set both"));
                continue;
            };
            let target = target.trim_end_matches('/').to_owned();
            self.that(clean_absolute(&target), &field, "the container path is not absolute and plain", "write e.g. /data");
            let system =
                ["/proc", "/sys", "/dev"].iter().any(|system| target == *system || target.starts_with(&format!("{system}/")));
            self.that(!system, &field, "the container path belongs to the system", "mount somewhere else, e.g. /data");
            self.that(
                !mounts.iter().any(|mount| mount.target == target),
                &field,
                "the container path is used twice",
                "use another",
            );
            let Some(source) = self.mount_source(&field, &source, defaults) else {
                continue;
            };
            mounts.push(Mount { source, target, read_only: volume.read_only.unwrap_or(false) });
        }
        mounts
    }

    fn mount_source(&mut self, field: &str, source: &str, defaults: &Defaults) -> Option<MountSource> {
        let is_path = source.starts_with(['/', '.', '~']) || source.contains('/');
        if !is_path {
            self.that(plain_name(source), field, "is neither a host path nor the name of a volume", NAME_REMEDY);
            return Some(MountSource::Volume(source.to_owned()));
        }
        let usable = !source.starts_with('~') && !source.chars().any(char::is_control) && source.len() < 4096;
        self.that(usable, field, "the host path cannot be used", "write an absolute path, e.g. /srv/data");
        let path = normalised(source, &defaults.working_directory);
        let allowed = defaults.allowed_host_paths.iter().any(|root| {
            let root = root.trim_end_matches('/');
            path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
        });
        if !allowed {
            let remedy = if defaults.allowed_host_paths.is_empty() {
                "host mounts are off: use a named volume, or list directories in the setting ALLOWED_HOST_PATHS".to_owned()
            } else {
                format!("mount below one of {} (setting ALLOWED_HOST_PATHS)", defaults.allowed_host_paths.join(", "))
            };
            self.errors.push(FieldError::new(field, format!("the host path {} is not allowed", path.escape_debug()), remedy));
            return None;
        }
        Some(MountSource::Host(path))
    }

    fn tmpfs(&mut self, tmpfs: BTreeMap<String, Bytes>, volumes: &[Mount]) -> BTreeMap<String, Bytes> {
        let mut read = BTreeMap::from([("/tmp".to_owned(), DEFAULT_TMPFS)]);
        for (target, size) in tmpfs {
            let field = format!("tmpfs.{}", target.escape_debug());
            self.that(clean_absolute(&target), &field, "is not an absolute and plain path", "write e.g. /run");
            self.that(size.0 > 0, &field, "has no size", "give it a size, e.g. 16m");
            read.insert(target.trim_end_matches('/').to_owned(), size);
        }
        // A volume mounted on the default /tmp is what the user wants there.
        read.retain(|target, _| !volumes.iter().any(|mount| mount.target == *target));
        read
    }

    fn capabilities(&mut self, names: Vec<String>) -> Vec<String> {
        let mut read: Vec<String> = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let name = name.to_ascii_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name).to_owned();
            let field = format!("cap_add[{index}]");
            if ALLOWED_CAPABILITIES.contains(&name.as_str()) {
                read.push(name);
            } else {
                let remedy = format!("a service may keep: {}", ALLOWED_CAPABILITIES.join(", "));
                self.errors.push(FieldError::new(field, format!("'{}' cannot be kept", name.escape_debug()), remedy));
            }
        }
        read.sort_unstable();
        read.dedup();
        read
    }
}

/// Capabilities that act inside the container's own namespaces only; `SYS_ADMIN`, `NET_ADMIN` and the like are not to be had.
const ALLOWED_CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Replaces `${NAME}` and `${NAME:-default}`; `$$` is a dollar sign. Anything else stands as it is.
fn expand(value: &str, allowed: &[String], variables: Variables<'_>) -> Result<String, (String, String)> {
    let mut expanded = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(start) = rest.find('$') {
        expanded.push_str(&rest[..start]);
        let after = &rest[start + 1..];
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((reference, after)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            let (name, default) = match reference.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (reference, None),
            };
            if !allowed.iter().any(|allowed| allowed == name) {
                let message = format!("refers to the manager's variable '{}', which is not allowed", name.escape_debug());
                return Err((message, "name it in the template's 'allowed_env', or write $$ for a dollar sign".to_owned()));
            }
            let Some(text) = variables(name).or_else(|| default.map(str::to_owned)) else {
                let message = format!("refers to the manager's variable '{name}', which is not set");
                return Err((message, format!("set it, or write ${{{name}:-default}}")));
            };
            expanded.push_str(&text);
            rest = after;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn resolved(document: Value) -> Result<ServiceSpec, Vec<FieldError>> {
        let defaults =
            Defaults { allowed_host_paths: vec!["/srv".into()], working_directory: "/srv/app".into(), ..Defaults::default() };
        let variables = |name: &str| (name == "HOME_DIR").then(|| "/home".to_owned());
        resolve(serde_json::from_value(document).unwrap(), &defaults, &["HOME_DIR".into(), "UNSET".into()], &variables)
    }

    #[test]
    fn all_violations_are_reported_at_once() {
        let errors = resolved(json!({
            "port": 0, "replicas": 0, "memory_limit": "1k", "cap_add": ["SYS_ADMIN"], "labels": {"io.mcp-manager.owner": "x"},
            "environment": {"A\u{1}": "x", "B": "${SECRET}", "C": "${UNSET}", "GOOD": "$$ ${HOME_DIR} ${UNSET:-d}"},
            "volumes": {"/etc": "/x", "/srv/../etc/passwd": "/y", "data": "relative", "../../etc": "/z"},
        }))
        .unwrap_err();
        insta::assert_snapshot!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn a_minimal_spec_is_locked_down() {
        let spec = resolved(json!({"image": "nginx", "port": 80})).unwrap();
        assert!(spec.read_only && spec.no_new_privileges && spec.cap_add.is_empty() && !spec.egress);
        assert!(spec.loosened().is_empty());
        assert_eq!(spec.health_check.probe, Probe::Tcp);
    }

    #[test]
    fn environment_references_need_the_allow_list() {
        let spec = resolved(json!({"image": "x", "environment": {"A": "$$1 ${HOME_DIR}/x ${UNSET:-d} $plain"}})).unwrap();
        assert_eq!(spec.environment["A"], "$1 /home/x d $plain");
    }

    #[test]
    fn relative_host_paths_stay_below_the_allow_list() {
        let spec = resolved(json!({"image": "x", "volumes": {"./data": "/data"}})).unwrap();
        assert_eq!(spec.volumes[0].source, MountSource::Host("/srv/app/data".into()));
    }

    proptest! {
        #[test]
        fn no_host_path_escapes_the_allow_list(path in "[./a-z]{0,30}") {
            if let Ok(spec) = resolved(json!({"image": "x", "volumes": [{"host_path": path, "container_path": "/data"}]}))
                && let MountSource::Host(path) = &spec.volumes[0].source
            {
                prop_assert!(path == "/srv" || path.starts_with("/srv/"));
                prop_assert!(!path.split('/').any(|part| part == ".."));
            }
        }
    }
}

//! The pod of a service: locked down as the restricted profile of Pod Security asks, with limits on everything.

use serde_json::{Value, json};

use super::super::names;
use super::Context;
use super::bridge::{self, Bridge};
use crate::domain::quantity::{Bytes, Span};
use crate::domain::spec::{MountSource, Probe, PullPolicy, ServiceSpec};
use crate::error::Result;

/// Where HOME is; the root file system is read-only, and many programs insist on writing there.
const HOME: &str = "/home/mcp";
/// Room in HOME.
const HOME_ROOM: &str = "512Mi";
/// Limit of what a container writes to the node's disk, where the spec does not say.
const STORAGE: Bytes = Bytes(1 << 30);
/// Seconds between a pod's leaving the routes and its being told to end, so that nothing is sent to it any more: Traefik takes
/// changes over every two seconds unless told otherwise, and hears of this one when the endpoints have changed.
const LEAVE: u64 = 4;

/// The pod template of a service.
pub(super) fn template(context: &Context<'_>) -> Result<Value> {
    let spec = &context.record.spec;
    let restrictions = restrictions(spec);
    let bridge = crate::backend::bridge::is_needed(spec).then(|| bridge::bridge(context, &restrictions)).transpose()?;
    let mut annotations = json!({names::DIGEST: spec.container_digest()});
    if !context.secrets_digest.is_empty() {
        annotations[names::SECRETS] = json!(context.secrets_digest);
    }
    let (mut volumes, mut mounts) = writable(context);
    let mut init = Vec::new();
    if let Some(Bridge { init: container, volume, mount, .. }) = &bridge {
        init.push(container.clone());
        volumes.push(volume.clone());
        mounts.push(mount.clone());
    }
    let container = container(context, &restrictions, &mounts, bridge.as_ref());
    let mut pod = json!({
        "serviceAccountName": context.name(),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": whole_seconds(spec.stop_timeout) + leave(spec),
        "securityContext": pod_restrictions(context),
        "containers": [container],
        "volumes": volumes,
    });
    if !init.is_empty() {
        pod["initContainers"] = json!(init);
    }
    if let Some(placement) = &spec.kubernetes {
        pod["nodeSelector"] = json!(placement.node_selector);
        pod["tolerations"] = json!(placement.tolerations);
        pod["affinity"] = json!(placement.affinity);
    }
    if !context.settings.image_pull_secrets.is_empty() {
        let secrets: Vec<Value> = context.settings.image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
        pod["imagePullSecrets"] = json!(secrets);
    }
    Ok(json!({"metadata": {"labels": context.names.labels(&context.record.name), "annotations": annotations}, "spec": pod}))
}

/// What a container may not do.
fn restrictions(spec: &ServiceSpec) -> Value {
    let mut capabilities = json!({"drop": ["ALL"]});
    if !spec.cap_add.is_empty() {
        capabilities["add"] = json!(spec.cap_add);
    }
    json!({
        "allowPrivilegeEscalation": !spec.no_new_privileges,
        "readOnlyRootFilesystem": spec.read_only,
        "capabilities": capabilities,
    })
}

fn pod_restrictions(context: &Context<'_>) -> Value {
    let spec = &context.record.spec;
    let mut restrictions = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    let (user, group) = identity(spec, context.settings.run_as_user);
    if let Some(user) = user {
        restrictions["runAsUser"] = json!(user);
        restrictions["runAsNonRoot"] = json!(user != 0);
    }
    if let Some(group) = group {
        restrictions["runAsGroup"] = json!(group);
        restrictions["fsGroup"] = json!(group);
    }
    if spec.port.is_some_and(|port| port < 1024) {
        restrictions["sysctls"] = json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]);
    }
    restrictions
}

/// User and group by number. A name is the image's business: the cluster looks there whether it is root.
fn identity(spec: &ServiceSpec, default: Option<u32>) -> (Option<u32>, Option<u32>) {
    let Some(written) = &spec.user else { return (default, default) };
    let (user, group) = written.split_once(':').map_or((written.as_str(), None), |(user, group)| (user, Some(group)));
    let user: Option<u32> = user.parse().ok();
    (user, group.map_or(user, |group| group.parse().ok()))
}

/// What becomes of the `user` of a spec, where that is not what it is on one machine.
pub(in crate::backend::kubernetes) fn user_warning(spec: &ServiceSpec) -> Option<String> {
    let written = spec.user.as_deref()?;
    if written.split(':').any(|part| part.parse::<u32>().is_err()) {
        return Some(format!(
            "the user '{written}' is not followed: a cluster takes users and groups by number; write the numbers"
        ));
    }
    (identity(spec, None).0 == Some(0)).then(|| {
        "it runs as root of its node, where the namespace lets it: in a cluster no user namespace is around it; \
         give 'user' a number above 0"
            .to_owned()
    })
}

/// Volumes of the pod and where they are mounted, but for the bridge's.
fn writable(context: &Context<'_>) -> (Vec<Value>, Vec<Value>) {
    let spec = &context.record.spec;
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    for (index, (path, size)) in spec.tmpfs.iter().enumerate() {
        let name = format!("memory-{index}");
        volumes.push(json!({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size.0.to_string()}}));
        mounts.push(json!({"name": name, "mountPath": path}));
    }
    if home_is_ours(spec) {
        volumes.push(json!({"name": "home", "emptyDir": {"sizeLimit": HOME_ROOM}}));
        mounts.push(json!({"name": "home", "mountPath": HOME}));
    }
    let own_claims = super::workload::has_own_claims(spec);
    for mount in &spec.volumes {
        let MountSource::Volume(volume) = &mount.source else { continue };
        let name = context.names.claim(volume);
        // One volume may be mounted in two places.
        if !(own_claims || volumes.iter().any(|known| known["name"] == json!(name))) {
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        }
        mounts.push(json!({"name": name, "mountPath": mount.target, "readOnly": mount.read_only}));
    }
    (volumes, mounts)
}

/// Whether HOME is a directory of ours: where the spec names another, or mounts something there, it knows better.
fn home_is_ours(spec: &ServiceSpec) -> bool {
    spec.read_only
        && !spec.environment.contains_key("HOME")
        && !spec.tmpfs.keys().chain(spec.volumes.iter().map(|mount| &mount.target)).any(|path| path.starts_with(HOME))
}

fn container(context: &Context<'_>, restrictions: &Value, mounts: &[Value], bridge: Option<&Bridge>) -> Value {
    let spec = &context.record.spec;
    let mut container = json!({
        "name": "service",
        "image": spec.image,
        "imagePullPolicy": match spec.pull_policy {
            PullPolicy::Always => "Always",
            PullPolicy::Missing => "IfNotPresent",
            PullPolicy::Never => "Never",
        },
        "env": environment(context, bridge),
        "resources": resources(spec),
        "securityContext": restrictions,
        "volumeMounts": mounts,
        // What a program says last is shown as the reason of its end.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if let Some(bridge) = bridge {
        container["command"] = json!(bridge.command);
    } else {
        if let Some(entrypoint) = &spec.entrypoint {
            container["command"] = escaped(entrypoint);
        }
        if !spec.command.is_empty() {
            container["args"] = escaped(&spec.command);
        }
    }
    if let Some(directory) = &spec.working_dir {
        container["workingDir"] = json!(directory);
    }
    if let Some(port) = spec.front_port() {
        container["ports"] = json!([{"name": "http", "containerPort": port, "protocol": "TCP"}]);
        container["lifecycle"] = json!({"preStop": {"sleep": {"seconds": LEAVE}}});
    }
    probes(spec, &mut container);
    container
}

fn escaped(words: &[String]) -> Value {
    words.iter().map(|word| json!(bridge::escaped(word))).collect()
}

fn environment(context: &Context<'_>, bridge: Option<&Bridge>) -> Vec<Value> {
    let spec = &context.record.spec;
    let mut variables: Vec<Value> = bridge.map(|bridge| bridge.environment.clone()).unwrap_or_default();
    if home_is_ours(spec) {
        variables.push(json!({"name": "HOME", "value": HOME}));
    }
    variables.extend(spec.environment.iter().map(|(name, value)| json!({"name": name, "value": bridge::escaped(value)})));
    variables.extend(
        spec.secrets
            .keys()
            .map(|name| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": context.name(), "key": secret_key(name)}}})),
    );
    variables
}

/// Under which key of the service's Secret the value of a variable is.
pub(in crate::backend::kubernetes) fn secret_key(variable: &str) -> String {
    format!("env.{variable}")
}

fn resources(spec: &ServiceSpec) -> Value {
    let storage = spec.storage_limit.unwrap_or(STORAGE).0;
    let cpu = spec.cpu_limit.0.max(1);
    json!({
        // What a service is promised: a part of what it may take, so that idle ones do not fill the cluster.
        "requests": {
            "cpu": format!("{}m", (cpu / 10).max(1)),
            "memory": (spec.memory_limit.0 / 4).to_string(),
            "ephemeral-storage": (storage / 16).to_string(),
        },
        "limits": {
            "cpu": format!("{cpu}m"),
            "memory": spec.memory_limit.0.to_string(),
            "ephemeral-storage": storage.to_string(),
        },
    })
}

/// Startup has the start's budget; readiness asks what the spec says; liveness asks the bridge only, because a service
/// that is slow or broken for a while is taken out of the routes, not killed.
fn probes(spec: &ServiceSpec, container: &mut Value) {
    let check = &spec.health_check;
    let (port, bridged) = (spec.front_port(), crate::backend::bridge::is_needed(spec));
    let question = match (&check.probe, bridged, port) {
        (_, true, Some(port)) => json!({"httpGet": {"path": "/health", "port": port}}),
        (Probe::Http(path), _, Some(port)) => json!({"httpGet": {"path": path, "port": port}}),
        (Probe::Tcp, _, Some(port)) => json!({"tcpSocket": {"port": port}}),
        (Probe::Command(command), ..) => json!({"exec": {"command": command}}),
        _ => return,
    };
    let with = |period: u64, failures: u64| {
        let mut probe = question.clone();
        probe["periodSeconds"] = json!(period);
        probe["timeoutSeconds"] = json!(whole_seconds(check.timeout));
        probe["failureThreshold"] = json!(failures);
        probe
    };
    container["startupProbe"] = with(1, whole_seconds(spec.start_timeout));
    container["readinessProbe"] = with(whole_seconds(check.interval), u64::from(check.retries.max(1)));
    if let (true, Some(port)) = (bridged, port) {
        container["livenessProbe"] =
            json!({"tcpSocket": {"port": port}, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3});
    }
}

fn whole_seconds(span: Span) -> u64 {
    span.0.div_ceil(1000).max(1)
}

fn leave(spec: &ServiceSpec) -> u64 {
    if spec.port.is_some() { LEAVE } else { 0 }
}

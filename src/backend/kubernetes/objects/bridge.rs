//! The bridge in pods of servers that speak stdio or the old HTTP+SSE: an init container brings its program, and it runs
//! in front of the server's own command.

use serde_json::{Value, json};

use super::{Context, workload};
use crate::backend::bridge;
use crate::domain::spec::ServiceSpec;
use crate::error::{Error, Kind, Result};

use super::super::settings::{DEFAULT_DOMAIN, Settings};

/// Folder of the bridge's program inside the pod.
const FOLDER: &str = "/.mcp-bridge";
/// Room for the program.
const ROOM: &str = "64Mi";
/// What the pod calls that folder, and what else where a claim has this name: one without '-' is no claim's.
const VOLUME: &str = "mcp-bridge";
const OTHER_VOLUME: &str = "mcpbridge";

/// What a service behind the bridge needs beside what all have.
pub(super) struct Bridge {
    /// The container's command.
    pub(super) command: Vec<String>,
    /// Environment of the bridge itself.
    pub(super) environment: Vec<Value>,
    /// Brings the program.
    pub(super) init: Value,
    pub(super) volume: Value,
    pub(super) mount: Value,
}

/// Whether a service of this spec that needs the bridge can be run with these settings; the image that has the bridge.
pub(in crate::backend::kubernetes) fn check<'a>(spec: &ServiceSpec, settings: &'a Settings) -> Result<&'a str> {
    if spec.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::invalid_field(
            "entrypoint",
            "a server behind the bridge must say its program here: a cluster does not tell what an image would run",
            "set 'entrypoint' to the image's entrypoint, and 'command' to its arguments",
        ));
    }
    settings.bridge_image.as_deref().ok_or_else(|| {
        Error::new(Kind::NotSupported, "servers that speak stdio or HTTP+SSE need the bridge, and no image with it is set")
            .remedy("set kubernetes.bridge_image to an image that has mcp-bridge, such as the manager's own")
    })
}

/// What the pods of a service behind the bridge embody of the settings: by which host names its bridge is called. The
/// default is left out, so that it stays out of the digests that workloads have already.
pub(super) fn host(spec: &ServiceSpec, settings: &Settings) -> Option<String> {
    (bridge::is_needed(spec) && settings.domain != DEFAULT_DOMAIN).then(|| hosts(settings))
}

fn hosts(settings: &Settings) -> String {
    format!("*.{}", settings.domain)
}

/// What a service behind the bridge needs; `restrictions` is the security context of all its containers.
pub(super) fn bridge(context: &Context<'_>, restrictions: &Value) -> Result<Bridge> {
    let (spec, settings) = (&context.record.spec, context.settings);
    let image = check(spec, settings)?;
    // Its peers find it by its address: names of pods cannot be looked up.
    let arguments = bridge::arguments(spec, "$(MCP_BRIDGE_ADDRESS)", &[hosts(settings)]);
    let program = format!("{FOLDER}/mcp-bridge");
    let server = spec.entrypoint.iter().flatten().chain(&spec.command).map(|word| escaped(word));
    let command = [program.clone()].into_iter().chain(arguments).chain(server).collect();
    let is_taken = workload::named_volumes(spec).any(|volume| context.names.claim(volume) == VOLUME);
    let volume = if is_taken { OTHER_VOLUME } else { VOLUME };
    let mount = json!({"name": volume, "mountPath": FOLDER, "readOnly": true});
    let init = json!({
        "name": "mcp-bridge",
        "image": image,
        // One that is tagged "latest" is looked for on the node first, too.
        "imagePullPolicy": "IfNotPresent",
        "command": [settings.bridge_path, "--copy-to", program],
        "securityContext": restrictions,
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi", "ephemeral-storage": "1Mi"},
            "limits": {"cpu": "500m", "memory": "64Mi", "ephemeral-storage": ROOM},
        },
        "volumeMounts": [{"name": volume, "mountPath": FOLDER}],
    });
    let environment = vec![
        json!({"name": "MCP_BRIDGE_ADDRESS", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}),
        json!({"name": "MCP_BRIDGE_SESSION_KEY",
               "valueFrom": {"secretKeyRef": {"name": context.name(), "key": super::SESSION_KEY}}}),
    ];
    let volume = json!({"name": volume, "emptyDir": {"sizeLimit": ROOM}});
    Ok(Bridge { command, environment, init, volume, mount })
}

/// The cluster replaces `$(NAME)` in commands; what a user writes stands for itself.
pub(super) fn escaped(word: &str) -> String {
    word.replace("$(", "$$(")
}

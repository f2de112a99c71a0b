//! The tools: as endpoints, as an MCP server over HTTP and over standard input and output, and as other people's clients
//! see them.

mod access;
mod endpoints;
mod mcp;
mod peers;
mod stdio;

use serde_json::{Value, json};

/// Arguments with which each tool can be called once there is a service `echo`, in an order that works.
pub fn story() -> Vec<(&'static str, Value)> {
    let template = json!({"name": "mine", "version": "1", "image": "localhost/mine:1", "port": 80});
    vec![
        ("template_list", json!({})),
        ("template_get", json!({"name": "echo"})),
        ("template_validate", json!({"template": template})),
        ("template_create", json!({"template": template})),
        ("package_add", json!({"source": "npm:@a/server-b@1.2.3", "arguments": ["--x"], "environment": {"A": "b"}})),
        ("image_pull", json!({"image": "docker.io/library/busybox:1.36"})),
        ("image_list", json!({})),
        ("container_plan", json!({"service_name": "other", "template": "echo", "replicas": 2})),
        ("container_create", json!({"service_name": "other", "template": "echo", "environment": {"A": "1"}})),
        ("container_list", json!({"status": "running", "limit": 10})),
        ("container_get", json!({"name": "echo"})),
        ("container_logs", json!({"name": "echo", "tail": 5})),
        ("container_inspect", json!({"name": "echo"})),
        ("container_stats", json!({"name": "echo"})),
        ("container_update_env", json!({"name": "echo", "environment": {"B": "2", "C": null}})),
        ("container_scale", json!({"name": "echo", "replicas": 2})),
        ("container_restart", json!({"name": "echo"})),
        ("container_stop", json!({"name": "echo"})),
        ("container_start", json!({"name": "echo"})),
        ("container_apply", json!({"service_name": "other", "template": "echo", "replicas": 2})),
        ("container_remove", json!({"name": "other"})),
        ("system_health", json!({})),
        ("system_diagnostics", json!({})),
    ]
}

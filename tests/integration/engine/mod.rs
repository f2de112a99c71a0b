//! Claims about the Podman backend alone: what it makes in the engine, and how it takes what happens there.

mod checks;
mod containers;
mod programs;
mod repair;

use std::sync::Arc;
use std::time::Duration;

use mcp_manager::backend::Change;
use mcp_manager::domain::spec::{Probe, ServiceSpec};
use mcp_manager::domain::status::{Phase, ServiceState};

use crate::contract::podman::Installation;
use crate::contract::{Engine as _, Manager, name, running, spec};
use crate::support::http_client;

/// The small service of the contract, with the endpoints for tests.
fn controlled(installation: &Installation) -> ServiceSpec {
    let mut spec = spec(installation);
    spec.environment.insert("MCP_ECHO_TEST_CONTROLS".into(), "true".into());
    spec
}

fn is_running(service: &ServiceState) -> bool {
    service.phase == Phase::Running
}

/// Creates a service named `echo` and waits until it runs.
async fn create(manager: &Manager, spec: ServiceSpec) -> Arc<ServiceState> {
    let echo = name("echo");
    manager.backend.create(&echo, running(spec)).await.unwrap();
    manager.service(&echo, "it runs", is_running).await
}

/// Creates a service named `echo` that cannot be carried out; why.
async fn fail(manager: &Manager, spec: ServiceSpec) -> mcp_manager::error::Error {
    let echo = name("echo");
    manager.backend.create(&echo, running(spec)).await.unwrap();
    let service = manager.service(&echo, "it failed", |service| service.phase == Phase::Failed).await;
    assert!(service.replicas.is_empty(), "a failed creation leaves no containers");
    manager.backend.remove(&echo, false).await.unwrap();
    service.failure.clone().unwrap()
}

/// Removes `echo`, stops the manager, and makes sure that nothing is left.
async fn finish(manager: Manager, installation: Installation) {
    manager.backend.remove(&name("echo"), true).await.unwrap();
    manager.stop().await;
    assert_eq!(installation.leftovers().await, Vec::<String>::new());
}

/// The main process of the first replica, on this machine.
async fn pid(manager: &Manager) -> u64 {
    let inspected = manager.backend.inspect(&name("echo")).await.unwrap();
    inspected[0]["State"]["Pid"].as_u64().unwrap()
}

async fn call(service: &ServiceState, method: reqwest::Method, path: &str) -> reqwest::Result<reqwest::Response> {
    let address = service.replicas[0].address.unwrap();
    let client = http_client().timeout(Duration::from_secs(10)).build().unwrap();
    client.request(method, format!("http://{address}{path}")).send().await
}

fn probed(spec: ServiceSpec, probe: Probe) -> ServiceSpec {
    let mut spec = spec;
    spec.health_check.probe = probe;
    spec
}

fn change(spec: ServiceSpec) -> Change {
    running(spec)
}

//! Claims about the Kubernetes backend alone, on a real cluster: what it makes there, how it takes what others do there,
//! why services fail, and how several managers share it.

mod chart;
mod doctor;
mod faults;
mod logs;
mod lost_node;
mod manifests;
mod never_begun;
mod plans;
mod pulls;
mod reasons;
mod registries;
mod rights;
mod routes;
mod scaling;
mod sessions;
mod turns;
mod unplaced;
mod volumes;

use std::sync::Arc;

use mcp_manager::backend::kubernetes::{Access, Kubernetes, Settings};
use mcp_manager::domain::reason::Reason;
use mcp_manager::domain::spec::ServiceSpec;
use mcp_manager::domain::status::{Phase, ServiceState};

use crate::contract::{Manager, name, running};
use crate::support::kubernetes::Namespace;
use crate::support::kubernetes_way::Way;

type Kind = (&'static str, &'static str, &'static str, &'static str);

const DEPLOYMENT: Kind = ("apps", "v1", "Deployment", "deployments");
const QUOTA: Kind = ("", "v1", "ResourceQuota", "resourcequotas");
const NODE: Kind = ("", "v1", "Node", "nodes");
const POD: Kind = ("", "v1", "Pod", "pods");

fn is_running(service: &ServiceState) -> bool {
    service.phase == Phase::Running
}

/// A manager that reaches the API server this way.
async fn manager_by(way: &Way, namespace: &Namespace) -> Manager {
    let access = Access::File { path: way.kubeconfig.clone(), context: None };
    let settings = Settings { access, ..namespace.settings() };
    Manager::start_with(|tasks| Kubernetes::connect(settings, tasks)).await
}

/// Creates a service named `echo` and waits until it runs.
async fn create(manager: &Manager, spec: ServiceSpec) -> Arc<ServiceState> {
    let echo = name("echo");
    manager.backend.create(&echo, running(spec)).await.unwrap();
    manager.service(&echo, "it runs", is_running).await
}

/// Creates `echo` and waits until it gives this reason, see [`says`]; then it is removed.
async fn told(namespace: &Namespace, spec: ServiceSpec, code: &str, words: &[&str]) -> Reason {
    let manager = Manager::start(namespace).await;
    manager.backend.create(&name("echo"), running(spec)).await.unwrap();
    let reason = says(&manager, code, words).await;
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
    reason
}

/// Waits until `echo` gives a reason of this code whose cause and remedy have these words.
async fn says(manager: &Manager, code: &str, words: &[&str]) -> Reason {
    let has = |reason: &Reason, word: &str| reason.cause.contains(word) || reason.remedy.contains(word);
    let is = |reason: &&Reason| reason.code == code && words.iter().all(|word| has(reason, word));
    let what = format!("{code} is given with {words:?}");
    let service = manager.service(&name("echo"), &what, |service| service.reasons.iter().any(|reason| is(&reason))).await;
    let reason = service.reasons.iter().find(is).unwrap().clone();
    assert!(!reason.cause.is_empty() && !reason.remedy.is_empty(), "{reason:?}");
    reason
}

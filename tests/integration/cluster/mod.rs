//! Claims about the Kubernetes backend alone, on a real cluster: what it makes there, how it takes what others do there,
//! why services fail, and how several managers share it.

mod chart;
mod doctor;
mod faults;
mod logs;
mod lost_node;
mod manifests;
mod plans;
mod reasons;
mod registries;
mod rights;
mod routes;
mod scaling;
mod sessions;
mod turns;

use std::sync::Arc;

use mcp_manager::backend::kubernetes::{Access, Kubernetes, Settings};
use mcp_manager::domain::spec::ServiceSpec;
use mcp_manager::domain::status::{Phase, ServiceState};

use crate::contract::{Manager, name, running};
use crate::support::kubernetes::Namespace;
use crate::support::kubernetes_way::Way;

type Kind = (&'static str, &'static str, &'static str, &'static str);

const DEPLOYMENT: Kind = ("apps", "v1", "Deployment", "deployments");
const QUOTA: Kind = ("", "v1", "ResourceQuota", "resourcequotas");

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

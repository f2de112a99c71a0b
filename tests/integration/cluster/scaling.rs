//! Replicas by load: the cluster scales, and the manager leaves what it scaled alone.

use std::time::Duration;

use mcp_manager::domain::quantity::MilliCpu;
use mcp_manager::domain::spec::{Autoscaling, HealthCheck, Probe, ServiceSpec};
use mcp_manager::domain::status::Phase;

use crate::contract::{Manager, name, running, spec};
use crate::support::kubernetes::Namespace;

/// The cluster measures four times a minute, decides as often, and wants to have measured a pod twice.
const PATIENCE: Duration = Duration::from_mins(4);

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_service_gets_more_replicas_which_a_change_of_it_leaves_alone() {
    let Some(namespace) = Namespace::new().await else { return };
    let (manager, echo) = (Manager::start(&namespace).await, name("echo"));
    let entrypoint = ["/busybox", "sh", "-c", "while :; do :; done"].map(str::to_owned).to_vec();
    let busy = ServiceSpec {
        entrypoint: Some(entrypoint),
        port: None,
        health_check: HealthCheck { probe: Probe::Process, ..HealthCheck::default() },
        cpu_limit: MilliCpu(50),
        autoscaling: Some(Autoscaling { min: 1, max: 2, cpu_percent: 50 }),
        ..spec(&namespace)
    };
    manager.backend.create(&echo, running(busy.clone())).await.unwrap();
    let mut view = manager.backend.view();
    let scaled = view.wait_for(|snapshot| {
        let service = snapshot.services.get(&echo);
        service.is_some_and(|service| service.phase == Phase::Running && service.ready().count() == 2)
    });
    let snapshot = tokio::time::timeout(PATIENCE, scaled).await.expect("it is scaled").unwrap().clone();
    let record = &snapshot.services[&echo].record;
    assert_eq!((record.generation, record.spec.replicas), (1, 1), "nobody changed the record");
    // Another environment is another set of pods, as many as there were.
    let environment = [("CHANGED".to_owned(), "yes".to_owned())].into();
    let changed = ServiceSpec { environment, ..busy };
    let digest = changed.container_digest();
    manager.backend.update(&echo, 1, running(changed)).await.unwrap();
    let service = manager
        .service(&echo, "its pods are replaced", |service| {
            service.phase == Phase::Running && service.replicas.iter().all(|replica| replica.spec_digest == digest)
        })
        .await;
    assert_eq!(service.replicas.len(), 2);
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
    assert_eq!(namespace.owned().await, Vec::<String>::new());
}

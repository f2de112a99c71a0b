//! Replicas by load: the cluster scales, and the manager leaves what it scaled alone.

use std::net::SocketAddr;
use std::time::Duration;

use mcp_manager::domain::quantity::MilliCpu;
use mcp_manager::domain::spec::{Autoscaling, HealthCheck, Probe, ServiceSpec};
use mcp_manager::domain::status::{Phase, ServiceState};
use tokio::task::JoinSet;

use crate::contract::{Manager, name, running, spec};
use crate::support::http_client;
use crate::support::kubernetes::Namespace;

/// The cluster measures four times a minute, decides as often, and wants to have measured a pod twice.
const PATIENCE: Duration = Duration::from_mins(4);
/// So many callers at once keep a replica with a tenth of a CPU busy.
const CALLERS: usize = 4;

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
        autoscaling: Some(Autoscaling { min: 1, max: 2, cpu_percent: 50, scale_down_after: "5m".parse().unwrap() }),
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

/// Waits until so many replicas, and no others, are ready.
async fn until(manager: &Manager, replicas: usize) -> std::sync::Arc<ServiceState> {
    let echo = name("echo");
    let mut view = manager.backend.view();
    let settled = |service: &ServiceState| {
        service.phase == Phase::Running && service.replicas.len() == replicas && service.ready().count() == replicas
    };
    let scaled = view.wait_for(|snapshot| snapshot.services.get(&echo).is_some_and(|service| settled(service)));
    let snapshot =
        tokio::time::timeout(PATIENCE, scaled).await.unwrap_or_else(|_| panic!("there never were {replicas} replicas"));
    snapshot.unwrap().services[&echo].clone()
}

/// Calls every replica that is ready, as fast as they answer, for as long as it is polled.
async fn load(manager: &Manager) {
    let (echo, mut view) = (name("echo"), manager.backend.view());
    let addresses = |state: &ServiceState| -> Vec<SocketAddr> { state.ready().filter_map(|replica| replica.address).collect() };
    let client = http_client().timeout(Duration::from_secs(5)).build().unwrap();
    loop {
        let now = addresses(&view.borrow_and_update().services[&echo]);
        let mut callers = JoinSet::new();
        for address in now.iter().flat_map(|address| [*address; CALLERS]) {
            let client = client.clone();
            // A replica that is going refuses until there is another set of callers.
            callers.spawn(async move {
                loop {
                    if client.get(format!("http://{address}/health")).send().await.is_err() {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            });
        }
        view.wait_for(|snapshot| addresses(&snapshot.services[&echo]) != now).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_come_with_the_load_and_go_with_it() {
    let Some(namespace) = Namespace::new().await else { return };
    let (manager, echo) = (Manager::start(&namespace).await, name("echo"));
    let autoscaling = Autoscaling { min: 1, max: 3, cpu_percent: 30, scale_down_after: "0s".parse().unwrap() };
    let called = ServiceSpec { cpu_limit: MilliCpu(100), autoscaling: Some(autoscaling), ..spec(&namespace) };
    manager.backend.create(&echo, running(called)).await.unwrap();
    until(&manager, 1).await;
    tokio::select! {
        service = until(&manager, 3) => assert_eq!((service.record.generation, service.record.spec.replicas), (1, 1)),
        () = load(&manager) => {}
    }
    // Nobody calls any more.
    until(&manager, 1).await;
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
    assert_eq!(namespace.owned().await, Vec::<String>::new());
}

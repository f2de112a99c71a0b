//! What others do to the cluster's objects, and what becomes of them while a manager or the API server is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use mcp_manager::backend::Backend as _;
use mcp_manager::backend::kubernetes::Kubernetes;
use mcp_manager::domain::spec::ServiceSpec;
use mcp_manager::domain::status::ServiceState;
use mcp_manager::error::Kind;
use mcp_manager::lifecycle::Tasks;
use reqwest::Method;
use serde_json::json;

use super::{DEPLOYMENT, create, is_running, manager_by};
use crate::contract::{Manager, PATIENCE, name, running, spec};
use crate::support::kubernetes::Namespace;
use crate::support::kubernetes_way::Way;
use crate::support::product::{Options, Product};
use crate::support::stretched;

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_somebody_deletes_is_made_again_and_that_is_said() {
    let Some(namespace) = Namespace::new().await else { return };
    let manager = Manager::start(&namespace).await;
    let before = create(&manager, spec(&namespace)).await;
    let mut events = manager.backend.events();
    namespace.api(DEPLOYMENT).delete("mcp-echo", &DeleteParams::background()).await.unwrap();
    let other = |service: &ServiceState| is_running(service) && service.replicas[0].id != before.replicas[0].id;
    manager.service(&name("echo"), "another pod runs", other).await;
    let said = std::iter::from_fn(|| events.try_recv().ok()).any(|event| event.message.contains("deleted by somebody else"));
    assert!(said, "nobody was told");
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_scaled_by_hand_stays_so_through_changes_of_the_service() {
    let Some(namespace) = Namespace::new().await else { return };
    let (manager, echo) = (Manager::start(&namespace).await, name("echo"));
    create(&manager, spec(&namespace)).await;
    let scale = Patch::Merge(json!({"spec": {"replicas": 2}}));
    namespace.api(DEPLOYMENT).patch("mcp-echo", &PatchParams::default(), &scale).await.unwrap();
    let two = |service: &ServiceState| is_running(service) && service.replicas.len() == 2;
    manager.service(&echo, "two run", two).await;
    let mut changed = spec(&namespace);
    changed.environment.insert("GREETING".into(), "hello".into());
    let digest = changed.container_digest();
    manager.backend.update(&echo, 1, running(changed.clone())).await.unwrap();
    let new = |service: &ServiceState| two(service) && service.replicas.iter().all(|replica| replica.spec_digest == digest);
    manager.service(&echo, "two of the new revision run", new).await;
    manager.backend.update(&echo, 2, running(ServiceSpec { replicas: 3, ..changed })).await.unwrap();
    manager.service(&echo, "three run", |service| is_running(service) && service.replicas.len() == 3).await;
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_scaled_to_nothing_runs_again_when_it_is_started() {
    let Some(namespace) = Namespace::new().await else { return };
    let product = Product::start(Options::kubernetes(&namespace)).await;
    product.create_echo("echo", json!({})).await;
    let (scale, object) = (Patch::Merge(json!({"spec": {"replicas": 0}})), format!("{}-echo", product.options.instance));
    namespace.api(DEPLOYMENT).patch(&object, &PatchParams::default(), &scale).await.unwrap();
    product.until("echo", "it has stopped", |service| service["status"] == "stopped").await;
    let (status, started) = product.call(Method::POST, "/containers/echo/start").await;
    assert_eq!((status, &started["status"]), (200, &json!("running")), "{started:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_revision_that_serves_while_the_new_one_fails_is_shown_as_that() {
    let Some(namespace) = Namespace::new().await else { return };
    let (manager, echo) = (Manager::start(&namespace).await, name("echo"));
    let before = create(&manager, spec(&namespace)).await;
    let broken = ServiceSpec { image: "localhost/mcp/absent:1".into(), ..spec(&namespace) };
    manager.backend.update(&echo, 1, running(broken)).await.unwrap();
    let service = manager.service(&echo, "the change has failed", |service| service.failure.is_some()).await;
    assert!(is_running(&service), "{service:?}");
    assert_eq!(service.ready().map(|replica| replica.id.clone()).collect::<Vec<_>>(), [before.replicas[0].id.clone()]);
    manager.backend.update(&echo, 2, running(spec(&namespace))).await.unwrap();
    manager.service(&echo, "all is well again", |service| is_running(service) && service.failure.is_none()).await;
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_manager_that_writes_is_killed_another_one_writes() {
    let Some(namespace) = Namespace::new().await else { return };
    let first = Kubernetes::connect(namespace.settings(), Tasks::default()).await.unwrap();
    let run = tokio::spawn({
        let first = first.clone();
        async move { first.run(tokio_util::sync::CancellationToken::new()).await }
    });
    let deadline = Instant::now() + PATIENCE;
    while first.info().await.unwrap().details["writes"] != "true" {
        assert!(Instant::now() < deadline, "it never began to write");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let manager = Manager::start(&namespace).await;
    run.abort();
    create(&manager, spec(&namespace)).await;
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_away_reads_go_on_and_changes_fail_and_soon_after_its_return_the_view_is_right() {
    let Some(namespace) = Namespace::new().await else { return };
    let way = Way::to(&namespace).await;
    let manager = manager_by(&way, &namespace).await;
    let echo = name("echo");
    create(&manager, spec(&namespace)).await;

    is_right_soon_after(&namespace, &manager, || way.cut(), async || way.mend().await).await;
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_falls_silent_is_noticed_and_soon_after_its_return_the_view_is_right() {
    let Some(namespace) = Namespace::new().await else { return };
    let way = Way::to(&namespace).await;
    let manager = manager_by(&way, &namespace).await;
    create(&manager, spec(&namespace)).await;
    is_right_soon_after(&namespace, &manager, || way.silence(), async || way.speak()).await;
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
}

/// The API server goes for this manager, others change things meanwhile, and it comes back.
async fn is_right_soon_after(namespace: &Namespace, manager: &Manager, goes: impl FnOnce(), returns: impl AsyncFnOnce()) {
    let echo = name("echo");
    goes();
    let away = manager.until("the server is known to be away", |snapshot| !snapshot.connected).await;
    assert!(away.services.contains_key(&echo) && away.as_of.is_some(), "what was known is known");
    let error = manager.backend.update(&echo, 1, running(spec(namespace))).await.unwrap_err();
    assert_eq!(error.kind, Kind::BackendUnavailable, "{error}");
    // Meanwhile others change things.
    let scale = Patch::Merge(json!({"spec": {"replicas": 2}}));
    namespace.api(DEPLOYMENT).patch("mcp-echo", &PatchParams::default(), &scale).await.unwrap();
    let pods = namespace.api(("", "v1", "Pod", "pods"));
    let ready = async || {
        let pods = pods.list(&ListParams::default()).await.unwrap();
        let ready = |pod: &kube::api::DynamicObject| {
            let conditions = pod.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        pods.items.iter().filter(|pod| ready(pod)).count() == 2
    };
    crate::support::eventually("two pods are ready", ready).await;

    returns().await;
    let back = Instant::now();
    let right = |snapshot: &mcp_manager::domain::status::Snapshot| {
        snapshot.connected && snapshot.services.get(&echo).is_some_and(|service: &Arc<ServiceState>| service.ready().count() == 2)
    };
    manager.until("the view is right", right).await;
    let took = back.elapsed();
    assert!(took < stretched(Duration::from_secs(5)).await, "it took {took:?}");
}

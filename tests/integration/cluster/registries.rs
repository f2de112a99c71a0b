//! Registries that give no image, each for its own reason. They stand on the node's loopback, where the node speaks plain
//! HTTP to them.

use kube::api::DeleteParams;
use mcp_manager::domain::spec::{PullPolicy, ServiceSpec};
use mcp_manager::domain::status::Phase;
use mcp_manager::error::Kind as Fault;
use serde_json::json;

use super::POD;
use crate::contract::{Manager, name, running, spec};
use crate::support::kubernetes::Namespace;

/// A port on the node that hardly anybody has: different for tests that run at the same time.
pub(super) fn port() -> u32 {
    20_000 + std::process::id() % 10_000
}

/// A registry that answers every request with this status; it goes with its namespace.
async fn registry(beside: &Namespace, port: u32, status: &str) {
    let answer = format!(
        "while IFS= read -r line; do [ ${{#line}} -le 1 ] && break; done; \
         printf 'HTTP/1.1 {status}\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n'"
    );
    answering(beside, port, &answer, &[]).await;
}

/// A registry that answers every request as this script of busybox's shell does, which has the request as its input and the
/// folder `/shelf` with each `ConfigMap` of these names.
pub(super) async fn answering(beside: &Namespace, port: u32, script: &str, shelves: &[&str]) {
    let number = port.to_string();
    let command = ["/busybox", "nc", "-ll", "-p", &number, "-e", "/busybox", "sh", "-c", script];
    let sources: Vec<_> = shelves.iter().map(|name| json!({"configMap": {"name": name}})).collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "registry"}, "spec": {
        "hostNetwork": true, "terminationGracePeriodSeconds": 0, "containers": [{
            "name": "registry", "image": beside.image, "imagePullPolicy": "Never", "command": command,
            "volumeMounts": [{"name": "shelf", "mountPath": "/shelf"}],
            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        }],
        "volumes": [{"name": "shelf", "projected": {"sources": sources}}],
    }});
    beside.create(POD, pod).await;
    let deadline = std::time::Instant::now() + crate::contract::PATIENCE;
    loop {
        let pod = beside.api(POD).get("registry").await.unwrap();
        if pod.data["status"]["containerStatuses"][0]["ready"] == true {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "the registry never listened: {:#}", pod.data["status"]);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// What a service says whose image is in a registry that answers so.
async fn said_of(port: u32, status: &str) -> Option<mcp_manager::error::Error> {
    let (beside, namespace) = (Namespace::open().await?, Namespace::new().await?);
    registry(&beside, port, status).await;
    let error = refused(&namespace, &format!("127.0.0.1:{port}/private/image:1")).await;
    beside.api(POD).delete("registry", &DeleteParams::background()).await.unwrap();
    Some(error)
}

/// Why a service of this image fails.
async fn refused(namespace: &Namespace, image: &str) -> mcp_manager::error::Error {
    let (manager, echo) = (Manager::start(namespace).await, name("echo"));
    let spec = ServiceSpec { image: image.to_owned(), pull_policy: PullPolicy::Missing, ..spec(namespace) };
    manager.backend.create(&echo, running(spec)).await.unwrap();
    let service = manager.service(&echo, "it failed", |service| service.phase == Phase::Failed).await;
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
    let failure = service.failure.clone().unwrap();
    assert!(failure.detail.contains(image), "which image: {failure}");
    failure
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_a_pull_is_named_with_the_remedy() {
    for (offset, status) in [(0, "401 Unauthorized"), (1, "403 Forbidden")] {
        let Some(error) = said_of(port() + offset, status).await else { return };
        assert_eq!(error.kind, Fault::ImageAccessDenied, "{error}");
        assert!(error.detail.contains(status) && error.remedy.unwrap().contains("image_pull_secrets"), "{}", error.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_holds_back_is_named_as_that() {
    let Some(error) = said_of(port() + 2, "429 Too Many Requests").await else { return };
    assert_eq!(error.kind, Fault::RegistryUnavailable, "{error}");
    assert!(error.detail.contains("rate limit") && error.remedy.unwrap().contains("wait"), "{}", error.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_no_registry_has_and_a_registry_that_fails_are_told_apart() {
    for (offset, status, kind, remedy) in [
        (3, "404 Not Found", Fault::ImageNotFound, "name or tag"),
        (4, "500 Internal Server Error", Fault::RegistryUnavailable, "nodes reach the registry"),
    ] {
        let Some(error) = said_of(port() + offset, status).await else { return };
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.remedy.as_deref().is_some_and(|said| said.contains(remedy)), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_and_a_name_that_is_none_are_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let error = refused(&namespace, &format!("127.0.0.1:{}/any/image:1", port() + 5)).await;
    assert_eq!(error.kind, Fault::RegistryUnavailable, "{error}");
    assert!(error.detail.contains("connection refused"), "{error}");
    let error = refused(&namespace, "127.0.0.1/Capitals/image:1").await;
    assert_eq!(error.kind, Fault::ImageNotFound, "{error}");
    assert!(error.detail.contains("no valid name") && error.remedy.unwrap().contains("correct"), "{}", error.detail);
}

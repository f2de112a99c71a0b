//! Why the containers of a pod do not begin though it has a node. What the product never asks for, somebody else has added
//! to its workload here.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use mcp_manager::backend::kubernetes::{Kubernetes, Settings};
use mcp_manager::domain::spec::{PullPolicy, ServiceSpec, Transport};
use mcp_manager::domain::status::Phase;
use serde_json::{Value, json};

use super::{DEPLOYMENT, Kind, is_running, says, told};
use crate::contract::{Manager, name, running, spec};
use crate::support::kubernetes::Namespace;

const RUNTIME: Kind = ("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses");

/// Creates `echo` on this manager, with something more in its pods' text, and waits for this reason.
async fn with(manager: &Manager, namespace: &Namespace, template: Value, code: &str, words: &[&str]) {
    let echo = name("echo");
    manager.backend.create(&echo, running(spec(namespace))).await.unwrap();
    manager.service(&echo, "it runs", is_running).await;
    let more = Patch::Strategic(json!({"spec": {"template": template, "strategy": {"type": "Recreate", "rollingUpdate": null}}}));
    namespace.api(DEPLOYMENT).patch("mcp-echo", &PatchParams::default(), &more).await.unwrap();
    says(manager, code, words).await;
    manager.backend.remove(&echo, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_its_node_cannot_set_up_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let manager = Manager::start(&namespace).await;
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "nobody-has",
        "metadata": {"name": namespace.name, "labels": {"mcp-manager-test": "yes"}}});
    let classes = namespace.cluster_api(RUNTIME);
    classes.create(&PostParams::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
    let unknown = json!({"spec": {"runtimeClassName": namespace.name}});
    with(&manager, &namespace, unknown, "pod_not_set_up", &["nobody-has", "container runtime"]).await;
    classes.delete(&namespace.name, &DeleteParams::default()).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_its_text_keeps_from_being_made_is_named_with_the_cause() {
    let Some(namespace) = Namespace::new().await else { return };
    let named = ServiceSpec { user: Some("somebody".into()), ..spec(&namespace) };
    let reason = told(&namespace, named, "not_configured", &["root", "'user'"]).await;
    assert!(reason.permanent, "{reason:?}");
    let manager = Manager::start(&namespace).await;
    let variable = json!({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "nobody-made", "key": "x"}}});
    let lacking = json!({"spec": {"containers": [{"name": "service", "env": [variable]}]}});
    with(&manager, &namespace, lacking, "not_configured", &["nobody-made", "secret"]).await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_may_not_be_run_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let plain = ServiceSpec { entrypoint: Some(vec!["/proc/version".into()]), ..spec(&namespace) };
    let reason = told(&namespace, plain, "cannot_run", &["permission denied", "'user'"]).await;
    assert!(reason.permanent, "{reason:?}");
}

fn stdio(namespace: &Namespace) -> ServiceSpec {
    let entrypoint = Some(["/mcp-echo", "--stdio"].map(str::to_owned).to_vec());
    ServiceSpec { transport: Transport::Stdio, entrypoint, ..spec(namespace) }
}

/// A manager that takes the bridge from there.
async fn bridged(namespace: &Namespace, image: &str, path: &str) -> Manager {
    let settings = Settings { bridge_image: Some(image.to_owned()), bridge_path: path.to_owned(), ..namespace.settings() };
    Manager::start_with(|tasks| Kubernetes::connect(settings, tasks)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_does_not_come_is_told_apart_from_the_server() {
    let Some(namespace) = Namespace::new().await else { return };
    let image = namespace.image.clone();
    for (image, path, code, words) in [
        ("localhost/mcp/absent:1", "/x", "image_unavailable", ["localhost/mcp/absent:1", "kubernetes.bridge_image"]),
        (&image, "/nobody/made/this", "cannot_run", ["/nobody/made/this", "kubernetes.bridge_program"]),
        // It is there, and knows nothing of `--copy-to`.
        (&image, "/busybox", "crash_loop", ["exit code", "kubernetes.bridge_program"]),
    ] {
        let manager = bridged(&namespace, image, path).await;
        manager.backend.create(&name("echo"), running(stdio(&namespace))).await.unwrap();
        let reason = says(&manager, code, &words).await;
        assert!(reason.cause.contains("the bridge does not come into its pod"), "{reason:?}");
        manager.backend.remove(&name("echo"), false).await.unwrap();
        manager.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_the_bridge_that_runs_has_no_reason_and_one_that_does_not_has_its_own() {
    let Some(namespace) = Namespace::new().await else { return };
    let manager = bridged(&namespace, &namespace.image, "/usr/local/bin/mcp-bridge").await;
    let echo = name("echo");
    manager.backend.create(&echo, running(stdio(&namespace))).await.unwrap();
    let service = manager.service(&echo, "it runs", is_running).await;
    assert!(service.reasons.is_empty(), "{service:#?}");
    let absent = ServiceSpec { image: "localhost/mcp/absent:1".into(), pull_policy: PullPolicy::Never, ..stdio(&namespace) };
    manager.backend.remove(&echo, false).await.unwrap();
    manager.backend.create(&echo, running(absent)).await.unwrap();
    let service = manager.service(&echo, "it failed", |service| service.phase == Phase::Failed).await;
    let codes: Vec<&str> = service.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(codes, ["image_not_found"], "{service:#?}");
    assert!(!service.reasons[0].cause.contains("the bridge"), "{service:#?}");
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

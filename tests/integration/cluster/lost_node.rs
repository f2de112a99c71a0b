//! A node that is not heard of any more. No machine is taken away for it: the cluster has a node that this test alone speaks
//! for, once, and then no more.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use mcp_manager::domain::spec::{Placement, ServiceSpec, Toleration};
use mcp_manager::domain::status::ServiceState;
use serde_json::{Value, json};

use super::{NODE, POD, is_running};
use crate::contract::{Manager, name, running, spec};
use crate::support::kubernetes::Namespace;
use crate::support::podman::unique;

/// The cluster gives a node most of a minute.
const PATIENCE: Duration = Duration::from_mins(4);

/// A node that is well now, and takes only what tolerates it.
async fn node(namespace: &Namespace) -> String {
    spoken_for(namespace, json!({}), "10").await
}

/// A node that is well now, takes only what tolerates it, and has room for so many pods, with more in its text.
pub(super) async fn spoken_for(namespace: &Namespace, spec: Value, pods: &str) -> String {
    let name = unique("lost-");
    let nodes = namespace.cluster_api(NODE);
    let taint = json!({"key": "mcp-manager-test", "value": name, "effect": "NoSchedule"});
    let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"mcp-manager-test": name}},
        "spec": spec});
    node["spec"]["taints"] = json!([taint]);
    node["metadata"]["annotations"] = json!({"volumes.kubernetes.io/controller-managed-attach-detach": "true"});
    nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": pods, "ephemeral-storage": "100Gi"});
    let condition = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
        "lastHeartbeatTime": now(), "lastTransitionTime": now()});
    let status = json!({"status": {"capacity": room, "allocatable": room, "conditions": [condition]}});
    nodes.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    name
}

/// On such a node alone.
pub(super) fn there(node: &str) -> Placement {
    let toleration =
        Toleration { key: Some("mcp-manager-test".into()), operator: Some("Exists".into()), ..Toleration::default() };
    Placement {
        node_selector: [("mcp-manager-test".to_owned(), node.to_owned())].into(),
        tolerations: vec![toleration],
        ..Placement::default()
    }
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// What a node says of a pod whose containers are well.
fn well() -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now()});
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    json!({"status": {"phase": "Running", "podIP": "10.255.255.1", "conditions": conditions, "containerStatuses": [{
        "name": "service", "ready": true, "started": true, "restartCount": 0, "image": "x", "imageID": "", "lastState": {},
        "state": {"running": {"startedAt": now()}},
    }]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_heard_of_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let (manager, echo, node) = (Manager::start(&namespace).await, name("echo"), node(&namespace).await);
    manager.backend.create(&echo, running(ServiceSpec { kubernetes: Some(there(&node)), ..spec(&namespace) })).await.unwrap();
    let pods = namespace.api(POD);
    let deadline = Instant::now() + PATIENCE;
    let pod = loop {
        let listed = pods.list(&ListParams::default()).await.unwrap();
        if let Some(pod) = listed.items.into_iter().find(|pod| pod.data["spec"]["nodeName"] == node) {
            break pod.metadata.name.unwrap();
        }
        assert!(Instant::now() < deadline, "its pod never got to the node");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    pods.patch_status(&pod, &PatchParams::default(), &Patch::Strategic(well())).await.unwrap();
    manager.service(&echo, "it runs", is_running).await;
    let lost = |service: &ServiceState| service.reasons.iter().any(|reason| reason.code == "node_gone");
    let mut view = manager.backend.view();
    let seen = view.wait_for(|snapshot| snapshot.services.get(&echo).is_some_and(|service| lost(service)));
    let snapshot = tokio::time::timeout(PATIENCE, seen).await.expect("the cluster misses the node").unwrap().clone();
    let service = &snapshot.services[&echo];
    let reason = service.reasons.iter().find(|reason| reason.code == "node_gone").unwrap();
    assert!(reason.cause.contains(&node) && reason.instance.as_deref() == Some(&pod) && !reason.permanent, "{reason:?}");
    assert_eq!(service.ready().count(), 0, "nothing is sent there any more");
    // Nobody would say that the pod has ended.
    namespace.cluster_api(NODE).delete(&node, &DeleteParams::default()).await.unwrap();
    let removal = manager.backend.remove(&echo, false);
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    let ends = async {
        let deadline = Instant::now() + PATIENCE;
        while !pods.list(&ListParams::default()).await.unwrap().items.is_empty() {
            assert!(Instant::now() < deadline, "its pods never went");
            for pod in pods.list(&ListParams::default()).await.unwrap().items {
                let _ = pods.delete(&pod.metadata.name.unwrap(), &at_once).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let (removed, ()) = tokio::join!(removal, ends);
    removed.unwrap();
    manager.stop().await;
}

//! Why a service has no pods, or pods without a node: each rule and each lack brought about for real.

use kube::api::{DeleteParams, PostParams};
use mcp_manager::domain::quantity::{Bytes, MilliCpu};
use mcp_manager::domain::spec::{Placement, ServiceSpec};
use serde_json::{Value, json};

use super::lost_node::{spoken_for, there};
use super::{Kind, NODE, QUOTA, told};
use crate::contract::spec;
use crate::support::kubernetes::Namespace;

const LIMITS: Kind = ("", "v1", "LimitRange", "limitranges");
const ADMISSION: &str = "admissionregistration.k8s.io";
const POLICY: Kind = (ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies");
const BINDING: Kind = (ADMISSION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings");

#[tokio::test(flavor = "multi_thread")]
async fn what_no_node_has_enough_of_is_named_with_its_limit() {
    let Some(namespace) = Namespace::new().await else { return };
    let cpu = ServiceSpec { cpu_limit: MilliCpu(100_000_000), ..spec(&namespace) };
    told(&namespace, cpu, "unschedulable", &["Insufficient cpu", "cpu_limit"]).await;
    let disk = ServiceSpec { storage_limit: Some(Bytes(1 << 60)), ..spec(&namespace) };
    told(&namespace, disk, "unschedulable", &["Insufficient ephemeral-storage", "storage_limit"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_no_node_is_is_named_with_what_asked_for_it() {
    let Some(namespace) = Namespace::new().await else { return };
    let at = |placement| ServiceSpec { kubernetes: Some(placement), replicas: 2, ..spec(&namespace) };
    let nowhere = Placement { node_selector: [("disk".to_owned(), "nobody-has".to_owned())].into(), ..Placement::default() };
    told(&namespace, at(nowhere), "unschedulable", &["node affinity/selector", "kubernetes.node_selector"]).await;
    let term = json!({"topologyKey": "mcp-manager-test", "labelSelector": {"matchLabels": {"nobody": "has"}}});
    let with = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let beside_nobody = Placement { affinity: with.as_object().unwrap().clone(), ..Placement::default() };
    told(&namespace, at(beside_nobody), "unschedulable", &["pod affinity rules", "kubernetes.affinity"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_nobody_is_named_with_the_way_to_open_it() {
    let Some(namespace) = Namespace::new().await else { return };
    let on = |placement| ServiceSpec { kubernetes: Some(placement), ..spec(&namespace) };
    let nodes = namespace.cluster_api(NODE);
    for (text, pods, word, remedy) in [
        (json!({}), "10", "untolerated taint", "kubernetes.tolerations"),
        (json!({"unschedulable": true}), "10", "were unschedulable", "uncordon"),
        (json!({}), "0", "Too many pods", "as many pods as they may"),
    ] {
        let node = spoken_for(&namespace, text, pods).await;
        let mut placement = there(&node);
        if remedy == "kubernetes.tolerations" {
            placement.tolerations.clear();
        }
        told(&namespace, on(placement), "unschedulable", &[word, remedy]).await;
        nodes.delete(&node, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_limit_range_refuses_is_named_with_it() {
    let Some(namespace) = Namespace::new().await else { return };
    let limits = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]}});
    namespace.create(LIMITS, limits).await;
    let reason = told(&namespace, spec(&namespace), "pods_refused", &["maximum memory usage per Container", "LimitRange"]).await;
    assert!(reason.permanent, "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_of_the_cluster_refuses_is_named_in_its_words() {
    // Without Pod Security, which would have the first word.
    let Some(namespace) = Namespace::open().await else { return };
    let matches = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
        "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]});
    let object = |kind: &str, spec: Value| {
        let metadata = json!({"name": namespace.name, "labels": {"mcp-manager-test": "yes"}});
        json!({"apiVersion": format!("{ADMISSION}/v1"), "kind": kind, "metadata": metadata, "spec": spec})
    };
    let rule = json!({"failurePolicy": "Fail", "matchConstraints": matches,
        "validations": [{"expression": "false", "message": "nobody works on Sundays"}]});
    let bound = json!({"policyName": namespace.name, "validationActions": ["Deny"]});
    for (kind, text) in [(POLICY, object(POLICY.2, rule)), (BINDING, object(BINDING.2, bound))] {
        let api = namespace.cluster_api(kind);
        api.create(&PostParams::default(), &serde_json::from_value(text).unwrap()).await.unwrap();
    }
    // It holds a moment after it is written.
    let probe = || json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": {"containers": [{"name": "x", "image": "x"}]}});
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    crate::support::eventually("the rule holds", async || {
        let tried = namespace.api(super::POD).create(&dry, &serde_json::from_value(probe()).unwrap()).await;
        tried.is_err_and(|error| error.to_string().contains("Sundays"))
    })
    .await;
    told(&namespace, spec(&namespace), "pods_refused", &["nobody works on Sundays", "rule of the cluster"]).await;
    for kind in [BINDING, POLICY] {
        namespace.cluster_api(kind).delete(&namespace.name, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_a_service_that_the_cluster_refuses_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
        "spec": {"hard": {"services": "0"}}});
    namespace.create(QUOTA, quota).await;
    let reason = told(&namespace, spec(&namespace), "refused", &["exceeded quota", "services"]).await;
    assert!(reason.permanent, "{reason:?}");
}

//! How a service is reached inside the cluster, and what it may reach: Service, NetworkPolicy.

use serde_json::{Value, json};

use super::super::kinds::Owned;
use super::super::names::Names;
use super::{Context, Object, workload};
use crate::domain::name::ServiceName;
use crate::domain::spec::ServiceSpec;

/// Addresses that tell a cloud machine who it is and what it may do. They stay closed whatever a template asks for.
const METADATA: [&str; 4] = ["169.254.0.0/16", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32"];

/// Where a name server is that runs on every node, in clusters that have one.
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";

/// The Service, and the one without an address that a StatefulSet's pods are named by.
pub(super) fn services(context: &Context<'_>) -> Vec<Object> {
    let (spec, selector) = (&context.record.spec, context.names.pod_selector(&context.record.name));
    // Their names are told by `service_names`, too.
    let mut services = Vec::new();
    if let Some(port) = spec.front_port() {
        let ports = json!([{"name": "http", "port": super::SERVICE_PORT, "targetPort": port, "protocol": "TCP"}]);
        let body = json!({"spec": {"type": "ClusterIP", "selector": selector, "ports": ports}});
        services.push(context.object(Owned::Service, &context.name(), body));
    }
    if workload::kind(spec) == Owned::StatefulSet {
        let body = json!({"spec": {"clusterIP": "None", "selector": selector, "publishNotReadyAddresses": true}});
        services.push(context.object(Owned::Service, &context.names.headless(context.record.name.as_str()), body));
    }
    services
}

/// The names of these objects.
pub(in crate::backend::kubernetes) fn service_names(names: &Names, name: &ServiceName, spec: &ServiceSpec) -> Vec<String> {
    let front = spec.front_port().map(|_| names.object(name.as_str()));
    let headless = (workload::kind(spec) == Owned::StatefulSet).then(|| names.headless(name.as_str()));
    front.into_iter().chain(headless).collect()
}

/// Closed but for: in, from the ingress controller, the manager and its own replicas, to its port; out, to the name
/// server and what the spec declares.
pub(super) fn policy(context: &Context<'_>) -> Object {
    let (settings, spec) = (context.settings, &context.record.spec);
    let own = json!({"podSelector": {"matchLabels": context.names.pod_selector(&context.record.name)}});
    let mut ingress = Vec::new();
    if let Some(port) = spec.front_port() {
        let mut manager = json!({"podSelector": {"matchLabels": {"app.kubernetes.io/name": "mcp-manager"}}});
        if let Some(namespace) = &settings.manager_namespace {
            manager["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
        }
        let namespaces = settings
            .allow_from_namespaces
            .iter()
            .map(|name| json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}));
        let ranges = settings.allow_from_ranges.iter().map(|range| json!({"ipBlock": {"cidr": range}}));
        let from: Vec<Value> = [own.clone(), manager].into_iter().chain(namespaces).chain(ranges).collect();
        ingress.push(json!({"from": from, "ports": [{"protocol": "TCP", "port": port}]}));
    }
    let dns = json!([{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]);
    let mut egress = vec![json!({"to": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": NODE_LOCAL_DNS}}], "ports": dns})];
    if let Some(port) = spec.front_port() {
        egress.push(json!({"to": [own], "ports": [{"protocol": "TCP", "port": port}]}));
    }
    if spec.egress {
        let closed: Vec<&str> = METADATA.into_iter().chain(settings.egress_except.iter().map(String::as_str)).collect();
        egress.push(json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": closed}}]}));
    }
    let pods = json!({"matchLabels": context.names.pod_selector(&context.record.name)});
    let body = json!({"spec": {
        "podSelector": pods, "policyTypes": ["Ingress", "Egress"], "ingress": ingress, "egress": egress,
    }});
    context.object(Owned::NetworkPolicy, &context.name(), body)
}

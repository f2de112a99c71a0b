//! The Helm chart, installed beside what `k8s/` installs otherwise, upgraded and taken away.

use std::process::Stdio;

use reqwest::Method;
use serde_json::json;
use tokio::process::Command;

use super::manifests::{Api, Kubectl, said};
use crate::support::eventually;
use crate::support::machine;

const NAMESPACE: &str = "mcp-chart";
const SERVICES: &str = "mcp-chart-services";

/// Helm with words as a shell would split them.
fn helm(kubectl: &Kubectl, line: &str) -> Command {
    let mut command = Command::new(machine::beside_kubernetes("MCP_TEST_HELM"));
    command.args(line.split_whitespace()).args(["--namespace", NAMESPACE]).env("KUBECONFIG", &kubectl.file);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).kill_on_drop(true);
    // Caches are the user's own otherwise.
    command.env("HELM_CACHE_HOME", std::env::temp_dir().join("mcp-test-helm"));
    command
}

async fn clean(kubectl: &Kubectl) {
    said(helm(kubectl, "uninstall mcp --ignore-not-found --wait")).await;
    kubectl.run(&format!("delete namespace {NAMESPACE} {SERVICES} --ignore-not-found --wait=true")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_installs_a_manager_upgrades_it_under_running_services_and_goes() {
    let Some(kubectl) = Kubectl::of_this_machine() else { return };
    clean(&kubectl).await;
    // Of values only what two installations in one cluster must not share.
    let values = format!("--set services.namespace={SERVICES} --set domain=chart.localhost --wait --timeout 100s");
    said(helm(&kubectl, &format!("install mcp k8s/helm/mcp-manager --create-namespace {values}"))).await;
    let (forward, port) = kubectl.forward(&format!("--namespace {NAMESPACE} svc/mcp-manager :80")).await;
    let api = Api::at(port);
    let (_, templates) = api.call(Method::GET, "/templates", None).await;
    assert_eq!(templates["templates"].as_array().map(Vec::len), Some(11), "{templates:#}");
    let image = machine::beside_kubernetes("MCP_TEST_KUBE_IMAGE");
    let created = api.create(json!({"service_name": "echo", "template": "echo", "image": image, "pull_policy": "never"})).await;
    assert_eq!(created["url"], "http://echo.chart.localhost");
    let pods = format!("get pods --namespace {SERVICES} -o jsonpath={{range.items[*]}}{{.metadata.uid}}{{end}}");
    let before = kubectl.run(&pods).await;
    assert!(!before.is_empty());
    drop(forward);

    let database = "networkPolicy.egress[0].ports[0].port=5432,networkPolicy.egress[0].ports[0].protocol=TCP";
    let changed = format!("--set replicas=2 --set settings.MAX_CONTAINERS=7 --set {database}");
    said(helm(&kubectl, &format!("upgrade mcp k8s/helm/mcp-manager {values} {changed}"))).await;
    let ports = "-o jsonpath={.spec.egress[*].ports[*].port}";
    let reached = kubectl.run(&format!("get networkpolicy mcp-manager --namespace {NAMESPACE} {ports}")).await;
    assert!(reached.split(' ').any(|port| port == "5432") && reached.contains("6443"), "{reached}");
    let (_forward, port) = kubectl.forward(&format!("--namespace {NAMESPACE} svc/mcp-manager :80")).await;
    let api = Api::at(port);
    let (status, service) = api.call(Method::GET, "/containers/echo", None).await;
    assert_eq!((status, service["status"].as_str()), (200, Some("running")), "{service:#}");
    assert_eq!(kubectl.run(&pods).await, before, "its pods stay");
    let (_, diagnostics) = api.call(Method::GET, "/system/diagnostics", None).await;
    assert_eq!(diagnostics["max_containers"], 7, "{diagnostics:#}");

    assert_eq!(api.call(Method::DELETE, "/containers/echo", None).await.0, 204);
    said(helm(&kubectl, "uninstall mcp --wait")).await;
    eventually("nothing but the namespace of services is left", async || {
        let kinds = "deployments,pods,services,ingresses,networkpolicies,roles,rolebindings,serviceaccounts,leases";
        let ours = "-l app.kubernetes.io/part-of=mcp-manager -o name";
        let here = kubectl.run(&format!("get {kinds} --namespace {NAMESPACE} {ours}")).await;
        let there = kubectl.run(&format!("get {kinds} --namespace {SERVICES} {ours}")).await;
        here.is_empty() && there.is_empty()
    })
    .await;
    kubectl.run(&format!("get namespace {SERVICES}")).await;
    clean(&kubectl).await;
}

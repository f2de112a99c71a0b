//! What `mcp-manager doctor` says of a cluster.

use serde_json::Value;

use crate::support::command::User;
use crate::support::kubernetes::Namespace;

/// The report of a user who has this file and this namespace in mind, and the exit code.
async fn report(kubeconfig: &std::path::Path, namespace: &str) -> (i32, Value) {
    report_with(kubeconfig, namespace, &[]).await
}

/// The same with more settings.
pub(super) async fn report_with(kubeconfig: &std::path::Path, namespace: &str, more: &[(&str, &str)]) -> (i32, Value) {
    let user = User::of("http://127.0.0.1:1")
        .with("MCP_MANAGER_BACKEND_KIND", "kubernetes")
        .with("MCP_MANAGER_KUBERNETES_KUBECONFIG", kubeconfig.display().to_string())
        .with("MCP_MANAGER_KUBERNETES_NAMESPACE", namespace);
    let user = more.iter().fold(user, |user, (name, value)| user.with(name, *value));
    let ran = user.run("doctor --json --listen 127.0.0.1:0").await;
    (ran.code, serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}")))
}

pub(super) fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name} is missing in {report:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_what_a_cluster_lacks_and_what_the_account_may_not() {
    let Some(namespace) = Namespace::new().await else { return };
    let (_, good) = report(namespace.kubeconfig(), &namespace.name).await;
    for name in ["cluster", "rights", "pod security", "storage class"] {
        assert_eq!(check(&good, name)["state"], "ok", "{good:#}");
    }
    // How the machine's own cluster is furnished is its own matter; that it is looked at is not.
    for name in ["ingress class", "metrics", "network policies"] {
        assert_ne!(check(&good, name)["state"], "fail", "{good:#}");
    }

    let (code, absent) = report(namespace.kubeconfig(), "nobody-made-it").await;
    assert_eq!((code, &check(&absent, "pod security")["state"]), (1, &"fail".into()), "{absent:#}");

    // The same as an account without rights.
    let (_folder, stranger) = namespace.kubeconfig_of("default");
    let (code, poor) = report(&stranger, &namespace.name).await;
    let rights = check(&poor, "rights");
    assert_eq!((code, &rights["state"]), (1, &"fail".into()), "{poor:#}");
    for right in ["create configmaps", "get secrets", "patch deployments.apps", "get pods/log", "list pods.metrics.k8s.io"] {
        assert!(rights["message"].as_str().unwrap().contains(right), "{right}: {rights:#}");
    }
    assert!(rights["remedy"].as_str().unwrap().contains("rbac.yaml"), "{rights:#}");
}

//! The network that services share, on rootless Podman.

use reqwest::Method;
use serde_json::json;

use crate::support::machine::{Part, offered};
use crate::support::podman;
use crate::support::product::{Options, Product};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_reaches_another_one_by_its_name() {
    if !podman::ready().await || offered(Part::Hub).is_none() {
        return;
    }
    let product = Product::start(Options::podman()).await;
    // All tests share the network: only a name of this test's own leads to one service alone.
    let other = format!("{}-other", product.options.instance);
    let ask = format!("exec 3<>/dev/tcp/{other}/8000 && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ' 200 OK' <&3");
    let asking = json!({
        "service_name": "asking", "image": "docker.io/library/nginx:latest", "entrypoint": ["sleep", "infinity"],
        "health_check": {"command": ["bash", "-c", ask], "interval": "500ms", "timeout": "5s", "retries": 1, "start_period": 0},
    });
    let (status, created) = product.post("/containers?wait=none", &asking).await;
    assert_eq!(status, 202, "{created:#}");
    product.until("asking", "it finds nobody", |service| service["status"] == "unhealthy").await;
    product.create_echo(&other, json!({})).await;
    product.until("asking", "it has reached the other one", |service| service["status"] == "running").await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_is_made_when_it_is_missing_also_while_the_manager_runs() {
    if !podman::ready().await {
        return;
    }
    let network = podman::unique("network");
    let _networks = Networks([network.clone(), format!("{network}-egress")]);
    let product = Product::start(Options::podman().with("MCP_NETWORK", &network)).await;
    for _ in 0..2 {
        let service = product.create_echo("echo", json!({})).await;
        assert_eq!(service["status"], "running", "{service:#}");
        let inspected = podman::podman(&["network", "inspect", "--format", "{{.DNSEnabled}}", &network]).await;
        assert_eq!(inspected.trim(), "true", "with names for services");
        assert_eq!(product.call(Method::DELETE, "/containers/echo").await.0, 204);
        // Somebody tidies up.
        podman::podman(&["network", "rm", &network, &format!("{network}-egress")]).await;
    }
    product.finish().await;
}

/// Networks that go with the test, if they are there.
struct Networks([String; 2]);

impl Drop for Networks {
    fn drop(&mut self) {
        let _gone = std::process::Command::new("podman").args(["network", "rm", "--force"]).args(&self.0).output();
    }
}

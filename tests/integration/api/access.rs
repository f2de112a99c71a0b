//! Who may do what, for every endpoint of the OpenAPI document: none can be forgotten.

use reqwest::Method;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::podman::unique;
use crate::support::product::{Options, Product};

/// Endpoints that anybody may call: they tell whether the manager is well, and how to talk to it.
const OPEN: [&str; 5] = ["/health", "/ready", "/metrics", "/prometheus", "/template.schema.json"];

/// Every endpoint of the product's own document, path parameters filled in.
async fn endpoints(product: &Product) -> Vec<(Method, String)> {
    let (_, document) = product.get("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    let each = paths.iter().flat_map(|(path, methods)| {
        let path = path.replace("{name}", "echo");
        methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase().parse().unwrap(), path.clone()))
    });
    each.collect()
}

/// A product that knows one key of each role; the keys are made here and die with the test.
async fn with_keys() -> (Product, Vec<(&'static str, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<(&str, String)> = ["viewer", "operator", "admin"].into_iter().map(|role| (role, unique(role))).collect();
    let hex = |key: &str| Sha256::digest(key).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let lines: Vec<String> = keys.iter().map(|(role, key)| format!("{role}-key:{role}:{}", hex(key))).collect();
    let file = folder.path().join("keys");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let options = Options::memory().with("ENABLE_AUTH", "true").with("MCP_MANAGER_AUTH_KEYS_FILE", file.display().to_string());
    (Product::start(options).await, keys)
}

#[tokio::test]
async fn every_endpoint_but_health_and_metrics_refuses_the_stranger() {
    let (product, _) = with_keys().await;
    let mut refused = 0;
    for (method, path) in endpoints(&product).await {
        let body =
            if method == Method::GET { "" } else { "{\"service_name\": \"echo\", \"template\": \"echo\", \"replicas\": 2}" };
        let status = product.request(method.clone(), &path).body(body).send().await.unwrap().status().as_u16();
        if OPEN.contains(&path.as_str()) {
            assert_eq!(status, 200, "{method} {path}");
        } else {
            assert_eq!(status, 401, "{method} {path}");
            refused += 1;
        }
        let wrong = product.request(method.clone(), &path).body(body).bearer_auth(unique("guess")).send().await.unwrap();
        assert!(OPEN.contains(&path.as_str()) || wrong.status() == 401, "{method} {path} with a wrong key: {}", wrong.status());
    }
    assert!(refused > 15, "only {refused} endpoints are protected");
    drop(product);
}

#[tokio::test]
async fn a_viewer_changes_nothing_and_an_operator_no_templates() {
    let (product, keys) = with_keys().await;
    let key = |role: &str| keys.iter().find(|(is, _)| *is == role).unwrap().1.clone();
    for (method, path) in endpoints(&product).await {
        if method == Method::GET || path == "/templates/validate" {
            continue;
        }
        let body = "{\"service_name\": \"echo\", \"template\": \"echo\", \"replicas\": 2}";
        let send = |role: &str| product.request(method.clone(), &path).body(body).header("x-api-key", key(role)).send();
        let viewer = send("viewer").await.unwrap().status();
        // What cannot be read is refused before anybody asks who may do it.
        assert!(viewer == 403 || viewer == 422, "{method} {path} as viewer: {viewer}");
        if path.starts_with("/templates") {
            assert_eq!(send("operator").await.unwrap().status(), 403, "{method} {path} as operator");
        }
    }
    assert_eq!(product.request(Method::GET, "/containers").bearer_auth(key("viewer")).send().await.unwrap().status(), 200);
    let list: Value =
        product.request(Method::GET, "/containers").bearer_auth(key("admin")).send().await.unwrap().json().await.unwrap();
    assert_eq!(list["total"], 0, "nothing was created by those who may not");
    drop(product);
}

#[tokio::test]
async fn every_change_leaves_an_audit_entry_with_its_actor_and_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let product = Product::start(Options::memory().with("MCP_MANAGER_AUDIT_FILE", file.display().to_string())).await;
    product.create_echo("echo", serde_json::json!({})).await;
    product.call(Method::POST, "/containers/echo/stop").await;
    product.call(Method::DELETE, "/containers/nobody").await;
    product.get("/containers").await;
    product.finish().await;
    let lines: Vec<Value> =
        std::fs::read_to_string(&file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let story: Vec<String> = lines
        .iter()
        .map(|line| format!("{} {} {} {}", line["event"], line["operation"], line["target"], line["result"]).replace('"', ""))
        .collect();
    assert_eq!(
        story,
        [
            "begin service_create echo null",
            "end service_create echo ok",
            "begin service_stop echo null",
            "end service_stop echo ok",
            "begin service_delete nobody null",
            "end service_delete nobody not-found",
            "begin service_delete echo null",
            "end service_delete echo ok",
        ]
    );
    assert!(lines.iter().all(|line| line["actor"] == "anonymous" && line["request_id"].is_string()));
}

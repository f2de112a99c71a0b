//! Who may do what, for every endpoint of the OpenAPI document: none can be forgotten.

use std::collections::{BTreeMap, BTreeSet};

use mcp_manager::domain::access::{Operation, Role};
use reqwest::Method;
use serde_json::{Value, json};
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
pub(super) async fn with_keys() -> (Product, Vec<(&'static str, String)>) {
    let (options, keys, _file) = keyed(Options::memory());
    (Product::start(options).await, keys)
}

/// Options of a manager that asks for keys, the keys, and where they are until it has started.
pub(super) fn keyed(options: Options) -> (Options, Vec<(&'static str, String)>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<(&str, String)> = ["viewer", "operator", "admin"].into_iter().map(|role| (role, unique(role))).collect();
    let hex = |key: &str| Sha256::digest(key).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let lines: Vec<String> = keys.iter().map(|(role, key)| format!("{role}-key:{role}:{}", hex(key))).collect();
    let file = folder.path().join("keys");
    std::fs::write(&file, lines.join("\n")).unwrap();
    (options.with("ENABLE_AUTH", "true").with("MCP_MANAGER_AUTH_KEYS_FILE", file.display().to_string()), keys, folder)
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
        // Tools that only look are looked at by the tests of tools.
        let tool = path.strip_prefix("/tools/").and_then(mcp_manager::tools::find);
        if method == Method::GET || path == "/templates/validate" || tool.is_some_and(|tool| tool.effect.reads_only()) {
            continue;
        }
        let reads_none = method == Method::DELETE || path.ends_with("/stop") || path.ends_with("/restart");
        let body = if reads_none { "" } else { "{\"service_name\": \"echo\", \"template\": \"echo\", \"replicas\": 2}" };
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

/// How often each operation was done so far, as the metrics tell it.
async fn done(product: &Product) -> BTreeMap<String, u64> {
    let text = product.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let mut done = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("mcp_manager_operations_total{operation=\"")) {
        let (operation, rest) = line.split_once('"').unwrap();
        *done.entry(operation.to_owned()).or_default() += rest.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    }
    done
}

/// A body that an endpoint takes.
fn body(method: &Method, path: &str) -> Option<Value> {
    match (method.as_str(), path) {
        ("POST", "/containers") => Some(json!({"service_name": "other", "template": "echo"})),
        ("PUT", "/containers/{name}") => Some(json!({"template": "echo", "replicas": 2})),
        ("PATCH", "/containers/{name}") => Some(json!({"replicas": 1})),
        ("POST", "/templates" | "/templates/validate") => Some(json!({"name": "mine", "image": "i"})),
        ("PUT", "/templates/{name}") | ("POST", "/images/pull") => Some(json!({"image": "i"})),
        ("POST", "/packages") => Some(json!({"source": "npm:mine"})),
        _ => None,
    }
}

#[tokio::test]
async fn every_endpoint_does_one_operation_of_the_table_and_every_operation_has_an_endpoint() {
    let product = Product::start(Options::memory()).await;
    product.create_echo("echo", json!({})).await;
    let (_, document) = product.get("/openapi.json").await;
    let described = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md")).unwrap();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    // Tools do what other endpoints do; they have tests of their own.
    let paths = document["paths"].as_object().unwrap().iter().filter(|(path, _)| !path.starts_with("/tools/"));
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let before = done(&product).await;
            let request = product.request(method.clone(), &path.replace("{name}", "echo"));
            let request = match body(&method, path) {
                Some(body) => request.json(&body),
                None => request,
            };
            // The body is dropped unread: some never end.
            drop(request.send().await.unwrap());
            let mut after = done(&product).await;
            // Looking is an operation too.
            *after.get_mut("metrics_read").unwrap() -= 1;
            after.retain(|operation, count| before.get(operation).copied().unwrap_or(0) < *count);
            let operations: Vec<String> = after.into_keys().collect();
            let slug = match (operations.as_slice(), path.as_str()) {
                // The same for everybody and everywhere: it says how to write a template.
                ([], "/template.schema.json") => continue,
                ([one], _) => one.clone(),
                (several, _) => {
                    wrong.push(format!("{method} {path} does {several:?}"));
                    continue;
                }
            };
            let operation = Operation::ALL.iter().find(|operation| operation.slug() == slug).unwrap();
            if (operation.least_role() == Role::Nobody) != OPEN.contains(&path.as_str()) {
                wrong.push(format!("{method} {path} is open to strangers in one place only"));
            }
            let role = match operation.least_role() {
                Role::Nobody => "none".to_owned(),
                role => format!("{role:?}").to_lowercase(),
            };
            let (name, end) = (format!("`{method} {path}`"), format!("| {role} |"));
            if !described.lines().any(|row| row.starts_with("| `") && row.contains(&name) && row.ends_with(&end)) {
                wrong.push(format!("{method} {path}: docs/api.md does not say that it needs the role {role}"));
            }
            if operation.audited() == (method == Method::GET) {
                wrong.push(format!("{method} {path} is {slug}: what changes something is audited, and nothing else"));
            }
            seen.insert(slug);
        }
    }
    // Checking a template changes nothing; it is no GET because it has a body.
    wrong.retain(|one| !one.starts_with("POST /templates/validate is template_validate"));
    assert_eq!(wrong, Vec::<String>::new());
    // A dry run is an operation of its own at the endpoints of the real thing.
    for (method, path) in [(Method::POST, "/containers"), (Method::PUT, "/containers/{name}")] {
        let before = done(&product).await;
        let request = product.request(method.clone(), &format!("{}?dry_run=true", path.replace("{name}", "planned")));
        let answer = request.json(&body(&method, path).unwrap()).send().await.unwrap();
        let (status, plan) = (answer.status(), answer.text().await.unwrap());
        let mut after = done(&product).await;
        *after.get_mut("metrics_read").unwrap() -= 1;
        after.retain(|operation, count| before.get(operation).copied().unwrap_or(0) < *count);
        let operations: Vec<String> = after.into_keys().collect();
        // The service of that name was made when the endpoint was looked at.
        assert!(status == 200 || status == 409, "{method} {path}: {status} {plan}");
        assert_eq!(operations, ["service_plan"], "{method} {path} as a dry run");
        seen.extend(operations);
    }
    // Services are used over MCP, which the document leaves out; `aggregate` claims who may.
    let in_document = Operation::ALL.iter().filter(|operation| **operation != Operation::ServiceUse);
    let all: BTreeSet<String> = in_document.map(|operation| operation.slug().to_owned()).collect();
    assert_eq!(seen, all);
    drop(product);
}

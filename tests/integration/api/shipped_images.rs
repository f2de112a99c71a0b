//! The images of shipped templates, made when they are needed, and run by their templates.

use std::collections::BTreeSet;

use mcp_manager::domain::package::shipped::{RECIPE_LABEL, shipped};
use reqwest::Method;
use serde_json::{Value, json};

use super::quick_start::curl;
use super::stdio::by_name;
use crate::support::eventually;
use crate::support::machine::{Part, offered};
use crate::support::mcp::Session;
use crate::support::podman;
use crate::support::product::{Options, Product};

/// A product that makes images in the host's network, where this machine reaches the registries of packages. Of these
/// templates the images go that were made by another recipe than there is today.
async fn product_for(names: &[&str]) -> Product {
    for name in names {
        let image = format!("localhost/mcp/{name}:latest");
        let filter = format!("reference={image}");
        let format = format!("made by {{{{index .Labels \"{RECIPE_LABEL}\"}}}}");
        let present = podman::podman(&["images", "--filter", &filter, "--format", &format]).await;
        if !present.is_empty() && present != format!("made by {}", shipped(&image).unwrap().digest) {
            podman::podman(&["rmi", &image]).await;
        }
    }
    Product::start(Options::podman().with_secrets().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "host")).await
}

/// Makes a service from each template, and calls one of its tools.
async fn serve(servers: &[(&str, &str, Value, &str)]) {
    let names: Vec<&str> = servers.iter().map(|server| server.0).collect();
    let product = product_for(&names).await;
    for (name, tool, arguments, expected) in servers {
        let (status, service) = product.post("/containers", &json!({"service_name": name, "template": name})).await;
        assert_eq!((status, service["status"].as_str()), (201, Some("running")), "{service:#}\n{}", product.log());
        let (client, url) = by_name(&product, name);
        let session = Session::open(&client, &url).await;
        let listed = session.call("tools/list", json!({})).await;
        let tools = listed.result()["tools"].as_array().unwrap();
        assert!(tools.iter().any(|one| one["name"] == *tool), "{name}: {tools:?}");
        let answer = session.call("tools/call", json!({"name": tool, "arguments": arguments})).await;
        assert!(answer.result().to_string().contains(expected), "{name}: {:#}", answer.result());
        assert!((200..300).contains(&session.close().await));
        let (status, _) = product.call(Method::DELETE, &format!("/containers/{name}?volumes=true")).await;
        assert_eq!(status, 204);
    }
    product.finish().await;
}

fn left_out() -> bool {
    offered(Part::Podman).is_none() || offered(Part::Hub).is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn shipped_servers_of_node_are_made_and_serve() {
    if left_out() {
        return;
    }
    let thought = json!({"thought": "so", "thoughtNumber": 1, "totalThoughts": 1, "nextThoughtNeeded": false});
    serve(&[
        ("everything", "echo", json!({"message": "päckchen"}), "päckchen"),
        ("filesystem", "list_allowed_directories", json!({}), "/data"),
        ("memory", "read_graph", json!({}), "entities"),
        ("sequential-thinking", "sequentialthinking", thought, "thoughtHistoryLength"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shipped_servers_of_python_are_made_and_serve() {
    if left_out() {
        return;
    }
    serve(&[
        ("time", "get_current_time", json!({"timezone": "Europe/Berlin"}), "Europe/Berlin"),
        // Nothing and nobody is there: that they say so shows that they tried.
        ("git", "git_status", json!({"repo_path": "/repos"}), "/repos"),
        ("fetch", "fetch", json!({"url": "http://127.0.0.1:9/"}), "127.0.0.1:9"),
        ("sqlite", "create_table", json!({"query": "CREATE TABLE notes (text TEXT)"}), "created"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shipped_web_servers_are_made_and_serve() {
    if left_out() {
        return;
    }
    // It is not there, so that each run makes one.
    podman::podman(&["rmi", "--ignore", "localhost/mcp/fastapi:latest"]).await;
    let cut_off = Product::start(Options::podman().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "none")).await;
    let (status, problem) = cut_off.post("/containers", &json!({"service_name": "my-app", "template": "fastapi"})).await;
    assert_eq!((status, problem["type"].as_str()), (502, Some("urn:mcp-manager:problem:registry-unavailable")), "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("localhost/mcp/fastapi:latest"), "{problem:#}");
    assert!(problem["remedy"].as_str().unwrap().contains("packages.build_network"), "{problem:#}");
    assert_eq!(podman::owned_by(&cut_off.options.instance).await, Vec::<String>::new());
    cut_off.finish().await;
    let product = product_for(&[]).await;
    // The call as it is promised; `quick_start` has the others.
    let body = r#"{
    "service_name": "my-app",
    "template": "fastapi",
    "environment": {"DATABASE_URL": "sqlite:///app.db"},
    "replicas": 2
  }"#;
    let call = ["-X", "POST", "http://localhost:8000/containers", "-H", "Content-Type: application/json", "-d", body];
    let service = curl(&product, &call).await;
    assert_eq!((service["status"].as_str(), service["replicas"].as_u64()), (Some("running"), Some(2)), "{service:#}");
    // Each replica says where it is and what kind of database it was given.
    let (client, url) = by_name(&product, "my-app");
    let mut hosts = BTreeSet::new();
    eventually("both replicas have answered", async || {
        let about: Value = client.get(url.replace("/mcp", "/")).send().await.unwrap().json().await.unwrap();
        assert_eq!((&about["service"], &about["database"]), (&json!("fastapi"), &json!("sqlite")));
        hosts.insert(about["hostname"].to_string());
        hosts.len() == 2
    })
    .await;
    let (status, nginx) = product.post("/containers", &json!({"service_name": "nginx", "template": "nginx"})).await;
    assert_eq!((status, nginx["status"].as_str()), (201, Some("running")), "{nginx:#}\n{}", product.log());
    let (client, url) = by_name(&product, "nginx");
    let page = client.get(url.replace("/mcp", "/")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    assert!(page.contains("Welcome to nginx"), "{page}");
    let one = curl(&product, &["http://localhost:8000/containers/my-app"]).await;
    assert_eq!(one["template"]["name"], "fastapi", "{one:#}");
    curl(&product, &["-X", "DELETE", "http://localhost:8000/containers/my-app"]).await;
    assert_eq!(product.get("/containers/my-app").await.0, 404);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shipped_image_that_was_not_built_is_told_with_the_command_that_builds_it() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    // Under a tag that nobody builds, since other tests build the one of the template.
    let path = product.templates().join("fastapi.json");
    let template = std::fs::read_to_string(&path).unwrap().replace("fastapi:latest", "fastapi:not-built");
    std::fs::write(&path, template.replace("\"1.0.0\"", "\"1.0.1\"")).unwrap();
    eventually("the template counts", async || product.get("/templates/fastapi").await.1["version"] == "1.0.1").await;
    let (status, problem) = product.post("/containers", &json!({"service_name": "my-app", "template": "fastapi"})).await;
    assert_eq!((status, problem["type"].as_str()), (422, Some("urn:mcp-manager:problem:image-not-found")), "{problem:#}");
    let remedy = problem["remedy"].as_str().unwrap();
    assert!(remedy.contains("`podman build -t localhost/mcp/fastapi:not-built docker/fastapi`"), "{remedy}");
    assert_eq!(podman::owned_by(&product.options.instance).await, Vec::<String>::new());
    product.finish().await;
}

//! The quick-start calls that the product promises, as they are written down for users, with images really pulled.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::clients;
use crate::support::machine::{Part, offered};
use crate::support::podman::{self, ECHO_IMAGE};
use crate::support::product::{Options, Product};

/// How who comes from a Docker socket is told to start a container instead, word for word.
const MIGRATION: &str = r#"# New REST API approach
import httpx
response = httpx.post("http://mcp-manager:8000/containers/my-service/start", json={
    "image": "image:tag",
    "port": 8000
})
"#;

/// Puts the echo image into the registry under a name of Docker Hub's.
async fn publish(registry: &str, name: &str) {
    podman::podman(&["push", "--quiet", "--tls-verify=false", ECHO_IMAGE, &format!("docker://{registry}/{name}")]).await;
}

/// The calls are written for a shell, so a shell's client makes them; only host and port differ.
pub async fn curl(product: &Product, arguments: &[&str]) -> Value {
    let arguments: Vec<String> = arguments
        .iter()
        .map(|argument| argument.replace("localhost:8000", &format!("localhost:{}", product.port)))
        .map(|argument| argument.replace("nginx.localhost", &format!("nginx.localhost:{}", product.port)))
        .collect();
    let mut command = tokio::process::Command::new("curl");
    let output = command.args(["--silent", "--show-error", "--fail-with-body"]).args(&arguments).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "curl {arguments:?}: {text} {}\n{}", String::from_utf8_lossy(&output.stderr), product.log());
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quick_start_calls_work_as_written() {
    if !podman::ready().await || offered(Part::Hub).is_none() {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let health = curl(&product, &["http://localhost:8000/health"]).await;
    assert_eq!(health["status"], "healthy");
    let json = ["-H", "Content-Type: application/json"];
    let nginx = r#"{"service_name": "nginx", "template": "nginx"}"#;
    let created = curl(&product, &["-X", "POST", "http://localhost:8000/containers", json[0], json[1], "-d", nginx]).await;
    assert_eq!(created["status"], "running", "{created:#}\n{}", product.log());
    let page = curl(&product, &["http://nginx.localhost"]).await;
    assert!(page.as_str().unwrap().to_lowercase().contains("nginx"), "{page}");
    let templates = curl(&product, &["http://localhost:8000/templates"]).await;
    let names: Vec<&str> = templates["templates"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(["echo", "nginx", "fastapi", "everything", "time"].iter().all(|name| names.contains(name)), "{names:?}");
    let list = curl(&product, &["http://localhost:8000/containers"]).await;
    assert_eq!(list["containers"][0]["name"], "nginx");
    let one = curl(&product, &["http://localhost:8000/containers/nginx"]).await;
    assert_eq!(one["replicas"], 1);
    let status = curl(&product, &["http://localhost:8000/containers/nginx/status"]).await;
    assert_eq!(status["name"], "nginx");
    curl(&product, &["http://localhost:8000/containers/nginx/logs"]).await;
    curl(&product, &["-X", "POST", "http://localhost:8000/containers/nginx/stop"]).await;
    curl(&product, &["-X", "DELETE", "http://localhost:8000/containers/nginx"]).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_service_and_the_migration_example_work_as_written() {
    if !podman::ready().await {
        return;
    }
    let Some(registry) = offered(Part::Hub) else { return };
    let Some(clients) = offered(Part::Clients) else { return };
    publish(&registry, "mcp/echo:latest").await;
    publish(&registry, "library/image:tag").await;
    let product = Product::start(Options::podman()).await;
    let first = json!({"image": "mcp/echo:latest", "port": 8000, "environment": {"MCP_SERVICE_NAME": "echo"}});
    let (status, echo) = product.post("/containers/echo/start", &first).await;
    assert_eq!((status, echo["status"].as_str()), (201, Some("running")), "{echo:#}");
    let health = product.service(Method::GET, "echo", "/health").send().await.unwrap();
    assert_eq!(health.status(), 200);
    // Only host and port differ. What the answer says is printed for this test.
    let there = MIGRATION.replace("mcp-manager:8000", &format!("127.0.0.1:{}", product.port));
    let script = format!("{there}import json\nprint(json.dumps([response.status_code, response.json()]))");
    let mut said = clients::python(&clients, &script).await;
    // httpx waits five seconds, in which a busy machine may not get there; a call that is made again finds the service.
    let again = said.as_ref().is_err_and(|said| said.contains("httpx.ReadTimeout"));
    if again {
        product.until("my-service", "it runs all the same", |service| service["status"] == "running").await;
        said = clients::python(&clients, &script).await;
    }
    let answer: Value = serde_json::from_str(&said.unwrap()).unwrap();
    let (status, outcome) = if again { (200, "unchanged") } else { (201, "created") };
    assert_eq!((&answer[0], &answer[1]["outcome"]), (&json!(status), &json!(outcome)), "{answer:#}");
    assert_eq!((&answer[1]["name"], &answer[1]["status"]), (&json!("my-service"), &json!("running")), "{answer:#}");
    let health = product.service(Method::GET, "my-service", "/health").send().await.unwrap();
    assert_eq!(health.status(), 200);
    // Nor is the manager unknown by the name that the example has for it.
    let request = product.request(Method::POST, "/containers/my-service/start").header("host", "mcp-manager:8000");
    let answer = request.json(&json!({"image": "image:tag", "port": 8000})).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    product.finish().await;
    podman::podman(&["rmi", "--ignore", "docker.io/mcp/echo:latest", "docker.io/library/image:tag"]).await;
}

#[tokio::test]
async fn the_first_service_s_call_starts_the_echo_of_the_quick_start_and_names_what_differs() {
    let product = Product::start(Options::memory()).await;
    let (status, _) = product.post("/containers", &json!({"service_name": "echo", "template": "echo"})).await;
    assert_eq!(status, 201);
    let first = json!({"image": "mcp/echo:latest", "port": 8000, "environment": {"MCP_SERVICE_NAME": "echo"}});
    let (status, echo) = product.post("/containers/echo/start", &first).await;
    assert_eq!((status, echo["outcome"].as_str()), (200, Some("unchanged")), "{echo:#}");
    product.call(Method::POST, "/containers/echo/stop").await;
    for same in [first, json!({}), json!({"template": "echo"})] {
        let (status, echo) = product.post("/containers/echo/start", &same).await;
        assert_eq!((status, echo["status"].as_str()), (200, Some("running")), "{echo:#}");
    }
    let other = json!({"image": "mcp/other", "port": 9000, "environment": {"MCP_SERVICE_NAME": "echo"}});
    let (status, conflict) = product.post("/containers/echo/start", &other).await;
    assert_eq!(status, 409, "{conflict:#}");
    assert_eq!(conflict["detail"], "'echo' exists and differs in image, port");
    assert_eq!(conflict["errors"][1]["message"], "is 8000 in the service");
    assert!(conflict["remedy"].as_str().unwrap().contains("PUT /containers/echo"), "{conflict:#}");
    let (status, conflict) = product.post("/containers/echo/start", &json!({"template": "nginx"})).await;
    assert_eq!((status, conflict["errors"][0]["field"].as_str()), (409, Some("template")), "{conflict:#}");
    product.finish().await;
}

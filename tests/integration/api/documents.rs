//! What the program says about itself: OpenAPI, documentation page, health, metrics; and the fuzzer that reads it.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::machine::{Part, offered};
use crate::support::product::{Options, Product};
use crate::support::{free_port, http_client};

#[tokio::test]
async fn health_readiness_metrics_and_documentation_answer() {
    let product = Product::start(Options::memory()).await;
    let (status, health) = product.get("/health").await;
    assert_eq!((status, health["status"].as_str()), (200, Some("healthy")));
    assert_eq!(product.get("/ready").await.0, 200);
    for path in ["/metrics", "/prometheus"] {
        let text = product.request(Method::GET, path).send().await.unwrap().text().await.unwrap();
        assert!(text.contains("mcp_manager_http_requests_total"), "{path}: {text}");
    }
    let (_, document) = product.get("/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let page = product.request(Method::GET, "/docs/").send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("swagger"));
    let (status, schema) = product.get("/template.schema.json").await;
    assert_eq!((status, schema["title"].as_str()), (200, Some("mcp-manager template")));
    product.finish().await;
}

#[tokio::test]
async fn the_documentation_page_stays_under_the_prefix_of_a_proxy() {
    let product = Product::start(Options::memory()).await;
    let client = http_client().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let redirect = client.get(format!("{}/docs", product.url)).send().await.unwrap();
    assert!(redirect.status().is_redirection());
    assert_eq!(redirect.headers()["location"], "docs/", "relative, so that /api/mcp/docs leads to /api/mcp/docs/");
    let script = product.request(Method::GET, "/docs/swagger-initializer.js").send().await.unwrap().text().await.unwrap();
    assert!(script.contains("\"../openapi.json\""), "{script}");
    let (_, document) = product.get("/openapi.json").await;
    assert_eq!(document["servers"], json!([{"url": "./"}]), "relative to the document, so that /api/mcp/ is not left");
    product.finish().await;
}

#[tokio::test]
async fn every_answer_carries_its_request_id_and_so_do_the_log_lines() {
    let product = Product::start(Options::memory()).await;
    let answer = product.request(Method::GET, "/containers").header("x-request-id", "my-own-id-1").send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "my-own-id-1");
    let other = product.request(Method::GET, "/containers").send().await.unwrap();
    assert!(!other.headers()["x-request-id"].is_empty());
    assert!(product.log().contains("my-own-id-1"), "{}", product.log());
    let answer = product.service(Method::GET, "nobody", "/").header("x-request-id", "my-own-id-2").send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "my-own-id-2", "of the gateway likewise");
    assert!(product.log().contains("my-own-id-2"), "{}", product.log());
    let body = json!({"service_name": "echo", "template": "echo"});
    let create = product.request(Method::POST, "/containers").header("x-request-id", "my-own-id-3").json(&body);
    assert_eq!(create.send().await.unwrap().status(), 201);
    let log = product.log();
    for id in ["my-own-id-1", "my-own-id-2", "my-own-id-3"] {
        let lines = log.lines().filter(|line| line.contains(id)).map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines: Vec<Value> = lines.collect();
        assert!(lines.iter().all(|line| line["request_id"] == id), "at one place in every line: {lines:#?}");
        assert!(lines.iter().any(|line| line["message"] == "answered"), "{lines:#?}");
        let audited = lines.iter().any(|line| line["target"] == "audit");
        assert_eq!(audited, id == "my-own-id-3", "{lines:#?}");
    }
    let told: Vec<&str> = log.lines().filter(|line| line.contains("service_create")).collect();
    assert!(!told.is_empty(), "{log}");
    for line in told {
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&object["subject"], &object["target"]), (&json!("echo"), &json!("audit")), "{line}");
        assert_eq!(line.matches("\"target\":").count(), 1, "a name that stands twice is read once: {line}");
    }
    product.finish().await;
}

#[tokio::test]
async fn traefiks_own_listener_answers_with_request_ids_and_says_whom_it_refused() {
    let provider = format!("127.0.0.1:{}", free_port());
    let product = Product::start(Options::memory().with("MCP_MANAGER_TRAEFIK_PROVIDER_LISTEN", &provider)).await;
    let ask = async |host: &str, id: &str| {
        let request = product.client.get(format!("http://{provider}/")).header("host", host).header("x-request-id", id);
        request.send().await.unwrap()
    };
    for (host, id, status) in [("localhost", "given-1", 200), ("evil.example.com", "given-2", 421)] {
        let answer = ask(host, id).await;
        assert_eq!((answer.status().as_u16(), &answer.headers()["x-request-id"]), (status, &id.parse().unwrap()));
    }
    assert!(!ask("localhost", "not sane").await.headers()["x-request-id"].is_empty());
    let log = product.log();
    assert!(log.lines().any(|line| line.contains("given-2") && line.contains("421")), "{log}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fuzzer_finds_no_server_error_and_no_answer_that_is_not_documented() {
    let Some(schemathesis) = offered(Part::Schemathesis) else { return };
    let product = Product::start(Options::memory().with("MAX_CONTAINERS", "10000")).await;
    let output = Command::new(schemathesis)
        .args(["run", &format!("{}/openapi.json", product.url), "--checks", "not_a_server_error,response_schema_conformance"])
        .args(["--max-examples", "25", "--seed", "1", "--exclude-path-regex", "events$", "--request-timeout", "20"])
        .current_dir(product.folder.path())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("operations") || text.contains("Tested"), "{text}");
    drop(product);
}

//! The plain HTTP endpoints of the echo service.

use serde_json::json;

use crate::support::echo::{EchoProcess, status_and_json};

#[tokio::test]
async fn health_says_healthy_with_the_service_name() {
    let echo = EchoProcess::start(&[("MCP_SERVICE_NAME", "parrot")]).await;
    let (status, health) = echo.get_json("/health").await;
    assert_eq!((status, &health["status"], &health["service"]), (200, &json!("healthy"), &json!("parrot")));
}

#[tokio::test]
async fn the_root_names_the_service_and_its_endpoints() {
    let echo = EchoProcess::start(&[]).await;
    let (status, about) = echo.get_json("/").await;
    assert_eq!((status, &about["service"], &about["version"]), (200, &json!("echo"), &json!(env!("CARGO_PKG_VERSION"))));
    assert!(about["endpoints"].as_array().unwrap().contains(&json!("POST /echo")));
}

#[tokio::test]
async fn info_counts_requests_and_shows_the_process() {
    let echo = EchoProcess::start(&[]).await;
    let before = echo.get_json("/info").await.1;
    let after = echo.get_json("/info").await.1;
    assert_eq!(after["requests"].as_u64().unwrap(), before["requests"].as_u64().unwrap() + 1);
    assert!(after["uptime_seconds"].as_f64().unwrap() >= before["uptime_seconds"].as_f64().unwrap());
    assert!(after["memory_bytes"].as_u64().unwrap() > 100_000);
    assert!(!after["hostname"].as_str().unwrap().is_empty());
    assert!(std::path::Path::new(&format!("/proc/{}", after["pid"])).exists());
}

#[tokio::test]
async fn a_message_in_the_path_comes_back_decoded() {
    let echo = EchoProcess::start(&[]).await;
    for (path, message) in
        [("hi", "hi"), ("hello%20world", "hello world"), ("a/b", "a/b"), ("%F0%9F%A6%9C", "🦜"), ("a%2Fb", "a/b")]
    {
        let (status, answer) = echo.get_json(&format!("/echo/{path}")).await;
        assert_eq!((status, &answer["echo"]), (200, &json!(message)), "{path}");
    }
}

#[tokio::test]
async fn replicas_can_be_told_apart_by_their_answers() {
    let (first, second) = (EchoProcess::start(&[]).await, EchoProcess::start(&[]).await);
    let instance = async |echo: &EchoProcess, path: &str| echo.get_json(path).await.1["instance"].as_str().unwrap().to_owned();
    assert_eq!(instance(&first, "/echo/hi").await, instance(&first, "/info").await);
    assert_ne!(instance(&first, "/echo/hi").await, instance(&second, "/echo/hi").await);
}

#[tokio::test]
async fn a_posted_message_comes_back_unchanged_whatever_json_it_is() {
    let echo = EchoProcess::start(&[]).await;
    for message in [json!("hi"), json!({"a": [1, "é", null]}), json!(null), json!(12.5)] {
        let (status, answer) = echo.post_json("/echo", json!({ "message": message }).to_string()).await;
        assert_eq!((status, &answer["echo"]), (200, &message));
    }
}

#[tokio::test]
async fn every_mistake_gets_a_problem_document_with_a_remedy() {
    let echo = EchoProcess::start(&[("MCP_ECHO_MAX_BODY_BYTES", "1000")]).await;
    let cases = [
        (echo.post("/echo").body("{\"message\""), 400),
        (echo.post("/echo").body("{}"), 422),
        (echo.post("/echo").body("[1]"), 422),
        (echo.post("/echo").body("x".repeat(1001)), 413),
        (echo.get("/echo/%ff"), 400),
        (echo.get("/nowhere"), 404),
        (echo.client.put(format!("{}/echo", echo.url)), 405),
    ];
    for (request, expected) in cases {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let (status, problem) = status_and_json(response).await;
        assert_eq!((status, &problem["status"]), (expected, &json!(expected)), "{problem}");
        assert!(!problem["detail"].as_str().unwrap().is_empty() && !problem["remedy"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn capabilities_describe_what_an_mcp_client_would_find() {
    let echo = EchoProcess::start(&[]).await;
    let (status, capabilities) = echo.get_json("/mcp/capabilities").await;
    assert_eq!((status, &capabilities["endpoint"]), (200, &json!("/mcp")));
    let versions = capabilities["protocol_versions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2025-11-25")));
    let tools: Vec<_> = capabilities["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(tools, ["add", "echo", "fail", "service_info", "slow_echo"]);
}

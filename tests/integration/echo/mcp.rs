//! The MCP endpoint of the echo service, as clients of both protocol eras see it.

use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::echo::EchoProcess;
use crate::support::mcp::{Session, stateless};

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn a_stateless_client_discovers_the_server_and_calls_tools_without_a_session() {
    let echo = EchoProcess::start(&[("MCP_SERVICE_NAME", "parrot")]).await;
    let url = format!("{}/mcp", echo.url);

    let discovered = stateless(&echo.client, &url, "server/discover", json!({})).await;
    assert_eq!((discovered.status, &discovered.session), (200, &None));
    assert!(discovered.result()["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")));
    assert_eq!(discovered.result()["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "parrot");

    let called = stateless(&echo.client, &url, "tools/call", json!({"name": "echo", "arguments": {"message": "🦜"}})).await;
    assert_eq!((called.result()["resultType"].as_str(), text(called.result())), (Some("complete"), "🦜"));
    assert_eq!(called.session, None);
    let sum = stateless(&echo.client, &url, "tools/call", json!({"name": "add", "arguments": {"a": 2, "b": 0.5}})).await;
    assert_eq!(text(sum.result()), "2.5");
}

#[tokio::test]
async fn a_session_client_shakes_hands_and_its_session_ends_when_it_says_so() {
    let echo = EchoProcess::start(&[("MCP_SERVICE_NAME", "parrot")]).await;
    let session = Session::open(&echo.client, &format!("{}/mcp", echo.url)).await;
    assert_eq!(
        (&session.server["protocolVersion"], &session.server["serverInfo"]["name"]),
        (&json!("2025-11-25"), &json!("parrot"))
    );
    let called = session.call("tools/call", json!({"name": "echo", "arguments": {"message": "hi"}})).await;
    assert_eq!(text(called.result()), "hi");
    assert_eq!(session.call("tools/list", json!({})).await.result()["tools"].as_array().unwrap().len(), 5);
    assert_eq!(session.close().await, 204);
    assert_eq!(session.call("tools/list", json!({})).await.status, 404);
}

#[tokio::test]
async fn without_sessions_an_older_client_may_call_any_replica() {
    let echo = EchoProcess::start(&[("MCP_ECHO_SESSIONS", "false")]).await;
    let request = echo.post("/mcp").header("accept", "application/json, text/event-stream");
    let request = request.header("mcp-protocol-version", "2025-11-25").json(&json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "hi"}},
    }));
    let response = request.send().await.unwrap();
    assert!(response.headers().get("mcp-session-id").is_none());
    assert_eq!(text(&response.json::<Value>().await.unwrap()["result"]), "hi");
}

#[tokio::test]
async fn sessions_do_not_see_each_others_end() {
    let echo = EchoProcess::start(&[]).await;
    let url = format!("{}/mcp", echo.url);
    let (first, second) = (Session::open(&echo.client, &url).await, Session::open(&echo.client, &url).await);
    assert_ne!(first.id, second.id);
    first.close().await;
    assert_eq!(second.call("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn both_eras_hear_progress_before_the_result() {
    let echo = EchoProcess::start(&[]).await;
    let url = format!("{}/mcp", echo.url);
    let params = json!({
        "name": "slow_echo", "arguments": {"message": "late", "steps": 3, "step_ms": 1}, "_meta": {"progressToken": "token"},
    });
    let session = Session::open(&echo.client, &url).await;
    for answer in [session.call("tools/call", params.clone()).await, stateless(&echo.client, &url, "tools/call", params).await] {
        let progress: Vec<_> = answer.messages.iter().filter(|message| message["method"] == "notifications/progress").collect();
        let steps: Vec<_> = progress.iter().map(|message| message["params"]["progress"].as_f64().unwrap()).collect();
        assert_eq!(steps, [1.0, 2.0, 3.0]);
        assert!(progress.iter().all(|message| message["params"]["progressToken"] == "token"));
        assert_eq!(text(answer.result()), "late");
    }
}

#[tokio::test]
async fn resources_and_prompts_answer_in_both_eras() {
    let echo = EchoProcess::start(&[]).await;
    let url = format!("{}/mcp", echo.url);
    let session = Session::open(&echo.client, &url).await;
    let info = json!({"uri": "echo://info"});
    for answer in
        [session.call("resources/read", info.clone()).await, stateless(&echo.client, &url, "resources/read", info).await]
    {
        let content = answer.result()["contents"][0]["text"].as_str().unwrap().to_owned();
        assert_eq!(serde_json::from_str::<Value>(&content).unwrap()["service"], "echo");
    }
    let prompt = json!({"name": "echo", "arguments": {"message": "polly"}});
    for answer in [session.call("prompts/get", prompt.clone()).await, stateless(&echo.client, &url, "prompts/get", prompt).await]
    {
        assert!(answer.result()["messages"][0]["content"]["text"].as_str().unwrap().ends_with("polly"));
    }
    let message = session.call("resources/read", json!({"uri": "echo://message/hi"})).await;
    assert_eq!(message.result()["contents"][0]["text"], "hi");
}

#[tokio::test]
async fn failures_of_tools_are_results_and_unknown_things_are_errors() {
    let echo = EchoProcess::start(&[]).await;
    let session = Session::open(&echo.client, &format!("{}/mcp", echo.url)).await;
    let failed = session.call("tools/call", json!({"name": "fail", "arguments": {"message": "no"}})).await;
    assert_eq!((&failed.result()["isError"], text(failed.result())), (&json!(true), "no"));
    let bounded = session.call("tools/call", json!({"name": "slow_echo", "arguments": {"message": "x", "steps": 101}})).await;
    assert_eq!(bounded.result()["isError"], true);
    assert_eq!(session.call("tools/call", json!({"name": "nothing"})).await.error_code(), -32602);
    assert!([-32002, -32602].contains(&session.call("resources/read", json!({"uri": "echo://no"})).await.error_code()));
    assert_eq!(session.call("no/such", json!({})).await.error_code(), -32601);
}

#[tokio::test]
async fn a_strangers_host_or_origin_never_reaches_mcp() {
    let echo = EchoProcess::start(&[("MCP_ECHO_ALLOWED_HOSTS", "echo.example.com")]).await;
    for (header, value, expected) in [
        ("host", "evil.example.com", 403),
        ("origin", "https://evil.example.com", 403),
        // Past the guard an empty request is a bad one, not a forbidden one.
        ("host", "echo.example.com", 406),
        ("host", "echo.localhost:8000", 406),
    ] {
        let response = echo.post("/mcp").header(header, value).body("{}").send().await.unwrap();
        assert_eq!(response.status(), expected, "{header}: {value}");
    }
}

#[tokio::test]
async fn a_call_costs_no_delayed_acknowledgement() {
    let echo = EchoProcess::start(&[("LOG_LEVEL", "warn")]).await;
    let session = Session::open(&echo.client, &format!("{}/mcp", echo.url)).await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let started = std::time::Instant::now();
        session.call("tools/call", json!({"name": "echo", "arguments": {"message": "hi"}})).await;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    // Without TCP_NODELAY every call waits about 40 ms; the median keeps a busy machine from failing this.
    assert!(times[10].as_millis() < 30, "{times:?}");
}

#[tokio::test]
async fn an_open_stream_does_not_hold_up_the_stop() {
    let mut echo = EchoProcess::start(&[]).await;
    let url = format!("{}/mcp", echo.url);
    let session = Session::open(&echo.client, &url).await;
    let stream = echo.client.get(&url).header("accept", "text/event-stream").header("mcp-session-id", &session.id);
    let mut stream = stream.timeout(PATIENCE).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let started = std::time::Instant::now();
    echo.terminate();
    assert!(echo.exit_status().await.success());
    assert!(started.elapsed().as_secs() < 3, "{:?}", started.elapsed());
    while let Ok(Some(_)) = stream.chunk().await {}
}

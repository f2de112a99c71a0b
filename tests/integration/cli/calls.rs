//! `mcp-call` and the relay say what they were given and give what they were told, whatever numbers and texts it holds; and
//! a call that is wrong ends with another exit code than a service that fails.

use std::process::Stdio;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use mcp_manager::lifecycle::Tasks;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::AsyncWriteExt as _;

use crate::support::PATIENCE;
use crate::support::command::{Ran, User};
use crate::support::echo::EchoProcess;

/// What no number and no text of most programs holds.
const ARGUMENTS: &str =
    r#"{"z": 123456789012345678901234567890, "a": -0, "big": 1e400, "one": 1.0, "half": "\ud800", "n": {"y": 1, "b": 2}}"#;

/// A piece of a result that is no text.
const ODD: &str = r#"{"type": "odd", "z": 1e400, "a": -0}"#;

#[derive(Deserialize)]
struct Message<'m> {
    #[serde(borrow, default)]
    id: Option<&'m RawValue>,
    method: String,
    #[serde(borrow, default)]
    params: Option<&'m RawValue>,
}

#[derive(Deserialize)]
struct Call<'m> {
    name: String,
    #[serde(borrow)]
    arguments: &'m RawValue,
}

/// A server of the earlier era, whose tools say in which way they answer. Its address.
async fn server() -> String {
    served(Router::new().fallback(async |body: String| answer(&body))).await
}

async fn served(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    // It ends with the test's runtime.
    Tasks::default().spawn("server", async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn answer(body: &str) -> Response {
    let Ok(message) = serde_json::from_str::<Message<'_>>(body) else { return StatusCode::METHOD_NOT_ALLOWED.into_response() };
    let Some(id) = message.id.map(RawValue::get) else { return StatusCode::ACCEPTED.into_response() };
    let json = |member: &str, value: &str| {
        ([(header::CONTENT_TYPE, "application/json")], format!(r#"{{"jsonrpc":"2.0","id":{id},"{member}":{value}}}"#))
            .into_response()
    };
    match message.method.as_str() {
        "initialize" => json(
            "result",
            r#"{"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}"#,
        ),
        "tools/call" => {
            let Call { name, arguments } = serde_json::from_str(message.params.unwrap().get()).unwrap();
            let result = format!(r#"{{"structuredContent": {arguments}, "content": [{{"type": "text", "text": "é"}}, {ODD}]}}"#);
            match name.as_str() {
                "json" => json("result", &result),
                "stream" => {
                    let event = format!("event: message\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n\n");
                    ([(header::CONTENT_TYPE, "text/event-stream")], event).into_response()
                }
                "wrong" => json("error", r#"{"code": -32602, "message": "no such argument", "data": 1e400}"#),
                "failed" => json("error", r#"{"code": -32603, "message": "the server exited with status 3"}"#),
                _ => StatusCode::BAD_GATEWAY.into_response(),
            }
        }
        _ => json("error", r#"{"code": -32601, "message": "no such method"}"#),
    }
}

#[tokio::test]
async fn a_tool_gets_its_arguments_as_they_were_written_and_its_result_is_shown_as_it_came() {
    let (url, user) = (server().await, User::without_manager());
    for tool in ["json", "stream"] {
        let json = user.done(&format!("mcp-call {url} {tool} '{ARGUMENTS}' --era old --json")).await;
        assert!(json.contains(&format!("\"structuredContent\": {ARGUMENTS}")) && json.contains(ODD), "{tool}: {json}");
        let shown = user.done(&format!("mcp-call {url} {tool} '{ARGUMENTS}' --output table")).await;
        assert_eq!(shown, format!("é\n{ODD}\n"), "{tool}");
    }
}

#[tokio::test]
async fn a_server_that_fails_at_a_call_ends_it_otherwise_than_one_that_refuses_it() {
    let (url, user) = (server().await, User::without_manager());
    for (tool, code, says) in [
        ("wrong", 2, "the service refused the call: no such argument (-32602)"),
        ("failed", 1, "the service failed at the call: the server exited with status 3 (-32603)"),
        ("gone", 1, "broke off"),
    ] {
        let ran = user.run(&format!("mcp-call {url} {tool} '{{}}'")).await;
        assert!(ran.code == code && ran.stderr.contains(says), "{tool}: {ran:#?}");
    }
    for arguments in ["[1]", "{\"a\": }", "1e400"] {
        let ran = user.run(&format!("mcp-call {url} json '{arguments}'")).await;
        assert!(ran.code == 2 && ran.stderr.contains("JSON"), "{arguments}: {ran:#?}");
    }
}

#[tokio::test]
async fn a_service_that_opens_no_session_now_is_not_taken_for_one_that_speaks_no_mcp() {
    let full = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"16 sessions are open, which is the limit"}}"#;
    let user = User::without_manager();
    for (kind, body, says) in [
        ("application/json", full, "16 sessions are open, which is the limit (-32603)"),
        ("application/problem+json", "{}", "503"),
    ] {
        let router = Router::new()
            .fallback(async move || (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, kind)], body).into_response());
        let url = served(router).await;
        for era in ["old", "new", "auto"] {
            let ran = user.run(&format!("mcp-call {url} json '{{}}' --era {era}")).await;
            assert!(ran.code == 1 && ran.stderr.contains(says) && ran.stderr.contains("try again later"), "{era}: {ran:#?}");
            assert!(!ran.stderr.contains("does not speak MCP"), "{era}: {ran:#?}");
        }
    }
}

#[tokio::test]
async fn a_server_of_either_era_answers_a_call() {
    let (echo, user) = (EchoProcess::start(&[]).await, User::without_manager());
    for era in ["old", "new", "auto"] {
        let call = format!("mcp-call {}/mcp echo '{{\"message\": \"hé\"}}' --era {era} --output table", echo.url);
        assert_eq!(user.done(&call).await, "hé\n", "{era}");
    }
}

#[tokio::test]
async fn the_relay_knows_a_message_by_its_id_whatever_else_it_holds() {
    let mut child = User::without_manager().command("client relay http://127.0.0.1:9/mcp").stdin(Stdio::piped()).spawn().unwrap();
    let call = format!(
        r#"{{"jsonrpc": "2.0", "id": 123456789012345678901234567890, "method": "tools/call", "params": {{"name": "x", "arguments": {ARGUMENTS}}}}}"#
    );
    child.stdin.take().unwrap().write_all(format!("{call}\n").as_bytes()).await.unwrap();
    let ran = tokio::time::timeout(PATIENCE, Ran::end_of(child)).await.expect("it ends");
    assert!(ran.stdout.contains("\"id\":123456789012345678901234567890,\"error\""), "{ran:#?}");
}

//! `client relay`: what it passes on between a client that knows programs alone and an endpoint of HTTP, and that neither an
//! endpoint that goes away nor one that breaks off leaves the client waiting, or deaf to what a server says by itself.

mod endpoint;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::endpoint::{Endpoint, Relay, initialize, notification, request, result, user};
use crate::support::echo::EchoProcess;
use crate::support::machine::{Part, offered};
use crate::support::product::{Options, Product};
use crate::support::scripted::{self, tell};
use crate::support::{PATIENCE, eventually, podman};

#[tokio::test]
async fn what_a_server_says_by_itself_is_heard_over_one_stream_and_one_session_after_the_other() {
    let (mut endpoint, mut relay) = Endpoint::with_relay(None).await;
    let (one, two, three) = (notification("one"), notification("two"), notification("three"));
    let saying = endpoint.listened("s1", None).await.streams(&format!("id: a 1\nretry: 10\ndata: {one}\n\n"));
    assert_eq!(relay.gives().await, one);
    relay.gets(&request(2, "resources/subscribe", &json!({"uri": "a:1"}))).await;
    endpoint.posted("resources/subscribe", Some("s1")).await.grants(&json!({}));
    assert_eq!(relay.gives().await["id"], 2);
    saying.breaks();
    endpoint.listened("s1", Some("a 1")).await.with(StatusCode::SERVICE_UNAVAILABLE);
    // An event without data moves the place, too.
    let saying = endpoint.listened("s1", Some("a 1")).await.streams(&format!("data: {two}\n\nid: 2\ndata:\n\n"));
    assert_eq!(relay.gives().await, two);
    drop(saying);
    endpoint.listened("s1", Some("2")).await.with(StatusCode::BAD_REQUEST);
    drop(endpoint.listened("s1", None).await.streams(": the event was not known, and now the session is not, either\n\n"));
    endpoint.listened("s1", None).await.with(StatusCode::NOT_FOUND);
    endpoint.begins("s2").await;
    endpoint.posted("notifications/initialized", Some("s2")).await.with(StatusCode::ACCEPTED);
    let again = endpoint.posted("resources/subscribe", Some("s2")).await;
    assert_eq!(again.body["params"]["uri"], "a:1", "what the client is subscribed to is said again");
    again.grants(&json!({}));
    let saying = endpoint.listened("s2", None).await.streams(&format!("data: {three}\n\n"));
    assert_eq!(relay.gives().await, three);
    drop(saying);
    endpoint.listened("s2", None).await.with(StatusCode::METHOD_NOT_ALLOWED);
    relay.gets(&request(3, "ping", &json!({}))).await;
    endpoint.posted("ping", Some("s2")).await.grants(&json!({}));
    assert_eq!(relay.gives().await["id"], 3);
    endpoint.left(relay, "s2").await;
}

#[tokio::test]
async fn an_answer_that_is_cut_is_gone_on_with_in_a_session_and_an_error_where_it_cannot_be() {
    let (mut endpoint, mut relay) = Endpoint::with_relay(Some(StatusCode::METHOD_NOT_ALLOWED)).await;
    let call = |id| request(id, "tools/call", &json!({"name": "x"}));
    let progress = notification("notifications/progress");
    relay.gets(&call(2)).await;
    let saying = endpoint.posted("tools/call", Some("s1")).await.streams(&format!("id: a\nretry: 10\ndata: {progress}\n\n"));
    assert_eq!(relay.gives().await, progress);
    saying.breaks();
    endpoint.listened("s1", Some("a")).await.with(StatusCode::BAD_GATEWAY);
    let answer = result(&json!(2), &json!({"content": []}));
    // Its end is not waited for.
    let open = endpoint.listened("s1", Some("a")).await.streams(&format!("data: {answer}\n\n"));
    assert_eq!(relay.gives().await, answer);
    // Gone on with until the server knows nothing of it any more.
    relay.gets(&call(3)).await;
    let saying = endpoint.posted("tools/call", Some("s1")).await.streams(&format!("id: b\nretry: 10\ndata: {progress}\n\n"));
    assert_eq!(relay.gives().await, progress);
    saying.breaks();
    endpoint.listened("s1", Some("b")).await.with(StatusCode::NOT_FOUND);
    let answer = relay.gives().await;
    assert!(answer["id"] == 3 && answer["error"]["message"].as_str().unwrap().contains("broke off"), "{answer}");
    // There is nothing to go on with.
    relay.gets(&call(4)).await;
    drop(endpoint.posted("tools/call", Some("s1")).await.streams(&format!("data: {progress}\n\n")));
    assert_eq!(relay.gives().await, progress);
    let answer = relay.gives().await;
    assert!(answer["id"] == 4 && answer["error"]["message"].as_str().unwrap().contains("ended its stream"), "{answer}");
    let meta = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}});
    relay.gets(&request(5, "subscriptions/listen", &meta)).await;
    let acknowledged = notification("notifications/subscriptions/acknowledged");
    drop(endpoint.posted("subscriptions/listen", None).await.streams(&format!("id: c\ndata: {acknowledged}\n\n")));
    assert_eq!(relay.gives().await, acknowledged);
    let answer = relay.gives().await;
    assert!(answer["id"] == 5 && answer["error"].is_object(), "an end of the subscription is told: {answer}");
    drop(open);
    endpoint.left(relay, "s1").await;
}

#[tokio::test]
async fn no_request_is_left_without_an_answer_of_its_own() {
    let (mut endpoint, mut relay) = Endpoint::with_relay(Some(StatusCode::METHOD_NOT_ALLOWED)).await;
    let refusal = r#"{"jsonrpc": "2.0", "id": null, "error": {"code": -32603, "message": "too many streams are open"}}"#;
    let json = [(header::CONTENT_TYPE, "application/json")];
    for (id, answer, says) in [
        (2, StatusCode::ACCEPTED.into_response(), "did not answer"),
        (3, "<html>log in</html>".into_response(), "no message"),
        (4, (StatusCode::SERVICE_UNAVAILABLE, json.clone(), refusal).into_response(), "too many streams are open"),
        (5, (json, r#"{"jsonrpc": "2.0", "id": 77, "result": {}}"#).into_response(), ""),
    ] {
        relay.gets(&request(id, "ping", &json!({}))).await;
        endpoint.posted("ping", Some("s1")).await.replies(answer);
        if id == 5 {
            assert_eq!(relay.gives().await["id"], 77, "what answers somebody else is passed on all the same");
        }
        let answer = relay.gives().await;
        assert!(answer["id"] == id && answer["error"]["message"].as_str().unwrap().contains(says), "{answer}");
    }
    // What the client answers is no request: its failure must not be taken for an answer to one of the same id.
    relay.gets(&json!({"jsonrpc": "2.0", "id": 6, "result": {}})).await;
    endpoint.next().await.with(StatusCode::INTERNAL_SERVER_ERROR);
    relay.gets(&json!([request(6, "ping", &json!({})), notification("x"), request(7, "ping", &json!({}))])).await;
    endpoint.next().await.with(StatusCode::BAD_GATEWAY);
    for id in [6, 7] {
        let answer = relay.gives().await;
        assert!(answer["id"] == id && answer["error"]["message"].as_str().unwrap().contains("502"), "{answer}");
    }
    endpoint.left(relay, "s1").await;
}

#[tokio::test]
async fn nothing_waits_for_what_a_server_need_not_end() {
    let (mut endpoint, mut relay) = Endpoint::with_relay(Some(StatusCode::METHOD_NOT_ALLOWED)).await;
    relay.gets(&notification("notifications/initialized")).await;
    let _open = endpoint.posted("notifications/initialized", Some("s1")).await.streams(": some answer so, and never end it\n\n");
    relay.gets(&request(2, "tools/call", &json!({"name": "x"}))).await;
    let _unanswered = endpoint.posted("tools/call", Some("s1")).await;
    relay.gets(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}})).await;
    endpoint.posted("notifications/cancelled", Some("s1")).await.with(StatusCode::ACCEPTED);
    endpoint.left(relay, "s1").await;
}

#[tokio::test]
async fn a_session_that_cannot_be_begun_again_yet_is_tried_again_by_the_next_request() {
    let (mut endpoint, mut relay) = Endpoint::with_relay(Some(StatusCode::METHOD_NOT_ALLOWED)).await;
    let full = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32603, "message": "16 sessions are open"}});
    relay.gets(&request(2, "ping", &json!({}))).await;
    endpoint.posted("ping", Some("s1")).await.with(StatusCode::NOT_FOUND);
    endpoint.posted("initialize", None).await.replies((StatusCode::SERVICE_UNAVAILABLE, Json(full)).into_response());
    let answer = relay.gives().await;
    assert!(answer["id"] == 2 && answer["error"]["message"].as_str().unwrap().contains("16 sessions are open"), "{answer}");
    relay.gets(&request(3, "ping", &json!({}))).await;
    endpoint.posted("ping", Some("s1")).await.with(StatusCode::NOT_FOUND);
    endpoint.begins("s2").await;
    endpoint.posted("notifications/initialized", Some("s2")).await.with(StatusCode::ACCEPTED);
    // It is listened to the new session, too, before or after the request is said again.
    for _ in 0..2 {
        let asked = endpoint.next().await;
        assert_eq!(asked.header("mcp-session-id"), Some("s2"));
        if asked.method == Method::GET { asked.with(StatusCode::METHOD_NOT_ALLOWED) } else { asked.grants(&json!({})) }
    }
    assert_eq!(relay.gives().await, result(&json!(3), &json!({})));
    endpoint.left(relay, "s2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_behind_the_relay_hears_of_changes_also_after_a_restart_of_the_manager() {
    const CHANGED: &str = "notifications/tools/list_changed";
    if !podman::ready().await || offered(Part::Hub).is_none() {
        return;
    }
    let product = Product::start(Options { listen: "127.0.77.2:0".to_owned(), ..Options::podman() }).await;
    scripted::create(&product, "odd").await;
    let [mut one, mut all] = ["s/odd", "all"].map(|path| Relay::to(&format!("{}/mcp/{path}", product.url)));
    for relay in [&mut one, &mut all] {
        relay.gets(&initialize()).await;
        assert_eq!(relay.gives().await["id"], 1);
        relay.gets(&notification("notifications/initialized")).await;
    }
    // The stream is opened beside all else, so nobody can tell when.
    let mut number = 0;
    let mut hears = async |product: &Product, relay: &mut Relay| {
        eventually("the client hears of a change", async || {
            number += 1;
            tell(product, "odd", json!({"tools": ["one", format!("t{number}")]})).await;
            let heard = timeout(Duration::from_millis(500), relay.lines.next_line()).await;
            heard.is_ok_and(|line| line.unwrap().is_some_and(|line| line.contains(CHANGED)))
        })
        .await;
    };
    for relay in [&mut one, &mut all] {
        hears(&product, relay).await;
    }
    let product = product.kill_and_restart_in_place().await;
    eventually("the service is led to again", async || {
        product.service(Method::POST, "odd", "/do").json(&json!({})).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    for relay in [&mut one, &mut all] {
        // What came before is read; all else comes over a stream to the new manager.
        while timeout(Duration::from_millis(500), relay.lines.next_line()).await.is_ok() {}
        hears(&product, relay).await;
    }
    let sessions = tell(&product, "odd", json!({})).await;
    let is_own = |session: &&Value| session["client"] == "test";
    let mut begun =
        sessions["sessions"].as_array().unwrap().iter().filter(is_own).flat_map(|own| own["begun"].as_array().unwrap());
    assert!(begun.any(|begun| begun[1].is_string()), "in the same session, behind the last event: {sessions:#}");
    for relay in [one, all] {
        // What is heard meanwhile is of the changes above.
        let Relay { mut child, input, lines } = relay;
        drop((input, lines));
        timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    }
    product.finish().await;
}

#[tokio::test]
async fn the_relay_passes_messages_both_ways_and_ends_with_its_input() {
    let echo = EchoProcess::start(&[]).await;
    let url = format!("{}/mcp", echo.url);
    let mut child = user().command(&format!("client relay {url}")).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let initialize = json!({"jsonrpc": "2.0", "id": "a", "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}});
    let messages = [
        initialize.to_string(),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string(),
        json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list"}).to_string(),
    ];
    input.write_all(format!("{}\n", messages.join("\n")).as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..2 {
        let line = tokio::time::timeout(std::time::Duration::from_secs(30), lines.next_line()).await.unwrap().unwrap().unwrap();
        answers.push(serde_json::from_str::<Value>(&line).unwrap());
    }
    assert_eq!(answers[0]["id"], "a");
    assert!(answers[0]["result"]["serverInfo"].is_object(), "{answers:?}");
    assert_eq!(answers[1]["id"], 7);
    assert!(!answers[1]["result"]["tools"].as_array().unwrap().is_empty(), "{answers:?}");
    drop(input);
    let status = tokio::time::timeout(std::time::Duration::from_secs(30), child.wait()).await.unwrap().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_behind_the_relay_notices_nothing_of_a_restart_of_the_manager() {
    // An address where no other test takes the port while the manager is away.
    let product = Product::start(Options { listen: "127.0.77.1:0".to_owned(), ..Options::memory() }).await;
    let mut child = user().command(&format!("client relay {}/mcp", product.url)).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = async |messages: &[Value], answers: usize| {
        for message in messages {
            input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
        }
        let mut got = Vec::new();
        for _ in 0..answers {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("an answer").unwrap().expect("an answer");
            got.push(serde_json::from_str::<Value>(&line).unwrap());
        }
        got.sort_by_key(|answer| answer["id"].as_u64());
        got
    };
    let list = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"});
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}});
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    let begun = ask(&[initialize, json!({"jsonrpc": "2.0", "method": "notifications/initialized"}), list(2)], 2).await;
    assert_eq!(begun[0]["result"]["protocolVersion"], "2025-06-18", "{begun:?}");
    let tools = begun[1]["result"]["tools"].clone();
    assert!(!tools.as_array().unwrap().is_empty());
    let product = product.kill_and_restart_in_place().await;
    // Several at once find that the session has gone.
    let after = ask(&[list(3), list(4), list(5)], 3).await;
    for (answer, id) in after.iter().zip(3..) {
        assert!(answer["id"] == id && answer["result"]["tools"] == tools, "{}\n{}", answer["error"], product.log());
    }
    drop(input);
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert!(status.success());
    product.finish().await;
}

#[tokio::test]
async fn a_relay_to_nowhere_answers_requests_with_errors() {
    let mut child = user().command("client relay http://127.0.0.1:9/mcp").stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input
        .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n")
        .await
        .unwrap();
    drop(input);
    let output = tokio::time::timeout(std::time::Duration::from_secs(30), child.wait_with_output()).await.unwrap().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["id"], 1);
    assert!(answer["error"]["message"].as_str().unwrap().contains("no manager answers"), "{answer}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no manager answers"));
}

/// What an endpoint of revision 2026-07-28 notices.
enum Noticed {
    Asked(HeaderMap, Value),
    Left(Value),
}

/// Tells that a request has been left.
struct Waiting(Value, mpsc::UnboundedSender<Noticed>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.1.send(Noticed::Left(self.0.clone()));
    }
}

/// Answers what it is asked at once, but a call of `slow` and a subscription never.
async fn modern(
    State(noticed): State<Arc<mpsc::UnboundedSender<Noticed>>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Json<Value> {
    noticed.send(Noticed::Asked(headers, body.clone())).unwrap();
    if body["params"]["name"] == "slow" || body["method"] == "subscriptions/listen" {
        let _waiting = Waiting(body["id"].clone(), (*noticed).clone());
        std::future::pending::<()>().await;
    }
    let schema = json!({"type": "object", "properties": {"where": {"type": "string", "x-mcp-header": "Region"}}});
    Json(json!({"jsonrpc": "2.0", "id": body["id"], "result": {"tools": [{"name": "größe", "inputSchema": schema}]}}))
}

#[tokio::test]
async fn the_relay_adds_what_http_wants_of_the_revision_without_sessions() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (sender, mut noticed) = mpsc::unbounded_channel();
    let endpoint = Router::new().route("/mcp", axum::routing::post(modern)).with_state(Arc::new(sender));
    let endpoint = tokio::spawn(async move { axum::serve(listener, endpoint).await });
    let mut child = user().command(&format!("client relay {url}")).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = async |id: u64, method: &str, mut params: Value| {
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
        let Noticed::Asked(headers, body) = tokio::time::timeout(PATIENCE, noticed.recv()).await.unwrap().unwrap() else {
            panic!("{id} is asked");
        };
        assert_eq!(body["id"], id);
        headers
    };
    ask(1, "tools/list", json!({})).await;
    let mut answer = async || {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        line.map(|line| serde_json::from_str::<Value>(&line).unwrap()["id"].clone())
    };
    assert_eq!(answer().await, Some(json!(1)));
    let headers = ask(2, "tools/call", json!({"name": "größe", "arguments": {"where": "süd", "other": "x"}})).await;
    assert_eq!(headers["mcp-name"], "=?base64?Z3LDtsOfZQ==?=");
    assert_eq!(headers["mcp-param-region"], "=?base64?c8O8ZA==?=");
    assert_eq!(answer().await, Some(json!(2)));
    ask(3, "tools/call", json!({"name": "slow"})).await;
    ask(4, "subscriptions/listen", json!({})).await;
    let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}});
    input.write_all(format!("{cancelled}\n").as_bytes()).await.unwrap();
    let left = tokio::time::timeout(PATIENCE, noticed.recv()).await.unwrap().unwrap();
    assert!(matches!(left, Noticed::Left(id) if id == 3), "the request is left");
    drop(input);
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends, whatever is subscribed to").unwrap();
    assert!(status.success());
    assert_eq!(answer().await, None, "nobody waits for what was called off");
    endpoint.abort();
}

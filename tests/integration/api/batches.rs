//! Several messages in one body, at the manager's own endpoints: sessions of the revisions that have batches take them,
//! nobody else does.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::product::{Options, Product};

const PATHS: [&str; 3] = ["/mcp", "/mcp/all", "/mcp/g/some"];

async fn start() -> Product {
    Product::start(Options::memory().with("MCP_MANAGER_AGGREGATE_GROUPS", "some=echo")).await
}

async fn post(product: &Product, path: &str, session: Option<&str>, body: &Value) -> Response {
    let request = product.request(Method::POST, path).header("accept", "application/json, text/event-stream").json(body);
    let request = if let Some(session) = session { request.header("mcp-session-id", session) } else { request };
    request.send().await.unwrap()
}

fn hello(version: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}})
}

fn ping(id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "ping"})
}

async fn open(product: &Product, path: &str, version: &str) -> String {
    let answer = post(product, path, None, &hello(version)).await;
    assert_eq!(answer.status(), 200, "{path} {version}");
    answer.headers()["mcp-session-id"].to_str().unwrap().to_owned()
}

/// What is answered to a batch: a slow machine makes a stream of what else is one text.
async fn messages(answer: Response) -> Vec<Value> {
    assert_eq!(answer.status(), 200);
    let streamed = answer.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream");
    let text = answer.text().await.unwrap();
    if !streamed {
        return serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    }
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn with_id<'a>(messages: &'a [Value], id: &Value) -> &'a Value {
    messages.iter().find(|message| message["id"] == *id).unwrap_or_else(|| panic!("no answer to {id}: {messages:?}"))
}

/// That an answer is this refusal of the whole.
async fn is_refused(answer: Response, word: &str) {
    assert_eq!(answer.status(), 400);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(-32600)), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains(word), "{answer}");
}

#[tokio::test]
async fn sessions_of_the_revisions_that_have_batches_take_them() {
    let product = start().await;
    for (path, version) in PATHS.into_iter().flat_map(|path| [(path, "2025-03-26"), (path, "2024-11-05")]) {
        let session = open(&product, path, version).await;
        let send = async |body: Value| post(&product, path, Some(&session), &body).await;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let told = send(json!([initialized])).await;
        assert_eq!(told.status(), 202, "{path} {version}: nothing wants an answer");
        let call = |id: Value, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}});
        let broken = json!({"jsonrpc": "2.0", "id": 4});
        let batch = json!([ping(&json!(1)), initialized, call(json!("b"), "tools/list"), broken, call(json!(3), "no/such")]);
        let answers = messages(send(batch).await).await;
        assert_eq!(answers.len(), 4, "{path} {version}: {answers:?}");
        assert_eq!(with_id(&answers, &json!(1))["result"], json!({}));
        assert!(with_id(&answers, &json!("b"))["result"]["tools"].is_array(), "{path} {version}: {answers:?}");
        assert_eq!(with_id(&answers, &json!(3))["error"]["code"], -32601);
        assert_eq!(with_id(&answers, &Value::Null)["error"]["code"], -32600, "what is wrong with one costs no other");
        is_refused(send(json!([])).await, "no messages").await;
        is_refused(send(json!(vec![ping(&json!(1)); 101])).await, "more than 100").await;
        is_refused(send(json!([ping(&json!(1)), hello(version)])).await, "initialize").await;
        let single = messages(send(json!([ping(&json!(7))])).await).await;
        assert_eq!(single, [json!({"jsonrpc": "2.0", "id": 7, "result": {}})], "{path} {version}");
        let ended = product.request(Method::DELETE, path).header("mcp-session-id", &session).send().await.unwrap();
        assert!(ended.status().is_success());
        assert_eq!(send(json!([ping(&json!(1))])).await.status(), 404, "{path} {version}: the session is over");
    }
    product.finish().await;
}

#[tokio::test]
async fn batches_are_refused_outside_of_such_sessions() {
    let product = start().await;
    let batch = json!([ping(&json!(1)), ping(&json!(2))]);
    for path in PATHS {
        for version in ["2025-06-18", "2025-11-25"] {
            let session = open(&product, path, version).await;
            is_refused(post(&product, path, Some(&session), &batch).await, "batches are not taken").await;
            let alone = post(&product, path, Some(&session), &ping(&json!(1))).await;
            assert_eq!(alone.status(), 200, "{path} {version}: the session goes on");
        }
        is_refused(post(&product, path, None, &batch).await, "batches are not taken").await;
        is_refused(post(&product, path, None, &json!([hello("2025-03-26")])).await, "batches are not taken").await;
    }
    product.finish().await;
}

#[tokio::test]
async fn news_of_a_call_in_a_batch_come_before_its_answer() {
    let product = start().await;
    let session = open(&product, "/mcp", "2025-03-26").await;
    let create = json!({"jsonrpc": "2.0", "id": "create", "method": "tools/call", "params": {
        "name": "container_create", "arguments": {"service_name": "echo", "template": "echo"}, "_meta": {"progressToken": "p"}}});
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let answer = post(&product, "/mcp", Some(&session), &json!([initialized, create, ping(&json!(2))])).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let messages = messages(answer).await;
    let created = messages.iter().position(|message| message["id"] == "create").unwrap();
    assert_eq!(messages[created]["result"]["structuredContent"]["status"], "running", "{messages:?}");
    let news: Vec<usize> = (0..messages.len()).filter(|index| messages[*index]["method"] == "notifications/progress").collect();
    assert!(!news.is_empty() && news.iter().all(|index| *index < created), "{messages:?}");
    assert_eq!(messages.len(), news.len() + 2, "{messages:?}");
    product.finish().await;
}

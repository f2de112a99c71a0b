//! MCP by path: one service's own endpoint, and many services behind one endpoint, for clients of both eras.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::mcp::{SESSION_VERSION, STATELESS_VERSION, Session, stateless};
use crate::support::podman::unique;
use crate::support::product::{Options, Product};
use crate::support::{PATIENCE, eventually, podman, stretched};

/// Names of what a list holds.
fn names(result: &Value, of: &str) -> BTreeSet<String> {
    result[of].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// The text that a tool answered.
fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{result:#}"))
}

async fn tools(client: &Client, url: &str) -> BTreeSet<String> {
    names(stateless(client, url, "tools/list", json!({})).await.result(), "tools")
}

/// An echo server that tells its name, and stays in the routes however long it does not answer.
pub(super) async fn create(product: &Product, name: &str) -> Value {
    let body = json!({
        "service_name": name, "template": "echo", "restart_policy": "no",
        "environment": {"MCP_ECHO_TEST_CONTROLS": "true", "MCP_SERVICE_NAME": name},
        "health_check": {"path": "/health", "interval": "1s", "timeout": "500ms", "retries": 100},
    });
    let (status, answer) = product.post("/containers", &body).await;
    assert_eq!(status, 201, "{answer:#}\n{}", product.log());
    answer
}

/// Signals the server in a container: the first process there is an init, which passes no stop on.
async fn signal(container: &str, signal: &str) {
    let pid = podman::podman(&["inspect", "--format", "{{.State.Pid}}", container]).await;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert!(!children.trim().is_empty(), "the container has no init");
    podman::podman(&["unshare", "sh", "-c", &format!("kill -{signal} {children}")]).await;
}

/// Reads a stream of events until one is a notification of this method.
async fn hears(stream: reqwest::Response, method: &str) {
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let (mut body, mut heard) = (stream.bytes_stream(), String::new());
    let hear = async {
        while !heard.contains(&format!("\"method\":\"{method}\"")) {
            heard.push_str(&String::from_utf8_lossy(&body.next().await.expect("the stream goes on").unwrap()));
        }
    };
    tokio::time::timeout(PATIENCE, hear).await.unwrap_or_else(|_| panic!("never heard of {method}"));
}

/// Opens the stream of a session.
pub(super) async fn listen(product: &Product, url: &str, session: &Session) -> reqwest::Response {
    let request = product.client.get(url).header("accept", "text/event-stream");
    request.header("mcp-session-id", &session.id).header("mcp-protocol-version", SESSION_VERSION).send().await.unwrap()
}

/// Asks for news of tools, without a session.
pub(super) async fn subscribe(product: &Product, url: &str) -> reqwest::Response {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS_VERSION, "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({"_meta": meta, "notifications": {"toolsListChanged": true}});
    let body = json!({"jsonrpc": "2.0", "id": "sub", "method": "subscriptions/listen", "params": params});
    let request = product.client.post(url).header("accept", "application/json, text/event-stream").json(&body);
    let request = request.header("mcp-protocol-version", STATELESS_VERSION).header("mcp-method", "subscriptions/listen");
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_service_is_reached_by_its_path_in_both_eras() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    create(&product, "echo").await;
    let url = format!("{}/mcp/s/echo", product.url);
    let called = stateless(&product.client, &url, "tools/call", json!({"name": "echo", "arguments": {"message": "hi"}})).await;
    assert_eq!(text(called.result()), "hi");
    let session = Session::open(&product.client, &url).await;
    assert!(names(session.call("tools/list", json!({})).await.result(), "tools").contains("echo"));
    assert_eq!(session.close().await, 204);

    let (status, unknown) = product.post("/mcp/s/ecko", &json!({})).await;
    assert!(status == 404 && unknown["remedy"].as_str().unwrap().contains("echo"), "{unknown:#}");
    let page = product.request(Method::POST, "/mcp/s/echo").header("origin", "http://evil.example").json(&json!({}));
    assert_eq!(page.send().await.unwrap().status(), 403);
    let own = product.request(Method::POST, "/mcp/s/echo").header("origin", &product.url).json(&json!({}));
    assert_ne!(own.send().await.unwrap().status(), 403);
    product.finish().await;
}

#[tokio::test]
async fn whoever_may_not_use_services_is_refused_and_sessions_are_their_openers_own() {
    let (product, keys) = super::access::with_keys().await;
    let key = |role: &str| keys.iter().find(|(is, _)| *is == role).unwrap().1.clone();
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": SESSION_VERSION, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    for path in ["/mcp/all", "/mcp/g/any", "/mcp/s/any"] {
        assert_eq!(product.request(Method::POST, path).json(&initialize).send().await.unwrap().status(), 401, "{path}");
        let viewer = product.request(Method::POST, path).bearer_auth(key("viewer")).json(&initialize).send().await.unwrap();
        assert_eq!(viewer.status(), 403, "{path}");
    }
    let opened = product.request(Method::POST, "/mcp/all").bearer_auth(key("operator")).json(&initialize).send().await.unwrap();
    assert_eq!(opened.status(), 200);
    let session = opened.headers()["mcp-session-id"].clone();
    let send = async |role: &str| {
        let request = product.request(Method::POST, "/mcp/all").header("mcp-session-id", session.clone());
        request.bearer_auth(key(role)).json(&ping).send().await.unwrap().status().as_u16()
    };
    assert_eq!((send("operator").await, send("admin").await), (200, 404));
    let group = product.request(Method::POST, "/mcp/g/any").bearer_auth(key("admin")).json(&initialize).send().await.unwrap();
    assert_eq!(group.status(), 404, "there is no such group");
    drop(product);
}

#[tokio::test]
async fn whoever_opens_one_session_too_many_is_refused_and_nobody_elses_ends() {
    let options = Options::memory().with("MCP_MANAGER_MCP_MAX_SESSIONS", "2").with("MCP_MANAGER_AGGREGATE_GROUPS", "some=echo");
    let product = Product::start(options).await;
    let (all, group) = (format!("{}/mcp/all", product.url), format!("{}/mcp/g/some", product.url));
    let (first, second) = (Session::open(&product.client, &all).await, Session::open(&product.client, &group).await);
    let hello = json!({"jsonrpc": "2.0", "id": "third", "method": "initialize", "params": {
        "protocolVersion": SESSION_VERSION, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
    for path in ["/mcp/all", "/mcp/g/some"] {
        let refused = product.request(Method::POST, path).json(&hello).send().await.unwrap();
        assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"5".parse().unwrap()), "{path}");
        assert!(!refused.headers().contains_key("mcp-session-id"));
        let answer: Value = refused.json().await.unwrap();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("third"), &json!(-32603)), "{answer:#}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("mcp.max_sessions"), "{answer:#}");
        assert_eq!(answer["error"]["data"]["type"], "urn:mcp-manager:problem:limit-reached", "{answer:#}");
    }
    for session in [&first, &second] {
        assert_eq!(session.call("tools/list", json!({})).await.status, 200, "nobody's session has ended");
    }
    let stateless = stateless(&product.client, &all, "tools/list", json!({})).await;
    assert_eq!(stateless.status, 200, "calls without a session need no place");
    assert_eq!(first.close().await, 204);
    Session::open(&product.client, &all).await;
    product.finish().await;
}

#[tokio::test]
async fn wrong_messages_are_refused_as_the_protocol_says() {
    let product = Product::start(Options::memory()).await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS_VERSION, "io.modelcontextprotocol/clientCapabilities": {},
    });
    let list = |meta: &Value| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    let send = async |headers: &[(&str, &str)], body: String| {
        let mut request = product.request(Method::POST, "/mcp/all").header("content-type", "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap()["error"]["code"].as_i64().unwrap_or_default())
    };
    let version = ("mcp-protocol-version", STATELESS_VERSION);
    let right = [version, ("mcp-method", "tools/list")];
    assert_eq!(send(&right, list(&meta).to_string()).await, (200, 0));
    assert_eq!(send(&[version], list(&meta).to_string()).await, (400, -32020), "a header is missing");
    assert_eq!(send(&[version, ("mcp-method", "tools/call")], list(&meta).to_string()).await, (400, -32020), "it differs");
    assert_eq!(send(&right, list(&json!({})).to_string()).await, (400, -32602), "no version in the body");
    let mut other = meta.clone();
    other["io.modelcontextprotocol/protocolVersion"] = "1900-01-01".into();
    assert_eq!(send(&right, list(&other).to_string()).await, (400, -32020), "header and body differ");
    let unknown = [("mcp-protocol-version", "1900-01-01"), right[1]];
    assert_eq!(send(&unknown, list(&other).to_string()).await, (400, -32022));
    for removed in ["initialize", "resources/subscribe", "resources/unsubscribe"] {
        let body = list(&meta).to_string().replace("tools/list", removed);
        assert_eq!(send(&[version, ("mcp-method", removed)], body).await, (404, -32601), "{removed}");
    }
    assert_eq!(send(&[], list(&json!({})).to_string().replace("_meta", "x")).await, (400, -32600), "no session");
    assert_eq!(send(&[("mcp-session-id", "abc")], list(&json!({})).to_string().replace("_meta", "x")).await, (404, -32600));
    assert_eq!(send(&right, "{".to_owned()).await, (400, -32700));
    assert_eq!(send(&right, "[]".to_owned()).await, (400, -32600));
    let unknown = list(&meta).to_string().replace("tools/list", "tools/none");
    assert_eq!(send(&[version, ("mcp-method", "tools/none")], unknown).await, (404, -32601));
    assert_eq!(product.request(Method::GET, "/mcp/all").send().await.unwrap().status(), 405);
    let form = product.request(Method::POST, "/mcp/all").header("content-type", "text/plain").body(list(&meta).to_string());
    assert_eq!(form.send().await.unwrap().status(), 415);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_services_are_one_endpoint_that_one_that_hangs_and_one_that_dies_do_not_disturb() {
    if !podman::ready().await {
        return;
    }
    let options = Options::podman()
        .with("MCP_MANAGER_AGGREGATE_GROUPS", "few=s01+s02,most=s1*")
        .with("MCP_MANAGER_AGGREGATE_HIDDEN", "*__fail")
        .with("MCP_MANAGER_AGGREGATE_RENAMED", "s01__add=plus");
    let product = Product::start(options).await;
    let (client, all) = (&product.client, format!("{}/mcp/all", product.url));
    let all_names: Vec<String> = (1..=20).map(|number| format!("s{number:02}")).collect();
    let made = futures_util::stream::iter(&all_names).map(|name| create(&product, name)).buffered(4);
    let made: Vec<Value> = made.collect().await;
    eventually("every service is seen", async || tools(client, &all).await.len() == 20 * 4).await;

    let shown = tools(client, &all).await;
    assert!(shown.contains("s07__echo") && shown.contains("plus"), "{shown:?}");
    assert!(!shown.contains("s01__add") && !shown.iter().any(|name| name.ends_with("__fail")), "{shown:?}");
    let few = tools(client, &format!("{}/mcp/g/few", product.url)).await;
    let expected = ["plus", "s01__echo", "s01__service_info", "s01__slow_echo"];
    assert!(few.len() == 8 && expected.iter().all(|name| few.contains(*name)), "{few:?}");
    assert_eq!(tools(client, &format!("{}/mcp/g/most", product.url)).await.len(), 10 * 4);

    // Each era's client reaches each service by name.
    let discovered = stateless(client, &all, "server/discover", json!({})).await;
    assert_eq!(discovered.result()["capabilities"]["tools"]["listChanged"], true);
    assert!(discovered.result()["supportedVersions"].as_array().unwrap().contains(&json!(STATELESS_VERSION)));
    let (one, other) = (Session::open(client, &all).await, Session::open(client, &all).await);
    for name in ["s01", "s13", "s20"] {
        let info = stateless(client, &all, "tools/call", json!({"name": format!("{name}__service_info")})).await;
        assert!(text(info.result()).contains(&format!("\"{name}\"")), "{info:?}");
        let info = one.call("tools/call", json!({"name": format!("{name}__service_info"), "arguments": {}})).await;
        assert!(text(info.result()).contains(&format!("\"{name}\"")), "{info:?}");
    }
    let sum = other.call("tools/call", json!({"name": "plus", "arguments": {"a": 1, "b": 2}})).await;
    assert_eq!(text(sum.result()), "3");
    let listed = one.call("resources/list", json!({})).await;
    assert!(listed.result()["resources"].as_array().unwrap().iter().any(|item| item["uri"] == "mcp.s02+echo://info"));
    let templates = one.call("resources/templates/list", json!({})).await;
    assert_eq!(templates.result()["resourceTemplates"].as_array().unwrap().len(), 20);
    let read = stateless(client, &all, "resources/read", json!({"uri": "mcp.s02+echo://message/a%20b"})).await;
    assert_eq!(read.result()["contents"][0]["uri"], "echo://message/a%20b");
    let prompt = one.call("prompts/get", json!({"name": "s03__echo", "arguments": {"message": "hi"}})).await;
    assert!(prompt.result()["messages"][0]["content"]["text"].as_str().unwrap().ends_with("hi"), "{prompt:?}");
    for hidden in ["s01__fail", "s01__add", "s99__echo", "echo"] {
        let refused = one.call("tools/call", json!({"name": hidden, "arguments": {"message": "x"}})).await;
        assert_eq!(refused.error_code(), -32602, "{hidden}: {refused:?}");
    }

    // Progress on its way, and a session that ends takes no other with it.
    let params = json!({"name": "s04__slow_echo", "arguments": {"message": "slow", "steps": 3, "step_ms": 20},
        "_meta": {"progressToken": 7}});
    let slow = one.call("tools/call", params).await;
    assert_eq!(slow.messages.iter().filter(|message| message["params"]["progressToken"] == 7).count(), 3, "{slow:?}");
    assert_eq!(text(slow.result()), "slow");
    assert_eq!(other.close().await, 204);
    assert_eq!(other.call("ping", json!({})).await.status, 404);
    assert_eq!(one.call("ping", json!({})).await.status, 200);

    let before = one.call("tools/call", json!({"name": "s05__echo", "arguments": {"message": "early"}})).await;
    assert_eq!(text(before.result()), "early");

    // One hangs: it is listed still, and its own calls wait, nobody else's.
    let container = |index: usize| made[index]["instances"][0]["name"].as_str().unwrap().to_owned();
    signal(&container(4), "STOP").await;
    let hanging = product.client.post(&all).header("accept", "application/json, text/event-stream");
    let hanging = hanging.header("mcp-session-id", &one.id).timeout(Duration::from_mins(3)).json(&json!({
        "jsonrpc": "2.0", "id": "late", "method": "tools/call", "params": {"name": "s05__echo", "arguments": {"message": "late"}},
    }));
    let hanging = tokio::spawn(async move { hanging.send().await.unwrap().text().await.unwrap() });
    // Others are called for the first time in this session while it hangs, too.
    for name in ["s06", "s07", "s08", "s06", "s07"] {
        let began = Instant::now();
        assert_eq!(tools(client, &all).await.len(), 20 * 4);
        let called = one.call("tools/call", json!({"name": format!("{name}__echo"), "arguments": {"message": "hi"}})).await;
        assert_eq!(text(called.result()), "hi");
        let took = began.elapsed();
        assert!(took < stretched(Duration::from_secs(2)).await, "a list and a call took {took:?}");
    }
    assert!(!hanging.is_finished());

    // One dies: its tools go, listeners of both eras hear of it, and its calls say why.
    let (heard, told) = (listen(&product, &all, &one).await, subscribe(&product, &all).await);
    product.service(Method::POST, "s09", "/exit/3").send().await.unwrap();
    tokio::join!(hears(heard, "notifications/tools/list_changed"), hears(told, "notifications/tools/list_changed"));
    eventually("its tools are gone", async || tools(client, &all).await.len() == 19 * 4).await;
    let dead = one.call("tools/call", json!({"name": "s09__echo", "arguments": {"message": "x"}})).await;
    assert_eq!(dead.error_code(), -32603);
    assert!(dead.messages[0]["error"]["message"].as_str().unwrap().contains("s09"), "{dead:?}");

    // Another of its name is found, and the one that hung goes on.
    assert_eq!(product.call(Method::DELETE, "/containers/s09").await.0, 204);
    create(&product, "s09").await;
    eventually("its tools are back", async || tools(client, &all).await.len() == 20 * 4).await;
    let back = one.call("tools/call", json!({"name": "s09__echo", "arguments": {"message": "back"}})).await;
    assert_eq!(text(back.result()), "back");
    signal(&container(4), "CONT").await;
    let late = tokio::time::timeout(PATIENCE, hanging).await.expect("it goes on").unwrap();
    assert!(late.contains("\"late\"") && late.contains("\"result\""), "{late}");
    assert_eq!(one.close().await, 204);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_comes_to_clients_of_both_eras() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let (client, all, name) = (&product.client, format!("{}/mcp/all", product.url), unique("new"));
    let session = Session::open(client, &all).await;
    assert_eq!(session.server["capabilities"]["tools"]["listChanged"], true);
    assert!(tools(client, &all).await.is_empty());
    let told = subscribe(&product, &all).await;
    create(&product, &name).await;
    hears(told, "notifications/tools/list_changed").await;
    // A listener who comes later hears of what has changed since the session began.
    hears(listen(&product, &all, &session).await, "notifications/tools/list_changed").await;
    assert!(tools(client, &all).await.contains(&format!("{name}__echo")));
    product.finish().await;
}

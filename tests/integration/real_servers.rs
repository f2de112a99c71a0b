//! Real servers of npm and `PyPI`, each made of its package's name by the product and driven end to end by other people's
//! clients of both eras: the Python SDK, both TypeScript SDKs, the Inspector.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bridged::{Bridged, conformance_server};
use crate::support::clients::drive;
use crate::support::command::User;
use crate::support::eventually;
use crate::support::machine::{Part, offered};
use crate::support::mcp::{Answer, Session, stateless};
use crate::support::podman::{self, podman};
use crate::support::product::{Options, Product};

/// How long it may take from a package's name to a server that runs, where nothing is at hand.
const PATIENCE: Duration = Duration::from_mins(8);

#[tokio::test]
async fn every_client_gets_on_with_a_server_that_asks_questions() {
    let Some(clients) = offered(Part::Clients) else { return };
    let bridged = Bridged::on_host(&conformance_server()).await;
    let calls = json!([
        {"tool": "echo", "arguments": {"message": "hi 🦜"}, "expect": "hi 🦜"},
        {"tool": "test_elicitation", "arguments": {"message": "Who are you?"}, "expect": "accept"},
        {"tool": "test_sampling", "arguments": {"prompt": "Say something"}, "expect": "sampled"},
        {"tool": "test_tool_with_progress", "arguments": {}, "expect": "progress", "progress": true},
    ]);
    assert_eq!(drive(&clients, &bridged.url, &calls).await, Vec::<String>::new());
    bridged.finish().await;
}

/// Makes a server of a package, and lets all clients make the calls. `prepare` is run in its container before.
async fn assert_works(source: &str, prepare: &[&str], calls: Value) {
    if offered(Part::Podman).is_none() || offered(Part::Hub).is_none() {
        return;
    }
    let Some(clients) = offered(Part::Clients) else { return };
    let product = Product::start(Options::podman().with_secrets().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "host")).await;
    let user = User::of_product(&product);
    let name = podman::unique("real");
    let service = user.done_within(PATIENCE, &format!("run {source} --service {name}")).await;
    let service: Value = serde_json::from_str(&service).unwrap();
    if !prepare.is_empty() {
        let container = service["instances"][0]["name"].as_str().unwrap();
        podman(&[&["exec", container], prepare].concat()).await;
    }
    let wrong = drive(&clients, &format!("{}/mcp/s/{name}", product.url), &calls).await;
    let log = user.run(&format!("logs {name}")).await;
    assert!(wrong.is_empty(), "{source}:\n{}\nThe server said:\n{}", wrong.join("\n"), log.stdout);
    // What it keeps goes with it.
    product.call(Method::DELETE, &format!("/containers/{name}?volumes=true")).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_with_every_client() {
    let calls = json!([
        {"tool": "echo", "arguments": {"message": "hi 🦜"}, "expect": "Echo: hi 🦜"},
        {"tool": "get-sum", "arguments": {"a": 2, "b": 40}, "expect": "42"},
        {"tool": "get-structured-content", "arguments": {"location": "Chicago"}, "expect": "temperature"},
        {"tool": "trigger-long-running-operation", "arguments": {"duration": 1, "steps": 2}, "expect": "completed", "progress": true},
    ]);
    assert_works("npm:@modelcontextprotocol/server-everything", &[], calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filesystem_works_with_every_client() {
    let calls = json!([
        {"tool": "write_file", "arguments": {"path": "/data/a.txt", "content": "written"}, "expect": "Successfully wrote"},
        {"tool": "read_text_file", "arguments": {"path": "/data/a.txt"}, "expect": "written"},
        {"tool": "list_directory", "arguments": {"path": "/data"}, "expect": "[FILE] a.txt"},
    ]);
    assert_works("npm:@modelcontextprotocol/server-filesystem", &[], calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_works_with_every_client() {
    let entity = json!({"name": "parrot", "entityType": "bird", "observations": ["green"]});
    let calls = json!([
        {"tool": "create_entities", "arguments": {"entities": [entity]}, "expect": ""},
        {"tool": "search_nodes", "arguments": {"query": "parrot"}, "expect": "green"},
    ]);
    assert_works("npm:@modelcontextprotocol/server-memory", &[], calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequential_thinking_works_with_every_client() {
    let thought = json!({"thought": "first", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1});
    let calls = json!([{"tool": "sequentialthinking", "arguments": thought, "expect": "thoughtNumber"}]);
    assert_works("npm:@modelcontextprotocol/server-sequential-thinking", &[], calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_works_with_every_client() {
    let zones = json!({"source_timezone": "Europe/Berlin", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    let calls = json!([{"tool": "convert_time", "arguments": zones, "expect": "Asia/Tokyo"}]);
    assert_works("pypi:mcp-server-time", &[], calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn git_works_with_every_client() {
    let calls = json!([
        {"tool": "git_status", "arguments": {"repo_path": "/repos"}, "expect": "branch"},
    ]);
    assert_works("pypi:mcp-server-git", &["git", "init", "/repos"], calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_works_with_every_client() {
    let calls = json!([
        {"tool": "create_table", "arguments": {"query": "CREATE TABLE IF NOT EXISTS t (a INTEGER)"}, "expect": "created"},
        {"tool": "write_query", "arguments": {"query": "INSERT INTO t VALUES (7)"}, "expect": "affected_rows"},
        {"tool": "read_query", "arguments": {"query": "SELECT a FROM t"}, "expect": "7"},
    ]);
    assert_works("pypi:mcp-server-sqlite", &[], calls).await;
}

/// Has Node tell each piece of a request's body that it gets.
const TELLING: &str = "--import=data:text/javascript,import%20http%20from%20'node:http';\
    const%20push=http.IncomingMessage.prototype.push;\
    http.IncomingMessage.prototype.push=function(piece,...more){\
    if(piece)console.log('took%20'+piece);return%20push.call(this,piece,...more)}";

/// A server of sessions behind the one endpoint, called by clients that have none and do not know of each other.
#[tokio::test(flavor = "multi_thread")]
async fn callers_without_sessions_of_a_server_with_sessions_are_kept_apart_from_its_first_moment_on() {
    if offered(Part::Podman).is_none() || offered(Part::Hub).is_none() {
        return;
    }
    let product = Product::start(Options::podman().with_secrets().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "host")).await;
    let (user, name) = (User::of_product(&product), podman::unique("sessions"));
    let source = "npm:@modelcontextprotocol/server-everything";
    let run = format!("run {source} --service {name} --port 3001 --env \"NODE_OPTIONS={TELLING}\" -- streamableHttp");
    user.done_within(PATIENCE, &run).await;
    let (client, all) = (&product.client, format!("{}/mcp/all", product.url));
    let slow = |steps: u32, seconds: u32| {
        json!({"name": format!("{name}__trigger-long-running-operation"),
            "arguments": {"duration": seconds, "steps": steps}, "_meta": {"progressToken": 1}})
    };
    // Each calls until the service is there, so that nobody has looked at it when the first call comes through.
    let call = async |steps: u32| {
        let began = Instant::now();
        loop {
            let answer = stateless(client, &all, "tools/call", slow(steps, 1)).await;
            let last = answer.messages.last().unwrap_or_else(|| panic!("{answer:?}"));
            if last["error"]["code"] != -32603 {
                return (steps, answer);
            }
            assert!(began.elapsed() < Duration::from_mins(1), "{answer:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(product.call(Method::POST, &format!("/containers/{name}/stop")).await.0, 200);
    let path = format!("/containers/{name}/start");
    let start = product.call(Method::POST, &path);
    let ((status, started), answers) = tokio::join!(start, join_all([2, 3, 4, 5].map(call)));
    assert_eq!(status, 200, "{started:#}");
    for (steps, answer) in answers {
        let told: Vec<_> = answer.messages.iter().filter_map(|message| message["params"]["progress"].as_u64()).collect();
        assert_eq!(told, (1..=u64::from(steps)).collect::<Vec<_>>(), "{answer:?}");
        let own = |message: &Value| message["params"]["progressToken"] == 1 && message["params"]["total"] == steps;
        assert!(answer.messages.iter().rev().skip(1).all(own), "{answer:?}");
        let done = format!("Long running operation completed. Duration: 1 seconds, Steps: {steps}.");
        assert_eq!((&answer.result()["content"][0]["text"], &answer.messages.last().unwrap()["id"]), (&json!(done), &json!(1)));
    }

    // Who goes away cancels what it asked, and nothing else.
    let took = async |what: &str| {
        let (_, logs) = product.get(&format!("/containers/{name}/logs?tail=1000")).await;
        let lines = logs["lines"].as_array().unwrap().iter().filter_map(|line| line["line"].as_str()?.strip_prefix("took "));
        let messages = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        messages.filter(|message| message["method"] == what).collect::<Vec<_>>()
    };
    let (all_too, leaving) = (all.clone(), slow(600, 600));
    let client_too = client.clone();
    let leaving = tokio::spawn(async move { stateless(&client_too, &all_too, "tools/call", leaving).await });
    let calls_of_it = async || {
        let calls = took("tools/call").await;
        calls.into_iter().filter(|call| call["params"]["arguments"]["steps"] == 600).collect::<Vec<_>>()
    };
    eventually("the server works on it", async || calls_of_it().await.len() == 1).await;
    leaving.abort();
    eventually("the server hears that nobody wants it any more", async || !took("notifications/cancelled").await.is_empty())
        .await;
    let cancelled = took("notifications/cancelled").await;
    assert_eq!(cancelled.len(), 1, "{cancelled:#?}");
    assert_eq!(cancelled[0]["params"]["requestId"], calls_of_it().await[0]["id"]);

    // Started anew it knows none of the sessions, and says so in its own way; clients of neither era need to care.
    let session = Session::open(client, &all).await;
    let echo = json!({"name": format!("{name}__echo"), "arguments": {"message": "hi"}});
    let hi = |answer: &Answer| assert_eq!(answer.result()["content"][0]["text"], "Echo: hi", "{answer:?}");
    hi(&session.call("tools/call", echo.clone()).await);
    assert_eq!(product.call(Method::POST, &format!("/containers/{name}/restart")).await.0, 200);
    hi(&stateless(client, &all, "tools/call", echo.clone()).await);
    hi(&session.call("tools/call", echo).await);
    product.finish().await;
}

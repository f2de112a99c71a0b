//! Real servers of npm and `PyPI`, each made of its package's name by the product and driven end to end by other people's
//! clients of both eras: the Python SDK, both TypeScript SDKs, the Inspector.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bridged::{Bridged, conformance_server};
use crate::support::clients::drive;
use crate::support::command::User;
use crate::support::machine::{Part, offered};
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
    // One after the other: each is several programs that start up, and their clients are impatient.
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    if offered(Part::Podman).is_none() || offered(Part::Hub).is_none() {
        return;
    }
    let Some(clients) = offered(Part::Clients) else { return };
    let _one = ONE.lock().await;
    let product = Product::start(Options::podman().alone().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "host")).await;
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

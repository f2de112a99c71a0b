//! Sessions at the manager's own endpoints, which end with the manager: what clients are told afterwards, and what is told
//! about ids that nobody was given. Clients of the era without sessions notice nothing of either.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::Stdio;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::machine::{Part, offered};
use crate::support::mcp::{STATELESS_VERSION, Session, stateless};
use crate::support::product::{Options, Product};

/// An address where no other test takes the port while the manager is away.
const ADDRESS: &str = "127.0.77.1:0";
const PATHS: [&str; 3] = ["/mcp", "/mcp/all", "/mcp/g/some"];

fn options() -> Options {
    Options { listen: ADDRESS.to_owned(), ..Options::memory() }.with("MCP_MANAGER_AGGREGATE_GROUPS", "some=echo")
}

/// What each way of using a session is answered: a request, a notification, the stream, the end.
async fn answers(client: &Client, url: &str, id: &str) -> [u16; 4] {
    let send = async |method: Method, body: Option<Value>| {
        let request = client.request(method, url).timeout(PATIENCE);
        let request = request.header("accept", "application/json, text/event-stream").header("mcp-session-id", id);
        let request = request.header("mcp-protocol-version", "2025-11-25");
        let request = if let Some(body) = body { request.json(&body) } else { request };
        request.send().await.unwrap().status().as_u16()
    };
    [
        send(Method::POST, Some(json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {}}))).await,
        send(Method::POST, Some(json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}))).await,
        send(Method::GET, None).await,
        send(Method::DELETE, None).await,
    ]
}

/// A request of the era without sessions that names one nonetheless.
async fn stateless_beside(client: &Client, url: &str, id: &str) -> u16 {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS_VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    let request = client.post(url).timeout(PATIENCE).header("accept", "application/json, text/event-stream").json(&body);
    let request = request.header("mcp-protocol-version", STATELESS_VERSION).header("mcp-method", "tools/list");
    request.header("mcp-session-id", id).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_manager_clients_are_told_to_begin_anew_and_can() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key").display().to_string();
    // With the key of its predecessor a manager takes its ids for its own; without it they are nobody's.
    for options in [options().with("MCP_MANAGER_PEERS_KEY_FILE", key), options()] {
        let product = Product::start(options).await;
        let mut sessions = Vec::new();
        for path in PATHS {
            let url = format!("{}{path}", product.url);
            let session = Session::open(&product.client, &url).await;
            assert_eq!(session.call("tools/list", json!({})).await.status, 200, "{path}");
            sessions.push((url, session));
        }
        let product = product.kill_and_restart_in_place().await;
        for (url, session) in &sessions {
            assert_eq!(answers(&product.client, url, &session.id).await, [404; 4], "{url}\n{}", product.log());
            assert_eq!(stateless(&product.client, url, "tools/list", json!({})).await.status, 200, "{url}");
            assert_eq!(stateless_beside(&product.client, url, &session.id).await, 200, "{url}");
            let again = Session::open(&product.client, url).await;
            assert_ne!(again.id, session.id);
            assert_eq!(again.call("tools/list", json!({})).await.status, 200, "{url}");
            assert!(again.close().await < 300);
            assert_eq!(again.close().await, 404, "{url}: it ends once");
        }
        product.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_nobody_was_given_are_404_at_once_and_lead_nowhere() {
    let product = Product::start(options()).await;
    // Whoever could have an id taken for a session of this address would make the manager send requests there.
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    let mut sessions = Vec::new();
    for path in PATHS {
        let url = format!("{}{path}", product.url);
        let session = Session::open(&product.client, &url).await;
        sessions.push((url, session));
    }
    for (url, session) in &sessions {
        let [version, owner, name, mac]: [&str; 4] = session.id.split('.').collect::<Vec<_>>().try_into().unwrap();
        let last = if mac.ends_with('0') { "1" } else { "0" };
        let mut forged = vec![
            String::new(),
            "made-up".to_owned(),
            "v1...".to_owned(),
            "x".repeat(4000),
            name.to_owned(),
            format!("{version}.{owner}.{name}"),
            format!("{version}.{owner}.{name}.{}{last}", &mac[..mac.len() - 1]),
            format!("{version}.127-0-0-1-{port}.{name}.{mac}"),
            format!("{version}.{owner}.00000000000000000000000000000000.{mac}"),
        ];
        // An id of another endpoint is as good as none.
        forged.extend(sessions.iter().filter(|(other, _)| other != url).map(|(_, other)| other.id.clone()));
        for id in forged {
            assert_eq!(answers(&product.client, url, &id).await, [404; 4], "{url} {id}");
            assert_eq!(stateless_beside(&product.client, url, &id).await, 200, "{url} {id}");
        }
    }
    for (url, session) in &sessions {
        assert_eq!(session.call("tools/list", json!({})).await.status, 200, "{url}: it is still there");
    }
    product.finish().await;
    let visit = elsewhere.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(visit, Err(ErrorKind::WouldBlock), "the manager went where a forged id leads");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_clients_go_on_after_a_restart_of_the_manager() {
    let Some(clients) = offered(Part::Clients) else { return };
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");
    let python = vec![format!("{clients}/python/bin/python"), format!("{scripts}/restart.py")];
    let node = vec![format!("{clients}/node"), format!("{scripts}/restart.mjs"), format!("{clients}/node_modules")];
    let mut product = Product::start(options()).await;
    let url = format!("{}/mcp", product.url);
    for (name, program, mode, has_session) in [
        ("Python SDK, earlier era", &python, "legacy", true),
        ("Python SDK, era without sessions", &python, STATELESS_VERSION, false),
        ("TypeScript SDK 1", &node, "sdk", true),
        ("TypeScript SDK 2", &node, "client", true),
    ] {
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).args([mode, &url]).env("NO_PROXY", "*").kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = async || {
            let line = timeout(PATIENCE, lines.next_line()).await.unwrap_or_else(|_| panic!("{name} says nothing"));
            let line = line.unwrap().unwrap_or_else(|| panic!("{name} ended"));
            serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("{name}: {line}"))
        };
        let tools = next().await["tools"].clone();
        assert_eq!(tools, mcp_manager::tools::TOOLS.len(), "{name}");
        product = product.kill_and_restart_in_place().await;
        child.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
        let told = next().await;
        // What the old session could not do any more is told at once, and nothing else is in the way.
        assert_eq!(told["refused"].is_string(), has_session, "{name}: {told:#}");
        assert_eq!(
            (&told["tools"], &told["anew"]),
            (if has_session { &Value::Null } else { &tools }, &tools),
            "{name}: {told:#}"
        );
        timeout(PATIENCE, child.wait()).await.unwrap_or_else(|_| panic!("{name} does not end")).unwrap();
    }
    product.finish().await;
}

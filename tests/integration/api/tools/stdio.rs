//! `mcp-manager mcp`, `mcp-tools` and `mcp-call`: MCP on the command line.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::command::User;
use crate::support::podman;
use crate::support::product::{Options, Product};

/// The program as a client starts it.
struct Server {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start(user: &User) -> Self {
        let mut child = user.command("mcp").stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, output }
    }

    async fn send(&mut self, message: Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.output.next_line()).await.expect("it answers").unwrap().expect("it goes on");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The answer to a request; what comes before it is left out.
    async fn ask(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        loop {
            let message = self.next().await;
            if message["id"] == id {
                return message;
            }
        }
    }

    async fn handshake(&mut self) {
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let answer = self.ask(0, "initialize", hello).await;
        assert_eq!(answer["result"]["serverInfo"]["name"], "mcp-manager", "{answer}");
        self.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    }

    /// Closes its input; it must end by itself and well.
    async fn end(mut self) {
        drop(self.input);
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends with its client").unwrap();
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn a_client_that_starts_programs_gets_the_same_tools_and_answers() {
    let product = Product::start(Options::memory()).await;
    let mut server = Server::start(&User::of_product(&product));
    server.handshake().await;
    let listed = server.ask(1, "tools/list", json!({})).await;
    assert_eq!(listed["result"]["tools"], product.get("/tools").await.1["tools"]);
    let create = json!({"name": "container_create", "arguments": {"service_name": "echo", "template": "echo"}, "_meta": {"progressToken": 5}});
    server.send(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": create})).await;
    let mut reports = 0;
    let answer = loop {
        let message = server.next().await;
        if message["id"] == 2 {
            break message;
        }
        assert_eq!(
            (message["method"].as_str(), &message["params"]["progressToken"]),
            (Some("notifications/progress"), &json!(5))
        );
        reports += 1;
    };
    assert!(reports > 0, "progress is told over this way, too");
    assert_eq!(answer["result"]["structuredContent"]["status"], "running", "{answer}");
    let wrong = json!({"service_name": "x", "imge": "y"});
    let refused = server.ask(3, "tools/call", json!({"name": "container_create", "arguments": wrong})).await;
    assert_eq!(refused["result"]["structuredContent"], product.post("/containers", &wrong).await.1);
    assert_eq!(server.ask(4, "tools/call", json!({"name": "../containers", "arguments": {}})).await["error"]["code"], -32602);
    for (method, params, code) in [
        ("tools/call", json!({"name": 5}), -32602),
        ("tools/call", json!({"name": "container_list", "arguments": "x"}), -32602),
        ("tools/list", json!({"cursor": "zzz"}), -32602),
        ("no/such", json!({"name": 5}), -32601),
    ] {
        assert_eq!(server.ask(5, method, params.clone()).await["error"]["code"], code, "{method} {params}");
    }
    server.end().await;
    product.finish().await;
}

#[tokio::test]
async fn the_era_without_handshakes_is_spoken_over_standard_input_too() {
    let product = Product::start(Options::memory()).await;
    let mut server = Server::start(&User::of_product(&product));
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}, "io.modelcontextprotocol/clientCapabilities": {}});
    let found = server.ask(1, "server/discover", json!({"_meta": meta})).await;
    assert!(found["result"]["supportedVersions"].to_string().contains("2026-07-28"), "{found}");
    let answer = server.ask(2, "tools/call", json!({"name": "system_health", "arguments": {}, "_meta": meta})).await;
    assert_eq!(
        (&answer["result"]["structuredContent"]["ready"], &answer["result"]["resultType"]),
        (&json!(true), &json!("complete"))
    );
    server.end().await;
    product.finish().await;
}

#[tokio::test]
async fn a_manager_that_does_not_answer_costs_a_call_and_is_said_exactly() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let url = product.url.clone();
    let mut server = Server::start(&user);
    server.handshake().await;
    assert_eq!(server.ask(1, "tools/call", json!({"name": "container_list"})).await["result"]["isError"], false);
    let (status, _) = product.terminate().await;
    assert!(status.success());
    let answer = server.ask(2, "tools/call", json!({"name": "container_list"})).await;
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert_eq!(
        text,
        format!("no manager answers at {url}; start it with 'mcp-manager serve', or name another one with --server")
    );
    assert_eq!(answer["result"]["isError"], true);
    let listed = server.ask(3, "tools/list", json!({})).await;
    assert_eq!(
        listed["result"]["tools"].as_array().unwrap().len(),
        mcp_manager::tools::TOOLS.len(),
        "a client that asks once finds them"
    );
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_tried_from_the_shell_in_either_era() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    product.create_echo("echo", json!({})).await;
    let user = User::of_product(&product);
    for era in ["auto", "new", "old"] {
        let tools = user.document(&format!("mcp-tools echo --era {era} --json")).await;
        assert!(tools.as_array().unwrap().iter().any(|tool| tool["name"] == "echo"), "{era}: {tools}");
        let result = user.document(&format!("mcp-call echo echo '{{\"message\": \"hé\"}}' --era {era} --json")).await;
        assert!(result["content"][0]["text"].as_str().unwrap().contains("hé"), "{era}: {result}");
    }
    let table = user.done("mcp-tools echo --output table").await;
    assert!(table.contains("TOOL") && table.contains("message"), "{table}");
    let text = user.done("mcp-call echo echo '{\"message\": \"plain\"}' --output table").await;
    assert_eq!(text.trim(), "plain");
    let unknown = user.run("mcp-call echo no-such-tool").await;
    assert_ne!(unknown.code, 0, "{unknown:#?}");
    let wrong = user.run("mcp-call echo echo '[1]'").await;
    assert_eq!(wrong.code, 2, "{wrong:#?}");
    let nobody = user.run("mcp-tools nobody").await;
    assert_eq!(nobody.code, 3, "{nobody:#?}");
    user.done("stop echo").await;
    let stopped = user.run("mcp-tools echo").await;
    assert!(stopped.code == 4 && stopped.stderr.contains("mcp-manager start echo"), "{stopped:#?}");
    // The manager itself is an MCP server, too.
    let own = user.document(&format!("mcp-call {}/mcp system_health --json", product.url)).await;
    assert_eq!(own["structuredContent"]["status"], "healthy");
    product.finish().await;
}

#[tokio::test]
async fn a_service_is_asked_where_its_label_says_that_it_speaks_mcp() {
    let product = Product::start(Options::memory()).await;
    product.create_echo("echo", json!({"labels": {"mcp.path": "/other"}})).await;
    product.create_echo("mute", json!({"labels": {"mcp.path": "false"}})).await;
    let user = User::of_product(&product);
    // Nothing answers here; where it was asked is said.
    for (command, says) in [
        ("mcp-tools echo", "/other opens no session"),
        ("mcp-call echo x", "/other opens no session"),
        ("mcp-tools echo --path /mine", "/mine opens no session"),
        ("mcp-tools mute", "'mute' speaks no MCP"),
    ] {
        let ran = user.run(command).await;
        assert!(ran.code != 0 && ran.stderr.contains(says), "{command}: {ran:#?}");
    }
    product.finish().await;
}

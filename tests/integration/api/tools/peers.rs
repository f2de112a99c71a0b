//! Clients that others wrote, and MCP's conformance suite, against the manager's own MCP server.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::conformance::assert_conforms_except;
use crate::support::machine::{Part, offered};
use crate::support::product::{Options, Product};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

/// Scenarios of the suite that the manager's own endpoint cannot be judged by, with the reason. What they are about is
/// shown by the bridge and by the endpoints over services, which pass all of them with a server that has these things.
const EXCEPTIONS: &[(&str, &[&str])] = &[
    (
        "they call tools of the suite's own (test_simple_text, …), and the manager has its own tools only",
        &[
            "tools-call-simple-text",
            "tools-call-image",
            "tools-call-audio",
            "tools-call-embedded-resource",
            "tools-call-mixed-content",
            "tools-call-with-logging",
            "tools-call-error",
            "tools-call-with-progress",
            "tools-call-sampling",
            "tools-call-elicitation",
            "elicitation-sep1034-defaults",
            "elicitation-sep1330-enums",
            "input-required-result-basic-elicitation",
            "input-required-result-basic-sampling",
            "input-required-result-basic-list-roots",
            "input-required-result-request-state",
            "input-required-result-multiple-input-requests",
            "input-required-result-multi-round",
            "input-required-result-result-type",
            "input-required-result-tampered-state",
            "input-required-result-capability-check",
        ],
    ),
    (
        "four of its 25 checks call the suite's diagnostic tools, and say that they cannot be made; the others pass",
        &["server-stateless"],
    ),
    (
        "the manager has no resources",
        &[
            "resources-list",
            "resources-read-text",
            "resources-read-binary",
            "resources-templates-read",
            "resources-subscribe",
            "resources-unsubscribe",
        ],
    ),
    (
        "the manager has no prompts",
        &[
            "prompts-list",
            "prompts-get-simple",
            "prompts-get-with-args",
            "prompts-get-embedded-resource",
            "prompts-get-with-image",
            "input-required-result-non-tool-request",
        ],
    ),
    ("three of its seven checks list prompts and resources; the others pass", &["caching"]),
    ("the manager sends its log to no client, and declares no logging", &["logging-set-level"]),
];

/// Runs a program that prints one document.
async fn document(program: &str, arguments: &[&str]) -> Value {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = timeout(Duration::from_mins(1), output).await.expect("it ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .unwrap_or_else(|_| panic!("{program} {arguments:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_finds_nothing_wrong_in_either_era_over_either_way() {
    let Some(clients) = offered(Part::Clients) else { return };
    let product = Product::start(Options::memory().with("MCP_MANAGER_MCP_CONFIRM", "container_remove")).await;
    let (python, script) = (format!("{clients}/python/bin/python"), format!("{SCRIPTS}/tools.py"));
    let (url, program) = (format!("{}/mcp", product.url), env!("CARGO_BIN_EXE_mcp-manager"));
    for mode in ["legacy", "2026-07-28"] {
        for way in [vec![url.as_str()], vec!["stdio", program, &product.url]] {
            let arguments: Vec<&str> = [vec![script.as_str()], way, vec![mode]].concat();
            let told = document(&python, &arguments).await;
            assert_eq!(told["tools"].as_array().unwrap().len(), mcp_manager::tools::TOOLS.len(), "{told:#}");
            assert_eq!(told["created"], "running", "{told:#}");
            assert!(told["progress"].as_u64().unwrap() > 0, "{told:#}");
            assert_eq!((&told["again"]["error"], &told["again"]["problem"]["status"]), (&json!(true), &json!(409)), "{told:#}");
            assert!(told["again"]["text"].as_str().unwrap().contains(told["again"]["problem"]["detail"].as_str().unwrap()));
            assert_eq!((&told["removed"]["removed"], &told["asked"]), (&json!(true), &json!(1)), "{told:#}");
        }
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_clients_find_nothing_wrong() {
    let Some(clients) = offered(Part::Clients) else { return };
    let product = Product::start(Options::memory()).await;
    for package in ["sdk", "client"] {
        let url = format!("{}/mcp", product.url);
        let arguments = [&format!("{SCRIPTS}/tools.mjs"), &format!("{clients}/node_modules"), package, &url];
        let told = document(&format!("{clients}/node"), &arguments).await;
        assert_eq!((&told["tools"], &told["created"]), (&json!(mcp_manager::tools::TOOLS.len()), &json!("running")), "{told:#}");
        assert_eq!((&told["again"]["error"], &told["again"]["problem"]["status"]), (&json!(true), &json!(409)), "{told:#}");
        let results = told["results"].as_object().unwrap();
        assert!(results.len() > 10 && results.values().all(|failed| failed == false), "{told:#}");
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inspector_lists_and_calls_tools() {
    let Some(clients) = offered(Part::Clients) else { return };
    let product = Product::start(Options::memory()).await;
    let inspect = async |arguments: &[&str]| {
        let url = format!("{}/mcp", product.url);
        let program = format!("{clients}/node_modules/.bin/mcp-inspector");
        let mut command = Command::new(format!("{clients}/node"));
        command.args([program.as_str(), "--cli", &url, "--transport", "http"]).args(arguments).kill_on_drop(true);
        let output = timeout(Duration::from_mins(1), command.output()).await.expect("it ends").unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str::<Value>(&text).unwrap_or_else(|_| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))
    };
    let listed = inspect(&["--method", "tools/list"]).await;
    assert_eq!(listed["tools"].as_array().unwrap().len(), mcp_manager::tools::TOOLS.len());
    let called = inspect(&["--method", "tools/call", "--tool-name", "system_health"]).await;
    assert_eq!(called["structuredContent"]["status"], "healthy", "{called:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_conformance_suite_passes_where_it_applies() {
    let Some(suite) = offered(Part::Conformance) else { return };
    let product = Product::start(Options::memory()).await;
    assert_conforms_except(&suite, &format!("{}/mcp", product.url), EXCEPTIONS).await;
    product.finish().await;
}

//! Other people's clients as programs: those of MCP (`tests/clients/`), which drive a server and say what went wrong, and
//! Python's httpx.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

/// How long one client may take for all its calls.
const PATIENCE: Duration = Duration::from_mins(2);

/// Drives the server at `url` with every client in each era that it speaks. `calls` is a list of
/// `{"tool", "arguments", "expect", "progress"}`; the text of each answer contains `expect`. Gives what went wrong.
pub async fn drive(clients: &str, url: &str, calls: &Value) -> Vec<String> {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
    let python = [format!("{clients}/python/bin/python"), format!("{sources}/drive.py")];
    let node = [format!("{clients}/node"), format!("{sources}/drive.mjs")];
    let inspector = [format!("{clients}/node"), format!("{clients}/node_modules/.bin/mcp-inspector")];
    let list = calls.to_string();
    let mut wrong = Vec::new();
    for (name, program, arguments) in [
        ("Python SDK, older era", &python, vec![url, "old", &list]),
        ("Python SDK, newer era", &python, vec![url, "new", &list]),
        ("TypeScript SDK 1", &node, vec![url, "old", &list, "1"]),
        ("TypeScript SDK 2, older era", &node, vec![url, "old", &list, "2"]),
        ("TypeScript SDK 2, newer era", &node, vec![url, "new", &list, "2"]),
    ] {
        if let Err(said) = run(clients, program, &arguments).await {
            wrong.push(format!("{name}: {said}"));
        }
    }
    // The Inspector makes one call a run.
    let call = &calls[0];
    let arguments = call["arguments"].to_string();
    let tool = call["tool"].as_str().unwrap();
    for era in ["legacy", "modern"] {
        let mut words = vec!["--cli", url, "--transport", "http", "--protocol-era", era];
        words.extend(["--method", "tools/call", "--tool-name", tool, "--tool-args-json", &arguments]);
        match run(clients, &inspector, &words).await {
            Ok(said) if said.contains(call["expect"].as_str().unwrap()) => {}
            Ok(said) | Err(said) => wrong.push(format!("Inspector, {era}: {said}")),
        }
    }
    wrong
}

/// What this Python printed, where httpx is to be had, or what it said as it failed.
pub async fn python(clients: &str, source: &str) -> Result<String, String> {
    run(clients, &[format!("{clients}/python/bin/python"), "-c".to_owned()], &[source]).await
}

/// What the program printed, or what it said as it failed.
async fn run(clients: &str, program: &[String; 2], arguments: &[&str]) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(&program[0]);
    command
        .arg(&program[1])
        .args(arguments)
        .env("CLIENTS", clients)
        .env("HOME", home.path())
        .current_dir(home.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let Ok(output) = timeout(PATIENCE, command.output()).await else { return Err("it never ended".to_owned()) };
    let output = output.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(printed) } else { Err(format!("{printed}{}", String::from_utf8_lossy(&output.stderr))) }
}

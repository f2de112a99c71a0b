//! The protocol's own conformance suite through the bridge, with `examples/conformance-server` behind it. That server
//! by itself passes everything as well, which tells a fault of the bridge from one of the server.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::bridged::{Bridged, conformance_server};
use crate::support::clients::drive;
use crate::support::conformance::{assert_conforms, run};
use crate::support::machine::{Part, offered};
use crate::support::mcp::stateless;
use crate::support::podman::{self, podman};
use crate::support::product::{Options, Product};
use crate::support::{eventually, http_client};

#[tokio::test]
async fn the_example_server_conforms_by_itself() {
    let Some(suite) = offered(Part::Conformance) else { return };
    let mut server = Command::new(conformance_server())
        .args(["--http", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let line = BufReader::new(server.stderr.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    assert_conforms(&suite, line.strip_prefix("listening on ").unwrap()).await;
}

#[tokio::test]
async fn a_stdio_server_conforms_through_the_bridge() {
    let Some(suite) = offered(Part::Conformance) else { return };
    let bridged = Bridged::on_host(&conformance_server()).await;
    assert_conforms(&suite, &bridged.url).await;
    bridged.finish().await;
}

#[tokio::test]
async fn a_server_that_speaks_the_earlier_eras_only_serves_clients_of_the_newer_one() {
    let Some(suite) = offered(Part::Conformance) else { return };
    let bridged = Bridged::before(&["--era", "legacy"], &[conformance_server().to_str().unwrap()]).await;
    let outcome = run(&suite, &bridged.url, "2026-07-28").await;
    // It wants a question to have the name that the server has for it, which no earlier revision can say.
    let lost: Vec<_> = outcome.failed.keys().map(String::as_str).collect();
    assert_eq!(lost, ["input-required-result-basic-elicitation"], "{:#?}", outcome.failed);
    assert_eq!(outcome.passed.len(), 36, "{outcome:?}");
    bridged.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stdio_server_in_a_rootless_container_conforms_through_the_bridge() {
    let (Some(_), Some(suite)) = (offered(Part::Podman), offered(Part::Conformance)) else { return };
    let _turn = podman::turn(podman::Sharing::All).await;
    let image = format!("localhost/{}:latest", podman::unique("conformance"));
    build(&image, &conformance_server()).await;
    let bridged = Bridged::in_container(&image, &["--user", "1234:1234"]).await;
    assert_conforms(&suite, &bridged.url).await;
    drop(bridged);
    podman(&["rmi", "--force", &image]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_made_by_a_request_conforms_through_the_gateway_by_itself_and_among_others() {
    let Some(suite) = offered(Part::Conformance) else { return };
    if !podman::ready().await {
        return;
    }
    // The suite calls things by their own names, which the endpoints over many services give them by configuration.
    let bridged = Bridged::on_host(&conformance_server()).await;
    let names = names(&bridged.url).await;
    bridged.finish().await;
    let own: Vec<String> = names.iter().map(|name| format!("conformance__{name}={name}")).collect();
    let options = Options::podman().with("MCP_MANAGER_AGGREGATE_RENAMED", own.join(","));
    let product = Product::start(options.with("MCP_MANAGER_AGGREGATE_GROUPS", "some=conf*").with_secrets()).await;
    let image = serve(&product, "conformance").await;
    product.create_echo("echo", json!({})).await;
    assert_conforms(&suite, &format!("{}/mcp/s/conformance", product.url)).await;
    assert_conforms(&suite, &format!("{}/mcp/all", product.url)).await;
    assert_conforms(&suite, &format!("{}/mcp/g/some", product.url)).await;
    product.finish().await;
    podman(&["rmi", "--force", &image]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_gets_on_with_a_server_that_asks_questions_among_others() {
    let Some(clients) = offered(Part::Clients) else { return };
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with("MCP_MANAGER_AGGREGATE_GROUPS", "some=asks+echo").with_secrets()).await;
    let image = serve(&product, "asks").await;
    product.create_echo("echo", json!({})).await;
    let calls = json!([
        {"tool": "asks__echo", "arguments": {"message": "hi 🦜"}, "expect": "hi 🦜"},
        {"tool": "asks__test_elicitation", "arguments": {"message": "Who are you?"}, "expect": "accept"},
        {"tool": "echo__echo", "arguments": {"message": "in between"}, "expect": "in between"},
        {"tool": "asks__test_sampling", "arguments": {"prompt": "Say something"}, "expect": "sampled"},
        {"tool": "asks__test_tool_with_progress", "arguments": {}, "expect": "progress", "progress": true},
    ]);
    for path in ["/mcp/all", "/mcp/g/some"] {
        assert_eq!(drive(&clients, &format!("{}{path}", product.url), &calls).await, Vec::<String>::new(), "{path}");
    }
    product.finish().await;
    podman(&["rmi", "--force", &image]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_takes_long_keeps_no_other_list_of_its_service_from_being_shown() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with_secrets()).await;
    // Longer than the manager waits for what it asks on its own.
    let image = serve_with(&product, "slow", &["--late-resources", "12"]).await;
    let all = format!("{}/mcp/all", product.url);
    let names = async |method: &str, member: &str| {
        let answer = stateless(&product.client, &all, method, json!({})).await;
        answer.result()[member].as_array().unwrap().len()
    };
    eventually("its tools are there", async || names("tools/list", "tools").await > 0).await;
    assert!(names("prompts/list", "prompts").await > 0);
    assert!(names("resources/templates/list", "resourceTemplates").await > 0);
    assert_eq!(names("resources/list", "resources").await, 0, "they cannot be known yet");
    eventually("its resources are there", async || names("resources/list", "resources").await > 0).await;
    product.finish().await;
    podman(&["rmi", "--force", &image]).await;
}

/// Makes an image of the conformance server, and a service of it; gives the image's name.
async fn serve(product: &Product, name: &str) -> String {
    serve_with(product, name, &[]).await
}

async fn serve_with(product: &Product, name: &str, args: &[&str]) -> String {
    let image = format!("localhost/{}:latest", podman::unique(name));
    build(&image, &conformance_server()).await;
    let body = json!({"service_name": name, "image": image, "pull_policy": "never", "transport": "stdio", "args": args});
    let (status, answer) = product.post("/containers", &body).await;
    assert_eq!((status, answer["status"].as_str()), (201, Some("running")), "{answer:#}\n{}", product.log());
    image
}

/// Names of the tools and prompts of a server.
async fn names(url: &str) -> BTreeSet<String> {
    let client = http_client().build().unwrap();
    let mut names = BTreeSet::new();
    for (method, member) in [("tools/list", "tools"), ("prompts/list", "prompts")] {
        let answer = stateless(&client, url, method, json!({})).await;
        let items = answer.result()[member].as_array().unwrap().iter();
        names.extend(items.map(|item| item["name"].as_str().unwrap().to_owned()));
    }
    names
}

/// An image with nothing in it but the server.
async fn build(image: &str, server: &Path) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(server, folder.path().join("conformance-server")).unwrap();
    let recipe = "FROM scratch\nCOPY conformance-server /\nENTRYPOINT [\"/conformance-server\"]\n";
    std::fs::write(folder.path().join("Containerfile"), recipe).unwrap();
    podman(&["build", "--quiet", "--tag", image, &folder.path().display().to_string()]).await;
}

//! The protocol's own conformance suite through the bridge, with `examples/conformance-server` behind it. That server
//! by itself passes everything as well, which tells a fault of the bridge from one of the server.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::bridged::{Bridged, conformance_server};
use crate::support::conformance::run;
use crate::support::machine::{Part, offered};
use crate::support::podman::{self, podman};
use crate::support::product::{Options, Product};

/// How many scenarios each revision requires of a server.
const REQUIRED: [(&str, usize); 2] = [("2025-11-25", 30), ("2026-07-28", 37)];

/// Runs both revisions' scenarios, one after the other and then the first again: a client of one era must not spoil the
/// server for the other.
async fn assert_conforms(suite: &str, url: &str) {
    for (revision, required) in [REQUIRED[0], REQUIRED[1], REQUIRED[0]] {
        let outcome = run(suite, url, revision).await;
        let failed = outcome.failed;
        assert!(failed.is_empty(), "{revision}: {} of {required} scenarios failed:\n{}", failed.len(), failed.join("\n"));
        assert_eq!(outcome.passed.len(), required, "{revision}: {:?}", outcome.passed);
    }
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_stdio_server_in_a_rootless_container_conforms_through_the_bridge() {
    let (Some(_), Some(suite)) = (offered(Part::Podman), offered(Part::Conformance)) else { return };
    let _turn = podman::turn(false).await;
    let image = format!("localhost/{}:latest", podman::unique("conformance"));
    build(&image, &conformance_server()).await;
    let bridged = Bridged::in_container(&image, &["--user", "1234:1234"]).await;
    assert_conforms(&suite, &bridged.url).await;
    drop(bridged);
    podman(&["rmi", "--force", &image]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_made_by_a_request_conforms_through_the_gateway() {
    let (Some(_), Some(suite)) = (offered(Part::Podman), offered(Part::Conformance)) else { return };
    // Alone: see the sessions' key in the tests of servers that speak stdio.
    let product = Product::start(Options::podman().alone()).await;
    let image = format!("localhost/{}:latest", podman::unique("conformance"));
    build(&image, &conformance_server()).await;
    let body = json!({"service_name": "conformance", "image": image, "pull_policy": "never", "transport": "stdio"});
    let (status, answer) = product.post("/containers", &body).await;
    assert_eq!((status, answer["status"].as_str()), (201, Some("running")), "{answer:#}\n{}", product.log());
    assert_conforms(&suite, &format!("{}/mcp/s/conformance", product.url)).await;
    product.finish().await;
    podman(&["rmi", "--force", &image]).await;
}

/// An image with nothing in it but the server.
async fn build(image: &str, server: &Path) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(server, folder.path().join("conformance-server")).unwrap();
    let recipe = "FROM scratch\nCOPY conformance-server /\nENTRYPOINT [\"/conformance-server\"]\n";
    std::fs::write(folder.path().join("Containerfile"), recipe).unwrap();
    podman(&["build", "--quiet", "--tag", image, &folder.path().display().to_string()]).await;
}

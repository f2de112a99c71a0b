//! The user's own engine, which the manager found running.

use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;

use crate::support::product::{Options, Product, signal};
use crate::support::{eventually, podman, processes, stretched};

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_the_manager_found_is_replaced_when_it_is_gone_and_is_left_alone_until_then() {
    if !podman::ready().await {
        return;
    }
    // A runtime directory of the manager's own, in which the user's engine is; the engine itself has the real one.
    let runtime = tempfile::tempdir().unwrap();
    let socket = runtime.path().join("podman/podman.sock");
    std::fs::create_dir(socket.parent().unwrap()).unwrap();
    let wrapper = runtime.path().join("podman-here");
    let real = std::env::var("XDG_RUNTIME_DIR").unwrap();
    std::fs::write(&wrapper, format!("#!/bin/sh\nXDG_RUNTIME_DIR={real} exec podman \"$@\"\n")).unwrap();
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let address = format!("unix://{}", socket.display());
    let mut engine = tokio::process::Command::new(&wrapper);
    let mut child = engine.args(["system", "service", "--time=0", &address]).kill_on_drop(true).spawn().unwrap();
    eventually("the user's engine listens", async || tokio::net::UnixStream::connect(&socket).await.is_ok()).await;

    let engines = || processes(&address, "system service");
    let theirs = engines();

    let options = Options::podman()
        .with("XDG_RUNTIME_DIR", runtime.path().display().to_string())
        .with("MCP_MANAGER_BACKEND_PODMAN", wrapper.display().to_string());
    let product = Product::start(options).await;
    let before = product.create_echo("echo", json!({})).await;
    assert_eq!(engines(), theirs, "one engine is enough");

    for engine in theirs {
        signal(engine, Signal::KILL);
    }
    child.wait().await.unwrap();
    let began = Instant::now();
    eventually("another engine is there", async || !engines().is_empty()).await;
    eventually("the engine is back", async || product.get("/ready").await.0 == 200).await;
    let took = began.elapsed();
    assert!(took < stretched(Duration::from_secs(5)).await, "{took:?}\n{}", product.log());
    let after = product.until("echo", "it runs", |service| service["status"] == "running").await;
    assert_eq!(after["instances"][0]["id"], before["instances"][0]["id"]);
    product.finish().await;
    assert!(engines().is_empty(), "what the manager started it has ended");
}

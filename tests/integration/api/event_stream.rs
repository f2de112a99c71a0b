//! Podman's stream of events, which ends now and then while Podman is alive and well.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::support::podman::{self, podman as run};
use crate::support::product::{Options, Product};

/// Podman cuts its file of events at 1 MB; its lines carry the labels of containers.
const LARGE: usize = 100_000;
/// So many containers with such a label have the file cut more than once: each is in several events.
const MANY: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_cuts_its_events_short_is_not_lost() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let label = format!("filler={}", "x".repeat(LARGE));
    let container = podman::unique("events");
    // Podman 4.3 ends the stream when it cuts the file; 5.4 goes on with the new one, and a journal is never cut.
    let engine = run(&["info", "--format", "{{.Host.EventLogger}} {{.Version.Version}}"]).await;
    let ends = engine.starts_with("file 4.");
    let cut = |log: &str| log.contains("the engine ended the stream of events");
    let deadline = Instant::now() + Duration::from_secs(90);
    let mut rounds = 0;
    while !(cut(&product.log()) || !ends && rounds == MANY) {
        assert!(Instant::now() < deadline, "the stream never ended: {}", product.log());
        run(&["create", "--pull", "never", "--name", &container, "--label", &label, podman::ECHO_IMAGE]).await;
        run(&["rm", &container]).await;
        assert_eq!(product.get("/ready").await.0, 200);
        rounds += 1;
    }
    // What happens afterwards is heard of all the same.
    let service = product.create_echo("echo", json!({})).await;
    run(&["kill", service["instances"][0]["id"].as_str().unwrap()]).await;
    product.until("echo", "its end was seen", |service| service["instances"][0]["restarts"] == 1).await;
    assert!(!product.log().contains("no connection to the container engine"), "{}", product.log());
    assert_eq!(product.call(Method::DELETE, "/containers/echo").await.0, 204);
    product.finish().await;
}

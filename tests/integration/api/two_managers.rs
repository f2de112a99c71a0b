//! Two managers of one installation, over the same rootless Podman: what one does while the other does not look.

use std::time::Duration;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use crate::support::mcp::Session;
use crate::support::podman::{self, owned_by};
use crate::support::product::{Options, Product, signal, stand_still};
use crate::support::{eventually, http_client};

async fn deleted(product: &Product, name: &str) -> bool {
    product.get(&format!("/containers/{name}")).await.0 == 404
}

/// A manager that compares everything often, so that what it gets wrong shows soon.
fn options() -> Options {
    Options::podman().with("MCP_MANAGER_BACKEND_RECONCILE_INTERVAL", "1s")
}

/// Nothing of the service is left, and nothing comes back with the comparisons of the next seconds.
async fn is_gone_for_good(one: &Product, other: &Product) {
    let instance = &one.options.instance;
    eventually("the one that slept knows", async || deleted(other, "echo").await).await;
    eventually("nothing is left", async || owned_by(instance).await.is_empty()).await;
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < until {
        assert!(deleted(one, "echo").await && deleted(other, "echo").await, "{}\n----\n{}", one.log(), other.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(owned_by(instance).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_slept_through_a_deletion_does_not_bring_the_service_back() {
    if !podman::ready().await {
        return;
    }
    let one = Product::start(options()).await;
    let other = one.beside().await;
    one.create_echo("echo", json!({"replicas": 2})).await;
    other.until("echo", "it runs", |service| service["status"] == "running").await;
    stand_still(other.pid());
    assert_eq!(one.call(Method::DELETE, "/containers/echo").await.0, 204);
    signal(other.pid(), Signal::CONT);
    is_gone_for_good(&one, &other).await;
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_found_through_either_manager_that_of_a_replica_and_that_of_a_manager() {
    if !podman::ready().await {
        return;
    }
    let one = Product::start(options()).await;
    let other = one.beside().await;
    one.create_echo("echo", json!({"replicas": 3})).await;
    other.until("echo", "it has all replicas", |service| service["ready_replicas"] == 3).await;
    let by_name = http_client().resolve("echo.localhost", ([127, 0, 0, 1], 0).into()).build().unwrap();
    let url = |product: &Product| format!("http://echo.localhost:{}/mcp", product.port);
    for _ in 0..3 {
        let session = Session::open(&by_name, &url(&one)).await;
        let there = session.at(&by_name, &url(&other));
        for _ in 0..6 {
            assert_eq!(there.call("tools/list", json!({})).await.status, 200, "{}", other.log());
        }
    }
    let session = Session::open(&one.client, &format!("{}/mcp", one.url)).await;
    let there = session.at(&other.client, &format!("{}/mcp", other.url));
    assert_eq!(there.call("tools/list", json!({})).await.status, 200, "{}", other.log());
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_fell_asleep_over_a_creation_does_not_bring_the_service_back() {
    if !podman::ready().await {
        return;
    }
    let one = Product::start(options()).await;
    let other = one.beside().await;
    for milliseconds in [0, 10, 25, 50, 100, 150] {
        let body = json!({"service_name": "echo", "template": "echo"});
        assert_eq!(other.post("/containers?wait=none", &body).await.0, 202);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        stand_still(other.pid());
        one.until("echo", "it runs", |service| service["status"] == "running").await;
        let (status, answer) = one.call(Method::DELETE, "/containers/echo").await;
        assert_eq!(status, 204, "{answer}\n{}", one.log());
        signal(other.pid(), Signal::CONT);
        eventually("the one that slept knows", async || deleted(&other, "echo").await).await;
    }
    is_gone_for_good(&one, &other).await;
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_given_anew_while_a_manager_slept_is_the_new_service_to_it() {
    if !podman::ready().await {
        return;
    }
    let one = Product::start(options()).await;
    let other = one.beside().await;
    one.create_echo("echo", json!({})).await;
    assert_eq!(one.send(Method::PATCH, "/containers/echo", &json!({"replicas": 2})).await.0, 200);
    other.until("echo", "both run", |service| service["status"] == "running" && service["instances"][1].is_object()).await;
    stand_still(other.pid());
    assert_eq!(one.call(Method::DELETE, "/containers/echo").await.0, 204);
    let anew = one.create_echo("echo", json!({"environment": {"WHICH": "second"}})).await;
    signal(other.pid(), Signal::CONT);
    let is_new = |service: &serde_json::Value| {
        service["status"] == "running" && service["created_at"] == anew["created_at"] && service["instances"][1].is_null()
    };
    let seen = other.until("echo", "it is the new one", is_new).await;
    assert_eq!(seen["instances"][0]["id"], anew["instances"][0]["id"], "its container was left alone");
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_containers_counts_over_all_managers_also_when_they_create_at_once() {
    if !podman::ready().await {
        return;
    }
    let one = Product::start(options().with("MAX_CONTAINERS", "3")).await;
    let other = one.beside().await;
    let creations = (0..8).map(|number| {
        let manager = if number % 2 == 0 { &one } else { &other };
        let body = json!({"service_name": format!("echo{number}"), "template": "echo"});
        async move { manager.post("/containers", &body).await }
    });
    let answers = futures_util::future::join_all(creations).await;
    let count = |wanted: u16| answers.iter().filter(|(status, _)| *status == wanted).count();
    assert_eq!((count(201), count(429)), (3, 5), "{answers:#?}\n{}\n----\n{}", one.log(), other.log());
    assert_eq!(owned_by(&one.options.instance).await.iter().filter(|name| name.starts_with("container ")).count(), 3);
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ended_is_started_again_by_one_manager_and_by_another_when_that_one_hangs() {
    if !podman::ready().await {
        return;
    }
    let one = Product::start(options()).await;
    let other = one.beside().await;
    one.create_echo("echo", json!({})).await;
    let running = |service: &serde_json::Value| service["status"] == "running";
    let restarted = |service: &serde_json::Value| service["status"] == "running" && service["restarts"] == 1;
    other.until("echo", "it runs", running).await;
    podman::podman(&["kill", "--signal", "KILL", &format!("{}-echo-1-1", one.options.instance)]).await;
    one.until("echo", "it runs again", restarted).await;
    other.until("echo", "the other one has seen it", running).await;
    stand_still(one.pid());
    podman::podman(&["kill", "--signal", "KILL", &format!("{}-echo-1-1", one.options.instance)]).await;
    other.until("echo", "it is down", |service| service["status"] != "running").await;
    other.until("echo", "it runs again", running).await;
    signal(one.pid(), Signal::CONT);
    one.finish().await;
    other.finish().await;
}

//! Limits under concurrency.

use reqwest::Method;
use serde_json::json;

use crate::support::podman;
use crate::support::product::{Options, Product};

#[tokio::test(flavor = "multi_thread")]
async fn one_of_twenty_concurrent_creations_of_a_name_wins() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let body = json!({"service_name": "echo", "template": "echo"});
    let attempts = (0..20).map(|_| product.post("/containers", &body));
    let mut statuses: Vec<u16> = futures_util::future::join_all(attempts).await.into_iter().map(|(status, _)| status).collect();
    statuses.sort_unstable();
    let expected: Vec<u16> = std::iter::once(201).chain([409; 19]).collect();
    assert_eq!(statuses, expected);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_creations_at_once_are_all_there() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let bodies: Vec<_> = (0..30).map(|number| json!({"service_name": format!("echo-{number}"), "template": "echo"})).collect();
    let answers = futures_util::future::join_all(bodies.iter().map(|body| product.post("/containers", body))).await;
    for (status, answer) in &answers {
        assert_eq!((*status, answer["status"].as_str()), (201, Some("running")), "{answer:#}");
    }
    let calls = (0..30).map(|number| {
        let name = format!("echo-{number}");
        let call = product.service(Method::GET, &name, "/echo/hi").send();
        async move { call.await.unwrap().status().as_u16() }
    });
    assert_eq!(futures_util::future::join_all(calls).await, vec![200; 30]);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn max_containers_holds_under_concurrency() {
    let product = Product::start(Options::memory().with("MAX_CONTAINERS", "7")).await;
    let bodies: Vec<_> =
        (0..20).map(|number| json!({"service_name": format!("echo-{number}"), "template": "echo", "replicas": 2})).collect();
    let answers = futures_util::future::join_all(bodies.iter().map(|body| product.post("/containers", body))).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 3, "three services of two fit into seven places");
    for (_, problem) in answers.iter().filter(|(status, _)| *status != 201) {
        assert_eq!(problem["type"], "urn:mcp-manager:problem:limit-reached", "{problem:#}");
        assert!(problem["remedy"].as_str().unwrap().contains("MAX_CONTAINERS"));
    }
    let running = answers.iter().find(|(status, _)| *status == 201).unwrap().1["name"].as_str().unwrap().to_owned();
    let (status, _) = product.send(Method::PATCH, &format!("/containers/{running}"), &json!({"replicas": 4})).await;
    assert_eq!(status, 429, "growing counts, too");
    let (status, _) = product.send(Method::PATCH, &format!("/containers/{running}"), &json!({"replicas": 3})).await;
    assert_eq!(status, 200);
    product.finish().await;
}

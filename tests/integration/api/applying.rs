//! Descriptions that are applied again, at once, and after a failure.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::podman::{self, podman as run};
use crate::support::product::{Options, Product};

const KIND: &str = "urn:mcp-manager:problem:";

/// How many of the answers have each status and outcome, in order.
fn counted(answers: &[(u16, Value)]) -> Vec<(usize, u16, String)> {
    let told = |(status, answer): &(u16, Value)| (*status, answer["outcome"].as_str().unwrap_or_default().to_owned());
    let kinds: BTreeSet<_> = answers.iter().map(told).collect();
    kinds.into_iter().map(|kind| (answers.iter().filter(|answer| told(answer) == kind).count(), kind.0, kind.1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_applies_the_same_again_waits_like_the_first() {
    let product = Product::start(Options::memory()).await;
    let spec = json!({"template": "echo"});
    for (again, body) in [(Method::PUT, &spec), (Method::PATCH, &json!({"replicas": 1}))] {
        let (status, first) = product.send(Method::PUT, "/containers/echo?wait=none", &spec).await;
        assert_eq!((status, first["outcome"].as_str()), (202, Some("created")), "{first:#}");
        assert_ne!(first["status"], "running", "or there is nothing to wait for: {first:#}");
        let (status, second) = product.send(again, "/containers/echo", body).await;
        assert_eq!((status, second["outcome"].as_str()), (200, Some("unchanged")), "{second:#}");
        assert_eq!((&second["status"], &second["generation"]), (&json!("running"), &json!(1)), "{second:#}");
        assert_eq!(product.call(Method::DELETE, "/containers/echo").await.0, 204);
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_apply_the_same_at_once_one_creates_and_all_see_it_run() {
    let product = Product::start(Options::memory()).await;
    for (method, path) in [(Method::PUT, "/containers/echo"), (Method::POST, "/containers/echo/start")] {
        let spec = json!({"template": "echo"});
        let answers = join_all((0..40).map(|_| product.send(method.clone(), path, &spec))).await;
        let expected = [(39, 200, "unchanged".to_owned()), (1, 201, "created".to_owned())];
        assert_eq!(counted(&answers), expected, "{path}: {answers:#?}");
        assert!(answers.iter().all(|(_, answer)| answer["status"] == "running"), "{path}: {answers:#?}");
        assert_eq!(product.call(Method::DELETE, "/containers/echo").await.0, 204);
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_overtaken_is_told_so_and_nobody_is_told_that_something_else_runs() {
    let product = Product::start(Options::memory()).await;
    product.create_echo("echo", json!({})).await;
    let spec = |number: i32| json!({"template": "echo", "environment": {"NUMBER": number.to_string()}});
    let bodies: Vec<Value> = (0..6).map(spec).collect();
    let answers = join_all(bodies.iter().map(|body| product.send(Method::PUT, "/containers/echo", body))).await;
    let now = product.get("/containers/echo").await.1;
    let mut lasting = 0;
    for (body, (status, answer)) in bodies.iter().zip(&answers) {
        if *status == 409 {
            assert_eq!(answer["type"], format!("{KIND}conflict"), "{answer:#}");
            assert!(answer["detail"].as_str().unwrap().contains("changed by another request (generation "), "{answer:#}");
            continue;
        }
        assert_eq!((*status, &answer["outcome"], &answer["status"]), (200, &json!("changed"), &json!("running")), "{answer:#}");
        assert_eq!(answer["spec"]["environment"]["NUMBER"], body["environment"]["NUMBER"], "{answer:#}");
        lasting += i32::from(answer["spec"] == now["spec"]);
    }
    assert_eq!(lasting, 1, "who came last is told that it runs: {answers:#?} and now {now:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_different_fields_at_once_are_all_kept() {
    let product = Product::start(Options::memory()).await;
    product.create_echo("echo", json!({})).await;
    let bodies: Vec<Value> = (0..6).map(|number| json!({"environment": {format!("V{number}"): "x"}})).collect();
    let answers = join_all(bodies.iter().map(|body| product.send(Method::PATCH, "/containers/echo", body))).await;
    assert!(answers.iter().all(|(status, answer)| *status == 200 && answer["status"] == "running"), "{answers:#?}");
    let now = product.get("/containers/echo").await.1;
    for number in 0..6 {
        assert_eq!(now["spec"]["environment"][format!("V{number}")], "x", "{now:#}");
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_what_failed_tries_it_again_and_tells_the_truth() {
    let product = Product::start(Options::memory()).await;
    let (path, spec) = ("/containers/web", json!({"image": "localhost/missing:1", "port": 80}));
    assert_eq!(product.send(Method::PUT, "/containers/web?wait=none", &spec).await.0, 202);
    product.until("web", "it fails", |service| service["status"] == "failed").await;
    let (status, plan) = product.send(Method::PUT, "/containers/web?dry_run=true", &spec).await;
    assert_eq!((status, plan["outcome"].as_str()), (200, Some("retried")), "{plan:#}");
    let (status, problem) = product.send(Method::PUT, path, &spec).await;
    assert_eq!((status, problem["type"].as_str()), (422, Some(&*format!("{KIND}image-not-found"))), "{problem:#}");
    let (status, again) = product.send(Method::PUT, "/containers/web?wait=none", &spec).await;
    assert_eq!((status, &again["outcome"], &again["generation"]), (202, &json!("retried"), &json!(3)), "{again:#}");
    let (status, other) = product.send(Method::PUT, path, &json!({"image": "localhost/there:1", "port": 80})).await;
    assert_eq!((status, &other["outcome"], &other["status"]), (200, &json!("changed"), &json!("running")), "{other:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_says_its_health_in_another_form_than_its_template() {
    let product = Product::start(Options::memory()).await;
    let spec = |path: &str| json!({"template": "echo", "health_check_path": path, "health_check_interval": 5});
    let (status, plan) = product.send(Method::PUT, "/containers/echo?dry_run=true", &spec("/other")).await;
    let health = &plan["spec"]["health_check"];
    assert_eq!((status, &health["probe"], &health["interval"]), (200, &json!({"http": "/other"}), &json!("5s")), "{plan:#}");
    let (status, problem) = product.send(Method::PUT, "/containers/echo", &spec("bad")).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("health_check_path")), "{problem:#}");
    product.create_echo("echo", json!({})).await;
    let (status, changed) = product.send(Method::PUT, "/containers/echo", &spec("/new")).await;
    assert_eq!((status, &changed["outcome"]), (200, &json!("changed")), "{changed:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_label_takes_the_name_of_another_service() {
    let product = Product::start(Options::memory()).await;
    let labelled = |label: &str| json!({"template": "echo", "labels": {label: "Host(`echo.localhost`)"}});
    for label in ["traefik.http.routers.mine.rule", "Traefik.http.routers.mine.Rule", "traefik.http.routers.echo.middlewares"] {
        let (status, problem) = product.send(Method::PUT, "/containers/mine", &labelled(label)).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(format!("labels.{label}"))), "{problem:#}");
    }
    let (status, created) =
        product.send(Method::PUT, "/containers/mine", &labelled("traefik.http.routers.mine.middlewares")).await;
    assert_eq!(status, 201, "{created:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_image_comes_late_is_brought_up_by_applying_it_again() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let image = format!("localhost/mcp/{}:1", podman::unique("late"));
    let spec = json!({"image": image, "port": 8000, "health_check_path": "/health", "pull_policy": "never"});
    assert_eq!(product.send(Method::PUT, "/containers/late?wait=none", &spec).await.0, 202);
    let failed = product.until("late", "it fails", |service| service["status"] == "failed").await;
    let (status, problem) = product.send(Method::PUT, "/containers/late", &spec).await;
    assert_eq!((status, &problem["detail"]), (422, &failed["failure"]["detail"]), "{problem:#} {failed:#}");
    run(&["tag", podman::ECHO_IMAGE, &image]).await;
    let (status, up) = product.send(Method::PUT, "/containers/late", &spec).await;
    assert_eq!((status, &up["outcome"], &up["status"]), (200, &json!("retried"), &json!("running")), "{up:#}");
    assert!(up["failure"].is_null(), "{up:#}");
    let (status, same) = product.send(Method::PUT, "/containers/late", &spec).await;
    assert_eq!((status, &same["outcome"], &same["generation"]), (200, &json!("unchanged"), &up["generation"]), "{same:#}");
    product.finish().await;
    run(&["untag", &image, &image]).await;
}

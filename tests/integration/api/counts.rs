//! How often a container was restarted, and why: the same whichever manager is asked, and since whenever it runs.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::podman;
use crate::support::product::{Options, Product, signal};

/// What managers must agree on of a service with one replica.
fn past(service: &Value) -> Value {
    let replica = &service["instances"][0];
    json!([service["restarts"], replica["restarts"], replica["last_exit"], replica["id"]])
}

fn is_running(service: &Value) -> bool {
    service["status"] == "running"
}

/// Ends its process by force, and waits until it has been started again so often.
async fn crash(product: &Product, restarts: u64) -> Value {
    podman::podman(&["kill", "--signal", "KILL", &format!("{}-echo-1-1", product.options.instance)]).await;
    product.until("echo", "it runs again", |service| is_running(service) && service["restarts"] == restarts).await
}

async fn agrees(product: &Product, with: &Value) {
    product.until("echo", "it knows as much", |service| is_running(service) && past(service) == past(with)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_and_the_last_end_are_those_that_every_other_manager_tells_also_an_earlier_one() {
    if !podman::ready().await {
        return;
    }
    let one = Product::start(Options::podman()).await;
    let beside = one.beside().await;
    one.create_echo("echo", json!({})).await;
    beside.until("echo", "it runs", is_running).await;
    let mut seen = Value::Null;
    for restarts in 1..=3 {
        seen = crash(&one, restarts).await;
        assert_eq!(seen["instances"][0]["last_exit"]["code"], 137, "{seen:#}");
        agrees(&beside, &seen).await;
    }
    let later = one.beside().await;
    let told = later.until("echo", "it runs", is_running).await;
    assert_eq!(past(&told), past(&seen), "{}\n----\n{}", one.log(), later.log());

    // What somebody wished for is no restart to anybody, and no failure, but an end.
    let (status, answer) = later.post("/containers/echo/restart", &json!({})).await;
    assert_eq!((status, &answer["restarts"]), (200, &json!(3)), "{answer:#}");
    assert_ne!(past(&answer), past(&seen), "it has ended another time");
    agrees(&one, &answer).await;
    agrees(&beside, &answer).await;

    let one = one.kill_and_restart().await;
    agrees(&one, &answer).await;
    let seen = crash(&one, 4).await;
    for manager in [&beside, &later] {
        agrees(manager, &seen).await;
    }
    one.finish().await;
    beside.finish().await;
    later.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_is_ended_and_started_again_goes_on_counting_where_it_was() {
    if !podman::ready().await {
        return;
    }
    let one = Product::start(Options::podman()).await;
    one.create_echo("echo", json!({})).await;
    let seen = crash(&one, 1).await;
    let one = one.terminate_and_restart().await;
    agrees(&one, &seen).await;
    crash(&one, 2).await;
    one.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pauses_between_restarts_go_on_growing_when_the_manager_that_restarts_is_killed() {
    if !podman::ready().await {
        return;
    }
    let one = Product::start(Options::podman()).await;
    let body = json!({"service_name": "echo", "template": "echo", "args": ["--no-such-option"], "start_timeout": "30s"});
    let (status, created) = one.post("/containers", &body).await;
    assert_eq!((status, &created["status"]), (201, &json!("crash_loop")), "{created:#}");
    // The sixth failure's pause, 6.4 s, is long enough for another manager to start on a busy machine.
    let waits = |service: &Value| service["restarts"] == 5 && !service["instances"][0]["next_start"].is_null();
    let before = one.until("echo", "it waits for its next start", waits).await;
    let other = one.beside().await;
    let told = other.get("/containers/echo").await.1;
    assert_eq!(past(&told), past(&before), "{}\n----\n{}", one.log(), other.log());
    assert_eq!(told["instances"][0]["next_start"], before["instances"][0]["next_start"], "{told:#}");
    assert_eq!((&told["status"], &told["message"]), (&before["status"], &before["message"]));
    assert_eq!(told["reasons"], before["reasons"]);
    signal(one.pid(), Signal::KILL);

    let moment = |service: &Value, member: &str| service["instances"][0][member].as_str().unwrap().parse::<Timestamp>().unwrap();
    let next = moment(&before, "next_start");
    let after = other.until("echo", "the other starts it", |service| service["restarts"] == 6).await;
    let (late, started) = (Duration::from_millis(100), moment(&after, "started_at"));
    assert!(started + late > next, "started at {started}, not before {next}\n{}", other.log());
    let waits = |service: &Value| service["restarts"] == 6 && !service["instances"][0]["next_start"].is_null();
    let after = other.until("echo", "it has failed again", waits).await;
    let exit = &after["instances"][0]["last_exit"]["at"];
    let pause = moment(&after, "next_start").duration_since(exit.as_str().unwrap().parse().unwrap());
    assert_eq!(pause, Duration::from_millis(12_800).try_into().unwrap(), "{after:#}");
    assert_eq!(other.call(Method::DELETE, "/containers/echo").await.0, 204);
    other.finish().await;
}

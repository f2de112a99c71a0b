//! Two managers of one installation, over the same rootless Podman: what one does while the other does not look.

use std::time::Duration;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::mcp::Session;
use crate::support::podman::{self, owned_by, unique};
use crate::support::product::{Options, Product, signal, stand_still};
use crate::support::registry::{Registry, architectures};
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

/// A service whose answers tell the value of a secret.
fn telling(name: &str) -> Value {
    let health = json!({"path": "/health"});
    let secrets = json!({"MCP_SERVICE_NAME": "told"});
    json!({
        "service_name": name, "image": podman::ECHO_IMAGE, "pull_policy": "never", "port": 8000, "stop_timeout": "1s",
        "health_check": health, "secrets": secrets,
    })
}

/// The value that it was started with.
async fn told(product: &Product, name: &str) -> String {
    let answer = product.service(Method::GET, name, "/").send().await.unwrap();
    let about: Value = answer.json().await.unwrap_or_else(|error| panic!("{error}\n{}", product.log()));
    about["service"].as_str().unwrap().to_owned()
}

/// Managers that read secrets from one folder, and its file of the secret.
async fn with_secret() -> (Product, Product, tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let options = options().with_secrets().with("MCP_MANAGER_SECRETS_DIR", folder.path().display().to_string());
    let one = Product::start(options).await;
    let other = one.beside().await;
    let file = folder.path().join("told");
    (one, other, folder, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_started_with_the_newest_value_of_a_secret_whichever_manager_wrote_it_last() {
    if !podman::ready().await {
        return;
    }
    let (one, other, _folder, file) = with_secret().await;
    let (first, second) = (unique("first"), unique("second"));
    std::fs::write(&file, &first).unwrap();
    let (status, answer) = one.post("/containers", &telling("echo")).await;
    assert_eq!(status, 201, "{answer:#}\n{}", one.log());
    assert_eq!(told(&one, "echo").await, first);
    other.until("echo", "it is known there", |service| service["status"] == "running").await;
    // The value goes back and forth, so that each manager has written it before.
    for (manager, value) in [(&other, &second), (&one, &first), (&other, &second), (&one, &first)] {
        std::fs::write(&file, value).unwrap();
        let (status, answer) = manager.call(Method::POST, "/containers/echo/restart").await;
        assert_eq!(status, 200, "{answer:#}\n{}", manager.log());
        assert_eq!(told(manager, "echo").await, **value);
        // Who has not seen yet that it was restarted would take the next restart for one that is under way.
        let started = &manager.get("/containers/echo").await.1["instances"][0]["started_at"];
        for manager in [&one, &other] {
            let is_seen = |service: &Value| service["status"] == "running" && service["instances"][0]["started_at"] == *started;
            manager.until("echo", "the restart is known", is_seen).await;
        }
    }
    // The other one takes the secret away with its last service.
    assert_eq!(other.call(Method::DELETE, "/containers/echo").await.0, 204);
    eventually("the first knows", async || deleted(&one, "echo").await).await;
    let (status, answer) = one.post("/containers", &telling("echo")).await;
    assert_eq!(status, 201, "{answer:#}\n{}", one.log());
    assert_eq!(told(&one, "echo").await, first);
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_two_managers_write_at_the_same_time_is_there_for_the_services_of_both() {
    if !podman::ready().await {
        return;
    }
    let (one, other, _folder, file) = with_secret().await;
    let managers = [&one, &other];
    for round in 0..4 {
        let value = unique("value");
        std::fs::write(&file, &value).unwrap();
        let names: Vec<_> = (0..6).map(|number| format!("echo-{round}-{number}")).collect();
        let creations = names.iter().zip(managers.into_iter().cycle()).map(|(name, manager)| {
            let body = telling(name);
            async move { (manager.post("/containers", &body).await, told(manager, name).await) }
        });
        for ((status, answer), told) in futures_util::future::join_all(creations).await {
            assert_eq!((status, told), (201, value.clone()), "{answer:#}\n{}\n----\n{}", one.log(), other.log());
        }
        let deletions = names.iter().zip(managers.into_iter().rev().cycle()).map(|(name, manager)| async move {
            manager.until(name, "it is known there", |service| service["status"] == "running").await;
            manager.call(Method::DELETE, &format!("/containers/{name}")).await
        });
        for (status, answer) in futures_util::future::join_all(deletions).await {
            assert_eq!(status, 204, "{answer:#}");
        }
        eventually("nothing is left", async || owned_by(&one.options.instance).await.is_empty()).await;
    }
    one.finish().await;
    other.finish().await;
}

/// Managers of which the second has the wrong password for the registry's private images.
async fn with_one_login(registry: &Registry) -> (Product, Product) {
    let file = |name: &str, password: Option<&str>| {
        let file = registry.folder.path().join(name);
        std::fs::write(&file, registry.logins(password).to_string()).unwrap();
        file.display().to_string()
    };
    let logins = "MCP_MANAGER_BACKEND_REGISTRY_CREDENTIALS_FILE";
    let options = registry.options().with("MCP_MANAGER_BACKEND_RECONCILE_INTERVAL", "1s");
    let one = Product::start(options.with(logins, file("right.json", None))).await;
    let other = one.beside_with(logins, file("wrong.json", Some("wrong"))).await;
    (one, other)
}

/// A service of this image, which is asked for anew by whoever makes a container of it.
fn pulled(registry: &Registry, name: &str) -> Value {
    json!({"service_name": "pulled", "image": registry.reference(name), "pull_policy": "always", "stop_timeout": "1s"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_could_not_have_made_a_service_leaves_alone_what_another_one_has_made() {
    if !podman::ready().await {
        return;
    }
    let registry = Registry::start().await;
    let (one, other) = with_one_login(&registry).await;
    registry.publish("private/image:1", "private", architectures().0);
    let (status, made) = one.post("/containers", &pulled(&registry, "private/image:1")).await;
    assert_eq!((status, &made["status"]), (201, &json!("running")), "{made:#}\n{}", one.log());
    let until = std::time::Instant::now() + Duration::from_secs(5);
    other.until("pulled", "it is known there", |service| service["status"] == "running").await;
    while std::time::Instant::now() < until {
        for manager in [&one, &other] {
            let (_, seen) = manager.get("/containers/pulled").await;
            assert_eq!((&seen["status"], &seen["message"]), (&json!("running"), &Value::Null), "{seen:#}\n{}", manager.log());
            assert_eq!(seen["instances"][0]["id"], made["instances"][0]["id"], "{}\n----\n{}", one.log(), other.log());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_in_quick_succession_are_carried_out_whichever_managers_are_asked() {
    if !podman::ready().await {
        return;
    }
    let one = Product::start(Options::podman()).await;
    let other = one.beside().await;
    let service = one.create_echo("echo", json!({})).await;
    other.until("echo", "it runs", |service| service["status"] == "running").await;
    let id = service["instances"][0]["id"].as_str().unwrap();
    let began = async || podman::podman(&["inspect", "--format", "{{.State.StartedAt}}", id]).await;
    let mut before = began().await;
    for manager in [&one, &other].into_iter().cycle().take(10) {
        let (status, answer) = manager.post("/containers/echo/restart", &json!({})).await;
        assert_eq!(status, 200, "{answer:#}");
        let now = began().await;
        assert_ne!(now, before, "{answer:#}\n{}\n----\n{}", one.log(), other.log());
        before = now;
    }
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_manager_could_not_make_and_another_could_is_no_failure_to_either() {
    if !podman::ready().await {
        return;
    }
    let registry = Registry::start().await;
    let (one, other) = with_one_login(&registry).await;
    registry.publish("private/image:1", "private", architectures().0);
    // Who waits for the one without the login has its answer, and nothing is left.
    let body = pulled(&registry, "private/image:1");
    let (status, problem) = other.post("/containers", &body).await;
    assert_eq!((status, &problem["type"]), (422, &json!("urn:mcp-manager:problem:image-access-denied")), "{problem:#}");
    eventually("nothing is left", async || owned_by(&one.options.instance).await.is_empty()).await;
    assert!(deleted(&other, "pulled").await);
    eventually("the first knows", async || deleted(&one, "pulled").await).await;
    assert_eq!(other.post("/containers?wait=none", &body).await.0, 202);
    let runs = |service: &Value| service["status"] == "running" && service["message"].is_null();
    let made = one.until("pulled", "it is made here", runs).await;
    let seen = other.until("pulled", "it runs there, too", runs).await;
    assert_eq!(seen["instances"][0]["id"], made["instances"][0]["id"]);
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_once_however_many_managers_there_are() {
    if !podman::ready().await {
        return;
    }
    let registry = Registry::start().await;
    let one = Product::start(registry.options().with("MCP_MANAGER_BACKEND_RECONCILE_INTERVAL", "1s")).await;
    let mut others = Vec::new();
    let mut asked = Vec::new();
    for name in ["slow/first", "slow/second"] {
        registry.publish(&format!("{name}:1"), name, architectures().0);
        let (status, made) = one.post("/containers", &pulled(&registry, &format!("{name}:1"))).await;
        assert_eq!((status, &made["status"]), (201, &json!("running")), "{made:#}\n{}", one.log());
        for other in &others {
            let other: &Product = other;
            let seen = other.until("pulled", "it runs there, too", |service| service["status"] == "running").await;
            assert_eq!(seen["instances"][0]["id"], made["instances"][0]["id"]);
        }
        asked.push(registry.asked(name));
        assert_eq!(one.call(Method::DELETE, "/containers/pulled").await.0, 204);
        if others.is_empty() {
            others = vec![one.beside().await, one.beside().await];
        }
    }
    assert!(asked[0] > 0);
    assert_eq!(asked[0], asked[1], "the registry was asked as often by three managers as by one");
    one.finish().await;
    for other in others {
        other.finish().await;
    }
}

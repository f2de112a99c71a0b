//! Services from creation to deletion, on rootless Podman and in a cluster.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::podman;
use crate::support::product::{Options, Product};

everywhere! {
    a_service_from_a_template_answers_at_its_name_when_post_returns,
    a_service_from_an_inline_spec_starts_and_the_same_call_again_changes_nothing,
    put_creates_then_leaves_alone_then_replaces_without_losing_the_name,
    a_change_that_cannot_be_made_leaves_the_service_as_it_was,
    patch_changes_replicas_limits_and_environment,
    a_stopped_service_is_changed_at_once_and_stays_stopped_until_it_is_started,
    what_the_user_stopped_stays_stopped_over_a_restart_and_starts_again_when_asked,
    a_service_that_has_failed_is_tried_again_and_repaired_by_what_is_applied_next,
}

async fn echoed(product: &Product, name: &str) -> Option<String> {
    let answer = product.service(Method::GET, name, "/echo/hi").send().await.ok()?;
    let document: Value = if answer.status() == 200 { answer.json().await.ok()? } else { return None };
    document["echo"].as_str().map(str::to_owned)
}

async fn a_service_from_a_template_answers_at_its_name_when_post_returns(product: Product) {
    let created = product.create_echo("echo", json!({})).await;
    assert_eq!(created["status"], "running", "{created:#}");
    assert_eq!(created["url"], format!("http://echo.localhost:{}", product.port));
    assert_eq!(created["outcome"], "created");
    assert_eq!(echoed(&product, "echo").await.as_deref(), Some("hi"));
    let (status, list) = product.get("/containers?template=echo&status=running").await;
    assert_eq!((status, list["total"].as_u64()), (200, Some(1)), "{list:#}");
    let (status, again) = product.post("/containers", &json!({"service_name": "echo", "template": "echo"})).await;
    assert_eq!((status, again["type"].as_str()), (409, Some("urn:mcp-manager:problem:already-exists")), "{again:#}");
    product.finish().await;
}

async fn a_service_from_an_inline_spec_starts_and_the_same_call_again_changes_nothing(product: Product) {
    let spec = json!({
        "image": podman::ECHO_IMAGE, "port": 8000, "environment": {"MCP_SERVICE_NAME": "inline"}, "memory_limit": "64m",
        "cpu_limit": "1.0", "restart_policy": "unless-stopped", "health_check_path": "/health", "health_check_interval": 30,
        "labels": {"custom.label": "value"}
    });
    let (status, started) = product.post("/containers/inline/start", &spec).await;
    assert_eq!((status, started["status"].as_str()), (201, Some("running")), "{started:#}");
    let (status, again) = product.post("/containers/inline/start", &spec).await;
    assert_eq!((status, again["outcome"].as_str()), (200, Some("unchanged")), "{again:#}");
    let less = json!({"image": podman::ECHO_IMAGE, "port": 8000});
    let (status, started) = product.post("/containers/inline/start", &less).await;
    assert_eq!(status, 200, "what the request does not say stays as it is: {started:#}");
    let other = json!({"image": podman::ECHO_IMAGE, "port": 8000, "memory_limit": "32m"});
    let (status, conflict) = product.post("/containers/inline/start", &other).await;
    assert_eq!((status, &conflict["errors"][0]["field"]), (409, &json!("memory_limit")), "{conflict:#}");
    for (path, expected) in [("/health", 200), ("/other", 409)] {
        let (status, answer) = product.post("/containers/inline/start", &json!({"health_check_path": path})).await;
        assert_eq!(status, expected, "{path}: {answer:#}");
    }
    let (_, list) = product.get("/containers?label=custom.label%3Dvalue").await;
    assert_eq!(list["total"], 1);
    product.finish().await;
}

async fn put_creates_then_leaves_alone_then_replaces_without_losing_the_name(product: Product) {
    let spec = json!({"template": "echo"});
    let (status, created) = product.send(Method::PUT, "/containers/echo", &spec).await;
    assert_eq!((status, created["outcome"].as_str()), (201, Some("created")), "{created:#}");
    let (status, same) = product.send(Method::PUT, "/containers/echo", &spec).await;
    assert_eq!((status, same["outcome"].as_str()), (200, Some("unchanged")));
    assert_eq!(same["instances"][0]["id"], created["instances"][0]["id"]);

    // While it is replaced, somebody calls it all the time; not one call fails.
    let (client, url, host) = (product.client.clone(), product.url.clone(), format!("echo.localhost:{}", product.port));
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let calls = tokio::spawn(async move {
        let (mut good, mut bad) = (0, Vec::new());
        while !stopped.is_cancelled() {
            match client.get(format!("{url}/echo/hi")).header("host", &host).send().await {
                Ok(answer) if answer.status() == 200 => good += 1,
                Ok(answer) => bad.push(format!("{}: {}", answer.status(), answer.text().await.unwrap_or_default())),
                Err(error) => bad.push(error.to_string()),
            }
        }
        (good, bad)
    });
    let changed = json!({"template": "echo", "environment": {"GREETING": "hello"}});
    let (status, replaced) = product.send(Method::PUT, "/containers/echo", &changed).await;
    stop.cancel();
    let (good, bad) = calls.await.unwrap();
    assert_eq!((status, replaced["outcome"].as_str()), (200, Some("changed")), "{replaced:#}");
    assert_ne!(replaced["instances"][0]["id"], created["instances"][0]["id"]);
    assert_eq!(replaced["created_at"], created["created_at"]);
    assert!(good > 0 && bad.is_empty(), "{good} calls went well, these did not: {bad:?}");
    product.finish().await;
}

async fn a_change_that_cannot_be_made_leaves_the_service_as_it_was(product: Product) {
    let before = product.create_echo("echo", json!({})).await;
    let broken = json!({"image": "localhost/no-such-image:1", "port": 8000, "pull_policy": "never"});
    let (status, problem) = product.send(Method::PUT, "/containers/echo", &broken).await;
    assert_eq!((status, problem["type"].as_str()), (422, Some("urn:mcp-manager:problem:image-not-found")), "{problem:#}");
    let (_, after) = product.get("/containers/echo").await;
    assert_eq!(after["spec"], before["spec"], "who has the answer sees the service as it was");
    product.until("echo", "it runs as before", |service| service["status"] == "running").await;
    assert_eq!(echoed(&product, "echo").await.as_deref(), Some("hi"));
    product.finish().await;
}

async fn patch_changes_replicas_limits_and_environment(product: Product) {
    product.create_echo("echo", json!({"environment": {"MCP_ECHO_TEST_CONTROLS": "true", "GONE": "x"}})).await;
    let (status, scaled) = product.send(Method::PATCH, "/containers/echo", &json!({"replicas": 3})).await;
    assert_eq!((status, scaled["ready_replicas"].as_u64()), (200, Some(3)), "{scaled:#}");
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..30 {
        let answer = product.service(Method::GET, "echo", "/echo/hi").send().await.unwrap();
        let document: Value = answer.json().await.unwrap();
        *seen.entry(document["instance"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(
        seen.len() == 3 && seen.values().all(|count| (5..=15).contains(count)),
        "three replicas share the load: {seen:?}\n{}",
        product.log()
    );
    let patch = json!({"memory_limit": "96m", "environment": {"ADDED": "1", "GONE": null}, "replicas": 1});
    let (status, patched) = product.send(Method::PATCH, "/containers/echo", &patch).await;
    assert_eq!((status, patched["spec"]["memory_limit"].as_str()), (200, Some("96m")), "{patched:#}");
    assert_eq!(patched["spec"]["environment"]["ADDED"], "1");
    assert!(patched["spec"]["environment"].get("GONE").is_none());
    assert_eq!(patched["instances"].as_array().unwrap().len(), 1);
    product.finish().await;
}

async fn a_stopped_service_is_changed_at_once_and_stays_stopped_until_it_is_started(product: Product) {
    product.create_echo("echo", json!({})).await;
    assert_eq!(product.call(Method::POST, "/containers/echo/stop").await.0, 200);
    let patch = product.request(Method::PATCH, "/containers/echo").json(&json!({"replicas": 2})).send().await.unwrap();
    let (status, changed) = (patch.status(), patch.json::<Value>().await.unwrap());
    assert_eq!((status.as_u16(), changed["status"].as_str()), (200, Some("stopped")), "{changed:#}");
    assert_eq!(product.call(Method::POST, "/containers/echo/start").await.1["ready_replicas"], 2);
    product.finish().await;
}

async fn what_the_user_stopped_stays_stopped_over_a_restart_and_starts_again_when_asked(product: Product) {
    product.create_echo("stopped", json!({})).await;
    product.create_echo("running", json!({})).await;
    let (status, stopped) = product.call(Method::POST, "/containers/stopped/stop").await;
    assert_eq!((status, stopped["status"].as_str()), (200, Some("stopped")), "{stopped:#}");
    let refused = product.service(Method::GET, "stopped", "/echo/hi").send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("stopped"));

    let product = product.kill_and_restart().await;
    assert_eq!(product.get("/containers/stopped").await.1["status"], "stopped");
    product.until("running", "it runs", |service| service["status"] == "running").await;
    let (status, started) = product.call(Method::POST, "/containers/stopped/start").await;
    assert_eq!((status, started["status"].as_str()), (200, Some("running")), "{started:#}");
    let (status, restarted) = product.call(Method::POST, "/containers/running/restart").await;
    assert_eq!((status, restarted["status"].as_str()), (200, Some("running")), "{restarted:#}");
    assert_eq!(echoed(&product, "running").await.as_deref(), Some("hi"));
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unhealthy_replica_leaves_the_routes_and_comes_back() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    // The other replica's answers must never be late, however busy the machine is: then nobody would be left.
    let check = json!({"path": "/health", "interval": "1s", "timeout": "900ms", "retries": 1, "start_period": "0s"});
    product.create_echo("echo", json!({"replicas": 2, "health_check": check})).await;
    let sick = product.service(Method::POST, "echo", "/health/fail").send().await.unwrap();
    assert!(sick.status().is_success());
    let began = std::time::Instant::now();
    product.until("echo", "one replica is unhealthy", |service| service["status"] == "degraded").await;
    assert!(
        began.elapsed() < std::time::Duration::from_millis(3500),
        "two intervals and the check itself: {:?}",
        began.elapsed()
    );
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let answer: Value = product.service(Method::GET, "echo", "/echo/hi").send().await.unwrap().json().await.unwrap();
        names.insert(answer["instance"].as_str().unwrap().to_owned());
    }
    assert_eq!(names.len(), 1, "the unhealthy one is asked no more");
    let address = |service: &Value| {
        let instances = service["instances"].as_array().unwrap();
        instances.iter().find(|one| one["health"] == "unhealthy").map(|one| one["address"].as_str().unwrap().to_owned())
    };
    let sick = address(&product.get("/containers/echo").await.1).unwrap();
    product.client.post(format!("http://{sick}/health/ok")).send().await.unwrap();
    product.until("echo", "both are healthy", |service| service["status"] == "running").await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_waits_for_health_however_often_the_service_said_before_that_it_is_not_there_yet() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let check = json!({"path": "/health", "interval": "10s", "retries": 3, "start_period": "0s"});
    let body = json!({"service_name": "late", "template": "echo", "health_check": check,
        "environment": {"MCP_ECHO_START_DELAY_MS": "1500"}});
    let asked = tokio::spawn(product.request(Method::POST, "/containers").json(&body).send());
    let created = product.until("late", "its container runs", |service| service["instances"][0]["state"] == "running").await;
    assert_eq!(created["instances"][0]["health"], "starting", "{created:#}");
    let answer: Value = asked.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!((&answer["status"], &answer["instances"][0]["health"]), (&json!("running"), &json!("healthy")), "{answer:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_locked_down_and_the_api_shows_what_is_loosened() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let service = product.create_echo("echo", json!({"cap_add": ["CHOWN"], "egress": true})).await;
    let loosened: Vec<&str> = service["loosened"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(loosened, ["keeps the capabilities CHOWN", "may open connections to the outside"]);
    let (_, inspected) = product.get("/containers/echo/inspect").await;
    let (config, host) = (&inspected[0]["Config"], &inspected[0]["HostConfig"]);
    assert_eq!(host["ReadonlyRootfs"], true);
    assert!(host["SecurityOpt"].as_array().unwrap().iter().any(|option| option == "no-new-privileges"), "{host:#}");
    assert_eq!(host["UsernsMode"], "private");
    assert_eq!(inspected[0]["BoundingCaps"], json!(["CAP_CHOWN"]), "{:#}", inspected[0]);
    assert_eq!(host["PortBindings"]["8000/tcp"][0]["HostIp"], "127.0.0.1");
    assert_eq!(config["Labels"]["traefik.enable"], "true");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_nobody_waits_for_answers_before_it_is_done() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let before = product.create_echo("echo", json!({"replicas": 2})).await;
    let (status, answer) = product.call(Method::POST, "/containers/echo/restart?wait=none").await;
    assert_eq!(status, 202, "{answer:#}");
    // The second is restarted when the first is ready again.
    assert_eq!(answer["instances"][1]["started_at"], before["instances"][1]["started_at"], "{answer:#}");
    let newer = |service: &Value| {
        let started = |service: &Value, number: usize| service["instances"][number]["started_at"].as_str().map(str::to_owned);
        service["status"] == "running" && (0..2).all(|number| started(service, number) > started(&before, number))
    };
    product.until("echo", "both were restarted", newer).await;
    product.finish().await;
}

async fn a_service_that_has_failed_is_tried_again_and_repaired_by_what_is_applied_next(product: Product) {
    let spec = |image: &str| json!({"image": image, "port": 8000, "health_check_path": "/health", "pull_policy": "never"});
    let missing = spec("localhost/mcp/missing:1");
    assert_eq!(product.send(Method::PUT, "/containers/web?wait=none", &missing).await.0, 202);
    product.until("web", "it fails", |service| service["status"] == "failed").await;
    let (status, problem) = product.send(Method::PUT, "/containers/web", &missing).await;
    let kind = "urn:mcp-manager:problem:image-not-found";
    assert_eq!((status, problem["type"].as_str()), (422, Some(kind)), "{problem:#}");
    let (status, up) = product.send(Method::PUT, "/containers/web", &spec(podman::ECHO_IMAGE)).await;
    assert_eq!((status, &up["outcome"], &up["status"]), (200, &json!("changed"), &json!("running")), "{up:#}");
    assert!(up["failure"].is_null(), "{up:#}");
    product.finish().await;
}

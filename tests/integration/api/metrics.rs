//! What `GET /metrics` says of a manager on rootless Podman: its figures move with what is done.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;

use crate::support::product::Product;
use crate::support::registry::{Registry, architectures};
use crate::support::{eventually, podman};

/// All series, by name and labels as they are written.
struct Figures(BTreeMap<String, f64>);

impl Figures {
    async fn of(product: &Product) -> Self {
        let answer = product.request(Method::GET, "/metrics").send().await.unwrap();
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
        let text = answer.text().await.unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            series
                .map(|line| line.rsplit_once(' ').unwrap())
                .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
                .collect(),
        )
    }

    /// The value of a series; none is nought.
    fn get(&self, series: &str) -> f64 {
        self.0.get(&format!("mcp_manager_{series}")).copied().unwrap_or_default()
    }

    /// By how much a series has grown since.
    fn since(&self, before: &Self, series: &str) -> f64 {
        self.get(series) - before.get(series)
    }

    /// How many measurements a histogram has got since, and what they add up to. Each is in the last of its buckets.
    fn measured(&self, before: &Self, name: &str, labels: &str) -> (f64, f64) {
        let count = self.since(before, &format!("{name}_count{{{labels}}}"));
        assert_eq!(
            count.to_string(),
            self.since(before, &format!("{name}_bucket{{{labels},le=\"+Inf\"}}")).to_string(),
            "{name}"
        );
        (count, self.since(before, &format!("{name}_sum{{{labels}}}")))
    }
}

/// Asserts that each of these series has grown by so much.
fn grown(after: &Figures, before: &Figures, expected: &[(&str, f64)]) {
    for (series, by) in expected {
        let grown = after.since(before, series);
        assert!((grown - by).abs() < 0.5, "{series} has grown by {grown}, not by {by}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_of_requests_operations_services_engine_and_pulls() {
    if !podman::ready().await {
        return;
    }
    let registry = Registry::start().await;
    let options = registry.options().with("MCP_MANAGER_BACKEND_RECONCILE_INTERVAL", "1s");
    let product = Product::start(options).await;
    let fresh = Figures::of(&product).await;
    product.create_echo("echo", json!({"replicas": 2})).await;
    let again = json!({"service_name": "echo", "template": "echo"});
    assert_eq!(product.post("/containers", &again).await.0, 409);
    assert_eq!(product.get("/containers/nobody").await.0, 404);
    assert_eq!(product.service(Method::GET, "echo", "/echo/hi").send().await.unwrap().status(), 200);
    let running = Figures::of(&product).await;
    grown(
        &running,
        &fresh,
        &[
            (r#"http_requests_total{method="POST",route="/containers",status="201"}"#, 1.0),
            (r#"http_requests_total{method="POST",route="/containers",status="409"}"#, 1.0),
            (r#"http_requests_total{method="GET",route="/containers/{name}",status="404"}"#, 1.0),
            (r#"operations_total{operation="service_create",result="ok"}"#, 1.0),
            (r#"operations_total{operation="service_create",result="already-exists"}"#, 1.0),
            (r#"operations_total{operation="service_get",result="not-found"}"#, 1.0),
            (r#"services{phase="running"}"#, 1.0),
            (r#"replicas{health="ready"}"#, 2.0),
        ],
    );
    // The manager itself has asked the service what it offers, too.
    assert!(running.since(&fresh, r#"gateway_requests_total{status="2xx"}"#) > 0.5);
    // A container's start takes longer than a hundredth of a second, and all of it less than the test may.
    for (name, labels) in [
        ("operation_duration_seconds", r#"operation="service_create""#),
        ("http_request_duration_seconds", r#"method="POST",route="/containers""#),
    ] {
        let (count, sum) = running.measured(&fresh, name, labels);
        assert!((count - 2.0).abs() < 0.5 && (0.01..180.0).contains(&sum), "{name}: {count} in {sum} s");
    }
    // The engine told of the starts, which its own clock dates before they were heard of.
    let starts = async || Figures::of(&product).await.since(&fresh, r#"engine_events_total{kind="start"}"#);
    eventually("the engine has told of the starts", async || starts().await >= 2.0).await;
    let running = Figures::of(&product).await;
    let events = running.since(&fresh, r#"engine_events_total{kind="start"}"#);
    let (count, lag) = running.measured(&fresh, "engine_event_lag_seconds", r#"kind="start""#);
    assert!((events - count).abs() < 0.5 && lag < 60.0 * count, "{events} events, {count} lags, {lag} s");

    let reconciled = running.get(r#"reconciles_total{result="ok"}"#);
    assert!(reconciled >= 1.0, "at the start everything is compared");
    eventually("it is compared again", async || {
        Figures::of(&product).await.get(r#"reconciles_total{result="ok"}"#) >= reconciled + 2.0
    })
    .await;
    assert!((running.get("engine_connected") - 1.0).abs() < 0.1);

    assert_eq!(product.call(Method::POST, "/containers/echo/stop").await.0, 200);
    eventually("it counts as stopped", async || {
        let now = Figures::of(&product).await;
        now.get(r#"services{phase="stopped"}"#) > 0.5 && now.get(r#"services{phase="running"}"#) < 0.5
    })
    .await;

    let before = Figures::of(&product).await;
    let file = product.templates().join("demo.json");
    std::fs::write(&file, r#"{"name": "demo", "version": "1", "image": "localhost/demo:1", "port": 80}"#).unwrap();
    let reloads = async |result: &str| {
        Figures::of(&product).await.since(&before, &format!("template_reloads_total{{result=\"{result}\"}}"))
    };
    eventually("a new template counts as a reload", async || reloads("ok").await > 0.5).await;
    grown(&Figures::of(&product).await, &before, &[("templates", 1.0), ("template_errors", 0.0)]);
    std::fs::write(&file, "{").unwrap();
    eventually("a broken one counts as a failure", async || reloads("invalid").await > 0.5).await;
    grown(&Figures::of(&product).await, &before, &[("template_errors", 1.0)]);

    let before = Figures::of(&product).await;
    registry.publish("public/image:1", "counted", architectures().0);
    let pull = async |image: String| product.post("/images/pull", &json!({"image": image, "pull_policy": "always"})).await.0;
    assert_eq!(pull(registry.reference("public/image:1")).await, 200);
    assert_eq!(pull(registry.reference("public/nothing:1")).await, 422);
    let after = Figures::of(&product).await;
    for result in ["ok", "image-not-found"] {
        grown(&after, &before, &[(format!(r#"image_pulls_total{{result="{result}"}}"#).as_str(), 1.0)]);
        let (count, sum) = after.measured(&before, "image_pull_duration_seconds", &format!("result=\"{result}\""));
        assert!((count - 1.0).abs() < 0.5 && sum > 0.0, "{result}: {count} in {sum} s");
    }
    product.finish().await;
}

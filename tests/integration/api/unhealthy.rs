//! Replicas that fail their checks, seen by callers of the embedded gateway and of the real Traefik at the same time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::machine::{Part, offered};
use crate::support::product::{Options, Product};
use crate::support::traefik::Traefik;
use crate::support::{PATIENCE, eventually, free_port, http_client, podman};

/// Between two checks. So long that a busy machine, which is late by some of it, breaks no promise of two of them.
const INTERVAL: Duration = Duration::from_secs(3);
/// So many requests go round all replicas more than once.
const ROUND: usize = 9;

/// One way to the service.
struct Front {
    name: &'static str,
    port: u16,
    client: Client,
}

impl Front {
    /// Which replica answers; any must.
    async fn answerer(&self) -> String {
        let request = self.client.get(format!("http://127.0.0.1:{}/echo/hi", self.port)).header("host", "echo.localhost");
        let answer = request.timeout(PATIENCE).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}: no call fails", self.name);
        answer.json::<Value>().await.unwrap()["instance"].as_str().unwrap().to_owned()
    }

    /// How long after `began` the replica was last reached, once it has not been for a while.
    async fn last_reached(&self, replica: &str, began: Instant) -> Duration {
        let (mut last, mut since) = (Duration::ZERO, 0);
        // One that has left comes back only when it is healthy, which this one is not.
        while since < 5 * ROUND {
            let asked = began.elapsed();
            assert!(asked < 5 * INTERVAL, "{}: still reached, last after {last:?}", self.name);
            if self.answerer().await == replica {
                (last, since) = (asked, 0);
            } else {
                since += 1;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        last
    }

    /// How long after `began` the replica is reached again, if it soon is.
    async fn reached_again(&self, replica: &str, began: Instant) -> Option<Duration> {
        while self.answerer().await != replica {
            if began.elapsed() > 5 * INTERVAL {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(began.elapsed())
    }

    async fn reaches_all(&self) -> bool {
        let mut seen = BTreeSet::new();
        for _ in 0..ROUND {
            seen.insert(self.answerer().await);
        }
        seen.len() == 3
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unhealthy_replica_leaves_the_gateway_and_traefik_within_two_intervals_and_comes_back() {
    if !podman::ready().await {
        return;
    }
    let Some(program) = offered(Part::Traefik) else { return };
    let provider = free_port();
    let listen = format!("127.0.0.1:{provider}");
    let product = Product::start(Options::podman().with("MCP_MANAGER_SERVER_TRAEFIK_PROVIDER_LISTEN", listen)).await;
    let proxy = Traefik::start(&program, &product, provider).await;
    let check = json!({"path": "/health", "interval": "3s", "timeout": "500ms"});
    let service = product.create_echo("echo", json!({"replicas": 3, "health_check": check})).await;
    eventually("Traefik has the route", async || proxy.get("echo.localhost", "/echo/hi").await.0 == 200).await;
    let front = |name, port| Front { name, port, client: http_client().build().unwrap() };
    let (gateway, traefik) = (front("the gateway", product.port), front("Traefik", proxy.web));
    eventually("both lead to all three", async || gateway.reaches_all().await && traefik.reaches_all().await).await;

    let address = service["instances"][1]["address"].as_str().unwrap();
    let at = |method, path: &str| product.client.request(method, format!("http://{address}{path}")).timeout(PATIENCE);
    let about: Value = at(Method::GET, "/echo/hi").send().await.unwrap().json().await.unwrap();
    let replica = about["instance"].as_str().unwrap();
    // It says that it is not well, and then nothing at all. Requests are answered all the time.
    for (ill, well) in [("/health/fail", "/health/ok"), ("/health/delay/60000", "/health/delay/0")] {
        assert_eq!(at(Method::POST, ill).send().await.unwrap().status(), 200);
        let began = Instant::now();
        let (by_gateway, by_traefik) = tokio::join!(gateway.last_reached(replica, began), traefik.last_reached(replica, began));
        for (front, last) in [(&gateway, by_gateway), (&traefik, by_traefik)] {
            assert!(!last.is_zero() && last < 2 * INTERVAL, "{ill}: {} led there for {last:?}", front.name);
        }
        let (_, now) = product.get("/containers/echo").await;
        assert_eq!((now["ready_replicas"].as_u64(), now["status"].as_str()), (Some(2), Some("degraded")), "{now:#}");

        assert_eq!(at(Method::POST, well).send().await.unwrap().status(), 200);
        let began = Instant::now();
        let (by_gateway, by_traefik) = tokio::join!(gateway.reached_again(replica, began), traefik.reached_again(replica, began));
        for (front, took) in [(&gateway, by_gateway), (&traefik, by_traefik)] {
            let in_time = took.is_some_and(|took| took < 2 * INTERVAL);
            let (_, now) = product.get("/containers/echo").await;
            let logs = || format!("{}\n----\n{}", product.log(), proxy.said());
            assert!(in_time, "{well}: back behind {} after {took:?}\n{now:#}\n{}", front.name, logs());
        }
    }
    let (_, now) = product.get("/containers/echo").await;
    assert_eq!((now["restarts"].as_u64(), now["instances"][1]["id"].as_str()), (Some(0), service["instances"][1]["id"].as_str()));
    product.finish().await;
}

//! The id of a request in the log of the built program: it is in every line that belongs to the request, whichever task of the
//! manager writes it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::podman;
use crate::support::product::{Options, Product};

/// What the service's own task says when a change cannot be carried out.
const NOT_CARRIED_OUT: &str = "the service could not be brought to what its record says";

/// What it says of looks that events of the engine ask for, which may come when the request is done.
const AFTERWARDS: &str = "cannot look at a container";

/// Sends a request under an id of its own; its status and the lines of the log that have come since and tell of `service`.
async fn lines_of(product: &Product, id: &str, method: Method, path: &str, service: &str, body: &Value) -> (u16, Vec<Value>) {
    let before = product.log().len();
    let answer = product.request(method, path).header("x-request-id", id).json(body).send().await.unwrap();
    let log = product.log();
    let lines =
        log[before..].lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("not JSON: {line}")));
    // No other test speaks to this manager, and nobody else to this service.
    (answer.status().as_u16(), lines.filter(|line| line["service"] == service || line["subject"] == service).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_service_s_own_task_carry_the_id_of_the_request_that_they_are_written_for() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let is_told = |lines: &[Value]| lines.iter().any(|line| line["message"] == NOT_CARRIED_OUT);
    let all_are = |lines: &[Value], id: &str| {
        for line in lines.iter().filter(|line| line["message"] != AFTERWARDS) {
            assert_eq!(line["request_id"], id, "{line:#}");
        }
    };
    let missing = json!({"service_name": "missing", "image": "localhost/missing:1", "pull_policy": "never", "port": 80});
    let (status, lines) = lines_of(&product, "creation-1", Method::POST, "/containers", "missing", &missing).await;
    assert_eq!(status, 422, "{lines:#?}");
    assert!(is_told(&lines), "{}", product.log());
    all_are(&lines, "creation-1");

    // The same task works for one request after the other.
    let echo = json!({"service_name": "echo", "template": "echo"});
    let (status, lines) = lines_of(&product, "creation-2", Method::POST, "/containers", "echo", &echo).await;
    assert_eq!(status, 201, "{lines:#?}");
    all_are(&lines, "creation-2");
    let broken = json!({"template": "echo", "entrypoint": ["/no/such/program"]});
    let (status, lines) = lines_of(&product, "change-3", Method::PUT, "/containers/echo", "echo", &broken).await;
    assert_eq!(status, 422, "{lines:#?}");
    assert!(is_told(&lines), "{}", product.log());
    all_are(&lines, "change-3");
    let whole = json!({"template": "echo"});
    let (status, lines) = lines_of(&product, "change-4", Method::PUT, "/containers/echo", "echo", &whole).await;
    assert_eq!(status, 200, "{lines:#?}");
    all_are(&lines, "change-4");
    product.finish().await;
}

#[tokio::test]
async fn lines_about_templates_that_a_request_has_written_carry_its_id() {
    let product = Product::start(Options::memory()).await;
    let template = json!({"image": "x:1", "port": 80});
    let write = product.request(Method::PUT, "/templates/written").header("x-request-id", "template-1").json(&template);
    assert_eq!(write.send().await.unwrap().status(), 201);
    let log = product.log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("not JSON: {line}")));
    let read: Vec<Value> = lines.filter(|line| line["message"] == "templates read").collect();
    // The first was written at the start, which nobody asked for.
    assert_eq!(read.iter().map(|line| line["request_id"].as_str()).collect::<Vec<_>>(), [None, Some("template-1")], "{log}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_by_itself_later_is_not_said_to_be_an_earlier_request_s() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let create = product.request(Method::POST, "/containers").header("x-request-id", "creation-5");
    let answer = create.json(&json!({"service_name": "echo", "template": "echo"})).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let before = product.log().len();
    // Somebody else takes the container away; the service's task makes a new one.
    let (_, service) = product.get("/containers/echo").await;
    let id = service["instances"][0]["id"].as_str().unwrap().to_owned();
    podman::podman(&["rm", "--force", "--time", "0", &id]).await;
    product
        .until("echo", "there is another container", |service| {
            service["status"] == "running" && service["instances"][0]["id"].as_str().is_some_and(|other| other != id)
        })
        .await;
    assert!(!product.log()[before..].contains("creation-5"), "{}", product.log());
    product.finish().await;
}

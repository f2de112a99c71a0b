//! What holds at every operation of the OpenAPI document, on the memory backend: nothing that a caller writes is passed over
//! in silence, and every refusal is a problem document with its remedy.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::product::{Options, Product};

/// These pass over parameters: probes, scrapers and browsers add some.
const LENIENT: [&str; 5] = ["/health", "/ready", "/metrics", "/prometheus", "/template.schema.json"];

/// Method and path of every operation, with `value` in the place of each of the path's parameters.
async fn operations(product: &Product, value: &str) -> Vec<(Method, String)> {
    let (_, document) = product.get("/openapi.json").await;
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let mut filled = path.clone();
        while let Some((before, rest)) = filled.split_once('{') {
            filled = format!("{before}{value}{}", rest.split_once('}').unwrap().1);
        }
        for method in methods.as_object().unwrap().keys() {
            if let Ok(method @ (Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE)) =
                method.to_uppercase().parse()
            {
                operations.push((method, filled.clone()));
            }
        }
    }
    assert!(operations.len() > 40, "{operations:?}");
    operations
}

/// The problem document of an answer, which must be a whole one.
async fn problem(what: &str, response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
    let text = response.text().await.unwrap();
    assert_eq!(kind.as_deref(), Some("application/problem+json"), "{what}: {status} {text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["status"], status, "{what}: {document:#}");
    assert!(document["type"].as_str().unwrap().starts_with("urn:mcp-manager:problem:"), "{what}: {document:#}");
    assert!(!document["remedy"].as_str().unwrap_or_default().is_empty(), "{what} has no remedy: {document:#}");
    (status, document)
}

#[tokio::test]
async fn an_address_that_is_no_text_is_a_problem_wherever_a_name_stands_in_it() {
    let product = Product::start(Options::memory()).await;
    let operations = operations(&product, "%FF").await;
    let named = operations.into_iter().filter(|(_, path)| path.contains("%FF"));
    let more = ["/tools/%FF", "/mcp/s/%FF", "/mcp/g/%FF"].map(|path| (Method::POST, path.to_owned()));
    for (method, path) in named.chain(more) {
        let answer = product.request(method.clone(), &path).send().await.unwrap();
        let (status, document) = problem(&format!("{method} {path}"), answer).await;
        assert_eq!((status, &document["type"]), (422, &json!("urn:mcp-manager:problem:invalid")), "{method} {path}");
    }
    for path in ["/docs/nope", "/docs/%FF", "/nope"] {
        let answer = product.request(Method::GET, path).send().await.unwrap();
        assert_eq!(problem(path, answer).await.0, 404, "{path}");
    }
    let nope = product.request(Method::POST, "/tools/nope").send().await.unwrap();
    assert_eq!(problem("an unknown tool", nope).await.0, 404);
    product.finish().await;
}

#[tokio::test]
async fn what_an_mcp_endpoint_does_not_accept_is_a_problem_of_the_same_status() {
    let product = Product::start(Options::memory()).await;
    for (method, accept, status) in [
        (Method::GET, "application/json", 406),
        (Method::POST, "application/json", 406),
        (Method::POST, "application/json, text/event-stream", 415),
        (Method::PUT, "*/*", 405),
    ] {
        let request = product.request(method.clone(), "/mcp").header("accept", accept).header("content-type", "text/plain");
        let answer = request.body("{}").send().await.unwrap();
        assert!(status != 405 || answer.headers().contains_key("allow"), "{answer:?}");
        assert_eq!(problem(&format!("{method} with {accept}"), answer).await.0, status);
    }
    product.finish().await;
}

#[tokio::test]
async fn a_parameter_that_nobody_knows_is_an_error_everywhere_but_where_probes_and_browsers_add_some() {
    let product = Product::start(Options::memory()).await;
    product.create_echo("echo", json!({})).await;
    for (method, path) in operations(&product, "echo").await {
        let what = format!("{method} {path}");
        let request = product.request(method, &format!("{path}?nobody_knows=1"));
        let answer = request.json(&json!({})).send().await.unwrap();
        if LENIENT.contains(&path.as_str()) {
            assert_eq!(answer.status(), 200, "{what}");
            continue;
        }
        let (status, document) = problem(&what, answer).await;
        assert_eq!(status, 422, "{what}: {document:#}");
        let told = document["errors"].as_array().unwrap().iter().any(|error| error["field"] == "nobody_knows");
        assert!(told, "{what}: {document:#}");
    }
    for path in ["/docs/?v=1", "/openapi.json?v=1"] {
        assert_eq!(product.request(Method::GET, path).send().await.unwrap().status(), 200, "{path}");
    }
    let template = json!({"name": "mine", "image": "localhost/mine:1"});
    let answer = product.request(Method::POST, "/templates?dry_run=true").json(&template).send().await.unwrap();
    assert_eq!(problem("a template's dry run", answer).await.0, 422);
    assert_eq!(product.get("/templates/mine").await.0, 404, "nothing was written");
    assert_eq!(product.get("/containers/echo").await.1["status"], "running", "and nothing was done");
    product.finish().await;
}

#[tokio::test]
async fn a_body_where_none_is_read_is_refused_unless_it_says_nothing() {
    let product = Product::start(Options::memory()).await;
    product.create_echo("echo", json!({})).await;
    let send = async |method: &Method, path: &str, body: &'static str| {
        product.request(method.clone(), path).body(body).send().await.unwrap()
    };
    for (method, path) in [
        (Method::POST, "/containers/echo/stop"),
        (Method::POST, "/containers/echo/restart"),
        (Method::DELETE, "/containers/echo"),
        (Method::DELETE, "/templates/echo"),
    ] {
        for (body, status) in [("{", 400), ("[1]", 422), (r#"{"wait": "none"}"#, 422)] {
            let (told, document) = problem(path, send(&method, path, body).await).await;
            assert_eq!(told, status, "{method} {path} {body}: {document:#}");
        }
    }
    assert_eq!(product.get("/containers/echo").await.1["status"], "running", "nothing was done");
    for body in ["", " ", "{}"] {
        assert_eq!(send(&Method::POST, "/containers/echo/restart", body).await.status(), 200, "{body:?}");
    }
    product.finish().await;
}

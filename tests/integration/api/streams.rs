//! Logs and events, as pages and as they happen, on rootless Podman and in a cluster.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::product::Product;

everywhere! {
    logs_are_filtered_told_apart_and_followed,
    events_tell_what_happens_to_a_service,
}

/// Reads server-sent events until one satisfies `wanted`; its name and data.
async fn event_with(response: reqwest::Response, wanted: impl Fn(&str, &Value) -> bool) -> (String, Value) {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let read = async {
        let (mut text, mut body) = (String::new(), response.bytes_stream());
        while let Some(chunk) = body.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
            while let Some((event, rest)) = text.split_once("\n\n").map(|(event, rest)| (event.to_owned(), rest.to_owned())) {
                text = rest;
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default();
                if let Ok(data) = serde_json::from_str(field("data:"))
                    && wanted(field("event:"), &data)
                {
                    return (field("event:").to_owned(), data);
                }
            }
        }
        panic!("the stream ended without it");
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("the event comes")
}

async fn logs_are_filtered_told_apart_and_followed(product: Product) {
    let streams_are_told = product.options.backend == "podman";
    product.create_echo("echo", json!({})).await;
    let write = |lines: Value| {
        let request = product.service(Method::POST, "echo", "/log").json(&lines);
        async move { assert_eq!(request.send().await.unwrap().status(), 200) }
    };
    write(json!({"stdout": ["to standard output"], "stderr": ["to standard error"]})).await;
    let lines = |query: &str| {
        let path = format!("/containers/echo/logs?{query}");
        let product = &product;
        async move {
            let (status, page) = product.get(&path).await;
            assert_eq!(status, 200, "{page:#}");
            page["lines"].as_array().unwrap().clone()
        }
    };
    // What a service writes is in its log a moment later.
    eventually("both lines are in the log", async || {
        let all = lines("tail=1000").await;
        ["to standard output", "to standard error"].iter().all(|text| all.iter().any(|line| line["line"] == *text))
    })
    .await;
    let all = lines("tail=1000").await;
    let find = |text: &str| all.iter().find(|line| line["line"] == text).unwrap_or_else(|| panic!("{text}: {all:#?}"));
    if streams_are_told {
        assert_eq!(find("to standard output")["stream"], "stdout");
        assert_eq!(find("to standard error")["stream"], "stderr");
    }
    assert!(find("to standard error")["timestamp"].is_string());
    if streams_are_told {
        let only = lines("tail=1000&stream=stdout&timestamps=false").await;
        assert!(only.iter().all(|line| line["stream"] == "stdout" && line.get("timestamp").is_none()));
    } else {
        let (status, refused) = product.get("/containers/echo/logs?stream=stdout").await;
        assert_eq!((status, refused["type"].as_str()), (422, Some("urn:mcp-manager:problem:not-supported")), "{refused:#}");
    }
    assert_eq!(lines("tail=1").await.len(), 1);
    assert!(lines("until=1h").await.is_empty(), "nothing is older than an hour");

    for until in ["1h".to_owned(), (jiff::Timestamp::now() + Duration::from_secs(2)).to_string()] {
        let bounded =
            product.request(Method::GET, &format!("/containers/echo/logs?follow=true&until={until}")).send().await.unwrap();
        let whole = tokio::time::timeout(Duration::from_secs(30), bounded.text()).await;
        assert!(whole.is_ok(), "nothing can come after {until}, so the stream ends");
    }
    let follow = product.request(Method::GET, "/containers/echo/logs?follow=true&tail=0").send().await.unwrap();
    let wait = event_with(follow, |name, data| name == "line" && data["line"] == "a new line");
    let (found, ()) = tokio::join!(wait, async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        write(json!({"stdout": ["a new line"], "stderr": []})).await;
    });
    assert_eq!(found.1["replica"], 1);
    product.finish().await;
}

async fn events_tell_what_happens_to_a_service(product: Product) {
    product.create_echo("echo", json!({})).await;
    let events = product.request(Method::GET, "/containers/echo/events").send().await.unwrap();
    let (_, first) = event_with(events, |_, _| true).await;
    assert_eq!((first["service"].as_str(), first["phase"].as_str()), (Some("echo"), Some("running")), "it begins with what is");
    let events = product.request(Method::GET, "/containers/echo/events").send().await.unwrap();
    let wait = event_with(events, |_, data| data["phase"] == "stopped");
    let (_, (status, _)) = tokio::join!(wait, product.call(Method::POST, "/containers/echo/stop"));
    assert_eq!(status, 200);
    product.finish().await;
}

//! The endpoints that let other tests make the echo service misbehave.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::echo::EchoProcess;

#[tokio::test]
async fn controls_are_absent_until_they_are_asked_for() {
    let echo = EchoProcess::start(&[]).await;
    for path in ["/health/fail", "/exit/1", "/allocate/1", "/log"] {
        assert_eq!(echo.post_json(path, "{}").await.0, 404, "{path}");
    }
    assert_eq!(echo.get_json("/headers").await.0, 404);
    assert_eq!(echo.get_json("/health").await.0, 200);
}

#[tokio::test]
async fn health_can_be_made_to_fail_to_hang_and_to_recover() {
    let echo = EchoProcess::with_controls().await;
    echo.post_json("/health/fail", "").await;
    let (status, health) = echo.get_json("/health").await;
    assert_eq!((status, &health["status"]), (503, &json!("unhealthy")));
    echo.post_json("/health/ok", "").await;
    assert_eq!(echo.get_json("/health").await.0, 200);

    echo.post_json("/health/delay/60000", "").await;
    let hung = echo.get("/health").timeout(Duration::from_millis(200)).send().await;
    assert!(hung.unwrap_err().is_timeout());
    assert_eq!(echo.get_json("/echo/still-there").await.0, 200);
    echo.post_json("/health/delay/0", "").await;
    assert_eq!(echo.get_json("/health").await.0, 200);
}

#[tokio::test]
async fn headers_show_what_reached_the_process() {
    let echo = EchoProcess::with_controls().await;
    let request = echo.get("/headers?q=1").header("x-forwarded-for", "10.0.0.1").header("x-twice", "a").header("x-twice", "b");
    let seen: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(seen["headers"]["x-forwarded-for"], json!(["10.0.0.1"]));
    assert_eq!(seen["headers"]["x-twice"], json!(["a", "b"]));
    assert_eq!((&seen["method"], &seen["uri"]), (&json!("GET"), &json!("/headers?q=1")));
    assert!(seen["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn bodies_stream_both_ways_and_are_counted() {
    let echo = EchoProcess::with_controls().await;
    let streamed = echo.get("/stream?bytes=3000001&chunk=1000").send().await.unwrap();
    assert!(streamed.content_length().is_none());
    assert_eq!(streamed.bytes().await.unwrap().len(), 3_000_001);
    // More than the limit for bodies in memory: this one is not kept.
    let (status, counted) = echo.post_json("/consume", vec![0; 9_000_000]).await;
    assert_eq!((status, &counted["bytes"]), (200, &json!(9_000_000)));
}

#[tokio::test]
async fn events_arrive_one_by_one_not_at_the_end() {
    let echo = EchoProcess::with_controls().await;
    let mut stream = echo.get("/sse?events=3&delay_ms=300").send().await.unwrap();
    let mut arrivals = Vec::new();
    let mut text = String::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        arrivals.push(Instant::now());
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let numbers: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(numbers, [r#"{"number":1}"#, r#"{"number":2}"#, r#"{"number":3}"#]);
    assert!(arrivals[arrivals.len() - 1] - arrivals[0] > Duration::from_millis(300));
}

#[tokio::test]
async fn a_websocket_gives_back_text_and_bytes() {
    let echo = EchoProcess::with_controls().await;
    let url = format!("{}/ws", echo.url.replace("http:", "ws:"));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for message in [Message::text("hi"), Message::binary(vec![0_u8, 255])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn delays_and_statuses_are_as_asked() {
    let echo = EchoProcess::with_controls().await;
    let started = Instant::now();
    assert_eq!(echo.get_json("/delay/150").await.0, 200);
    assert!(started.elapsed() >= Duration::from_millis(150));
    assert_eq!(echo.get_json("/status/418").await.0, 418);
    assert_eq!(echo.get_json("/status/42").await.0, 400);
}

#[tokio::test]
async fn lines_go_to_the_output_that_was_asked_for() {
    let mut echo = EchoProcess::with_controls().await;
    let lines = json!({"stdout": ["one for out"], "stderr": ["one for err"]});
    echo.post("/log").json(&lines).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(echo.stdout_line("one for").await, "one for out");
    assert_eq!(echo.stderr_line("one for").await, "one for err");
}

#[tokio::test]
async fn allocated_memory_is_really_used() {
    let echo = EchoProcess::with_controls().await;
    let before = echo.get_json("/info").await.1["memory_bytes"].as_u64().unwrap();
    assert_eq!(echo.post_json("/allocate/32", "").await.0, 200);
    let after = echo.get_json("/info").await.1["memory_bytes"].as_u64().unwrap();
    assert!(after > before + (30 << 20), "{before} -> {after}");
}

#[tokio::test]
async fn exit_answers_first_and_then_ends_with_the_code() {
    let mut echo = EchoProcess::with_controls().await;
    assert_eq!(echo.post_json("/exit/7", "").await, (200, json!({"exit": 7})));
    assert_eq!(echo.exit_status().await.code(), Some(7));
}

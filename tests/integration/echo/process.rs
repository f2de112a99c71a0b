//! How the echo service starts, logs and stops.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;

use crate::support::echo::EchoProcess;
use crate::support::{eventually, stretched};

#[tokio::test]
async fn the_stop_signal_lets_an_open_request_finish_and_ends_with_zero() {
    let mut echo = EchoProcess::with_controls().await;
    let request = echo.get("/delay/400").send();
    let stop = async {
        let mut asked = 0;
        // Every question counts itself, so one more than asked is the slow request under way.
        eventually("the slow request is under way", async || {
            asked += 1;
            echo.get_json("/info").await.1["requests"] == asked + 1
        })
        .await;
        echo.terminate();
    };
    let (answered, ()) = tokio::join!(request, stop);
    assert_eq!(answered.unwrap().status(), 200);
    assert!(echo.exit_status().await.success());
    echo.stderr_line("SIGTERM").await;
}

#[tokio::test]
async fn an_idle_service_stops_at_once() {
    let mut echo = EchoProcess::start(&[]).await;
    // Leaves a kept-alive connection behind, which must not count as an open request.
    echo.get_json("/health").await;
    let started = Instant::now();
    echo.terminate();
    assert!(echo.exit_status().await.success());
    let took = started.elapsed();
    assert!(took < stretched(Duration::from_secs(1)).await, "{took:?}");
}

#[tokio::test]
async fn log_lines_are_json_objects_on_standard_error() {
    let mut echo = EchoProcess::start(&[]).await;
    echo.get_json("/echo/hi").await;
    let line: Value = serde_json::from_str(&echo.stderr_line("/echo/hi").await).unwrap();
    assert_eq!((&line["level"], &line["status"], &line["method"]), (&"INFO".into(), &200.into(), &"GET".into()));
    assert!(line["microseconds"].is_u64(), "{line}");
}

#[tokio::test]
async fn health_checks_do_not_fill_the_log() {
    let mut echo = EchoProcess::start(&[]).await;
    echo.get_json("/health").await;
    echo.get_json("/info").await;
    let first_request = echo.stderr_line("\"request\"").await;
    assert!(first_request.contains("/info"), "{first_request}");
}

#[tokio::test]
async fn a_start_delay_postpones_listening() {
    let started = Instant::now();
    let echo = EchoProcess::start(&[("MCP_ECHO_START_DELAY_MS", "300")]).await;
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(echo.get_json("/health").await.0, 200);
}

#[tokio::test]
async fn a_taken_port_ends_the_start_with_an_explanation() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-echo"))
        .env_clear()
        .env("PORT", &port)
        .env("MCP_ECHO_BIND", "127.0.0.1")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&port) && text.contains("--port"), "{text}");
}

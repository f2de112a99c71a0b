//! The embedded gateway in front of a real service: what it tells the service of the client, and its limits of silence.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest as _};

use crate::support::product::{Options, Product};
use crate::support::{PATIENCE, eventually, http_client, podman};

/// What nobody but a proxy says.
const CLAIMS: [(&str, &str); 5] = [
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "echo.example.org"),
    ("x-real-ip", "203.0.113.9"),
    ("forwarded", "for=203.0.113.9"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_word_on_earlier_clients_is_replaced_and_a_trusted_proxys_is_extended() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with("MCP_MANAGER_GATEWAY_TRUSTED_PROXIES", "127.0.0.2, 10.0.0.0/8")).await;
    product.create_echo("echo", json!({})).await;
    let seen = async |from: [u8; 4]| {
        let client = http_client().local_address(std::net::IpAddr::from(from)).build().unwrap();
        let mut request =
            client.get(format!("{}/headers", product.url)).header("host", format!("echo.localhost:{}", product.port));
        for (name, value) in CLAIMS {
            request = request.header(name, value);
        }
        let answer: Value = request.timeout(PATIENCE).send().await.unwrap().json().await.unwrap();
        move |name: &str| answer["headers"][name].as_array().cloned().unwrap_or_default()
    };
    let (port, host) = (product.port.to_string(), format!("echo.localhost:{}", product.port));

    let stranger = seen([127, 0, 0, 1]).await;
    assert_eq!(stranger("x-forwarded-for"), [json!("127.0.0.1")]);
    assert_eq!(stranger("x-forwarded-proto"), [json!("http")]);
    assert_eq!(stranger("x-forwarded-host"), [json!(host)]);
    assert_eq!(stranger("x-forwarded-port"), [json!(port)]);
    assert_eq!(stranger("x-real-ip"), [json!("127.0.0.1")]);
    assert_eq!(stranger("forwarded"), Vec::<Value>::new());

    let proxy = seen([127, 0, 0, 2]).await;
    assert_eq!(proxy("x-forwarded-for"), [json!("203.0.113.9, 127.0.0.2")]);
    assert_eq!(proxy("x-forwarded-proto"), [json!("https")]);
    assert_eq!(proxy("x-forwarded-host"), [json!("echo.example.org")]);
    assert_eq!(proxy("x-real-ip"), [json!("203.0.113.9")]);
    assert_eq!(proxy("forwarded").len(), 2);
    product.finish().await;
}

/// Reads a body until it ends or breaks: how much there was, and whether it ended well.
async fn read(answer: reqwest::Response) -> (usize, bool) {
    let (mut body, mut size) = (answer.bytes_stream(), 0);
    while let Some(chunk) = tokio::time::timeout(PATIENCE, body.next()).await.expect("it goes on, ends or breaks") {
        match chunk {
            Ok(chunk) => size += chunk.len(),
            Err(_) => return (size, false),
        }
    }
    (size, true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_service_is_answered_for_and_silent_connections_are_closed() {
    if !podman::ready().await {
        return;
    }
    let limits =
        Options::podman().with("MCP_MANAGER_GATEWAY_RESPONSE_TIMEOUT", "700ms").with("MCP_MANAGER_GATEWAY_IDLE_TIMEOUT", "1s");
    let product = Product::start(limits).await;
    product.create_echo("echo", json!({})).await;
    let get = async |path: &str| product.service(Method::GET, "echo", path).send().await.unwrap();

    let late = get("/delay/60000").await;
    assert_eq!(late.status(), 504);
    let problem: Value = late.json().await.unwrap();
    assert!(problem["service"] == "echo" && problem["type"] == "urn:mcp-manager:problem:timeout", "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("0.7 s"), "{problem:#}");

    // The limit is for silence, not for the whole: this takes twice as long.
    assert_eq!(read(get("/stream?bytes=20&chunk=1&pause_ms=100").await).await, (20, true));
    assert_eq!(read(get("/stream?bytes=2&chunk=1&pause_ms=60000").await).await, (0, false));
    let events = get("/sse?events=2&delay_ms=60000").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    assert_eq!(read(events).await, (0, false));
    assert!(read(get("/sse?events=15&delay_ms=100").await).await.1, "a stream of events goes on while there are some");

    // A request's body may take longer than the limit as long as it goes on, and no longer when it does not.
    let slow = |pieces: usize, pause: Duration| {
        reqwest::Body::wrap_stream(futures_util::stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::convert::Infallible>("x")
        }))
    };
    let send = async |body| product.service(Method::POST, "echo", "/consume").body(body).send().await.unwrap();
    assert_eq!(send(slow(15, Duration::from_millis(100))).await.json::<Value>().await.unwrap()["bytes"], 15);
    assert_eq!(send(slow(2, Duration::from_mins(1))).await.status(), 504);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_lives_while_somebody_speaks() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with("MCP_MANAGER_GATEWAY_IDLE_TIMEOUT", "1s")).await;
    product.create_echo("echo", json!({})).await;
    let request = format!("ws://echo.localhost:{}/ws", product.port).into_client_request().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", product.port)).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        socket.send(Message::text("hi")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hi"));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let silent = Instant::now();
    let end = tokio::time::timeout(PATIENCE, socket.next()).await.expect("it is closed");
    assert!(matches!(end, None | Some(Err(Error::Protocol(_) | Error::Io(_) | Error::ConnectionClosed))), "{end:?}");
    assert!(silent.elapsed() > Duration::from_millis(600), "closed after {:?}", silent.elapsed());
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_loses_its_connection() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with("MCP_MANAGER_GATEWAY_IDLE_TIMEOUT", "1s")).await;
    product.create_echo("echo", json!({})).await;
    let total = 1_u64 << 30;
    let mut lazy = std::net::TcpStream::connect(("127.0.0.1", product.port)).unwrap();
    lazy.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(lazy, "GET /stream?bytes={total} HTTP/1.1\r\nhost: echo.localhost\r\n\r\n").unwrap();
    eventually("the connection is given up", async || product.log().contains("the client took nothing for 1 s")).await;
    let mut rest = Vec::new();
    // What was under way may still come, the whole never does.
    let _ = lazy.read_to_end(&mut rest);
    assert!((rest.len() as u64) < total, "{} bytes came", rest.len());
    product.finish().await;
}

//! Endpoints that let a test make this service misbehave or show what reached it. Served only when
//! `MCP_ECHO_TEST_CONTROLS` is true: they end the process, hold memory and stream without bound.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::state::Echo;

/// The routes for tests.
pub fn router() -> Router<Arc<Echo>> {
    Router::new()
        .route("/health/fail", post(|State(echo): State<Arc<Echo>>| async move { set_health(&echo, false) }))
        .route("/health/ok", post(|State(echo): State<Arc<Echo>>| async move { set_health(&echo, true) }))
        .route("/health/delay/{ms}", post(delay_health))
        .route("/headers", any(headers))
        .route("/delay/{ms}", any(delay))
        .route("/status/{code}", any(status))
        .route("/stream", get(stream_bytes))
        .route("/sse", get(sse))
        .route("/ws", any(ws))
        .route("/consume", post(consume))
        .route("/log", post(log))
        .route("/allocate/{mebibytes}", post(allocate))
        .route("/exit/{code}", post(exit))
}

fn set_health(echo: &Echo, healthy: bool) -> Json<Value> {
    echo.set_healthy(healthy);
    Json(json!({ "healthy": healthy }))
}

/// Makes every later health answer wait, to play a server that hangs.
async fn delay_health(State(echo): State<Arc<Echo>>, Path(ms): Path<u64>) -> Json<Value> {
    echo.set_health_delay_ms(ms);
    Json(json!({ "health_delay_ms": ms }))
}

/// What reached this process: each header with all its values, in order.
async fn headers(ConnectInfo(peer): ConnectInfo<SocketAddr>, method: Method, uri: Uri, headers: HeaderMap) -> Json<Value> {
    let mut shown: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in &headers {
        shown.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    Json(json!({ "method": method.as_str(), "uri": uri.to_string(), "peer": peer.to_string(), "headers": shown }))
}

async fn delay(Path(ms): Path<u64>) -> Json<Value> {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Json(json!({ "delayed_ms": ms }))
}

async fn status(Path(code): Path<u16>) -> Result<Response, Problem> {
    // Below 200 are interim answers, which no final one may follow in this way.
    let code = StatusCode::from_u16(code).ok().filter(|code| code.as_u16() >= 200).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, format!("{code} is not a final HTTP status"), "ask for 200 to 999")
    })?;
    Ok((code, Json(json!({ "status": code.as_u16() }))).into_response())
}

#[derive(Deserialize)]
#[serde(default)]
struct StreamQuery {
    bytes: u64,
    chunk: usize,
    pause_ms: u64,
}

impl Default for StreamQuery {
    fn default() -> Self {
        Self { bytes: 1 << 20, chunk: 64 << 10, pause_ms: 0 }
    }
}

/// A body of `bytes` bytes in chunks of `chunk`, without a length, with a pause after each chunk.
async fn stream_bytes(Query(query): Query<StreamQuery>) -> Body {
    let chunk = Bytes::from(vec![b'x'; query.chunk.clamp(1, 1 << 20)]);
    let pause = Duration::from_millis(query.pause_ms);
    Body::from_stream(stream::unfold(query.bytes, move |left| {
        let chunk = chunk.clone();
        async move {
            if left == 0 {
                return None;
            }
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Some((Ok::<_, Infallible>(chunk.slice(..length)), left - length as u64))
        }
    }))
}

#[derive(Deserialize)]
#[serde(default)]
struct SseQuery {
    events: u64,
    delay_ms: u64,
}

impl Default for SseQuery {
    fn default() -> Self {
        Self { events: 3, delay_ms: 100 }
    }
}

/// `events` server-sent events, `delay_ms` apart; a stop of the service ends the stream early.
async fn sse(State(echo): State<Arc<Echo>>, Query(query): Query<SseQuery>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = stream::iter(1..=query.events)
        .then(move |number| async move {
            tokio::time::sleep(Duration::from_millis(query.delay_ms)).await;
            Ok(Event::default().event("tick").id(number.to_string()).data(json!({ "number": number }).to_string()))
        })
        .take_until(echo.stopping.clone().cancelled_owned());
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn ws(upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["echo"]).on_upgrade(echo_messages)
}

/// Sends every text and binary message back until the peer closes.
async fn echo_messages(mut socket: WebSocket) {
    use axum::extract::ws::Message;
    while let Some(Ok(message)) = socket.recv().await {
        let answered = match message {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await,
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => break,
        };
        if answered.is_err() {
            break;
        }
    }
}

/// Reads the body to its end without keeping it, and tells its size.
async fn consume(request: Request) -> Result<Json<Value>, Problem> {
    let mut body = request.into_body();
    let (mut bytes, mut chunks) = (0_u64, 0_u64);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let detail = format!("the body broke off after {bytes} bytes: {error}");
            Problem::new(StatusCode::BAD_REQUEST, detail, "send the whole body")
        })?;
        if let Ok(data) = frame.into_data() {
            bytes += data.len() as u64;
            chunks += 1;
        }
    }
    Ok(Json(json!({ "bytes": bytes, "chunks": chunks })))
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Lines {
    stdout: Vec<String>,
    stderr: Vec<String>,
}

/// Writes the given lines to standard output and standard error, unformatted.
async fn log(Json(lines): Json<Lines>) -> Json<Value> {
    use std::io::Write as _;
    let mut output = std::io::stdout().lock();
    let written = lines.stdout.iter().try_for_each(|line| writeln!(output, "{line}")).and_then(|()| output.flush());
    let mut errors = std::io::stderr().lock();
    let complained = lines.stderr.iter().try_for_each(|line| writeln!(errors, "{line}"));
    Json(json!({ "stdout": written.is_ok(), "stderr": complained.is_ok() }))
}

/// Takes and touches memory that is never given back, to meet the memory limit.
async fn allocate(Path(mebibytes): Path<usize>) -> Json<Value> {
    for _ in 0..mebibytes {
        // Written to, so that the kernel must back it with real pages.
        std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
        tokio::task::yield_now().await;
    }
    Json(json!({ "allocated_mebibytes": mebibytes }))
}

/// Ends the process with the given code once this answer is on its way.
async fn exit(State(echo): State<Arc<Echo>>, Path(code): Path<u8>) -> Json<Value> {
    echo.end_with(code);
    Json(json!({ "exit": code }))
}

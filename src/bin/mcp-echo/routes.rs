//! The routes of the echo service and the documented plain endpoints. The MCP endpoint is made in `mcp`, the
//! endpoints for tests in `controls`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::problem::Problem;
use crate::state::{Echo, Info};
use crate::{controls, hosts, mcp};

/// The whole application. Every answer with an error is a problem document, but those of `/mcp`, which are JSON-RPC's.
pub fn router(echo: &Arc<Echo>) -> Router {
    let allowed: hosts::AllowedHosts = echo.settings.allowed_hosts.clone().into();
    let mcp = Router::new()
        .route_service("/mcp", mcp::service(echo))
        .layer(from_fn(settled_deletion))
        .layer(from_fn_with_state(allowed, hosts::guard));
    let mut app = Router::new()
        .route("/", get(about))
        .route("/health", get(health))
        .route("/info", get(info))
        .route("/echo", post(echo_body))
        .route("/echo/{*message}", get(echo_path))
        .route("/mcp/capabilities", get(mcp::capabilities));
    if echo.settings.test_controls {
        app = app.merge(controls::router());
    }
    app.method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(echo.settings.max_body_bytes))
        .with_state(Arc::clone(echo))
        .merge(mcp)
        .layer(from_fn_with_state(Arc::clone(echo), observe))
}

/// Counts every request and writes a line for it; health checks come every few seconds and stay at debug.
async fn observe(State(echo): State<Arc<Echo>>, request: Request, next: Next) -> Response {
    echo.count_request();
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let microseconds = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    if path == "/health" {
        tracing::debug!(%method, path, status, microseconds, "request");
    } else {
        tracing::info!(%method, path, status, microseconds, "request");
    }
    response
}

/// The MCP library answers the end of a session with 202, which the Python client takes for a failure.
async fn settled_deletion(request: Request, next: Next) -> Response {
    let deletion = request.method() == Method::DELETE;
    let mut response = next.run(request).await;
    if deletion && response.status() == StatusCode::ACCEPTED {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    response
}

#[derive(Serialize)]
struct About {
    service: String,
    name: &'static str,
    version: &'static str,
    description: &'static str,
    hostname: String,
    endpoints: &'static [&'static str],
}

async fn about(State(echo): State<Arc<Echo>>) -> Json<About> {
    Json(About {
        service: echo.settings.service_name.clone(),
        name: env!("CARGO_BIN_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        description: "Echo service of mcp-manager: plain HTTP, and the Model Context Protocol at /mcp",
        hostname: echo.hostname().to_owned(),
        endpoints: &["GET /", "GET /health", "GET /info", "GET /echo/{message}", "POST /echo", "GET /mcp/capabilities", "/mcp"],
    })
}

async fn health(State(echo): State<Arc<Echo>>) -> Response {
    tokio::time::sleep(echo.health_delay()).await;
    let status = if echo.is_healthy() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(echo.health())).into_response()
}

async fn info(State(echo): State<Arc<Echo>>) -> Json<Info> {
    Json(echo.info())
}

/// Answer of both echo endpoints: the message as it came, and who gave it back.
#[derive(Serialize)]
struct Echoed {
    echo: Value,
    service: String,
    hostname: String,
    instance: String,
}

impl Echoed {
    fn by(service: &Echo, echo: Value) -> Json<Self> {
        Json(Self {
            echo,
            service: service.settings.service_name.clone(),
            hostname: service.hostname().to_owned(),
            instance: service.instance().to_owned(),
        })
    }
}

async fn echo_path(State(echo): State<Arc<Echo>>, message: Result<Path<String>, PathRejection>) -> Result<Json<Echoed>, Problem> {
    let Path(message) = message.map_err(|rejection| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            rejection.body_text(),
            "send the message as percent-encoded UTF-8, for example /echo/hello%20world",
        )
    })?;
    Ok(Echoed::by(&echo, Value::String(message)))
}

async fn echo_body(State(echo): State<Arc<Echo>>, body: Result<Bytes, BytesRejection>) -> Result<Json<Echoed>, Problem> {
    const REMEDY: &str = r#"send a JSON object with a message, for example {"message": "hello"}"#;
    let body = body.map_err(|rejection| {
        Problem::new(rejection.status(), rejection.body_text(), format!("send at most {} bytes", echo.settings.max_body_bytes))
    })?;
    // The content type is not looked at: `curl -d` sends the wrong one, and nothing but JSON is understood anyway.
    let mut value: Value = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not valid JSON: {error}"), REMEDY))?;
    let message = value
        .get_mut("message")
        .map(Value::take)
        .ok_or_else(|| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the body has no field 'message'", REMEDY))?;
    Ok(Echoed::by(&echo, message))
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()), "GET / lists what there is")
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not answer to {method}", uri.path()),
        "GET / lists what there is, with its methods",
    )
}

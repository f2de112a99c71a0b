//! The REST face: routes, extraction, problem documents, the OpenAPI document. Decides nothing; each handler calls one
//! function of the [`crate::manager`].

mod accept;
mod containers;
mod extract;
mod openapi;
mod packages;
pub mod problem;
mod services;
mod streams;
mod system;
mod templates;
mod tools;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Authenticator;
use crate::error::{Error, Kind};
use crate::manager::Manager;
use crate::pages;
use crate::telemetry::Metrics;
use crate::tools::Policy;
use problem::Problem;

pub use services::Services;

/// What the REST face is told by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Origins that browsers may call from; empty for none, `*` for any.
    pub cors_origins: Vec<String>,
    /// Largest body, in bytes.
    pub max_body_bytes: usize,
    /// Longest time a body may take to arrive.
    pub body_timeout: std::time::Duration,
    /// Whether `/metrics` answers.
    pub metrics_enabled: bool,
    /// What the installation wants of tools.
    pub policy: Policy,
}

/// What handlers share.
#[derive(Clone)]
pub struct Api {
    manager: Arc<Manager>,
    authenticator: Authenticator,
    metrics: Metrics,
    settings: Arc<Settings>,
    services: Option<Services>,
}

/// The whole REST face. `services` is the way to services, where the manager is one; routes of other faces stand `beside` it
/// and are measured and answered to browsers in the same way.
pub fn router(
    manager: Arc<Manager>,
    authenticator: Authenticator,
    metrics: Metrics,
    settings: Settings,
    services: Option<Services>,
    beside: Router,
) -> Router {
    let cors = cors(&settings.cors_origins);
    let max_body = settings.max_body_bytes;
    let api = Api { manager, authenticator, metrics, settings: Arc::new(settings), services };
    let (router, _made_when_asked_for) = documented().split_for_parts();
    let router = router
        .route("/tools/{tool}", axum::routing::post(tools::call))
        .layer(middleware::from_fn_with_state(api.clone(), refuse_strangers))
        .merge(openapi::pages())
        .merge(services::router())
        .merge(beside.with_state(()))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(api.clone(), measure))
        .layer(DefaultBodyLimit::max(max_body));
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.with_state(api)
}

/// The OpenAPI document, without a running manager; with the old names of tools where those answer.
#[must_use]
pub fn openapi_document(compat: bool) -> serde_json::Value {
    openapi::corrected(documented().into_openapi(), compat)
}

fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(system::health))
        .routes(routes!(system::ready))
        .routes(routes!(system::metrics))
        .routes(routes!(system::prometheus))
        .routes(routes!(system::info))
        .routes(routes!(system::diagnostics))
        .routes(routes!(system::images))
        .routes(routes!(packages::add))
        .routes(routes!(system::pull))
        .routes(routes!(containers::list, containers::create))
        .routes(routes!(containers::get, containers::apply, containers::patch, containers::delete))
        .routes(routes!(containers::status))
        .routes(routes!(containers::start))
        .routes(routes!(containers::stop))
        .routes(routes!(containers::restart))
        .routes(routes!(containers::stats))
        .routes(routes!(containers::inspect))
        .routes(routes!(streams::logs))
        .routes(routes!(streams::events))
        .routes(routes!(streams::all_events))
        .routes(routes!(templates::list, templates::create))
        .routes(routes!(templates::validate))
        .routes(routes!(templates::get, templates::put, templates::delete))
        .routes(routes!(templates::schema))
        .routes(routes!(tools::list))
}

/// Pages of strangers change nothing. A browser asks beforehand (CORS) only about requests that a form could not send;
/// others it sends, and keeps the answer from the page.
async fn refuse_strangers(State(api): State<Api>, request: Request, next: Next) -> Result<Response, Problem> {
    let stranger = pages::stranger(request.headers(), &api.settings.cors_origins);
    match stranger.filter(|_| pages::may_change(request.method())) {
        None => Ok(next.run(request).await),
        Some(origin) => {
            let error = Error::new(Kind::Forbidden, format!("web pages of '{origin}' may not change anything"));
            Err(Problem(error.remedy("name the origin in CORS_ORIGINS (setting server.cors_origins)")))
        }
    }
}

/// Counts and times every request by its route, never by its path.
async fn measure(State(api): State<Api>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let (status, elapsed) = (response.status(), started.elapsed());
    api.metrics.answered(&method, &route, status, Some(elapsed));
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    // That the manager is not ready yet is an answer like any other; why is told once, by what it waits for.
    if status.is_server_error() && route != "/ready" {
        tracing::warn!(%method, route, status = status.as_u16(), milliseconds, "answered");
    } else {
        tracing::debug!(%method, route, status = status.as_u16(), milliseconds, "answered");
    }
    response
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::from(Any)
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let named = ["x-api-key", "mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "last-event-id"];
    let headers = [header::CONTENT_TYPE, header::AUTHORIZATION, header::ACCEPT];
    let headers: Vec<HeaderName> = headers.into_iter().chain(named.map(HeaderName::from_static)).collect();
    let exposed = [HeaderName::from_static("mcp-session-id"), HeaderName::from_static("x-request-id")];
    Some(CorsLayer::new().allow_origin(origin).allow_methods(methods).allow_headers(headers).expose_headers(exposed))
}

async fn unknown_route(request: Request) -> Response {
    let detail = format!("there is nothing at {}", request.uri().path().escape_debug());
    Problem(Error::new(Kind::NotFound, detail).remedy("GET /docs shows what there is")).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let detail = format!("{} is not possible at {}", request.method(), request.uri().path().escape_debug());
    let problem = Problem(Error::new(Kind::NotSupported, detail).remedy("the Allow header says what is possible; see GET /docs"));
    problem.with_status(axum::http::StatusCode::METHOD_NOT_ALLOWED)
}

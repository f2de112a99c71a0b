//! `/health`, `/ready`, `/metrics`, `/system`, `/images`: the manager itself.
//!
//! The first three pass over parameters that they do not know: probes and scrapers add some of their own, and a manager that
//! called itself ill because of one would be taken out of service.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio_util::sync::CancellationToken;

use super::Api;
use super::extract::{Anyone, Body, Caller, NoParameters};
use super::problem::{Answer, ProblemDocument};
use crate::error::{Error, Kind};
use crate::manager::{Diagnostics, ImageInfo, PullRequest, SystemHealth, SystemInfo};

/// Whether the manager is alive; 200 as long as it is, whatever it relies on.
#[utoipa::path(get, path = "/health", tag = "system", responses((status = 200, body = SystemHealth)))]
pub async fn health(State(api): State<Api>, Anyone(actor): Anyone) -> Answer<Json<SystemHealth>> {
    Ok(Json(api.manager.read_health(&actor).await?))
}

/// Whether requests can be served in full: the engine answers, and everything that runs has been seen.
#[utoipa::path(get, path = "/ready", tag = "system", responses(
    (status = 200, body = SystemHealth), (status = 503, body = SystemHealth)))]
pub async fn ready(State(api): State<Api>, Anyone(actor): Anyone) -> Answer<Response> {
    let health = api.manager.read_health(&actor).await?;
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(health)).into_response())
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "system", responses((status = 200, body = String, content_type = "text/plain"),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn metrics(State(api): State<Api>, Anyone(actor): Anyone) -> Answer<Response> {
    if !api.settings.metrics_enabled {
        return Err(Error::new(Kind::NotFound, "metrics are off").remedy("set ENABLE_METRICS=true").into());
    }
    let text = api.manager.read_metrics(&actor).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Metrics, under their other name.
#[utoipa::path(get, path = "/prometheus", tag = "system", responses((status = 200, body = String, content_type = "text/plain"),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn prometheus(state: State<Api>, anyone: Anyone) -> Answer<Response> {
    metrics(state, anyone).await
}

/// What the manager runs on, and what that can enforce.
#[utoipa::path(get, path = "/system", tag = "system", responses((status = 200, body = SystemInfo),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn info(State(api): State<Api>, Caller(actor): Caller, _: NoParameters) -> Answer<Json<SystemInfo>> {
    Ok(Json(api.manager.system_info(&actor).await?))
}

/// One look at everything that may be wrong, and what to do about it.
#[utoipa::path(get, path = "/system/diagnostics", tag = "system", responses((status = 200, body = Diagnostics),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn diagnostics(State(api): State<Api>, Caller(actor): Caller, _: NoParameters) -> Answer<Json<Diagnostics>> {
    Ok(Json(api.manager.diagnostics(&actor).await?))
}

/// The images at hand.
#[utoipa::path(get, path = "/images", tag = "system", responses((status = 200, body = Vec<ImageInfo>),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn images(State(api): State<Api>, Caller(actor): Caller, _: NoParameters) -> Answer<Json<Vec<ImageInfo>>> {
    Ok(Json(api.manager.list_images(&actor).await?.images))
}

/// Make an image available; answers when it is there.
#[utoipa::path(post, path = "/images/pull", tag = "system", request_body = PullRequest, responses((status = 200, body = ImageInfo),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn pull(State(api): State<Api>, Caller(actor): Caller, _: NoParameters, Body(body): Body) -> Answer<Json<ImageInfo>> {
    let request = body.read(PullRequest::read)?;
    Ok(Json(api.manager.pull_image(&actor, request, Arc::new(|_| ()), CancellationToken::new()).await?))
}

//! Logs and events: as JSON, or as server-sent events while they happen.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::extract::{Caller, Name, NoParameters, Parameters, Rules};
use super::problem::{Answer, ProblemDocument};
use crate::domain::spec;
use crate::domain::status::{ServiceEvent, Stream};
use crate::error::{FieldError, Result};
use crate::manager::{LogPage, LogRequest, tail};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogParameters {
    /// So many of the last lines of each replica: 0 to 10000 (default 100).
    #[serde(default, deserialize_with = "tail")]
    #[param(minimum = 0, maximum = 10000)]
    tail: Option<u32>,
    /// Only lines from then on: a time (`2026-01-31T12:00:00Z`), seconds since 1970, or a span before now (`2h`).
    since: Option<String>,
    /// Only lines before then: a time, seconds since 1970, or a span before now.
    until: Option<String>,
    /// Only `stdout` or `stderr`.
    #[param(inline)]
    stream: Option<Stream>,
    /// Only this replica.
    #[serde(default, deserialize_with = "spec::replicas")]
    #[param(minimum = 1)]
    replica: Option<u32>,
    /// What the container before the present one logged, where the engine makes a new one for each start.
    previous: Option<bool>,
    /// Whether lines carry their time (default true).
    timestamps: Option<bool>,
    /// Go on with new lines, as server-sent events.
    #[serde(default)]
    follow: bool,
}

impl LogParameters {
    fn request(&self) -> LogRequest {
        let Self { tail, stream, replica, previous, timestamps, .. } = *self;
        LogRequest { tail, since: self.since.clone(), until: self.until.clone(), stream, replica, previous, timestamps }
    }
}

impl Rules for LogParameters {
    fn violations(&self) -> Vec<FieldError> {
        self.request().violations(self.follow)
    }
}

/// One event of a stream, for the OpenAPI document.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a shape to be described, never made")]
pub struct ServerSentEvent {
    /// `line`, the kind of a service's event, or `problem` before a stream ends because of an error.
    event: Option<String>,
    /// Number of a service's event.
    id: Option<String>,
    /// JSON: a `LogLine`, a `ServiceEvent` or a `Problem`.
    data: String,
}

/// Log lines of a service, replicas merged by time; with `follow=true` as server-sent events named `line`.
#[utoipa::path(get, path = "/containers/{name}/logs", tag = "containers",
    params(("name" = String, Path, description = "Name of the service"), LogParameters),
    responses((status = 200, content((LogPage = "application/json"), (ServerSentEvent = "text/event-stream"))),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn logs(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    Parameters(parameters): Parameters<LogParameters>,
) -> Answer<Response> {
    let request = parameters.request();
    if !parameters.follow {
        return Ok(Json(api.manager.service_log_page(&actor, &name, request).await?).into_response());
    }
    let lines = api.manager.follow_service_logs(&actor, &name, request, true).await?;
    Ok(server_sent(lines.map(|line| event_of(line, |line| json_event("line", line))).boxed()))
}

/// What happens to a service, as server-sent events, beginning with where it stands; ends when it is removed,
/// or with `problem` when the manager stops.
#[utoipa::path(get, path = "/containers/{name}/events", tag = "containers", params(("name" = String, Path, description = "Name of the service")),
    responses((status = 200, body = ServerSentEvent, content_type = "text/event-stream"),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn events(State(api): State<Api>, Caller(actor): Caller, Name(name): Name, _: NoParameters) -> Answer<Response> {
    let events = api.manager.service_events(&actor, Some(&name)).await?;
    Ok(server_sent(events.map(|event| event_of(event, service_event)).boxed()))
}

/// What happens to all services, as server-sent events; ends with `problem` when the manager stops.
#[utoipa::path(get, path = "/events", tag = "containers", responses((status = 200, body = ServerSentEvent, content_type = "text/event-stream"),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn all_events(State(api): State<Api>, Caller(actor): Caller, _: NoParameters) -> Answer<Response> {
    let events = api.manager.service_events(&actor, None).await?;
    Ok(server_sent(events.map(|event| event_of(event, service_event)).boxed()))
}

fn server_sent(events: BoxStream<'static, Event>) -> Response {
    Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(keep_alive()).into_response()
}

/// Keeps a stream open through proxies.
pub(super) fn keep_alive() -> KeepAlive {
    KeepAlive::new().interval(Duration::from_secs(15))
}

pub(super) fn json_event<T: Serialize>(name: &str, data: &T) -> Event {
    // Plain values always serialise; were one not to, an empty event does no harm.
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}

/// What there is to tell, or why nothing more follows.
fn event_of<T>(told: Result<T>, event: impl FnOnce(&T) -> Event) -> Event {
    match told {
        Ok(told) => event(&told),
        Err(error) => json_event("problem", &ProblemDocument::from(error)),
    }
}

fn service_event(event: &ServiceEvent) -> Event {
    json_event(&event.kind, event).id(event.sequence.to_string())
}

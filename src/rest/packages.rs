//! `/packages`: packages made into templates that can be started.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::accept::prefers_events;
use super::extract::{Body, Caller, NoParameters};
use super::problem::{Answer, ProblemDocument};
use super::streams::ServerSentEvent;
use crate::manager::{PackageAnswer, PackageRequest};
use crate::problem::Problem as Document;

/// Make an image for a package, and a template that runs it. Who prefers `text/event-stream` in `Accept` is told the steps as events
/// named `progress`, then `done` with the answer, or `problem`.
#[utoipa::path(post, path = "/packages", tag = "templates", request_body = PackageRequest, responses(
    (status = 200, content((PackageAnswer = "application/json"), (ServerSentEvent = "text/event-stream"))),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn add(
    State(api): State<Api>,
    Caller(actor): Caller,
    _: NoParameters,
    headers: HeaderMap,
    Body(document): Body,
) -> Answer<Response> {
    let request = document.read(PackageRequest::read)?;
    let cancelled = CancellationToken::new();
    // Who goes away does not wait for the image any more; the steps that are done are kept.
    let gone = cancelled.clone().drop_guard();
    if !prefers_events(&headers) {
        let answer = api.manager.add_package(&actor, request, Arc::new(|_| ()), cancelled).await?;
        return Ok(Json(answer).into_response());
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    let work = async move {
        let _gone = gone;
        let progress = Arc::new(move |progress| {
            // Nobody may be listening any more.
            let _ = sender.send(progress);
        });
        match api.manager.add_package(&actor, request, progress, cancelled).await {
            Ok(answer) => Event::default().event("done").json_data(&answer),
            Err(error) => Event::default().event("problem").json_data(Document::from(error)),
        }
    };
    let steps = UnboundedReceiverStream::new(receiver).map(|progress| Event::default().event("progress").json_data(&progress));
    let events = stream::select(steps, stream::once(work));
    let events = events.map(|event| Ok::<_, Infallible>(event.unwrap_or_default()));
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

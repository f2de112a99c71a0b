//! `/tools`: every tool of the table as an endpoint of its own.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use futures_util::stream::{iter, unfold};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::accept::prefers_events;
use super::extract::{Caller, NoParameters, OptionalBody, Segment};
use super::problem::{Answer, ProblemDocument};
use super::streams::{json_event, keep_alive};
use crate::domain::status::Progress;
use crate::error::{Error, Result};
use crate::tools::compat::ALIASES;
use crate::tools::{self, Call, TOOLS, Tool};

/// After so long without a word the client is given an open stream.
const PATIENCE: Duration = Duration::from_secs(2);

/// The tools, as MCP describes them: name, schemas, annotations; only those that the caller may use.
#[utoipa::path(get, path = "/tools", tag = "tools", responses((status = 200, body = Object),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn list(State(api): State<Api>, Caller(actor): Caller, _: NoParameters) -> Answer<Json<Value>> {
    api.manager.read_tools(&actor).await?;
    Ok(Json(json!({"tools": tools::described(&api.settings.policy, Some(&actor))})))
}

/// Calls a tool. The answer is what an MCP client finds as structured content.
///
/// Who prefers `text/event-stream` to JSON gets a stream: `progress` while it goes on, then `result` or `problem`. Who
/// closes the stream before its end cancels the call. What fails before there is anything to tell is a problem with its
/// status either way.
pub async fn call(
    State(api): State<Api>,
    Caller(actor): Caller,
    Segment(name): Segment,
    _: NoParameters,
    headers: HeaderMap,
    OptionalBody(body): OptionalBody,
) -> Answer<Response> {
    let compat = api.settings.policy.compat;
    let (arguments, twice) = match body.map(|body| (body.value, body.twice)) {
        None => (Map::new(), Vec::new()),
        Some((Value::Object(arguments), twice)) => (arguments, twice),
        Some(_) => return Err(Error::invalid_field("", "the body is not a JSON object", "send the tool's arguments").into()),
    };
    let call = Call { manager: api.manager, actor, arguments, twice, progress: None, cancelled: CancellationToken::new() };
    if prefers_events(&headers) {
        return stream(name, compat, call).await;
    }
    Ok(Json(tools::call(&name, compat, call).await?).into_response())
}

/// The call as it goes on. Dropping the stream cancels it.
async fn stream(name: String, compat: bool, call: Call) -> Answer<Response> {
    let (sender, receiver) = mpsc::channel::<Progress>(64);
    // Reports that nobody takes in time are left out, as later ones say more.
    let call = Call { progress: Some(Arc::new(move |report| drop(sender.try_send(report)))), ..call };
    let guard = call.cancelled.clone().drop_guard();
    let work = Box::pin(async move { tools::call(&name, compat, call).await });
    let steps = unfold(Some((work, receiver, guard)), |state| async move {
        let (mut work, mut receiver, guard) = state?;
        let step = {
            let work = pin!(&mut work);
            tokio::select! {
                biased;
                Some(report) = receiver.recv() => Step::Report(report),
                result = work => Step::Over(result),
            }
        };
        let rest = matches!(step, Step::Report(_)).then_some((work, receiver, guard));
        Some((step, rest))
    });
    let mut steps = steps.boxed();
    let first = match tokio::time::timeout(PATIENCE, steps.next()).await.ok().flatten() {
        Some(Step::Over(Err(error))) => return Err(error.into()),
        first => first,
    };
    let events = iter(first).chain(steps).map(|step| Ok::<_, Infallible>(step.event()));
    Ok(Sse::new(events).keep_alive(keep_alive()).into_response())
}

/// What there is to tell of a call.
enum Step {
    Report(Progress),
    Over(Result<Value>),
}

impl Step {
    fn event(self) -> Event {
        match self {
            Self::Report(report) => json_event("progress", &report),
            Self::Over(Ok(result)) => json_event("result", &result),
            Self::Over(Err(error)) => json_event("problem", &ProblemDocument::from(error)),
        }
    }
}

/// The OpenAPI entries of all tools: one path each, with the schemas of the table. With `compat` the old names have theirs,
/// as what nobody should begin to use.
pub fn describe(document: &mut Value, compat: bool) {
    for tool in TOOLS {
        let entry = operation(tool, tool.name, &tool.input_schema());
        document["paths"][format!("/tools/{}", tool.name)]["post"] = entry;
    }
    for (alias, tool) in ALIASES.iter().filter(|_| compat).filter_map(|alias| Some((alias, alias.tool()?))) {
        let mut entry = operation(tool, alias.name, &alias.input_schema());
        entry["summary"] = format!("Old name of {}", tool.name).into();
        entry["deprecated"] = true.into();
        document["paths"][format!("/tools/{}", alias.name)]["post"] = entry;
    }
}

/// The OpenAPI operation of a tool under one of its names, with the arguments that it has under that.
fn operation(tool: &Tool, name: &str, input: &Map<String, Value>) -> Value {
    let problem = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
    json!({
        "tags": ["tools"],
        "summary": tool.title,
        "description": format!("{}\n\nThe same as `{}`.", tool.description, tool.endpoint),
        "operationId": format!("tool_{name}"),
        "requestBody": {"content": {"application/json": {"schema": input}}},
        "responses": {
            "200": {"description": "What it gives", "content": {
                "application/json": {"schema": *tool.output_schema()},
                "text/event-stream": {"schema": {"$ref": "#/components/schemas/ServerSentEvent"}},
            }},
            "4XX": {"description": "It failed", "content": problem},
            "5XX": {"description": "It failed", "content": problem},
        },
    })
}

//! One MCP endpoint over many services: their tools, prompts, resources and templates side by side, for clients of both
//! protocol eras. ARCHITECTURE.md, "One endpoint over many servers", has the whole picture.
//!
//! Who may call it is decided before a request comes here; which replica gets a request is the gateway's business.

mod batch;
mod catalog;
mod changes;
mod headers;
mod listening;
mod look;
mod merge;
mod meta;
mod raw;
mod relay;
mod session;
mod sessions;
mod shared;
mod stateless;
mod target;
#[cfg(test)]
mod tests;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::Gateway;
use crate::domain::aggregate::{Names, Scope};
use crate::domain::status::Snapshot;
use crate::lifecycle::Tasks;
use crate::pages;
use crate::rpc::{self, keys};
use catalog::Catalog;
use raw::Message;
use sessions::Sessions;
use shared::SharedLines;
use upstream::Upstream;

/// Longest message of a client, in bytes.
const MAX_REQUEST: usize = 16 << 20;
/// Longest time that a client may take to send one.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A stream says so often that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How the endpoint behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who is called what, and who is in which group.
    pub names: Names,
    /// Origins of web pages that may use the endpoint from a browser, besides its own; `*` for all.
    pub origins: Vec<String>,
    /// Most sessions at once of clients of the earlier eras.
    pub max_sessions: usize,
    /// A session that nobody uses for so long ends.
    pub session_idle: Duration,
}

/// The endpoint. It keeps the sessions of its clients and knows what every service offers.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    catalog: Arc<Catalog>,
    upstream: Upstream,
    sessions: Sessions,
    shared: SharedLines,
    tasks: Tasks,
}

impl Hub {
    /// An endpoint over the services of a live view. It stops with `tasks`.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, view: watch::Receiver<Arc<Snapshot>>, settings: Settings, tasks: &Tasks) -> Arc<Self> {
        let upstream = Upstream::new(gateway);
        let catalog = Catalog::new(upstream.clone(), view, settings.names.clone(), tasks);
        tasks.spawn("mcp: what services offer", Arc::clone(&catalog).follow());
        let idle = settings.session_idle;
        let (sessions, shared) = (Sessions::new(settings.max_sessions, idle), SharedLines::default());
        let hub = Arc::new(Self { settings, catalog, upstream, sessions, shared, tasks: tasks.clone() });
        tasks.spawn("mcp: idle sessions", sessions::close_idle(Arc::downgrade(&hub), idle, tasks.clone()));
        hub
    }

    /// Whether there is an endpoint for the scope.
    #[must_use]
    pub fn has(&self, scope: &Scope) -> bool {
        self.settings.names.has(scope)
    }

    /// Answers a request to the endpoint for `scope` of somebody who may use it. `actor` keeps callers apart: nobody
    /// uses a session of somebody else's.
    pub async fn answer(self: &Arc<Self>, scope: Scope, actor: &str, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        if let Some(refused) = self.strange_page(&parts.headers) {
            return refused;
        }
        let caller = Caller { scope, actor: actor.to_owned(), headers: parts.headers };
        match parts.method {
            Method::POST => match read(&caller.headers, body).await {
                Ok(Said::One(message)) => self.take(caller, message).await,
                Ok(Said::Many(text)) => self.take_batch(caller, &text).await,
                Err(refused) => *refused,
            },
            Method::GET => self.listen(&caller),
            Method::DELETE => self.end(&caller),
            _ => not_allowed(),
        }
    }

    /// The era of a message is told by how it came. The one without sessions knows no header that names one.
    async fn take(self: &Arc<Self>, caller: Caller, message: Message) -> Response<Body> {
        let version = caller.headers.get(upstream::PROTOCOL_VERSION).and_then(|version| version.to_str().ok());
        let says_version = message.params().object("_meta").is_some_and(|meta| meta.has(keys::VERSION));
        let opens = message.method.as_deref() == Some("initialize") && !says_version;
        let stateless = version == Some(look::STATELESS) || says_version;
        let in_session = opens || (caller.headers.contains_key(upstream::SESSION_ID) && !stateless);
        if !in_session && (stateless || version.is_some_and(|version| !look::SESSIONS.contains(&version))) {
            return self.take_stateless(caller, message).await;
        }
        self.take_in_session(caller, message).await
    }

    /// The refusal of a request that a web page of a strange origin sends.
    #[must_use]
    pub fn strange_page(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        let origin = pages::stranger(headers, &self.settings.origins)?;
        let text = format!("web pages of {origin} may not use this endpoint; the setting server.cors_origins allows them");
        Some(refusal(StatusCode::FORBIDDEN, None, rpc::INVALID_REQUEST, &text))
    }
}

/// Who sent a message, and how.
#[derive(Debug, Clone)]
struct Caller {
    scope: Scope,
    actor: String,
    headers: HeaderMap,
}

/// What one body holds.
enum Said {
    One(Message),
    /// Several messages, as they came.
    Many(Bytes),
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Said, Box<Response<Body>>> {
    let refused = |status, code, text: &str| Err(Box::new(refusal(status, None, code, text)));
    let json = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    // A web page can send forms and plain text anywhere without asking, JSON it cannot.
    if !json.is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))) {
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, rpc::INVALID_REQUEST, "the content type must be application/json");
    }
    let whole = http_body_util::Limited::new(body, MAX_REQUEST).collect();
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return refused(StatusCode::PAYLOAD_TOO_LARGE, rpc::INVALID_REQUEST, "the message is longer than 16 MiB");
        }
        Ok(Err(_)) => return refused(StatusCode::BAD_REQUEST, rpc::INVALID_REQUEST, "the message broke off"),
        Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, rpc::INVALID_REQUEST, "the message did not arrive within 30 s"),
    };
    match Message::parse(&bytes) {
        Some(message) => Ok(Said::One(message)),
        None => match serde_json::from_slice::<&RawValue>(&bytes) {
            Ok(whole) if whole.get().starts_with('[') => Ok(Said::Many(bytes)),
            Ok(_) => refused(StatusCode::BAD_REQUEST, rpc::INVALID_REQUEST, "this is no JSON-RPC 2.0 message"),
            Err(error) => refused(StatusCode::BAD_REQUEST, rpc::PARSE_ERROR, &format!("this is not JSON: {error}")),
        },
    }
}

fn refusal(status: StatusCode, id: Option<&RawValue>, code: i32, text: &str) -> Response<Body> {
    json(status, raw::error(id, code, text, None))
}

fn not_allowed() -> Response<Body> {
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, None, rpc::INVALID_REQUEST, "send messages with POST");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn accepted() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// An answer of events.
fn stream<S>(events: S) -> Response<Body>
where
    S: futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
{
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

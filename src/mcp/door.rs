//! Who is let in: pages of strangers are not, callers are named as in the API, sessions belong to those who opened
//! them, and there are not too many of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;

use super::message;
use crate::auth::{Authenticator, presented_key};
use crate::domain::shown;
use crate::error::{Error, Kind};
use crate::pages;
use crate::problem::{Problem, status};
use crate::rpc;
use crate::rpc::batch::{self, Answers};
use crate::server::RequestId;

const SESSION: &str = "mcp-session-id";
/// How the library begins its sentence on a body that it cannot read.
const UNREAD: &str = "fail to deserialize request body";
/// Longest sentence of the library that is passed on.
const MAX_SENTENCE: usize = 4096;

/// Lets requests in.
#[derive(Clone)]
pub struct Door {
    /// Who is asking.
    pub authenticator: Authenticator,
    /// Origins whose pages may call; `*` for all.
    pub origins: Arc<[String]>,
    /// Longest body.
    pub max_body_bytes: usize,
    /// Longest time that it may take to arrive.
    pub body_timeout: Duration,
    /// Most sessions.
    pub max_sessions: usize,
    pub(super) sessions: Arc<LocalSessionManager>,
    pub(super) owners: Arc<Mutex<HashMap<String, Opened>>>,
}

/// What is known of a session.
#[derive(Debug)]
pub(super) struct Opened {
    /// Who opened it.
    owner: String,
    /// Whether its revision has batches.
    batches: bool,
}

/// What may come in.
struct Entered {
    parts: Parts,
    body: Bytes,
    owner: String,
}

/// Lets a request in, with its actor as an extension, or answers it.
pub(super) async fn admit(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.enter(request).await {
        Ok(Entered { parts, body, .. }) if door.takes_batches(&parts.headers) && message::is_batch(&body) => {
            several(parts, &body, next).await
        }
        Ok(Entered { parts, body, owner }) => {
            let opens = !parts.headers.contains_key(SESSION);
            // The library agrees to every revision that it knows.
            let batches = opens && message::revision(&body).is_some_and(|revision| batch::are_in(&revision));
            let response = in_our_words(next.run(Request::from_parts(parts, Body::from(body))).await).await;
            if opens && let Some(session) = response.headers().get(SESSION).and_then(|id| id.to_str().ok()) {
                door.remember(session.to_owned(), Opened { owner, batches }).await;
            }
            response
        }
        Err(refused) => *refused,
    }
}

/// Lets the messages of a batch in one by one, as those that they are.
async fn several(parts: Parts, body: &Bytes, next: Next) -> Response {
    let messages = match batch::messages(body) {
        Ok(messages) => messages,
        Err(why) => return message::refusal(rpc::INVALID_REQUEST, &why),
    };
    let mut answers = Answers::default();
    for text in messages {
        let text = body.slice_ref(text.get().as_bytes());
        if let Some(wrong) = message::refused(&text).or_else(|| message::misasked(&text)) {
            answers.refuse(wrong);
            continue;
        }
        let id = message::id_of_request(&text);
        let (request, next) = (Request::from_parts(parts.clone(), Body::from(text)), next.clone());
        answers.add(id, async move { in_our_words(next.run(request).await).await }.boxed()).await;
    }
    answers.together().await
}

impl Door {
    async fn enter(&self, request: Request) -> Result<Entered, Box<Response>> {
        let (mut parts, body) = request.into_parts();
        self.check_origin(&parts.headers)?;
        let request_id = parts.extensions.get::<RequestId>().map(|id| id.0.clone());
        let actor = self.authenticator.actor(presented_key(&parts.headers), request_id).map_err(|error| refuse(error, None))?;
        self.check_session(&parts.method, &parts.headers, &actor.name).await?;
        let body = if parts.method == Method::POST { self.read(body).await? } else { Bytes::new() };
        // What is said to be something else is refused as that.
        if parts.method == Method::POST
            && is_json(&parts.headers)
            && let Some(refused) = self.check_message(&parts.headers, &body).await
        {
            return Err(Box::new(refused));
        }
        let owner = actor.name.clone();
        parts.extensions.insert(actor);
        Ok(Entered { parts, body, owner })
    }

    async fn check_message(&self, headers: &HeaderMap, body: &[u8]) -> Option<Response> {
        let is_open = self.is_open(headers).await;
        if self.takes_batches(headers) && message::is_batch(body) {
            return if is_open { None } else { Some(*no_session()) };
        }
        // Whoever names a session that is over is told that before what is wrong with the parameters, by the library.
        message::refused(body).or_else(|| if is_open { message::misasked(body) } else { None })
    }

    /// Whether several messages may come in one body: in sessions of a revision that has it so.
    fn takes_batches(&self, headers: &HeaderMap) -> bool {
        let session = headers.get(SESSION).and_then(|session| session.to_str().ok()).unwrap_or_default();
        let owners = self.owners();
        owners.get(session).is_some_and(|opened| opened.batches)
    }

    /// A browser names the page that calls. Pages of the manager itself, and of origins that may call the API, are let in.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let Some(origin) = pages::stranger(headers, &self.origins) else { return Ok(()) };
        let error = Error::new(Kind::Forbidden, format!("pages of '{origin}' may not call this server"));
        Err(refuse(error.remedy("name the origin in CORS_ORIGINS"), None))
    }

    async fn check_session(&self, method: &Method, headers: &HeaderMap, owner: &str) -> Result<(), Box<Response>> {
        let Some(session) = headers.get(SESSION) else {
            // Only requests without a session may open one, and those of the revision without sessions name their method.
            let may_open = *method == Method::POST && !headers.contains_key("mcp-method");
            if may_open && self.sessions.sessions.read().await.len() >= self.max_sessions {
                let mut refused = refuse(Error::too_many_sessions(self.max_sessions), None);
                refused.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(rpc::COME_AGAIN));
                return Err(refused);
            }
            return Ok(());
        };
        let session = session.to_str().unwrap_or_default();
        // The library would take the end of what it does not know for done.
        let ends_nothing = *method == Method::DELETE && !self.sessions.sessions.read().await.contains_key(session);
        let owners = self.owners();
        // To a stranger, somebody else's session does not exist.
        if ends_nothing || owners.get(session).is_some_and(|opened| opened.owner != owner) {
            return Err(no_session());
        }
        Ok(())
    }

    /// Whether the session that a request names is there, if it names one.
    async fn is_open(&self, headers: &HeaderMap) -> bool {
        let Some(session) = headers.get(SESSION) else { return true };
        self.sessions.sessions.read().await.contains_key(session.to_str().unwrap_or_default())
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<String, Opened>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn remember(&self, session: String, opened: Opened) {
        self.owners().insert(session, opened);
        // Who comes in while this looks at what is alive is not known here, and stays.
        let mut known: Vec<String> = self.owners().keys().cloned().collect();
        let sessions = self.sessions.sessions.read().await;
        if known.len() > 2 * sessions.len() + 16 {
            known.retain(|known| !sessions.contains_key(known.as_str()));
            let mut owners = self.owners();
            for over in known {
                owners.remove(&over);
            }
        }
    }

    async fn read(&self, body: Body) -> Result<Bytes, Box<Response>> {
        let read = tokio::time::timeout(self.body_timeout, to_bytes(body, self.max_body_bytes)).await.map_err(|_| {
            let detail = format!("the body did not arrive within {} s", self.body_timeout.as_secs());
            refuse(Error::new(Kind::Timeout, detail).remedy("send it faster"), Some(StatusCode::REQUEST_TIMEOUT))
        })?;
        read.map_err(|error| {
            use std::error::Error as _;
            let too_long = error.source().is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
            if too_long {
                let detail = format!("the body is longer than {} bytes", self.max_body_bytes);
                let error =
                    Error::new(Kind::LimitReached, detail).remedy("send less, or raise the setting server.max_body_bytes");
                refuse(error, Some(StatusCode::PAYLOAD_TOO_LARGE))
            } else {
                refuse(Error::new(Kind::Invalid, "the body broke off").because(error), Some(StatusCode::BAD_REQUEST))
            }
        })
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "see `refuse`")]
fn no_session() -> Box<Response> {
    refuse(Error::new(Kind::NotFound, "there is no such session").remedy("begin a new one with initialize"), None)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Refusals of the library that are a bare sentence, as problem documents of the same status. Those that are messages of
/// JSON-RPC are for the client's own reader and stay.
async fn in_our_words(response: Response) -> Response {
    let status = response.status();
    let said = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("text/plain");
    if !(status.is_client_error() || status.is_server_error()) || !said.starts_with("text/plain") {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_SENTENCE).await.unwrap_or_default();
    if let Some(why) = std::str::from_utf8(&text).ok().and_then(|text| text.strip_prefix(UNREAD)) {
        return message::unknown(&shown(why.trim()));
    }
    let (kind, remedy) = match status {
        StatusCode::NOT_ACCEPTABLE => {
            (Kind::NotSupported, "send 'Accept: application/json, text/event-stream'; the tools are also at POST /tools/NAME")
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (Kind::NotSupported, "send JSON, and 'Content-Type: application/json'"),
        StatusCode::METHOD_NOT_ALLOWED => (Kind::NotSupported, "send messages with POST"),
        StatusCode::NOT_FOUND => (Kind::NotFound, "begin a new session with initialize"),
        status if status.is_client_error() => {
            (Kind::Invalid, "send what the transport 'Streamable HTTP' of the Model Context Protocol describes")
        }
        _ => (Kind::Internal, Kind::Internal.remedy()),
    };
    let detail = if text.is_empty() { kind.title().to_owned() } else { shown(&String::from_utf8_lossy(&text)) };
    let mut refused = refuse(Error::new(kind, detail).remedy(remedy), Some(status));
    for name in [header::ALLOW, header::RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            refused.headers_mut().insert(name, value.clone());
        }
    }
    *refused
}

#[expect(clippy::unnecessary_box_returns, reason = "it is the error of what reads the body, where a response is too large")]
fn refuse(error: Error, instead: Option<StatusCode>) -> Box<Response> {
    let status = instead.unwrap_or_else(|| status(error.kind));
    let problem = Problem { status: status.as_u16(), ..Problem::from(error) };
    let mut response = axum::response::IntoResponse::into_response(problem);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    Box::new(response.into_response())
}

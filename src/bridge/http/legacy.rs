//! The MCP endpoint as revisions 2025-03-26 to 2025-11-25 know it: sessions, answers as JSON or events, the listening
//! stream, coming back with `Last-Event-ID`. Leaves out the stateless era (see [`super::modern`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{ACCEPT, CONTENT_TYPE};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::super::json::Span;
use super::super::reader::{Look, Reader, event_id};
use super::super::scan::{Kind, Message, Refused, scan_of_client};
use super::super::session::Session;
use super::super::splice::one_line;
use super::super::stream::{First, Stream};
use super::super::{era, owner::Whose};
use super::body;
use super::response::{self, Response, SESSION, VERSION, empty, error, events, failure, no_session};
use super::{Front, modern};
use crate::rpc;

/// A server that is silent for so long makes the answer a stream of events, which can be resumed.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// What a client takes as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    /// `application/json`
    pub json: bool,
    /// `text/event-stream`
    pub events: bool,
}

impl Accepts {
    /// Without the header a client takes everything.
    pub fn of<B>(request: &Request<B>) -> Self {
        let mut accepts = Self { json: false, events: false };
        let mut values = request.headers().get_all(ACCEPT).iter().peekable();
        if values.peek().is_none() {
            return Self { json: true, events: true };
        }
        for part in values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')) {
            let kind = part.split(';').next().unwrap_or_default().trim();
            let is = |name: &str| kind.eq_ignore_ascii_case(name);
            accepts.json |= is("application/json") || is("application/*") || is("*/*");
            accepts.events |= is("text/event-stream") || is("text/*") || is("*/*");
        }
        accepts
    }
}

impl Front {
    pub(super) async fn post(self: &Arc<Self>, request: Request<Incoming>) -> Response {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return error(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, rpc::INVALID_REQUEST, "the body must be application/json");
        }
        let accepts = Accepts::of(&request);
        if !accepts.json && !accepts.events {
            let says = "the answer is application/json or text/event-stream, and Accept allows neither";
            return error(StatusCode::NOT_ACCEPTABLE, None, rpc::INVALID_REQUEST, says);
        }
        if let Some(refused) = unknown_version(&request) {
            return refused;
        }
        let version = request.headers().get(VERSION).map(|version| version.to_str().unwrap_or_default());
        let is_legacy = version.is_some_and(era::is_legacy);
        let session = if is_legacy || version.is_none() { self.whose(&request) } else { None };
        if let Some((_, Whose::Other(owner))) = &session {
            return self.peers.forward(&self.bridge.context, owner, request).await;
        }
        let options = &self.bridge.context.options;
        let (head, body) = request.into_parts();
        let text = match body::read(body, options.max_message, options.body_timeout).await {
            Ok(text) => one_line(text),
            Err(refused) => return refused,
        };
        self.bridge.context.metrics.messages_in.add(1);
        let scanned = scan_of_client(&text);
        if let (Err(Refused::Batch), Some((id, Whose::Own))) = (&scanned, &session) {
            return self.batch(id, accepts, &text).await;
        }
        let message = match scanned {
            Ok(message) => message,
            Err(refused) => return not_a_message(&refused),
        };
        if modern::is_modern(&head.headers, &text, &message, session.is_some()) {
            return self.modern(&head.headers, accepts, text, &message).await;
        }
        match session {
            Some((id, Whose::Own)) => match self.bridge.sessions.get(&id) {
                Some(session) => {
                    // The head lies in the connection's buffer, which is wanted for the next request.
                    drop(head);
                    self.in_session(&session, accepts, text, &message).await
                }
                None => no_session(),
            },
            Some(_) => no_session(),
            None if message.is(&text, "initialize") && message.id.is_some() => {
                let request = Request::from_parts(head, ());
                self.initialize(&self.caller(&request), accepts, text, &message).await
            }
            None => {
                let says = "Mcp-Session-Id is missing; begin with initialize";
                error(StatusCode::BAD_REQUEST, id_of(&text, &message), rpc::INVALID_REQUEST, says)
            }
        }
    }

    async fn initialize(&self, caller: &str, accepts: Accepts, text: Bytes, message: &Message) -> Response {
        let opened = self.bridge.sessions.open_with(text.clone(), message, caller).await;
        let (answer, session) = match opened {
            Ok(opened) => opened,
            Err(failed) => return failure(id_of(&text, message), &failed),
        };
        let Some(session) = session else { return response::json(StatusCode::OK, answer) };
        let mut response = if accepts.json {
            response::json(StatusCode::OK, answer)
        } else {
            let stream = session.open_stream(false);
            stream.finish(answer);
            events(Reader::open(stream, Look::default(), None, None))
        };
        if let Ok(id) = HeaderValue::from_str(&session.id) {
            response.headers_mut().insert(SESSION, id);
        }
        response
    }

    async fn in_session(&self, session: &Arc<Session>, accepts: Accepts, text: Bytes, message: &Message) -> Response {
        let id = id_of(&text, message);
        match message.kind() {
            Kind::Request => {
                let busy = session.busy();
                let stream = session.open_stream(!accepts.events);
                if let Err(failed) = session.request(text.clone(), message, &stream).await {
                    return failure(id, &failed);
                }
                let first = if accepts.json { first(&stream, accepts).await } else { First::Events };
                match first {
                    First::Answer(answer) => response::json(StatusCode::OK, answer),
                    First::Events | First::Nothing => {
                        session.keep(&stream);
                        events(Reader::open(stream, look(session), None, Some(Box::new(busy))))
                    }
                }
            }
            Kind::Notification => match session.notify(text.clone(), message).await {
                Ok(()) => empty(StatusCode::ACCEPTED),
                Err(failed) => failure(None, &failed),
            },
            Kind::Response => {
                session.answer(&text, message);
                empty(StatusCode::ACCEPTED)
            }
        }
    }

    pub(super) async fn get(self: &Arc<Self>, request: Request<Incoming>) -> Response {
        if let Some(refused) = unknown_version(&request) {
            return refused;
        }
        let (id, whose) = match self.whose(&request) {
            Some(session) => session,
            // The stateless era has no GET; an earlier client forgot its session.
            None if request.headers().get(VERSION).is_some_and(|version| version.to_str().is_ok_and(era::is_legacy)) => {
                return error(StatusCode::BAD_REQUEST, None, rpc::INVALID_REQUEST, "Mcp-Session-Id is missing");
            }
            None => return response::method_not_allowed("POST"),
        };
        if let Whose::Other(owner) = &whose {
            return self.peers.forward(&self.bridge.context, owner, request).await;
        }
        let Some(session) = self.bridge.sessions.get(&id).filter(|_| whose == Whose::Own) else { return no_session() };
        if !Accepts::of(&request).events {
            let says = "the answer is text/event-stream, which Accept does not allow";
            return error(StatusCode::NOT_ACCEPTABLE, None, rpc::INVALID_REQUEST, says);
        }
        let (number, after) = match request.headers().get("last-event-id") {
            Some(id) => match id.to_str().ok().and_then(event_id) {
                Some((number, after)) => (number, Some(after)),
                None => return error(StatusCode::BAD_REQUEST, None, rpc::INVALID_REQUEST, "Last-Event-ID is not one of ours"),
            },
            None => (0, None),
        };
        let Some(stream) = session.stream(number) else {
            return error(StatusCode::BAD_REQUEST, None, rpc::INVALID_REQUEST, "this stream is not kept any more");
        };
        let busy = Box::new(session.busy());
        events(Reader::open(stream, look(&session), after, Some(busy)))
    }

    pub(super) async fn delete(self: &Arc<Self>, request: Request<Incoming>) -> Response {
        if let Some(refused) = unknown_version(&request) {
            return refused;
        }
        match self.whose(&request) {
            Some((id, Whose::Own)) if self.bridge.sessions.close(&id) => empty(StatusCode::OK),
            Some((_, Whose::Other(owner))) => self.peers.forward(&self.bridge.context, &owner, request).await,
            Some(_) => no_session(),
            None if request.headers().get(VERSION).is_some_and(|version| version.to_str().is_ok_and(era::is_legacy)) => {
                error(StatusCode::BAD_REQUEST, None, rpc::INVALID_REQUEST, "Mcp-Session-Id is missing")
            }
            None => response::method_not_allowed("POST"),
        }
    }
}

/// Refuses a request of a session whose revision is not one that is spoken here.
fn unknown_version<B>(request: &Request<B>) -> Option<Response> {
    let version = request.headers().get(VERSION)?;
    let is_known = version.to_str().is_ok_and(|version| era::is_legacy(version) || version == era::MODERN);
    if is_known || !request.headers().contains_key(SESSION) {
        return None;
    }
    let version = String::from_utf8_lossy(version.as_bytes());
    let supported = [&[era::MODERN][..], &era::LEGACY[..]].concat().join(", ");
    let says = format!("MCP-Protocol-Version is '{version}', which is not supported; supported are {supported}");
    Some(error(StatusCode::BAD_REQUEST, None, rpc::INVALID_REQUEST, &says))
}

/// Waits for the first message, and gives a silent server up to events if the client takes them.
pub async fn first(stream: &Arc<Stream>, accepts: Accepts) -> First {
    if accepts.events {
        tokio::time::timeout(SILENCE, stream.first()).await.unwrap_or(First::Events)
    } else {
        stream.first().await
    }
}

/// A text that is no message.
pub fn not_a_message(refused: &Refused) -> Response {
    let code = if matches!(refused, Refused::Json(_)) { rpc::PARSE_ERROR } else { rpc::INVALID_REQUEST };
    error(StatusCode::BAD_REQUEST, None, code, &refused.to_string())
}

/// The id of a request as it came.
pub fn id_of<'a>(text: &'a [u8], message: &Message) -> Option<&'a [u8]> {
    message.id.map(|id: Span| id.of(text))
}

/// Clients before 2025-11-25 take an event without data for a broken message.
pub(super) fn look(session: &Session) -> Look {
    let primed = session.version.get().is_some_and(|version| version.as_str() >= "2025-11-25");
    Look { ids: true, primed, named: false }
}

//! HTTP+SSE of revision 2024-11-05: one stream of events for everything that the server says, and a second address for
//! what the client says. Leaves out everything that a session is behind it.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::super::owner::Whose;
use super::super::reader::{Look, Reader};
use super::super::scan::{Kind, scan_of_client};
use super::super::splice::one_line;
use super::super::stream::{Limits, Stream};
use super::response::{self, Response, empty, error, events, failure, no_session};
use super::{Front, body, legacy};
use crate::rpc;

/// Where the stream is opened.
pub const STREAM: &str = "/sse";
/// Where messages are posted.
pub const MESSAGES: &str = "/messages";

/// Serves both addresses.
pub(super) async fn route(front: &Arc<Front>, request: Request<Incoming>) -> Response {
    match (request.method(), request.uri().path()) {
        (&Method::GET, STREAM) => open(front, &request),
        (&Method::POST, MESSAGES) => post(front, request).await,
        (_, STREAM) => response::method_not_allowed("GET"),
        _ => response::method_not_allowed("POST"),
    }
}

/// Closes the session with the stream.
struct Hangup(Arc<Front>, String);

impl Drop for Hangup {
    fn drop(&mut self) {
        // In this order: a session that is opening meanwhile finds out that its stream has gone, or is closed here.
        self.0.bridge.sessions.leave(&self.1);
        self.0.bridge.sessions.close(&self.1);
    }
}

fn open(front: &Arc<Front>, request: &Request<Incoming>) -> Response {
    let caller = front.caller(request);
    let id = front.bridge.ids.make(&caller);
    let options = &front.bridge.context.options;
    let stream = Stream::new(0, Limits { unread: options.max_queue, replay: 0, lossy: false, solo: false });
    if !front.bridge.sessions.expect(&id, &stream) {
        return error(StatusCode::SERVICE_UNAVAILABLE, None, rpc::INTERNAL_ERROR, "too many streams are open");
    }
    let begin = format!("event: endpoint\ndata: {MESSAGES}?sessionId={id}\n\n");
    let look = Look { named: true, ..Look::default() };
    let hangup = Box::new(Hangup(Arc::clone(front), id));
    events(Reader::open(stream, look, None, Some(hangup)).starting_with(begin))
}

async fn post(front: &Arc<Front>, request: Request<Incoming>) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let id = query.split('&').find_map(|pair| pair.strip_prefix("sessionId=")).unwrap_or_default().to_owned();
    let caller = front.caller(&request);
    match front.bridge.ids.whose(&id, &caller) {
        Whose::Own => {}
        Whose::Other(owner) => return front.peers.forward(&front.bridge.context, &owner, request).await,
        Whose::Nobody => return no_session(),
    }
    let options = &front.bridge.context.options;
    let text = match body::read(request.into_body(), options.max_message, options.body_timeout).await {
        Ok(text) => one_line(text),
        Err(refused) => return refused,
    };
    message(front, &id, text).await
}

async fn message(front: &Arc<Front>, id: &str, text: Bytes) -> Response {
    let message = match scan_of_client(&text) {
        Ok(message) => message,
        Err(refused) => return legacy::not_a_message(&refused),
    };
    let Some(stream) = front.bridge.sessions.expected(id) else { return no_session() };
    let request_id = legacy::id_of(&text, &message);
    if message.is(&text, "initialize") && request_id.is_some() && front.bridge.sessions.get(id).is_none() {
        return match front.bridge.sessions.open_as(id.to_owned(), text.clone(), &message).await {
            Ok((answer, session)) => {
                if let Some(session) = session {
                    session.join(&stream);
                    // The client hung up while its session was opening, and nobody else would ever end that.
                    if front.bridge.sessions.expected(id).is_none() {
                        front.bridge.sessions.close(id);
                        return no_session();
                    }
                }
                stream.push(answer);
                empty(StatusCode::ACCEPTED)
            }
            Err(failed) => failure(request_id, &failed),
        };
    }
    let Some(session) = front.bridge.sessions.get(id) else { return no_session() };
    match message.kind() {
        Kind::Request => {
            let answer = session.open_stream(false);
            answer.join(&stream);
            if let Err(failed) = session.request(text.clone(), &message, &answer).await {
                stream.push(rpc::error(request_id, rpc::INTERNAL_ERROR, &failed.to_string(), None));
            }
        }
        Kind::Notification => {
            if let Err(failed) = session.notify(text.clone(), &message).await {
                return failure(None, &failed);
            }
        }
        Kind::Response => session.answer(&text, &message),
    }
    empty(StatusCode::ACCEPTED)
}

//! HTTP answers as the bridge makes them. Leaves out when which one is due.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue};
use hyper::StatusCode;

use super::super::reader::Reader;
use super::super::splice::Pieces;
use super::Payload;
use crate::error::{Error, Kind};
use crate::rpc;

/// An answer.
pub type Response = hyper::Response<Payload>;

/// Names the session of a request.
pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The revision of a request.
pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Text for people.
pub fn plain(status: StatusCode, text: String) -> Response {
    with(status, "text/plain; charset=utf-8", Payload::whole(Bytes::from(text)))
}

/// A JSON-RPC message.
pub fn json(status: StatusCode, message: impl Into<Pieces>) -> Response {
    with(status, "application/json", Payload::whole(message))
}

/// A JSON-RPC error.
pub fn error(status: StatusCode, id: Option<&[u8]>, code: i32, message: &str) -> Response {
    json(status, rpc::error(id, code, message, None))
}

/// Events.
pub fn events(reader: Reader) -> Response {
    let mut response = with(StatusCode::OK, "text/event-stream", Payload::Events(Box::new(reader)));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    response.headers_mut().insert(NO_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Nothing but a status.
pub fn empty(status: StatusCode) -> Response {
    let mut response = hyper::Response::new(Payload::Empty);
    *response.status_mut() = status;
    response
}

/// The path is right and the method is not.
pub fn method_not_allowed(allowed: &'static str) -> Response {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, format!("allowed are {allowed}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The session does not exist, or not for this caller: the client has to start anew.
pub fn no_session() -> Response {
    error(StatusCode::NOT_FOUND, None, rpc::INVALID_REQUEST, "there is no such session; initialize a new one")
}

/// Why a request could not be brought to the server.
pub fn failure(id: Option<&[u8]>, failed: &Error) -> Response {
    let (status, code) = match failed.kind {
        Kind::LimitReached => (StatusCode::SERVICE_UNAVAILABLE, rpc::INTERNAL_ERROR),
        Kind::Invalid | Kind::Conflict => (StatusCode::BAD_REQUEST, rpc::INVALID_REQUEST),
        Kind::NotSupported => (StatusCode::NOT_FOUND, rpc::METHOD_NOT_FOUND),
        // To the client this is an answer like any other; only its text is the bridge's.
        _ => (StatusCode::OK, rpc::INTERNAL_ERROR),
    };
    let mut response = error(status, id, code, &failed.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

fn with(status: StatusCode, kind: &'static str, payload: Payload) -> Response {
    let mut response = hyper::Response::new(payload);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

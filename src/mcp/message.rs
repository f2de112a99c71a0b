//! Whether a body is one message of JSON-RPC at all. The library has one refusal for all that it cannot read, of the kind
//! for unknown media types; here the client's own reader is told what is wrong. Leaves out what the message asks for.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::params;
use crate::error::Error;
use crate::problem::Problem;
use crate::rpc;

const WRONG_ID: &str = "the id of a request must be a string, or a whole number of 64 bits";

/// What has to be known of a message before the library reads it.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<&'a RawValue>,
    /// A null, too, is an id that is there.
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

fn present<'a, D: serde::Deserializer<'a>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// The answer to what is no message.
pub(super) fn refused(body: &[u8]) -> Option<Response> {
    let whole: &RawValue = match serde_json::from_slice(body) {
        Ok(whole) => whole,
        Err(error) => return Some(refusal(rpc::PARSE_ERROR, &format!("this is not JSON: {error}"))),
    };
    match whole.get().as_bytes().first() {
        Some(b'{') => {}
        Some(b'[') => return Some(refusal(rpc::INVALID_REQUEST, rpc::NO_BATCHES)),
        _ => return Some(unknown("it is no object")),
    }
    match serde_json::from_str::<Head<'_>>(whole.get()) {
        Ok(Head { id: Some(id), .. }) if !can_be_given_back(id) => Some(refusal(rpc::INVALID_REQUEST, WRONG_ID)),
        Ok(_) => None,
        Err(error) => Some(unknown(&error.to_string())),
    }
}

/// Whether this is several messages.
pub(super) fn is_batch(body: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(body).is_ok_and(|whole| whole.get().starts_with('['))
}

/// The id of a request, as it is written; none of what wants no answer.
pub(super) fn id_of_request(message: &[u8]) -> Option<String> {
    let head: Head<'_> = serde_json::from_slice(message).ok()?;
    head.method.and(head.id).map(|id| id.get().to_owned())
}

/// The revision in which whoever says this wants a session.
pub(super) fn revision(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Hello {
        method: String,
        params: Introduction,
    }
    #[derive(Deserialize)]
    struct Introduction {
        #[serde(rename = "protocolVersion")]
        revision: String,
    }
    let hello: Hello = serde_json::from_slice(body).ok()?;
    (hello.method == "initialize").then_some(hello.params.revision)
}

/// The answer to a request, by its look a message, whose parameters are not what its method takes.
pub(super) fn misasked(body: &[u8]) -> Option<Response> {
    let Head { jsonrpc, id, method, params } = serde_json::from_slice(body).ok()?;
    jsonrpc.filter(|version| version.get() == "\"2.0\"")?;
    let method: String = serde_json::from_str(method?.get()).ok().filter(|method: &String| params::are_known(method))?;
    // What is nested too deep is left to the library, which reads it with the same limit and says so.
    let params: Option<Value> = params.map(|params| serde_json::from_str(params.get())).transpose().ok()?;
    let error = params::wrong(&method, params.as_ref())?;
    Some(json(
        StatusCode::OK,
        rpc::error(Some(id?.get().as_bytes()), rpc::INVALID_PARAMS, &error.to_string(), data(error).as_deref()),
    ))
}

/// The problem document of an error, for programs.
fn data(error: Error) -> Option<String> {
    serde_json::to_string(&Problem::from(error)).ok()
}

/// The answer to what the library cannot read for this reason.
pub(super) fn unknown(why: &str) -> Response {
    refusal(rpc::INVALID_REQUEST, &format!("this is no message of the Model Context Protocol: {why}"))
}

/// The library keeps ids as strings and numbers of 64 bits, and gives every other number back as another one. That an id
/// is null the protocol forbids.
fn can_be_given_back(id: &RawValue) -> bool {
    id.get().starts_with('"') || serde_json::from_str::<i64>(id.get()).is_ok()
}

pub(super) fn refusal(code: i32, text: &str) -> Response {
    json(StatusCode::BAD_REQUEST, rpc::error(None, code, text, None))
}

fn json(status: StatusCode, message: bytes::Bytes) -> Response {
    let mut response = Response::new(Body::from(message));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

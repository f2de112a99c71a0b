//! The MCP endpoint as revision 2026-07-28 knows it: every request stands for itself, headers repeat what the body says,
//! closing the connection cancels. Leaves out what the server does with a request (see [`super::super::stateless`]).

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use hyper::StatusCode;

use super::super::era::{self, MODERN};
use super::super::json::{self, Span};
use super::super::reader::{Look, Reader};
use super::super::scan::{Kind, Message};
use super::super::stateless::Refused;
use super::super::stream::First;
use super::legacy::{Accepts, first, id_of};
use super::response::{self, Response, VERSION, empty, error, events, failure};
use super::{Front, Payload};
use crate::rpc::headers::decoded;
use crate::rpc::{self, keys};

/// Whether a message is of the stateless era, by what only that era has. `in_session` says that it names a session.
pub fn is_modern(headers: &HeaderMap, text: &[u8], message: &Message, in_session: bool) -> bool {
    let header = headers.get(VERSION).map(|version| version.to_str().unwrap_or_default());
    let legacy = header.filter(|version| era::is_legacy(version));
    // A session has agreed on its revision; what else a message of it says is the server's to judge.
    if legacy.is_some() && in_session {
        return false;
    }
    let [said] = message.meta(text, [keys::VERSION]);
    match (legacy, said) {
        // Nothing but a comparison of the two is left to do.
        (Some(legacy), Some(said)) => {
            message.kind() == Kind::Request && json::string(text, said).is_none_or(|said| said != legacy)
        }
        (Some(_), None) => false,
        (None, Some(_)) => true,
        // Only the earlier eras begin so, and agree on a revision whatever the header says.
        (None, None) if message.is(text, "initialize") && message.id.is_some() => false,
        (None, None) => header.is_some() || headers.contains_key("mcp-method"),
    }
}

impl Front {
    pub(super) async fn modern(
        self: &Arc<Self>,
        headers: &HeaderMap,
        accepts: Accepts,
        text: Bytes,
        message: &Message,
    ) -> Response {
        let id = id_of(&text, message);
        match message.kind() {
            Kind::Response => {
                let says = "revision 2026-07-28 has no answers of clients; repeat the request with inputResponses";
                return error(StatusCode::BAD_REQUEST, None, rpc::INVALID_REQUEST, says);
            }
            // Cancellation is closing the connection; nothing else is defined for clients to say.
            Kind::Notification => return empty(StatusCode::ACCEPTED),
            Kind::Request => {}
        }
        if let Err(Refusal { code, says, data }) = validate(headers, &text, message) {
            return response::json(StatusCode::BAD_REQUEST, rpc::error(id, code, &says, data.as_deref()));
        }
        let answering = match self.bridge.stateless.request(text.clone(), message, headers, !accepts.events).await {
            Ok(answering) => answering,
            Err(Refused::Elsewhere(owner)) => {
                let mut request = hyper::Request::new(Payload::whole(text.clone()));
                *request.method_mut() = hyper::Method::POST;
                *request.headers_mut() = headers.clone();
                request.headers_mut().remove(http::header::TRANSFER_ENCODING);
                request.headers_mut().insert(http::header::CONTENT_LENGTH, text.len().into());
                if let Ok(path) = self.bridge.context.options.path.parse() {
                    *request.uri_mut() = path;
                }
                return self.peers.send(&self.bridge.context, &owner, request).await;
            }
            Err(Refused::Failed(failed)) => return failure(id, &failed),
            Err(Refused::Answer { code, says, data }) => {
                return response::json(status(Some(code)), rpc::error(id, code, &says, data.as_deref()));
            }
        };
        let first = if accepts.json { first(&answering.stream, accepts).await } else { First::Events };
        match first {
            First::Answer(answer) => response::json(status(answering.stream.error_code()), answer),
            First::Events | First::Nothing => {
                let look = Look::default();
                events(Reader::open(Arc::clone(&answering.stream), look, None, Some(Box::new(answering.guard))))
            }
        }
    }
}

/// The HTTP status of an answer by its error.
fn status(code: Option<i32>) -> StatusCode {
    match code {
        Some(rpc::METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        Some(
            rpc::HEADER_MISMATCH | rpc::MISSING_CAPABILITY | rpc::UNSUPPORTED_VERSION | rpc::PARSE_ERROR | rpc::INVALID_REQUEST,
        ) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

struct Refusal {
    code: i32,
    says: String,
    data: Option<String>,
}

fn mismatch(says: String) -> Refusal {
    Refusal { code: rpc::HEADER_MISMATCH, says, data: None }
}

/// Checks what revision 2026-07-28 requires of every request.
fn validate(headers: &HeaderMap, text: &[u8], message: &Message) -> Result<(), Refusal> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
    let [version, capabilities] = message.meta(text, [keys::VERSION, keys::CAPABILITIES]);
    let missing = |name: &str| Refusal {
        code: rpc::INVALID_PARAMS,
        says: format!("params._meta[\"{name}\"] is missing or of the wrong type"),
        data: None,
    };
    let version = version.and_then(|version| json::string(text, version)).ok_or_else(|| missing(keys::VERSION))?;
    match header("mcp-protocol-version") {
        None => return Err(mismatch("the header MCP-Protocol-Version is missing".to_owned())),
        Some(given) if given != version => {
            return Err(mismatch(format!("MCP-Protocol-Version is '{given}' and the body says '{version}'")));
        }
        Some(_) => {}
    }
    if capabilities.is_none_or(|capabilities| text[capabilities.start] != b'{') {
        return Err(missing(keys::CAPABILITIES));
    }
    if version != MODERN && era::is_legacy(&version) {
        let data = format!("{{\"supported\":[\"{MODERN}\"],\"requested\":{}}}", rpc::quoted(&version));
        let says = "this revision has no requests without a session; begin with initialize".to_owned();
        return Err(Refusal { code: rpc::UNSUPPORTED_VERSION, says, data: Some(data) });
    }
    let method = message.method(text);
    match header("mcp-method") {
        Some(given) if given == method => {}
        Some(given) => return Err(mismatch(format!("Mcp-Method is '{given}' and the body says '{method}'"))),
        None => return Err(mismatch("the header Mcp-Method is missing".to_owned())),
    }
    let [name, uri, task] = message.params(text, ["name", "uri", "taskId"]);
    let named = match &*method {
        "tools/call" | "prompts/get" => name,
        "resources/read" => uri,
        "tasks/get" | "tasks/update" | "tasks/cancel" if header("mcp-name").is_some() => task,
        _ => return Ok(()),
    };
    compare("Mcp-Name", header("mcp-name"), named, text)
}

/// Compares a header with the value that it repeats.
fn compare(header: &str, given: Option<&str>, value: Option<Span>, text: &[u8]) -> Result<(), Refusal> {
    let value = value.and_then(|value| json::string(text, value));
    let given =
        given.map(|given| decoded(given).ok_or_else(|| mismatch(format!("{header} is not properly encoded")))).transpose()?;
    match (given, value) {
        (Some(given), Some(value)) if given == *value => Ok(()),
        (None, None) => Ok(()),
        (Some(_), None) => Err(mismatch(format!("{header} is given and the body has no such value"))),
        (None, Some(_)) => Err(mismatch(format!("the header {header} is missing"))),
        (Some(given), Some(value)) => Err(mismatch(format!("{header} is '{given}' and the body says '{value}'"))),
    }
}

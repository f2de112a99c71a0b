//! JSON-RPC messages that this program itself says, as text, the numbers of its errors, how messages are put into [events] and
//! [batches](batch), the [headers] and [members of `_meta`](keys) that go with them, and the [pauses] between attempts to hear
//! them. Leaves out those that pass through it, and reading them: the bridge does so without a copy (`bridge::scan`), the
//! gateway member by member (`gateway::mcp`).

pub mod batch;
pub mod events;
pub mod headers;
pub mod keys;
pub mod pauses;

use std::fmt::Write as _;

use bytes::Bytes;

/// The text is no JSON.
pub const PARSE_ERROR: i32 = -32700;
/// The text is no request, or not one that can be served here.
pub const INVALID_REQUEST: i32 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// Wrong parameters.
pub const INVALID_PARAMS: i32 = -32602;
/// The server failed.
pub const INTERNAL_ERROR: i32 = -32603;
/// Headers and body disagree (2026-07-28).
pub const HEADER_MISMATCH: i32 = -32020;
/// The server needs something that the client does not offer (2026-07-28).
pub const MISSING_CAPABILITY: i32 = -32021;
/// No such revision here (2026-07-28).
pub const UNSUPPORTED_VERSION: i32 = -32022;

/// Whoever finds no room for a session is told to come again after so many seconds.
pub const COME_AGAIN: &str = "5";
/// What is said to several messages in one body, where they are not taken.
pub const NO_BATCHES: &str =
    "batches are not taken outside of sessions of revision 2025-03-26, as later ones have none; send each message by itself";

/// To so many resources can one client be subscribed, and to so many bytes of their URIs.
const MOST_SUBSCRIBED: (usize, usize) = (1000, 256 * 1024);
/// What is said to who wants to be subscribed to more.
pub const TOO_MANY_SUBSCRIBED: &str =
    "one client can be subscribed to 1000 resources, whose URIs have 256 KiB together; unsubscribe from some first";

/// Whether a client that is subscribed to resources whose URIs have these lengths may be to one more.
#[must_use]
pub fn has_room_for_subscription(held: impl Iterator<Item = usize>, one_more: usize) -> bool {
    let (number, bytes) = held.fold((0, 0), |(number, bytes), length| (number + 1, bytes + length));
    number < MOST_SUBSCRIBED.0 && bytes + one_more <= MOST_SUBSCRIBED.1
}

/// A string as JSON.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An error answer. `id` is the id as it came, nothing if it could not be read; `data` is JSON.
#[must_use]
pub fn error(id: Option<&[u8]>, code: i32, message: &str, data: Option<&str>) -> Bytes {
    let mut text = String::from("{\"jsonrpc\":\"2.0\",\"id\":");
    text.push_str(id.and_then(|id| std::str::from_utf8(id).ok()).unwrap_or("null"));
    // Writing to memory does not fail.
    let _ok = write!(text, ",\"error\":{{\"code\":{code},\"message\":{}", quoted(message));
    if let Some(data) = data {
        let _ok = write!(text, ",\"data\":{data}");
    }
    text.push_str("}}");
    text.into()
}

/// A good answer; `result` is JSON.
#[must_use]
pub fn result(id: &[u8], result: &[u8]) -> Bytes {
    [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"result\":", result, b"}"].concat().into()
}

/// An error answer with an error as it came; `id` and `error` are JSON.
#[must_use]
pub fn error_of(id: &[u8], error: &[u8]) -> Bytes {
    [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"error\":", error, b"}"].concat().into()
}

/// A request; `id` and `params` are JSON.
#[must_use]
pub fn request(id: &[u8], method: &str, params: &[u8]) -> Bytes {
    let method = quoted(method);
    [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"method\":", method.as_bytes(), b",\"params\":", params, b"}"].concat().into()
}

/// A notification; `params`, if it has any, is JSON.
#[must_use]
pub fn notification(method: &str, params: Option<&[u8]>) -> Bytes {
    let method = quoted(method);
    let (name, params) = params.map_or((&b""[..], &b""[..]), |params| (b",\"params\":", params));
    [b"{\"jsonrpc\":\"2.0\",\"method\":", method.as_bytes(), name, params, b"}"].concat().into()
}

/// That a request is no longer wanted; `id` is the id as the receiver knows it.
#[must_use]
pub fn cancelled(id: &[u8], reason: &str) -> Bytes {
    let params = [b"{\"requestId\":", id, b",\"reason\":", quoted(reason).as_bytes(), b"}"].concat();
    notification("notifications/cancelled", Some(&params))
}

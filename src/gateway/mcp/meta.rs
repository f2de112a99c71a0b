//! What is said of clients to services: what the manager says of itself when it looks at them, and the `_meta` in which the
//! era without sessions repeats what a client of the earlier eras said once.

use bytes::Bytes;
use serde_json::{Value, json};

use super::look::{STATELESS, client_info};
use super::raw::{Message, Object, error, raw};
use crate::rpc;
use crate::rpc::keys;

/// What some client or other can be asked. A service may hide what needs a capability from those without it, so the manager
/// looks with all that it passes on; what a call may ask is said by whoever calls.
pub(super) fn of_any_client() -> Value {
    json!({"elicitation": {"form": {}, "url": {}}, "sampling": {"context": {}, "tools": {}}, "roots": {}})
}

/// The `_meta` of a request of the manager's own.
pub(super) fn own(capabilities: &Value) -> Value {
    json!({(keys::VERSION): STATELESS, (keys::CLIENT): client_info(), (keys::CAPABILITIES): capabilities})
}

/// The `_meta` with which a request of a session goes to a service without sessions. No capability is declared: such a
/// service would ask by an answer that clients of the earlier eras do not understand.
pub(super) fn of_session(introduction: &Object, params: &mut Object) {
    let mut meta = params.object("_meta").unwrap_or_default();
    meta.put(keys::VERSION, &STATELESS);
    let client = introduction.get("clientInfo").map_or_else(|| raw(&client_info()), ToOwned::to_owned);
    meta.set(keys::CLIENT, client);
    meta.put(keys::CAPABILITIES, &json!({}));
    params.put("_meta", &meta);
}

/// What a service is answered that asks the manager, which only looks; `None` if it asks nothing.
pub(super) fn to_question(message: &Message) -> Option<Bytes> {
    let (Some(_), Some(id)) = (&message.method, &message.id) else { return None };
    Some(error(Some(id), rpc::METHOD_NOT_FOUND, "nobody is asked here: the manager looks at what there is", None))
}

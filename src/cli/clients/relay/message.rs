//! What of a message has to be known to pass it on, and which of its requests are not answered yet. Leaves out all else that it
//! says.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::rpc::{self, keys};

/// What of a message has to be known to pass it on.
#[derive(Debug, Default)]
pub struct Message {
    /// The requests in it, by their ids as they are written: one, or those of a batch.
    pub ids: Vec<String>,
    /// Empty in a batch, and in what answers a request of the server's.
    pub method: String,
    /// The tool, prompt or resource that is meant.
    pub name: Option<String>,
    /// The revision that the message itself is of; later ones say it in each.
    pub version: Option<String>,
    /// The request that is called off, as its id is written.
    pub cancels: Option<String>,
    /// Whether it has been called off, by another message in its session.
    pub called_off: Rc<Cell<bool>>,
    /// Whether it answers a request of the server's.
    answers: bool,
}

impl Message {
    /// What is known of a text, which need not be a message.
    pub fn of(text: &str) -> Self {
        let message = Members::of(text);
        let params = Members::of(message.member("params"));
        let meta = Members::of(params.member("_meta"));
        let method = message.text("method").unwrap_or_default();
        let ids = match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(batch) => batch.iter().filter_map(|one| Members::of(one.get()).request()).collect(),
            Err(_) => message.request().into_iter().collect(),
        };
        Self {
            ids,
            cancels: id(params.member("requestId")).filter(|_| method == "notifications/cancelled"),
            answers: method.is_empty() && id(message.member("id")).is_some(),
            method,
            name: params.text("name").or_else(|| params.text("uri")),
            version: meta.text(keys::VERSION),
            called_off: Rc::default(),
        }
    }

    /// Whether it is answered only when the client leaves.
    pub fn lasts(&self) -> bool {
        self.method == "subscriptions/listen"
    }

    /// Whether it begins a session.
    pub fn begins(&self) -> bool {
        self.method == "initialize"
    }

    /// Whether what comes after it is to arrive after it: it only tells something.
    pub fn tells(&self) -> bool {
        self.ids.is_empty() && !self.answers
    }
}

/// An id as it is written, if it is one.
fn id(written: &str) -> Option<String> {
    Some(written.to_owned()).filter(|id| !matches!(id.as_str(), "" | "null"))
}

/// The members of an object, each as it is written: numbers and texts that no type here holds are others' business.
pub struct Members<'t>(BTreeMap<String, &'t RawValue>);

impl<'t> Members<'t> {
    /// None, if the text is no object.
    pub fn of(text: &'t str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_default())
    }

    /// The text of a member; empty when there is none.
    pub fn member(&self, name: &str) -> &'t str {
        self.0.get(name).map_or("", |value| value.get())
    }

    /// A member that is a string.
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.member(name)).ok()
    }

    /// The id, if this is a request.
    fn request(&self) -> Option<String> {
        id(self.member("id")).filter(|_| self.0.contains_key("method"))
    }
}

/// The requests of a message that are not answered yet.
pub struct Waiting {
    ids: Vec<String>,
    /// An error that does not say what it answers.
    refusal: Option<String>,
}

impl Waiting {
    /// All of them.
    pub fn of(message: &Message) -> Self {
        Self { ids: message.ids.clone(), refusal: None }
    }

    /// Looks at what has come. Whether the client can make something of it: an error without an id it could not, so that is kept
    /// for whoever is left waiting.
    pub fn hears(&mut self, text: &str) -> bool {
        if let Ok(batch) = serde_json::from_str::<Vec<&RawValue>>(text) {
            for one in batch {
                self.is_answered(&Members::of(one.get()));
            }
            return true;
        }
        let message = Members::of(text);
        self.is_answered(&message);
        let error = message.member("error");
        if error.is_empty() || self.ids.is_empty() || id(message.member("id")).is_some() {
            return true;
        }
        self.refusal = Some(error.to_owned());
        false
    }

    fn is_answered(&mut self, message: &Members<'_>) {
        let answered = message.member("id");
        if !message.0.contains_key("method") && !answered.is_empty() {
            self.ids.retain(|id| !is_same(id, answered));
        }
    }

    /// Whether nobody waits any more.
    pub fn is_over(&self) -> bool {
        self.ids.is_empty()
    }

    /// Errors for those who are left: the one that came, else one that says why there is no answer.
    pub fn errors(&self, why: &str) -> Vec<String> {
        let error = |id: &String| match &self.refusal {
            Some(refusal) => rpc::error_of(id.as_bytes(), refusal.as_bytes()),
            None => rpc::error(Some(id.as_bytes()), rpc::INTERNAL_ERROR, why, None),
        };
        self.ids.iter().map(|id| String::from_utf8_lossy(&error(id)).into_owned()).collect()
    }
}

/// Whether two ids are one, which a server may write otherwise than the client did.
fn is_same(one: &str, other: &str) -> bool {
    let value = |id: &str| serde_json::from_str::<Value>(id).ok();
    one == other || value(one).is_some_and(|one| value(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_not_answered_is_told_why() {
        let batch = r#"[{"id": 1, "method": "a"}, {"method": "b"}, {"id": "\u0061", "method": "c"}, {"id": 7, "result": {}}]"#;
        let message = Message::of(batch);
        assert_eq!(message.ids, ["1", r#""\u0061""#], "what only tells or answers something is waited for by nobody");
        let mut waiting = Waiting::of(&message);
        assert!(waiting.hears(r#"{"id": 1, "method": "sampling/createMessage"}"#), "a question of the server's is no answer");
        assert_eq!(waiting.errors("gone").len(), 2);
        assert!(waiting.hears(r#"{"id": "a", "result": {}}"#));
        assert!(!waiting.hears(r#"{"id": null, "error": {"code": 1, "message": "full"}}"#), "nobody knows whom it answers");
        assert_eq!(waiting.errors("gone"), [r#"{"jsonrpc":"2.0","id":1,"error":{"code": 1, "message": "full"}}"#]);
        assert!(waiting.hears(r#"[{"id": 1, "result": {}}]"#) && waiting.is_over());
    }

    #[test]
    fn what_answers_a_server_is_neither_a_request_nor_holds_up_what_follows() {
        let answer = Message::of(r#"{"jsonrpc": "2.0", "id": 1, "result": {}}"#);
        assert!(answer.ids.is_empty() && !answer.tells());
        assert!(Message::of(r#"{"jsonrpc": "2.0", "method": "notifications/x"}"#).tells());
    }
}

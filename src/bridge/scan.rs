//! The members of a JSON-RPC message that routing needs, as byte ranges. Leaves out what the members mean to the server.

use super::json::{self, Fault, Span};

/// One JSON-RPC message; all ranges are in its text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Message {
    /// `id`, a string or a number.
    pub id: Option<Span>,
    /// `method`, a string with its quotes.
    pub method: Option<Span>,
    /// `params`.
    pub params: Option<Span>,
    /// `result`.
    pub result: Option<Span>,
    /// `error`.
    pub error: Option<Span>,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wants an answer.
    Request,
    /// Wants none.
    Notification,
    /// An answer, good or bad.
    Response,
}

/// Why a text is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no JSON.
    #[error("this is no JSON: {0}")]
    Json(#[from] Fault),
    /// It is JSON, but no JSON-RPC message.
    #[error("this is no JSON-RPC message: {0}")]
    Message(&'static str),
    /// It is an array: a batch of messages.
    #[error("this is a batch")]
    Batch,
}

/// Reads one message. The whole text is checked to be JSON in UTF-8.
///
/// # Errors
/// [`Refused`] says which rule it breaks.
pub fn scan(text: &[u8]) -> Result<Message, Refused> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(Fault { what: "this is not UTF-8", at: error.valid_up_to() }.into());
    }
    let start = json::skip_white(text, 0);
    match text.get(start) {
        Some(b'{') => {}
        Some(b'[') => return Err(json::check(text).map_or_else(Into::into, |_| Refused::Batch)),
        _ => return Err(json::check(text).map_or_else(Into::into, |_| Refused::Message("it is no object"))),
    }
    let mut message = Message::default();
    let mut version = false;
    let mut members = json::members(text, Span { start, end: text.len() });
    for member in members.by_ref() {
        let member = member?;
        let place = match &text[member.key.start + 1..member.key.end - 1] {
            b"jsonrpc" => {
                version = json::is_string(text, Some(member.value), "2.0");
                continue;
            }
            b"id" => &mut message.id,
            b"method" => &mut message.method,
            b"params" => &mut message.params,
            b"result" => &mut message.result,
            b"error" => &mut message.error,
            // A name that hides from this scanner behind an escape would be seen by the server.
            key if key.contains(&b'\\') && hides(text, member.key) => {
                return Err(Refused::Message("a name of the message is escaped"));
            }
            _ => continue,
        };
        *place = Some(member.value);
    }
    let rest = json::skip_white(text, members.end());
    if rest != text.len() {
        return Err(Fault { what: "text behind the value", at: rest }.into());
    }
    if !version {
        return Err(Refused::Message("member jsonrpc is not \"2.0\""));
    }
    message.validate(text)?;
    Ok(message)
}

/// Whether a name with escapes is one that counts here, or one that not all readers take for the same.
fn hides(text: &[u8], name: Span) -> bool {
    json::string(text, name).is_none_or(|name| matches!(&*name, "jsonrpc" | "id" | "method" | "params" | "result" | "error"))
}

impl Message {
    fn validate(&self, text: &[u8]) -> Result<(), Refused> {
        let first = |span: Option<Span>| span.and_then(|span| text.get(span.start)).copied();
        let answer = self.result.is_some() || self.error.is_some();
        match first(self.method) {
            Some(b'"') if answer => return Err(Refused::Message("it has a method and a result or an error")),
            Some(b'"') => {}
            Some(_) => return Err(Refused::Message("member method is no string")),
            None if !answer => return Err(Refused::Message("it has no method, no result and no error")),
            None => {}
        }
        match first(self.id) {
            None | Some(b'"' | b'-' | b'0'..=b'9') => {}
            // An answer to what could not be read has no id to give back.
            Some(b'n') if answer => {}
            Some(_) => return Err(Refused::Message("member id is neither a string nor a number")),
        }
        if answer && self.id.is_none() && self.error.is_none() {
            return Err(Refused::Message("it has a result and no id"));
        }
        if self.result.is_some() && self.error.is_some() {
            return Err(Refused::Message("it has a result and an error"));
        }
        Ok(())
    }

    /// What the message is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match (self.method, self.id) {
            (Some(_), Some(_)) => Kind::Request,
            (Some(_), None) => Kind::Notification,
            (None, _) => Kind::Response,
        }
    }

    /// Whether the message is of this method.
    #[must_use]
    pub fn is(&self, text: &[u8], method: &str) -> bool {
        json::is_string(text, self.method, method)
    }

    /// The method, or an empty text.
    #[must_use]
    pub fn method<'a>(&self, text: &'a [u8]) -> std::borrow::Cow<'a, str> {
        self.method.and_then(|span| json::string(text, span)).unwrap_or_default()
    }

    /// Members of `params`.
    #[must_use]
    pub fn params<const N: usize>(&self, text: &[u8], names: [&str; N]) -> [Option<Span>; N] {
        json::find(text, self.params, names)
    }

    /// Members of `params._meta`.
    #[must_use]
    pub fn meta<const N: usize>(&self, text: &[u8], names: [&str; N]) -> [Option<Span>; N] {
        let [meta] = self.params(text, ["_meta"]);
        json::find(text, meta, names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_in_any_order_and_spacing() {
        let text = br#" { "params" : {"_meta":{"progressToken":"t"}} , "method":"tools/call","x":[1,{"id":9}],"id": "a" ,"jsonrpc":"2.0"} "#;
        let message = scan(text).unwrap();
        assert_eq!(message.kind(), Kind::Request);
        assert_eq!(message.id.unwrap().of(text), br#""a""#);
        assert!(message.is(text, "tools/call"));
        let [token] = message.meta(text, ["progressToken"]);
        assert_eq!(token.unwrap().of(text), br#""t""#);
    }

    #[test]
    fn other_names_may_be_escaped() {
        let text = br#"{"jsonrpc":"2.0","x\u00e9":1,"\"":2,"id":7,"method":"x"}"#;
        assert_eq!(scan(text).unwrap().id.unwrap().of(text), b"7");
        for name in [r"\u0069d", r"jsonrp\u0063", r"i\ud800d"] {
            let text = format!(r#"{{"jsonrpc":"2.0","{name}":1,"method":"x"}}"#);
            assert!(scan(text.as_bytes()).unwrap_err().to_string().contains("escaped"), "{name}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_rule_that_it_breaks() {
        for (text, says) in [
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{bad}}", "no JSON"),
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"} x", "behind"),
            ("{\"id\":1,\"method\":\"x\"}", "jsonrpc"),
            ("{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"x\"}", "id is neither"),
            ("{\"jsonrpc\":\"2.0\",\"id\":1}", "no method"),
            ("{\"jsonrpc\":\"2.0\",\"result\":1}", "no id"),
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"meth\\u006fd\":\"x\",\"result\":1}", "escaped"),
            ("[]", "batch"),
            ("7", "no object"),
        ] {
            let refused = scan(text.as_bytes()).unwrap_err().to_string();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }
}

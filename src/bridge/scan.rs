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
    /// Whether one of these, or `jsonrpc`, occurs more than once; the last one counts.
    pub twice: bool,
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
    /// A name occurs twice, and not all readers take the same one of two.
    #[error("this is no JSON-RPC message: {0} occurs twice")]
    Twice(&'static str),
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
    let mut version = None;
    let mut members = json::members(text, Span { start, end: text.len() });
    for member in members.by_ref() {
        let member = member?;
        let place = match &text[member.key.start + 1..member.key.end - 1] {
            b"jsonrpc" => {
                message.twice |= version.replace(json::is_string(text, Some(member.value), "2.0")).is_some();
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
        let before = place.replace(member.value);
        message.twice |= before.is_some();
    }
    let rest = json::skip_white(text, members.end());
    if rest != text.len() {
        return Err(Fault { what: "text behind the value", at: rest }.into());
    }
    if version != Some(true) {
        return Err(Refused::Message("member jsonrpc is not \"2.0\""));
    }
    message.validate(text)?;
    Ok(message)
}

/// Reads one message of a client, in which no name that counts may occur twice: the server could take another one than the
/// bridge does.
///
/// # Errors
/// [`Refused`] says which rule it breaks.
pub fn scan_of_client(text: &[u8]) -> Result<Message, Refused> {
    let message = scan(text)?;
    if !message.twice {
        return Ok(message);
    }
    let whole = Span { start: json::skip_white(text, 0), end: text.len() };
    let is_twice =
        |name: &&str| json::members(text, whole).flatten().filter(|member| member.is_called(text, name)).nth(1).is_some();
    Err(Refused::Twice(NAMES.into_iter().find(is_twice).unwrap_or("a name")))
}

/// Names that count here.
const NAMES: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// Whether a name with escapes is one that counts here, or one that not all readers take for the same.
fn hides(text: &[u8], name: Span) -> bool {
    json::string(text, name).is_none_or(|name| NAMES.contains(&&*name))
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

    /// `params._meta.progressToken`, and which of the two last names occurs twice, if one does.
    #[must_use]
    pub fn progress_token(&self, text: &[u8]) -> (Option<Span>, Option<&'static str>) {
        let ([meta], metas) = json::find_noting(text, self.params, ["_meta"]);
        let ([token], tokens) = json::find_noting(text, meta, ["progressToken"]);
        (token, if metas { Some("_meta") } else { tokens.then_some("progressToken") })
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
    fn a_client_says_no_name_twice_that_counts_and_a_server_may() {
        for name in NAMES {
            let value = if name == "jsonrpc" { r#""2.0""# } else { r#""x""# };
            let rest = if matches!(name, "result" | "error") { r#""id":1"# } else { r#""method":"x","id":1"# };
            let both = format!(r#"{{"{name}":{value},"x":{{"id":1,"id":2}},"x":1,"{name}":{value},"#);
            let parts = [r#""jsonrpc":"2.0""#, rest].join(",").replace(&format!("\"{name}\":"), "\"y\":");
            let text = format!("{both}{parts}}}");
            let refused = scan_of_client(text.as_bytes()).unwrap_err();
            assert_eq!(refused, Refused::Twice(name), "{text}");
            assert!(refused.to_string().contains(&format!("{name} occurs twice")), "{refused}");
            assert!(scan(text.as_bytes()).unwrap().twice);
        }
        let text = br#"{"jsonrpc":"2.0","x":1,"x":2,"id":1,"method":"x","params":{"id":1,"id":2}}"#;
        assert!(scan_of_client(text).is_ok());
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

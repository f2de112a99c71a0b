//! What a line of a server that is no message was meant to be: an answer that can be mended, or to whom it was. Leaves out
//! what is done about it (see [`super::link`]). Nothing here is done for lines that are messages.

use bytes::Bytes;

use super::json::{self, Span};
use super::scan::{Kind, Message, scan};
use crate::rpc;

/// What some servers write in front of their first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Who waits for a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The request that the server knows by this id, JSON.
    Request(Bytes),
    /// No request: the line is no answer.
    Nobody,
    /// Nothing in the line says it.
    Unknown,
}

/// The members that say what a line was meant to be, as far as it can be read.
#[derive(Debug, Default)]
struct Members {
    version: bool,
    id: Option<Span>,
    method: bool,
    result: Option<Span>,
    error: Option<Span>,
    /// Whether it is an answer if it has no method.
    answers: bool,
}

impl Members {
    fn read(text: &[u8]) -> Self {
        let mut found = Self::default();
        let whole = Span { start: json::skip_white(text, 0), end: text.len() };
        let mut members = json::members(text, whole);
        let mut complete = true;
        for member in members.by_ref() {
            let Ok(member) = member else {
                complete = false;
                break;
            };
            match json::string(text, member.key).as_deref() {
                Some("jsonrpc") => found.version = json::is_string(text, Some(member.value), "2.0"),
                Some("id") => found.id = Some(member.value),
                Some("method") => found.method = true,
                Some("result") => found.result = Some(member.value),
                Some("error") => found.error = Some(member.value),
                _ => {}
            }
        }
        // Of the member that cannot be read, or is cut off, the name may be there.
        let rest = if complete { &[][..] } else { text.get(members.end()..).unwrap_or_default() };
        found.method |= rest.starts_with(b"\"method\"");
        // A line of a log can have an id and an error, too.
        found.answers = found.result.is_some() || rest.starts_with(b"\"result\"");
        found.answers |= found.version && (complete || found.error.is_some() || rest.starts_with(b"\"error\""));
        found
    }
}

/// The message that a line would be without a byte order mark, or without the one of `result` and `error` that is null.
pub(super) fn mended(text: &Bytes) -> Option<Bytes> {
    if text.starts_with(BYTE_ORDER_MARK) {
        return Some(text.slice(BYTE_ORDER_MARK.len()..));
    }
    json::check(text).ok()?;
    let found = Members::read(text);
    let (id, result, error) = (found.id?.of(text), found.result?.of(text), found.error?.of(text));
    if !found.version || found.method {
        None
    } else if error == b"null" {
        Some(rpc::result(id, result))
    } else {
        (result == b"null").then(|| rpc::error_of(id, error))
    }
}

/// At so many places of a line an answer is looked for.
const MOST_PLACES: usize = 16;

/// The answer that ends a line which begins as another object and is no JSON: part of another line, that nobody ended, stands
/// before it. Requests are not looked for: what is logged of the client's own would come back as the server's.
pub(super) fn behind_half_a_line(text: &Bytes) -> Option<(Bytes, Message, Bytes)> {
    let begin = beginning(text)?;
    let places = memchr::memchr_iter(b'{', &text[begin + 1..]).map(|offset| begin + 1 + offset);
    places.take(MOST_PLACES).find_map(|at| {
        let message = scan(&text[at..]).ok().filter(|message| message.kind() == Kind::Response && message.id.is_some())?;
        Some((text.slice(..at), message, text.slice(at..)))
    })
}

/// Whether a line that is no JSON was an answer all the same: it begins as an object, says `jsonrpc`, and a result or an error
/// before it says any method. All else may be a line of a log, which many servers write where only messages belong.
pub(super) fn has_an_answer(text: &[u8]) -> bool {
    if beginning(text).is_none() {
        return false;
    }
    let at = |name: &[u8]| memchr::memmem::find(text, name);
    let said = [at(b"\"result\""), at(b"\"error\"")].into_iter().flatten().min();
    let asked = at(b"\"method\"");
    at(b"\"jsonrpc\"").is_some() && said.is_some_and(|said| asked.is_none_or(|asked| said < asked))
}

/// Where the object begins that a line begins with.
fn beginning(text: &[u8]) -> Option<usize> {
    let mark = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let begin = json::skip_white(text, mark);
    (text.get(begin) == Some(&b'{')).then_some(begin)
}

/// Who waits for a line, of which only the beginning may be there.
pub(super) fn whose(text: &[u8]) -> Whose {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let found = Members::read(text);
    // A number at the very end may be cut off.
    let id = found
        .id
        .filter(|id| id.end < text.len())
        .map(|id| id.of(text))
        .filter(|id| matches!(id.first(), Some(b'"' | b'-' | b'0'..=b'9')));
    match id {
        _ if found.method => Whose::Nobody,
        Some(id) if found.answers => Whose::Request(Bytes::copy_from_slice(id)),
        _ => Whose::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_null_beside_a_result_or_an_error_and_a_byte_order_mark_go() {
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":{"a":[]},"error":null}"#, Some(r#"{"jsonrpc":"2.0","id":1,"result":{"a":[]}}"#)),
            (r#"{"result":null,"error":null,"id":"x","jsonrpc":"2.0"}"#, Some(r#"{"jsonrpc":"2.0","id":"x","result":null}"#)),
            (
                r#"{"jsonrpc":"2.0","result":null,"id":1,"error":{"code":-1,"message":"m","data":1e400}}"#,
                Some(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m","data":1e400}}"#),
            ),
            ("\u{feff}{}", Some("{}")),
            (r#"{"jsonrpc":"2.0","id":1,"result":1,"error":2}"#, None),
            (r#"{"jsonrpc":"2.0","id":1,"result":1,"error":null} x"#, None),
            (r#"{"id":1,"result":1,"error":null}"#, None),
        ] {
            let mended = mended(&Bytes::copy_from_slice(text.as_bytes()));
            assert_eq!(mended.as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn an_answer_names_its_request_also_where_the_rest_cannot_be_read() {
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":103}"#, Some("103")),
            (r#"{"id":"a","result":{}}"#, Some(r#""a""#)),
            (r#"{"jsonrpc":"2.0","\u0069d":114,"result":{}}"#, Some("114")),
            (r#"{"jsonrpc":"2.0","id":5,"result":{"text":"xxxx"#, Some("5")),
            ("\u{feff} {\"jsonrpc\":\"2.0\",\"id\":5,\"error\":{\"code\":", Some("5")),
            (r#"{"result":{},"id":5,"x":"#, Some("5")),
            (r#"{"result":{},"id":5"#, None),
            // Nobody knows what would have come.
            (r#"{"jsonrpc":"2.0","id":5,"x":{"text":"xxxx"#, None),
            (r#"{"jsonrpc":"2.0","result":{"text":"xxxx"#, None),
            (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, None),
            ("a log line", None),
            (r#"{"level":"info","id":5,"msg":"done"}"#, None),
            (r#"{"level":"warn","id":5,"error":"no such file"}"#, None),
            ("", None),
        ] {
            let expected = expected.map_or(Whose::Unknown, |id| Whose::Request(id.into()));
            assert_eq!(whose(text.as_bytes()), expected, "{text}");
        }
        for text in [r#"{"id":5,"method":"x","params":{"#, r#"{"jsonrpc":"2.0","id":5,"method":7}"#, r#"{"id":5,"method":"#] {
            assert_eq!(whose(text.as_bytes()), Whose::Nobody, "{text}");
        }
    }

    #[test]
    fn an_answer_stands_behind_half_a_line_and_in_no_line_of_a_log() {
        let whole = r#"{"jsonrpc":"2.0","id":5,"result":{"a":{}}}"#;
        for before in [r#"{""#, r#"{"jsonrpc":"2.0","id":4,"result":{"text":"ab"#, r#" {"level":"info","msg":"x"}"#, "\u{feff}{"]
        {
            let text = Bytes::from(format!("{before}{whole}"));
            let (rest, message, answer) = behind_half_a_line(&text).unwrap();
            assert_eq!((&rest[..], &answer[..]), (before.as_bytes(), whole.as_bytes()));
            assert_eq!(message.id.map(|id| id.of(&answer)), Some(&b"5"[..]));
        }
        for text in [
            format!("sent {whole}"),
            format!("[info] {whole}"),
            format!(r#"{{"level":"debug","sent":{whole}}}"#),
            format!(r#"{{"level":"debug","sent":"{}"}}"#, whole.replace('"', "\\\"")),
            format!("{{{}", r#"{"jsonrpc":"2.0","id":5,"method":"x"}"#),
            "{".repeat(1000),
        ] {
            assert!(behind_half_a_line(&text.clone().into()).is_none(), "{text}");
        }
    }

    #[test]
    fn what_begins_as_an_object_and_has_the_members_of_an_answer_was_one() {
        for text in [
            r#"{"{"jsonrpc":"2.0","id":5,"result":{"text":"xx"#,
            r#"{"jsonrpc":"2.0","id":5 "result":{}}"#,
            "\u{feff} {x {\"jsonrpc\":\"2.0\",\"error\":{\"data\":{\"method\":1}}",
        ] {
            assert!(has_an_answer(text.as_bytes()), "{text}");
        }
        for text in [
            r#"{""#,
            r#"{"jsonrpc":"2.0""#,
            r#"sent {"jsonrpc":"2.0","id":5,"result":{}}"#,
            r#"{"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":{"error":1}}}"#,
            "{ jsonrpc: '2.0', id: 5, result: {} }",
            r#"{"level":"warn","error":"no such file""#,
            r#"{"level":"debug","sent":"{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{}}"#,
        ] {
            assert!(!has_an_answer(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_answer_that_is_cut_anywhere_is_nobody_elses(cut in 0_usize..60) {
            let text = br#"{"jsonrpc":"2.0","id":"a\"b","result":{"id":7,"method":"x"}}"#;
            let found = whose(&text[..cut.min(text.len())]);
            prop_assert!(matches!(&found, Whose::Unknown) || found == Whose::Request(br#""a\"b""#[..].into()), "{found:?}");
        }

        #[test]
        fn no_line_is_too_odd(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let text = [b"{\"id\":1,", &text[..]].concat();
            let _any = (whose(&text), has_an_answer(&text), behind_half_a_line(&text.clone().into()), mended(&text.into()));
        }
    }
}

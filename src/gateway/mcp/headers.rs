//! The headers of MCP over HTTP: values as they may stand there, and whether they agree with the body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};

use super::raw::Message;
use super::upstream;

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// A text as a header carries it.
pub(super) fn encoded(text: &str) -> HeaderValue {
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && text.trim() == text && !is_encoded(text);
    let text = if plain { text.to_owned() } else { format!("{PREFIX}{}{SUFFIX}", STANDARD.encode(text)) };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn is_encoded(text: &str) -> bool {
    text.starts_with(PREFIX) && text.ends_with(SUFFIX) && text.len() >= PREFIX.len() + SUFFIX.len()
}

/// The text that a header carries; `None` when it carries none.
fn decoded(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    if !is_encoded(text) {
        return Some(text.to_owned());
    }
    let inner = &text[PREFIX.len()..text.len() - SUFFIX.len()];
    String::from_utf8(STANDARD.decode(inner).ok()?).ok()
}

/// What is wrong with the headers of a request without a session, given its body: each header that MCP wants must be
/// there and say what the body says.
pub(super) fn mismatch(headers: &HeaderMap, message: &Message) -> Option<String> {
    let params = message.params();
    let meta = params.object("_meta").unwrap_or_default();
    let name = match message.method.as_deref() {
        Some("tools/call" | "prompts/get") => params.text("name"),
        Some("resources/read") => params.text("uri"),
        _ => None,
    };
    let expected = [
        ("MCP-Protocol-Version", &upstream::PROTOCOL_VERSION, meta.text("io.modelcontextprotocol/protocolVersion")),
        ("Mcp-Method", &upstream::METHOD, message.method.clone()),
        ("Mcp-Name", &upstream::NAME, name),
    ];
    for (title, header, body) in expected {
        let Some(body) = body else { continue };
        let Some(value) = headers.get(header) else { return Some(format!("the header {title} is missing")) };
        if decoded(value).as_deref() != Some(&*body) {
            return Some(format!("the header {title} does not say what the body says"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_texts_stay_and_others_are_wrapped() {
        assert_eq!(encoded("git_status"), "git_status");
        for text in ["Hello, 世界", " padded ", "a\nb", "=?base64?literal?="] {
            let value = encoded(text);
            assert!(value.to_str().unwrap().starts_with(PREFIX), "{text:?}");
            assert_eq!(decoded(&value).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn every_text_survives_the_header(text in ".{0,40}") {
            prop_assert_eq!(decoded(&encoded(&text)).unwrap(), text);
        }
    }

    #[test]
    fn headers_must_say_what_the_body_says() {
        let message = Message::parse(
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a__b","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
        )
        .unwrap();
        let headers = |lines: &[(&str, &str)]| -> HeaderMap {
            lines.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())).collect()
        };
        let right = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "a__b")];
        assert_eq!(mismatch(&headers(&right), &message), None);
        assert!(mismatch(&headers(&right[..2]), &message).unwrap().contains("Mcp-Name is missing"));
        let other = [right[0], right[1], ("mcp-name", "a__c")];
        assert!(mismatch(&headers(&other), &message).unwrap().contains("Mcp-Name does not say"));
    }
}

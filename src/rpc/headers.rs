//! The headers in which MCP over HTTP repeats what a body says (2026-07-28): values as they may stand there, and which
//! arguments of a tool get one. Leaves out comparing them, which each face does with the body that it has.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use serde_json::Value;

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// Schemas are looked into this deep.
const MAX_DEPTH: usize = 16;

/// An argument that a header repeats: the header, and the way to the argument.
pub type Annotated = (String, Vec<String>);

/// A text as a header carries it.
#[must_use]
pub fn encoded(text: &str) -> HeaderValue {
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && text.trim() == text && inner(text).is_none();
    let text = if plain { text.to_owned() } else { format!("{PREFIX}{}{SUFFIX}", BASE64_STANDARD.encode(text)) };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The text that a header carries; nothing if it is wrapped wrongly.
#[must_use]
pub fn decoded(value: &str) -> Option<String> {
    let Some(inner) = inner(value) else { return Some(value.to_owned()) };
    String::from_utf8(BASE64_STANDARD.decode(inner).ok()?).ok()
}

fn inner(value: &str) -> Option<&str> {
    value.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)
}

/// The arguments of which a tool's schema wants headers, by `x-mcp-header`.
#[must_use]
pub fn annotated(schema: &Value) -> Vec<Annotated> {
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found);
    found
}

fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Annotated>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        path.push(name.clone());
        if let Some(header) = property["x-mcp-header"].as_str() {
            found.push((format!("mcp-param-{}", header.to_ascii_lowercase()), path.clone()));
        }
        if path.len() < MAX_DEPTH {
            collect(property, path, found);
        }
        path.pop();
    }
}

/// The argument at the end of a way; nothing where there is none.
#[must_use]
pub fn argument<'v>(arguments: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(arguments, |value, name| value.get(name)).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_texts_stay_and_others_are_wrapped() {
        assert_eq!(encoded("git_status"), "git_status");
        for text in ["Hello, 世界", " padded ", "a\nb", "=?base64?literal?="] {
            let value = encoded(text);
            let value = value.to_str().unwrap();
            assert!(value.starts_with(PREFIX), "{text:?}");
            assert_eq!(decoded(value).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn every_text_survives_the_header(text in ".{0,40}") {
            prop_assert_eq!(decoded(encoded(&text).to_str().unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn annotations_are_found_where_only_properties_lead() {
        let schema = json!({"properties": {"a": {"type": "string", "x-mcp-header": "Region"}, "b": {"properties": {"c": {"x-mcp-header": "C"}}}, "d": {"items": {"properties": {"e": {"x-mcp-header": "E"}}}}}});
        let way = |header: &str, path: &[&str]| (header.to_owned(), path.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(annotated(&schema), [way("mcp-param-region", &["a"]), way("mcp-param-c", &["b", "c"])]);
    }
}

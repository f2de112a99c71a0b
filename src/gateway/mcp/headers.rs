//! The headers of MCP over HTTP: whether they agree with the body.

use http::HeaderMap;

use super::raw::Message;
use super::upstream;
use crate::rpc::headers::decoded;
use crate::rpc::keys;

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
        ("MCP-Protocol-Version", &upstream::PROTOCOL_VERSION, meta.text(keys::VERSION)),
        ("Mcp-Method", &upstream::METHOD, message.method.clone()),
        ("Mcp-Name", &upstream::NAME, name),
    ];
    for (title, header, body) in expected {
        let Some(body) = body else { continue };
        let Some(value) = headers.get(header) else { return Some(format!("the header {title} is missing")) };
        if value.to_str().ok().and_then(decoded).as_deref() != Some(&*body) {
            return Some(format!("the header {title} does not say what the body says"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

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

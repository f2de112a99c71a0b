//! The result of `server/discover` for a server that only knows `initialize`. Leaves out everything else that is said for it.

use super::super::common::client_info;
use super::super::json;
use super::{LEGACY, MODERN};
use crate::rpc::keys::SERVER;

/// The revisions that clients of this bridge can speak, JSON.
#[must_use]
pub fn supported_versions() -> String {
    let all: Vec<_> = std::iter::once(MODERN).chain(LEGACY).collect();
    serde_json::Value::from(all).to_string()
}

/// The result of `server/discover` out of that of `initialize`.
#[must_use]
pub fn discovered(introduction: &[u8], server: &[u8]) -> Vec<u8> {
    let [capabilities, instructions] = json::find(introduction, json::check(introduction).ok(), ["capabilities", "instructions"]);
    // Tasks of 2025-11-25 are not those of the stateless era.
    let capabilities = capabilities.map_or_else(|| b"{}".to_vec(), |span| without(introduction, span, "tasks"));
    let mut result =
        format!("{{\"resultType\":\"complete\",\"supportedVersions\":{},\"capabilities\":", supported_versions()).into_bytes();
    result.extend_from_slice(&capabilities);
    if let Some(instructions) = instructions {
        result.extend_from_slice(b",\"instructions\":");
        result.extend_from_slice(instructions.of(introduction));
    }
    let own = client_info();
    let server = if server.is_empty() { own.as_bytes() } else { server };
    result.extend_from_slice(format!(",\"ttlMs\":0,\"cacheScope\":\"private\",\"_meta\":{{\"{SERVER}\":").as_bytes());
    result.extend_from_slice(server);
    result.extend_from_slice(b"}}");
    result
}

/// The object at `span` without the member `name`.
fn without(text: &[u8], span: json::Span, name: &str) -> Vec<u8> {
    let kept = json::members(text, span).flatten().filter(|member| !member.is_called(text, name));
    let members: Vec<&[u8]> = kept.map(|member| member.span().of(text)).collect();
    [b"{", &members.join(&b","[..])[..], b"}"].concat()
}

//! What has to be said differently when client and server are of different eras. Revision 2026-07-28 has no sessions;
//! what is said of client and server stands in every request. The earlier revisions begin with `initialize`.

use std::sync::Arc;

use bytes::Bytes;

use super::json;
use super::scan::{Message, scan};
use super::splice::{Edit, apply};
use crate::rpc::keys::{CAPABILITIES, CLIENT, LOG_LEVEL, SERVER, VERSION};

pub mod backward;
mod calls;
pub mod discover;
pub mod forward;
pub mod headers;
mod lease;
mod questions;
mod subscription;

/// The revision of the stateless era.
pub const MODERN: &str = "2026-07-28";
/// The revisions of the earlier era that run over Streamable HTTP, the latest first.
pub const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
/// The first revision. It has no Streamable HTTP, but some of its clients speak it all the same.
pub const FIRST: &str = "2024-11-05";

/// Whether a revision is one of the earlier era that is known here.
#[must_use]
pub fn is_legacy(version: &str) -> bool {
    version == FIRST || LEGACY.contains(&version)
}

/// Methods whose results carry caching hints in the stateless era.
#[must_use]
pub fn is_cacheable(method: &str) -> bool {
    matches!(
        method,
        "server/discover" | "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" | "resources/read"
    )
}

/// The request without what the stateless era says in each of them: a server that speaks both eras would take the request
/// for one of that era, in the middle of a session of the other.
#[must_use]
pub fn in_earlier_words(text: &Bytes, message: &Message) -> (Bytes, Message) {
    let [meta] = message.params(text, ["_meta"]);
    let Some(meta) = meta else { return (text.clone(), *message) };
    let of_era =
        |member: &json::Member| [VERSION, CAPABILITIES, CLIENT, LOG_LEVEL].iter().any(|name| member.is_called(text, name));
    let kept = json::members(text, meta).flatten().filter(|member| !of_era(member)).map(|member| member.span().of(text));
    let kept = kept.collect::<Vec<_>>().join(&b',');
    let changed = apply(text, &mut [Edit::replace(meta, [b"{", &kept[..], b"}"].concat())]);
    let message = scan(&changed).unwrap_or(*message);
    (changed, message)
}

/// How an answer is changed on its way to the client.
#[derive(Debug, Clone)]
pub enum Dress {
    /// Not at all.
    Plain,
    /// An answer of an earlier server to a client of the stateless era.
    Modern {
        /// Caching hints are due.
        cacheable: bool,
        /// The server's `serverInfo`, JSON.
        server: Arc<[u8]>,
    },
}

impl Dress {
    /// Adds what the client misses, and nothing that is there.
    pub fn answer(&self, text: &[u8], message: &Message, edits: &mut Vec<Edit>) {
        let Self::Modern { cacheable, server } = self else { return };
        if let Some(result) = message.result.filter(|result| text[result.start] == b'{') {
            let names = ["resultType", "ttlMs", "cacheScope", "_meta"];
            let [kind, ttl, scope, meta] = json::find(text, Some(result), names);
            // Insertions at one place come out in their order, and only the last must know whether the object is empty.
            let mut add = |missing: bool, name: &str, value: &[u8]| {
                if missing {
                    edits.push(Edit::add_member(text, result, name, value));
                }
            };
            let hints = *cacheable && kind.is_none();
            add(hints && ttl.is_none(), "ttlMs", b"0");
            add(hints && scope.is_none(), "cacheScope", b"\"private\"");
            if meta.is_none() && !server.is_empty() {
                let meta = [b"{\"", SERVER.as_bytes(), b"\":", &server[..], b"}"].concat();
                add(true, "_meta", &meta);
            }
            add(kind.is_none(), "resultType", b"\"complete\"");
            separate(edits, result.start + 1);
        }
        let [code] = json::find(text, message.error, ["code"]);
        // "Resource not found" has another number since.
        if let Some(code) = code.filter(|code| code.of(text) == b"-32002") {
            edits.push(Edit::replace(code, "-32602"));
        }
    }
}

/// Puts a comma behind each insertion at `at` but the last, which knows whether members follow.
fn separate(edits: &mut [Edit], at: usize) {
    let mut here: Vec<_> = edits.iter_mut().filter(|edit| edit.at.start == at && edit.at.end == at).collect();
    here.pop();
    for edit in here {
        if edit.with.last() != Some(&b',') {
            edit.with.push(b',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dressed(text: &str, cacheable: bool) -> serde_json::Value {
        let message = scan(text.as_bytes()).unwrap();
        let mut edits = Vec::new();
        let dress = Dress::Modern { cacheable, server: Arc::from(&br#"{"name":"s"}"#[..]) };
        dress.answer(text.as_bytes(), &message, &mut edits);
        serde_json::from_slice(&apply(text.as_bytes(), &mut edits)).unwrap()
    }

    #[test]
    fn an_earlier_answer_gets_what_the_stateless_era_requires() {
        let empty = dressed(r#"{"jsonrpc":"2.0","id":1,"result":{ }}"#, true);
        let expected = serde_json::json!({
            "ttlMs": 0, "cacheScope": "private", "resultType": "complete", "_meta": {SERVER: {"name": "s"}}
        });
        assert_eq!(empty["result"], expected);
        let full = dressed(r#"{"jsonrpc":"2.0","id":1,"result":{"x":1,"ttlMs":5,"_meta":{}}}"#, true);
        let expected = serde_json::json!({"ttlMs": 5, "cacheScope": "private", "resultType": "complete", "_meta": {}, "x": 1});
        assert_eq!(full["result"], expected);
    }

    #[test]
    fn what_is_there_stays() {
        let text = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","_meta":{}}}"#;
        assert_eq!(dressed(text, true), serde_json::from_str::<serde_json::Value>(text).unwrap());
    }
}

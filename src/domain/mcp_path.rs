//! Where a service speaks MCP, as its labels say.

use std::collections::BTreeMap;

use super::spec::Transport;

/// The label that says at which path a service speaks MCP; `false` says that it does not.
const MCP_PATH_LABEL: &str = "mcp.path";

/// The label that says where the stream of an `sse` server is.
pub const SSE_PATH_LABEL: &str = "mcp.sse_path";

/// The label that says another path of a server than the usual one; none where there is nobody to ask for it.
#[must_use]
pub const fn path_label(transport: Transport) -> Option<&'static str> {
    match transport {
        Transport::Stdio => None,
        Transport::Sse => Some(SSE_PATH_LABEL),
        Transport::Http => Some(MCP_PATH_LABEL),
    }
}

/// The path of a server of which no label says it.
#[must_use]
pub const fn usual_path(transport: Transport) -> &'static str {
    match transport {
        Transport::Sse => "/sse",
        Transport::Stdio | Transport::Http => "/mcp",
    }
}

/// Whether a text is a path that a label may say. Nothing but plain characters of paths is taken, as it stands in rules.
#[must_use]
pub fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte))
}

/// Where a service with these labels speaks MCP.
#[must_use]
pub fn mcp_path(labels: &BTreeMap<String, String>) -> Option<&str> {
    match labels.get(MCP_PATH_LABEL).map(String::as_str) {
        Some("false") => None,
        Some(path) if is_path(path) => Some(path),
        _ => Some("/mcp"),
    }
}

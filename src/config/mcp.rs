//! Section `mcp`: the manager's own MCP server and its tools.

use super::section::{Check, section};
use crate::domain::quantity::Span;

section! {
    /// The manager's own MCP server, at `/mcp`, and its tools.
    pub struct Mcp in "mcp" {
        /// Answer old names of tools (`docker_create_server`, `create-container`, `docker_restart`, …) besides the tools' own.
        compat_tool_names: bool = false;
        /// Tools that the client's user must confirm before they do anything; `destructive` for all that are.
        confirm: Vec<String> = Vec::new();
        /// Most sessions at once of clients of protocol revisions before 2026-07-28, at `/mcp` and again at `/mcp/all` and the
        /// groups together.
        max_sessions: u32 = 1000, within "a whole number from 1 to 4294967295";
        /// A session at these addresses in which nothing happens for so long ends.
        session_idle: Span = Span(1_800_000);
    }
}

impl Mcp {
    fn validate(&self, check: &mut Check) {
        for tool in &self.confirm {
            let right = !tool.is_empty() && tool.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let message = format!("'{}' is not the name of a tool", tool.escape_debug());
            check.that(right, "confirm", message, "write names of tools, e.g. container_remove, or destructive");
        }
        check.that(self.max_sessions > 0, "max_sessions", "is 0", "allow at least one session");
        let idle = 10_000..=86_400_000;
        check.that(idle.contains(&self.session_idle.0), "session_idle", "is out of range", "use 10s to 24h");
    }
}

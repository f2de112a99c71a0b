//! The bridge's figures as Prometheus text. Leaves out deciding anything by them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The present number.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($field:ident $name:literal $help:literal)*) => {
        /// What the bridge counts.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: Counter,)*
        }

        impl Metrics {
            /// All counters together: as long as it stays the same, nothing happens.
            #[must_use]
            pub fn happened(&self) -> u64 {
                0 $(+ self.$field.value())*
            }

            fn write_counters(&self, text: &mut String) {
                // Writing to memory does not fail.
                $(let _ok = writeln!(
                    text, concat!("# HELP ", $name, " ", $help, "\n# TYPE ", $name, " counter\n", $name, " {}"), self.$field.value()
                );)*
            }
        }
    };
}

counters! {
    requests "mcp_bridge_http_requests_total" "HTTP requests."
    requests_refused "mcp_bridge_http_requests_refused_total" "HTTP requests that were answered with an error status."
    messages_in "mcp_bridge_messages_from_clients_total" "JSON-RPC messages from clients."
    messages_out "mcp_bridge_messages_from_servers_total" "JSON-RPC messages from the server."
    lines_refused "mcp_bridge_lines_refused_total" "Lines of the server that are no messages, or too long."
    answers_unknown "mcp_bridge_answers_unknown_total" "Answers of the server that nobody waited for."
    messages_dropped "mcp_bridge_messages_dropped_total" "Messages of the server that could not be brought to a client."
    sessions_opened "mcp_bridge_sessions_opened_total" "Sessions opened."
    sessions_expired "mcp_bridge_sessions_expired_total" "Sessions ended because nothing happened on them."
    sessions_displaced "mcp_bridge_sessions_displaced_total" "Idle sessions that gave their place to new ones."
    sessions_refused "mcp_bridge_sessions_refused_total" "Sessions refused because the limit was reached."
    children_started "mcp_bridge_children_started_total" "Server processes started."
    children_failed "mcp_bridge_children_failed_total" "Server processes that ended by themselves or did not start."
    forwarded "mcp_bridge_forwarded_total" "Requests forwarded to the replica that has the session."
}

/// What is measured when asked.
#[derive(Debug, Clone, Copy)]
pub struct Gauges {
    /// Open sessions.
    pub sessions: usize,
    /// Running server processes.
    pub children: usize,
    /// Unanswered requests.
    pub pending: usize,
    /// Open HTTP connections.
    pub connections: usize,
}

impl Metrics {
    /// All figures as Prometheus text.
    #[must_use]
    pub fn text(&self, gauges: Gauges) -> String {
        let mut text = String::new();
        self.write_counters(&mut text);
        for (name, help, value) in [
            ("mcp_bridge_sessions", "Open sessions.", gauges.sessions),
            ("mcp_bridge_children", "Running server processes.", gauges.children),
            ("mcp_bridge_pending_requests", "Requests that the server has not answered.", gauges.pending),
            ("mcp_bridge_connections", "Open HTTP connections.", gauges.connections),
        ] {
            // Writing to memory does not fail.
            let _ok = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        text
    }
}

//! What every backend tells the bridge of a service on its command line. How its program gets to the server, and how
//! the replicas find one another, is each backend's own.

use std::time::Duration;

use crate::domain::access::CALLER_HEADER;
use crate::domain::mcp_path::{SSE_PATH_LABEL, usual_path};
use crate::domain::spec::{ServiceSpec, SessionMode, Transport};

/// Processes and threads that are reckoned for one session's server, for a cap on sessions that the process limit bears
/// where the spec names none.
const TASKS_PER_SESSION: u32 = 16;
const MAX_SESSIONS: u32 = 64;
/// The label that opens HTTP+SSE of 2024-11-05 to clients.
const SSE_CLIENTS: &str = "mcp.sse";

/// Whether the spec's server needs the bridge.
pub(super) fn is_needed(spec: &ServiceSpec) -> bool {
    matches!(spec.transport, Transport::Stdio | Transport::Sse)
}

/// The bridge's arguments up to and with `--`, for a replica that is known to its peers as `owner`. `hosts` are values of
/// the Host header that it takes.
pub(super) fn arguments(spec: &ServiceSpec, owner: &str, hosts: &[String]) -> Vec<String> {
    let mode = match spec.session_mode {
        SessionMode::Shared => "shared",
        SessionMode::PerSession => "per_session",
    };
    let port = spec.front_port().unwrap_or_default();
    let sessions = spec.max_sessions.unwrap_or((spec.pids_limit / TASKS_PER_SESSION).clamp(1, MAX_SESSIONS));
    let seconds = |span: Duration| span.as_secs().max(1);
    let flags = [
        ("listen", format!("0.0.0.0:{port}")),
        ("session-mode", mode.to_owned()),
        ("max-sessions", sessions.to_string()),
        ("start-timeout", seconds(spec.start_timeout.duration()).to_string()),
        // What is pending gets an answer before the engine's patience ends.
        ("drain-timeout", seconds(spec.stop_timeout.duration()).saturating_sub(1).max(1).to_string()),
        ("owner", owner.to_owned()),
        ("peer", format!("http://{{owner}}:{port}")),
        ("caller-header", CALLER_HEADER.to_owned()),
    ];
    let path = spec.labels.get(SSE_PATH_LABEL).map_or(usual_path(Transport::Sse), String::as_str);
    let inside = spec.port.filter(|_| spec.transport == Transport::Sse);
    let server = inside.map(|inside| ("sse-server", format!("http://127.0.0.1:{inside}{path}")));
    let idle = spec.session_idle_timeout.map(|span| ("idle-timeout", seconds(span.duration()).to_string()));
    let clients = spec.labels.get(SSE_CLIENTS).is_some_and(|value| value == "true").then(|| "--sse".to_owned());
    let hosts = hosts.iter().map(|host| ("allowed-host", host.clone()));
    let flags = flags.into_iter().chain(idle).chain(server).chain(hosts).flat_map(|(name, value)| [format!("--{name}"), value]);
    flags.chain(clients).chain(["--".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::quantity::Span;

    #[test]
    fn a_spec_may_say_how_many_sessions_there_are_and_how_long_they_may_be_idle() {
        let spec = ServiceSpec { transport: Transport::Stdio, port: Some(8000), pids_limit: 100, ..ServiceSpec::default() };
        let words = arguments(&spec, "r1", &[]).join(" ");
        assert!(words.contains("--max-sessions 6 ") && !words.contains("--idle-timeout"), "{words}");
        let spec = ServiceSpec { max_sessions: Some(500), session_idle_timeout: Some(Span(90_500)), ..spec };
        let words = arguments(&spec, "r1", &[]).join(" ");
        assert!(words.contains("--max-sessions 500 ") && words.contains("--idle-timeout 90 "), "{words}");
    }
}

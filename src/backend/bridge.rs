//! What every backend tells the bridge of a service on its command line. How its program gets to the server, and how
//! the replicas find one another, is each backend's own.

use std::time::Duration;

use crate::domain::spec::{ServiceSpec, SessionMode};

/// Processes and threads that are reckoned for one session's server, for a cap on sessions that the process limit bears.
const TASKS_PER_SESSION: u32 = 16;
const MAX_SESSIONS: u32 = 64;

/// Flags without their dashes, and their values, for a replica that is known to its peers as `owner` and listens on
/// `port` like all of them.
pub(super) fn flags(spec: &ServiceSpec, port: u16, owner: &str) -> [(&'static str, String); 7] {
    let mode = match spec.session_mode {
        SessionMode::Shared => "shared",
        SessionMode::PerSession => "per_session",
    };
    let sessions = (spec.pids_limit / TASKS_PER_SESSION).clamp(1, MAX_SESSIONS);
    let seconds = |span: Duration| span.as_secs().max(1);
    [
        ("listen", format!("0.0.0.0:{port}")),
        ("session-mode", mode.to_owned()),
        ("max-sessions", sessions.to_string()),
        ("start-timeout", seconds(spec.start_timeout.duration()).to_string()),
        // What is pending gets an answer before the engine's patience ends.
        ("drain-timeout", seconds(spec.stop_timeout.duration()).saturating_sub(1).max(1).to_string()),
        ("owner", owner.to_owned()),
        ("peer", format!("http://{{owner}}:{port}")),
    ]
}

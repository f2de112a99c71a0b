//! The MCP server over Streamable HTTP, at `/mcp`: sessions for clients of earlier revisions, none for 2026-07-28.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::CancellationToken;

use super::door::{Door, admit};
use super::handler::Handler;
use super::local::Local;
use crate::auth::Authenticator;
use crate::manager::Manager;
use crate::tools::Policy;

/// How the MCP server behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the installation wants of tools.
    pub policy: Policy,
    /// Origins whose pages may call; `*` for all.
    pub origins: Vec<String>,
    /// Longest body of a request, in bytes.
    pub max_body_bytes: usize,
    /// Longest time that a body may take to arrive.
    pub body_timeout: Duration,
    /// Most sessions at once.
    pub max_sessions: usize,
    /// A session in which nothing happens for so long ends.
    pub session_idle: Duration,
    /// Ends sessions and streams.
    pub stopping: CancellationToken,
}

/// The route `/mcp`.
pub fn router(manager: Arc<Manager>, authenticator: Authenticator, settings: Settings) -> Router {
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.keep_alive = Some(settings.session_idle);
    let sessions = Arc::new(sessions);
    // Hosts are checked by the listener, origins at the door, which says more when it refuses.
    let config = StreamableHttpServerConfig::default()
        .with_cancellation_token(settings.stopping.child_token())
        .with_max_request_body_bytes(settings.max_body_bytes)
        .with_json_response(true)
        .disable_allowed_hosts();
    let host = Arc::new(Local { manager, policy: settings.policy, stopping: settings.stopping });
    let service = StreamableHttpService::new(move || Ok(Handler::new(host.clone())), sessions.clone(), config);
    let door = Door {
        authenticator,
        origins: settings.origins.into(),
        max_body_bytes: settings.max_body_bytes,
        body_timeout: settings.body_timeout,
        max_sessions: settings.max_sessions,
        sessions,
        owners: Arc::default(),
    };
    Router::new().route_service("/mcp", service).layer(middleware::from_fn_with_state(door, admit))
}

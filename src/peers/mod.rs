//! Several managers behind one address: MCP sessions of the earlier eras stay with the manager that opened them, whichever
//! manager a request comes to.
//!
//! The id that a client gets names its manager and is signed with a key that all managers share ([`key`]), so nobody keeps a
//! table: whoever gets another's session forwards the request once, and a manager that is gone is an immediate 404, which
//! tells the client to begin anew. It is what the bridge does among replicas, with the bridge's own ids. What a session is,
//! and to whom it belongs, is its endpoint's business.

pub mod key;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};

use crate::bridge::era::MODERN;
use crate::bridge::owner::{Ids, Whose, host, of_address};
use crate::bridge::way::Way;
use crate::rpc;

/// The header that names a session.
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Marks a forwarded request, which is not forwarded again.
const FORWARDED: HeaderName = HeaderName::from_static("mcp-manager-forwarded");
/// A manager that does not accept in this time is gone.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// This manager among its peers.
#[derive(Debug)]
pub struct Peers {
    ids: Ids,
    way: Way<Body>,
}

impl Peers {
    /// The manager that its peers reach at `address`, and that shares `key` with them.
    #[must_use]
    pub fn new(key: &[u8], address: SocketAddr) -> Self {
        Self { ids: Ids::new(key, &name_of(address)), way: Way::new(FORWARDED, CONNECT_TIMEOUT) }
    }

    /// The same routes, whose sessions are found from every manager.
    pub fn around(self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(Arc::new(self), pass))
    }

    async fn forward(&self, owner: &str, request: Request) -> Response {
        let Some(uri) = address_of(owner).and_then(|address| uri_at(address, request.uri())) else { return no_session() };
        if self.way.was_gone(request.headers()) {
            return no_session();
        }
        match self.way.go(uri, request).await {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                tracing::info!(owner, %error, "the manager of a session cannot be reached");
                no_session()
            }
        }
    }
}

/// Leads a request to the manager that has its session, and names this manager in the ids of sessions that it opens.
async fn pass(State(peers): State<Arc<Peers>>, mut request: Request, next: Next) -> Response {
    if !has_sessions(request.uri().path()) || is_stateless(request.headers()) {
        return next.run(request).await;
    }
    let id = request.headers().get(SESSION_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    if let Some(id) = id {
        match peers.ids.whose(&id, "") {
            Whose::Other(owner) => return peers.forward(&owner, request).await,
            Whose::Own => {
                if let Some(own) = Ids::name_in(&id).and_then(|name| HeaderValue::from_str(name).ok()) {
                    request.headers_mut().insert(SESSION_ID, own);
                }
            }
            // The endpoint says so in its own words, also when the id is what the endpoint itself calls a session: nobody
            // was given that.
            Whose::Nobody => drop(request.headers_mut().insert(SESSION_ID, HeaderValue::from_static("unknown"))),
        }
    }
    let mut response = next.run(request).await;
    let opened = response.headers().get(SESSION_ID).and_then(|id| id.to_str().ok());
    let named = opened.and_then(|id| HeaderValue::from_str(&peers.ids.of(id, "")).ok());
    if let Some(named) = named {
        response.headers_mut().insert(SESSION_ID, named);
    }
    response
}

/// Whether a request says that it is of the revision that has no sessions; what it says of one means nothing then.
fn is_stateless(headers: &HeaderMap) -> bool {
    headers.get(PROTOCOL_VERSION).is_some_and(|version| version == MODERN)
}

/// Whether sessions at this path live in the manager. Those of `/mcp/s/NAME` are the service's own.
fn has_sessions(path: &str) -> bool {
    path == "/mcp" || path == "/mcp/all" || path.starts_with("/mcp/g/")
}

/// What a manager at this address is called in session ids, where neither dots nor colons can stand.
fn name_of(address: SocketAddr) -> String {
    let host = of_address(&address.ip().to_canonical().to_string()).unwrap_or_default();
    format!("{host}-{}", address.port())
}

/// `HOST:PORT` of a manager of this name.
fn address_of(name: &str) -> Option<String> {
    let (host_part, port) = name.rsplit_once('-')?;
    let port: u16 = port.parse().ok()?;
    Some(format!("{}:{port}", host(host_part)))
}

fn uri_at(address: String, uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::builder().scheme("http").authority(address).path_and_query(path).build().ok()
}

/// What tells a client to begin a new session.
fn no_session() -> Response {
    let text = "the session has ended; begin with initialize";
    let body = rpc::error(None, rpc::INVALID_REQUEST, text, None);
    (StatusCode::NOT_FOUND, [(CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_found_by_the_name_in_its_ids() {
        for (address, reached) in
            [("10.1.2.3:8000", "10.1.2.3:8000"), ("[fd00::7]:80", "[fd00::7]:80"), ("[::ffff:10.0.0.1]:1", "10.0.0.1:1")]
        {
            let name = name_of(address.parse().unwrap());
            assert!(crate::bridge::owner::is_owner(&name), "{name}");
            assert_eq!(address_of(&name).as_deref(), Some(reached));
        }
        for strange in ["", "x", "10-0-0-1-x", "-"] {
            assert_eq!(address_of(strange), None, "{strange}");
        }
    }

    #[test]
    fn sessions_of_services_are_not_the_managers() {
        assert!(["/mcp", "/mcp/all", "/mcp/g/office"].into_iter().all(has_sessions));
        assert!(!["/mcp/s/echo", "/containers", "/mcpx", "/"].into_iter().any(has_sessions));
    }
}

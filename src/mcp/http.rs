//! The MCP server over Streamable HTTP, at `/mcp`: sessions for clients of earlier revisions, none for 2026-07-28.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::CancellationToken;

use super::Host;
use super::confirm::Signer;
use super::door::{Door, admit};
use super::handler::Handler;
use super::local::Local;
use crate::auth::Authenticator;
use crate::manager::Manager;
use crate::tools::Policy;

/// How the MCP server behaves.
#[derive(Clone)]
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
    /// Signs questions to users; of all managers that share sessions.
    pub key: Vec<u8>,
    /// Ends sessions and streams.
    pub stopping: CancellationToken,
}

/// The route `/mcp`.
pub fn router(manager: Arc<Manager>, authenticator: Authenticator, settings: Settings) -> Router {
    let host = Local { manager, policy: settings.policy.clone(), stopping: settings.stopping.clone() };
    over(Arc::new(host), authenticator, settings)
}

fn over(host: Arc<dyn Host>, authenticator: Authenticator, settings: Settings) -> Router {
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.keep_alive = Some(settings.session_idle);
    let sessions = Arc::new(sessions);
    // Hosts are checked by the listener, origins at the door, which says more when it refuses.
    let config = StreamableHttpServerConfig::default()
        .with_cancellation_token(settings.stopping.child_token())
        .with_max_request_body_bytes(settings.max_body_bytes)
        .with_json_response(true)
        .disable_allowed_hosts();
    let signer = Signer::new(&settings.key);
    let service = StreamableHttpService::new(move || Ok(Handler::new(host.clone(), signer.clone())), sessions.clone(), config);
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;
    use crate::domain::access::Actor;
    use crate::error::Result;
    use crate::rpc::events::Events;
    use crate::tools::Tool;

    /// Every tool answers its name.
    struct Parrot;

    #[async_trait]
    impl Host for Parrot {
        async fn tools(&self, _: Option<&Actor>) -> Vec<Value> {
            Vec::new()
        }

        async fn must_confirm(&self, _: &Tool) -> Result<bool> {
            Ok(false)
        }

        async fn call(&self, call: super::super::Request) -> Result<Value> {
            Ok(json!({"called": call.name}))
        }

        fn is_stopping(&self) -> bool {
            false
        }
    }

    fn endpoint() -> Router {
        let settings = Settings {
            policy: Policy::default(),
            origins: Vec::new(),
            max_body_bytes: 1 << 20,
            body_timeout: Duration::from_secs(30),
            max_sessions: 10,
            session_idle: Duration::from_mins(30),
            key: b"key".to_vec(),
            stopping: CancellationToken::new(),
        };
        over(Arc::new(Parrot), Authenticator::Off, settings)
    }

    /// What is answered: the status, the session, and the messages.
    async fn post(router: &Router, session: Option<&str>, body: &Value) -> (StatusCode, Option<String>, Vec<Value>) {
        let mut request = Request::post("/mcp").header("content-type", "application/json").header("host", "localhost");
        request = request.header("accept", "application/json, text/event-stream");
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        let answer = router.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let kind = header("content-type").unwrap_or_default();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let messages = if kind.starts_with("text/event-stream") {
            let mut events = Events::default();
            events.push(&body);
            std::iter::from_fn(|| events.take()).map(|text| serde_json::from_slice(&text).unwrap()).collect()
        } else {
            match serde_json::from_slice(&body) {
                Ok(Value::Array(messages)) => messages,
                Ok(message) => vec![message],
                Err(_) => Vec::new(),
            }
        };
        (parts.status, header("mcp-session-id"), messages)
    }

    async fn open(router: &Router, version: &str) -> String {
        let (_, session, _) = post(router, None, &request(0, "initialize", hello(version))).await;
        let session = session.unwrap();
        post(router, Some(&session), &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        session
    }

    fn hello(version: &str) -> Value {
        json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}})
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is made for this")]
    fn request(id: u64, method: &str, params: Value) -> Value {
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }

    #[tokio::test]
    async fn wrong_parameters_are_told_as_such_and_other_methods_as_unknown() {
        let router = endpoint();
        let session = open(&router, "2025-11-25").await;
        for (method, params, code) in [
            ("tools/call", json!({"name": 5}), -32602),
            ("tools/call", json!({"name": "a", "arguments": "x"}), -32602),
            ("tools/call", Value::Null, -32602),
            ("tools/list", json!({"cursor": "zzz"}), -32602),
            ("tools/list", json!({"cursor": 5}), -32602),
            ("tools/list", json!("x"), -32602),
            ("ping", json!([]), -32602),
            ("initialize", json!({}), -32602),
            ("no/such", json!({"name": 5}), -32601),
            ("prompts/get", json!({"name": 5}), -32601),
            ("resources/list", json!({"cursor": "zzz"}), -32601),
        ] {
            let (status, _, messages) = post(&router, Some(&session), &request(1, method, params.clone())).await;
            let answer = messages.last().unwrap();
            assert_eq!((status, &answer["id"], &answer["error"]["code"]), (StatusCode::OK, &json!(1), &json!(code)), "{answer}");
        }
        let (status, _, messages) = post(&router, None, &request(1, "initialize", json!({}))).await;
        assert_eq!((status, &messages[0]["error"]["code"]), (StatusCode::OK, &json!(-32602)));
        let gone = post(&router, Some("gone"), &request(1, "tools/call", json!({"name": 5}))).await;
        assert_eq!(gone.0, StatusCode::NOT_FOUND);
        let (_, _, messages) = post(&router, Some(&session), &request(1, "tools/list", Value::Null)).await;
        assert_eq!(messages.last().unwrap()["result"]["tools"], json!([]));
    }

    #[tokio::test]
    async fn a_session_has_batches_where_its_revision_does() {
        let router = endpoint();
        let call = request(2, "tools/call", json!({"name": "parrot"}));
        let batch =
            json!([request(1, "ping", json!({})), call, {"jsonrpc": "2.0", "id": 3}, request(4, "tools/call", json!({}))]);
        for (version, takes) in [("2024-11-05", true), ("2025-03-26", true), ("2025-06-18", false), ("2025-11-25", false)] {
            let session = open(&router, version).await;
            let (status, _, messages) = post(&router, Some(&session), &batch).await;
            if !takes {
                assert_eq!((status, &messages[0]["error"]["code"]), (StatusCode::BAD_REQUEST, &json!(-32600)), "{version}");
                continue;
            }
            let answer = |id: Value| messages.iter().find(|message| message["id"] == id).unwrap();
            assert_eq!((status, messages.len()), (StatusCode::OK, 4), "{version}: {messages:?}");
            assert_eq!(answer(json!(1))["result"], json!({}));
            assert_eq!(answer(json!(2))["result"]["structuredContent"]["called"], "parrot");
            assert_eq!(answer(Value::Null)["error"]["code"], -32600);
            assert_eq!(answer(json!(4))["error"]["code"], -32602);
            let silent = json!([{"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}]);
            assert_eq!(post(&router, Some(&session), &silent).await.0, StatusCode::ACCEPTED);
            let within = json!([request(1, "ping", json!({})), request(0, "initialize", hello(version))]);
            assert_eq!(post(&router, Some(&session), &within).await.0, StatusCode::BAD_REQUEST);
        }
        assert_eq!(post(&router, None, &batch).await.0, StatusCode::BAD_REQUEST);
    }
}

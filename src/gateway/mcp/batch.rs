//! Several messages in one body, in sessions of the revision that has them. Leaves out what is done with each.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Response, StatusCode};

use super::raw::Message;
use super::{Caller, Hub, refusal, upstream};
use crate::rpc;
use crate::rpc::batch::{self, Answers};

impl Hub {
    pub(super) async fn take_batch(self: &Arc<Self>, caller: Caller, text: &Bytes) -> Response<Body> {
        let refuse = |why: &str| refusal(StatusCode::BAD_REQUEST, None, rpc::INVALID_REQUEST, why);
        if !caller.headers.contains_key(upstream::SESSION_ID) {
            return refuse(rpc::NO_BATCHES);
        }
        let session = match self.session(&caller) {
            Ok(session) => session,
            Err(refused) => return *refused,
        };
        if !session.introduction.text("protocolVersion").is_some_and(|version| batch::are_in(&version)) {
            return refuse(rpc::NO_BATCHES);
        }
        let messages = match batch::messages(text) {
            Ok(messages) => messages,
            Err(why) => return refuse(&why),
        };
        let mut answers = Answers::default();
        for text in messages {
            let Some(message) = Message::parse(text.get().as_bytes()) else {
                answers.refuse(refuse("this is no JSON-RPC 2.0 message"));
                continue;
            };
            let id = message.method.as_ref().and(message.id.as_ref()).map(|id| id.get().to_owned());
            let (hub, caller) = (Arc::clone(self), caller.clone());
            answers.add(id, async move { hub.take_in_session(caller, message).await }.boxed()).await;
        }
        answers.together().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::to_bytes;
    use http::Request;
    use serde_json::{Value, json};
    use tokio::sync::watch;

    use super::super::Settings;
    use super::*;
    use crate::domain::aggregate::{Names, Scope};
    use crate::domain::status::Snapshot;
    use crate::gateway::{self, Gateway};
    use crate::lifecycle::Tasks;
    use crate::telemetry::Metrics;

    fn hub(max_sessions: usize) -> Arc<Hub> {
        let snapshot = Snapshot { synced: true, connected: true, ..Snapshot::default() };
        let (view, tasks) = (watch::Sender::new(Arc::new(snapshot)).subscribe(), Tasks::default());
        let gateway = Gateway::new(view.clone(), gateway::Settings::default(), &Metrics::new().unwrap(), &tasks);
        let settings =
            Settings { names: Names::default(), origins: Vec::new(), max_sessions, session_idle: Duration::from_mins(30) };
        Hub::new(gateway, view, settings, &tasks)
    }

    async fn post(hub: &Arc<Hub>, session: Option<&str>, body: &Value) -> (u16, Option<String>, Value) {
        let mut request = Request::post("/mcp/all").header("content-type", "application/json");
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        let answer = hub.answer(Scope::All, "somebody", request.body(Body::from(body.to_string())).unwrap()).await;
        let (parts, body) = answer.into_parts();
        let session = parts.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (parts.status.as_u16(), session, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn hello(version: &str) -> Value {
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": version, "capabilities": {}}})
    }

    #[tokio::test]
    async fn a_session_has_batches_where_its_revision_does() {
        let hub = hub(10);
        let request = |id: u64, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method});
        let news = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let batch = json!([request(1, "ping"), news, request(2, "tools/list"), 7, request(3, "no/such")]);
        for (version, takes) in [("2024-11-05", true), ("2025-03-26", true), ("2025-06-18", false), ("2025-11-25", false)] {
            let session = post(&hub, None, &hello(version)).await.1.unwrap();
            let (status, _, answers) = post(&hub, Some(&session), &batch).await;
            if !takes {
                assert_eq!((status, &answers["error"]["code"]), (400, &json!(-32600)), "{version}");
                continue;
            }
            let answer = |id: Value| answers.as_array().unwrap().iter().find(|answer| answer["id"] == id).unwrap();
            assert_eq!((status, answers.as_array().unwrap().len()), (200, 4), "{answers}");
            assert_eq!(answer(json!(1))["result"], json!({}));
            assert_eq!(answer(json!(2))["result"]["tools"], json!([]));
            assert_eq!(answer(json!(3))["error"]["code"], -32601);
            assert_eq!(answer(Value::Null)["error"]["code"], -32600);
            assert_eq!(post(&hub, Some(&session), &json!([news])).await.0, 202);
            assert_eq!(post(&hub, Some(&session), &json!([hello(version)])).await.0, 400);
            assert_eq!(post(&hub, Some(&session), &json!([])).await.0, 400);
        }
        assert_eq!(post(&hub, None, &batch).await.0, 400);
        assert_eq!(post(&hub, Some("gone"), &batch).await.0, 404);
    }

    #[tokio::test]
    async fn one_session_too_many_is_refused_and_those_that_there_are_go_on() {
        let hub = hub(1);
        let session = post(&hub, None, &hello("2025-11-25")).await.1.unwrap();
        let (status, none, answer) = post(&hub, None, &hello("2025-11-25")).await;
        assert_eq!((status, none, &answer["error"]["code"]), (429, None, &json!(-32603)), "{answer}");
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        assert_eq!(post(&hub, Some(&session), &ping).await.0, 200);
    }
}

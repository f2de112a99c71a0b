//! Claims about one client and one service of a kind that the manager's own examples are not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::to_bytes;
use axum::response::IntoResponse as _;
use futures_util::StreamExt as _;
use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::domain::spec::ServiceSpec;
use crate::domain::status::{Desired, Health, Phase, Record, Replica, ReplicaState, ServiceState};
use crate::telemetry::Metrics;

/// What a service answers to a message.
type Answer = Response<Body>;

/// A hub with one service, `x`, and what is said to that.
struct Scene {
    hub: Arc<Hub>,
    said: Arc<Mutex<Vec<Value>>>,
    tasks: Tasks,
    _view: watch::Sender<Arc<Snapshot>>,
}

impl Scene {
    async fn with(answer: impl Fn(&Value) -> Answer + Clone + Send + Sync + 'static) -> Self {
        let (said, tasks) = (Arc::<Mutex<Vec<Value>>>::default(), Tasks::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::clone(&said);
        let service = axum::Router::new().fallback(move |body: Bytes| async move {
            let message: Value = serde_json::from_slice(&body).unwrap_or_default();
            heard.lock().unwrap().push(message.clone());
            answer(&message)
        });
        tasks.spawn("service", async move { axum::serve(listener, service).await });
        let record = Record {
            name: "x".parse().unwrap(),
            generation: 1,
            desired: Desired::Running,
            spec: Arc::new(ServiceSpec { port: Some(address.port()), ..ServiceSpec::default() }),
            template: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        };
        let replica = Replica {
            ordinal: 1,
            id: "x".to_owned(),
            name: "x.1".to_owned(),
            state: ReplicaState::Running,
            health: Health::Healthy,
            health_detail: None,
            address: Some(address),
            spec_digest: String::new(),
            started_at: None,
            restarts: 0,
            last_exit: None,
            next_start: None,
        };
        let state = ServiceState {
            record: Arc::new(record),
            phase: Phase::Running,
            replicas: vec![replica],
            failure: None,
            progress: None,
            warnings: Vec::new(),
            reasons: Vec::new(),
        };
        let services = std::iter::once(("x".parse().unwrap(), Arc::new(state))).collect();
        let view = watch::Sender::new(Arc::new(Snapshot { services, synced: true, connected: true, as_of: None }));
        let gateway = Gateway::new(view.subscribe(), crate::gateway::Settings::default(), &Metrics::new().unwrap(), &tasks);
        let settings =
            Settings { names: Names::default(), origins: Vec::new(), max_sessions: 9, session_idle: Duration::from_mins(30) };
        Self { hub: Hub::new(gateway, view.subscribe(), settings, &tasks), said, tasks, _view: view }
    }

    async fn post(&self, session: &str, body: &Value) -> Answer {
        let mut request = Request::post("/mcp/all").header("content-type", "application/json");
        if !session.is_empty() {
            request = request.header("mcp-session-id", session);
        }
        self.hub.answer(Scope::All, "somebody", request.body(Body::from(body.to_string())).unwrap()).await
    }

    async fn session(&self) -> String {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}});
        let opened = self.post("", &request("i", "initialize", &params)).await;
        opened.headers()["mcp-session-id"].to_str().unwrap().to_owned()
    }

    fn times(&self, method: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|message| message["method"] == method).count()
    }
}

fn request(id: &str, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn call() -> Value {
    request("c", "tools/call", &json!({"name": "x__tool", "arguments": {}}))
}

fn answered(status: u16, message: &Value, what: &str, is: &Value) -> Answer {
    let text = json!({"jsonrpc": "2.0", "id": message["id"], what: is}).to_string();
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/json")], text).into_response()
}

/// The answer to `server/discover` of a service with tools.
fn discovered(message: &Value) -> Answer {
    let versions = json!({"resultType": "complete", "supportedVersions": [look::STATELESS], "capabilities": {"tools": {}}});
    answered(200, message, "result", &versions)
}

async fn read(answer: Answer) -> Value {
    serde_json::from_slice(&to_bytes(answer.into_body(), usize::MAX).await.unwrap()).unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_mins(1), "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_client_whose_session_a_service_refuses_is_told_so_and_shares_no_other() {
    for (status, code) in
        [(503, -32603), (429, -32603), (500, -32601), (200, -32603), (200, -32602), (200, -32000), (400, -32600)]
    {
        let error = json!({"code": code, "message": "4 sessions are open, which is the limit", "data": {"most": 4}});
        let refused = error.clone();
        let scene = Scene::with(move |message| match message["method"].as_str() {
            Some("server/discover") => discovered(message),
            Some("initialize") => answered(status, message, "error", &refused),
            _ => answered(200, message, "result", &json!({"tools": []})),
        })
        .await;
        let session = scene.session().await;
        let answer = read(scene.post(&session, &call()).await).await;
        assert_eq!((&answer["id"], &answer["error"]), (&json!("c"), &error), "{status}, {code}: {answer}");
        assert_eq!(scene.times("tools/call"), 0, "{status}, {code}");
        scene.tasks.stop(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn a_service_that_does_not_know_sessions_is_called_without_one() {
    for (status, code) in [(404, -32601), (200, -32601), (400, -32022), (400, -32020), (400, -32602), (405, 0)] {
        let scene = Scene::with(move |message| match message["method"].as_str() {
            Some("server/discover") => discovered(message),
            Some("initialize") if code == 0 => StatusCode::from_u16(status).unwrap().into_response(),
            Some("initialize") => answered(status, message, "error", &json!({"code": code, "message": "not here"})),
            _ => answered(200, message, "result", &message["params"]["_meta"][keys::VERSION]),
        })
        .await;
        let session = scene.session().await;
        let answer = read(scene.post(&session, &call()).await).await;
        assert_eq!(answer["result"], look::STATELESS, "{status}, {code}: {answer}");
        scene.tasks.stop(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn a_call_that_is_called_off_gets_no_answer_and_one_that_breaks_off_an_error() {
    for is_called_off in [true, false] {
        let (end, ended) = watch::channel(false);
        let scene = Scene::with(move |message| match message["method"].as_str() {
            Some("initialize") => {
                let agreed = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}});
                answered(200, message, "result", &agreed)
            }
            Some("tools/call") => {
                let mut ended = ended.clone();
                let news = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
                let news = crate::rpc::events::event(news.to_string().as_bytes());
                let end = futures_util::stream::once(async move { drop(ended.wait_for(|is_over| *is_over).await) });
                let end = end.filter_map(|()| std::future::ready(None));
                stream(futures_util::stream::iter([Ok(news)]).chain(end))
            }
            Some(method) if method.starts_with("notifications/") => accepted(),
            _ => answered(404, message, "error", &json!({"code": -32601, "message": "not here"})),
        })
        .await;
        let session = scene.session().await;
        let answer = scene.post(&session, &call()).await;
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/event-stream");
        if is_called_off {
            let params = json!({"requestId": "c"});
            let off = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
            assert_eq!(scene.post(&session, &off).await.status(), 202);
            until("the service is told", async || scene.times("notifications/cancelled") == 1).await;
        }
        end.send_replace(true);
        let text = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("notifications/message"), "{text}");
        assert_eq!(text.contains("\"error\""), !is_called_off, "{text}");
        scene.tasks.stop(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn what_needs_a_capability_of_the_client_is_listed_and_the_manager_is_asked_nothing() {
    for has_sessions in [false, true] {
        let known = Arc::new(Mutex::new(Value::Null));
        let scene = Scene::with(move |message| {
            let tools = |can: &Value| {
                let can = can.as_object().cloned().unwrap_or_default();
                let tools: Vec<_> = can.keys().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect();
                json!({"resultType": "complete", "tools": tools})
            };
            match message["method"].as_str() {
                Some("server/discover") if !has_sessions => discovered(message),
                Some("initialize") if has_sessions => {
                    *known.lock().unwrap() = message["params"]["capabilities"].clone();
                    let agreed = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}});
                    answered(200, message, "result", &agreed)
                }
                Some("tools/list") if has_sessions => {
                    let question = json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"});
                    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": tools(&known.lock().unwrap())});
                    let events = [question, answer].map(|said| Ok(crate::rpc::events::event(said.to_string().as_bytes())));
                    stream(futures_util::stream::iter(events))
                }
                Some("tools/list") => {
                    let can = &message["params"]["_meta"][keys::CAPABILITIES];
                    answered(200, message, "result", &tools(can))
                }
                None | Some("notifications/initialized") => accepted(),
                _ => answered(404, message, "error", &json!({"code": -32601, "message": "not here"})),
            }
        })
        .await;
        let session = scene.session().await;
        until("all tools are listed", async || {
            let listed = read(scene.post(&session, &request("l", "tools/list", &json!({}))).await).await;
            let tools = listed["result"]["tools"].as_array().unwrap();
            let names: BTreeSet<_> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
            names == BTreeSet::from(["x__elicitation", "x__roots", "x__sampling"])
        })
        .await;
        if has_sessions {
            let said = scene.said.lock().unwrap();
            let refusal = said.iter().find(|message| message["id"] == "q").unwrap();
            assert_eq!(refusal["error"]["code"], -32601, "{refusal}");
        }
        scene.tasks.stop(Duration::ZERO).await;
    }
}

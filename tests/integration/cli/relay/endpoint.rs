//! A relay that runs, and an endpoint that does what a test does with each request. Leaves out what is claimed of them.

use std::io;
use std::process::Stdio;

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use futures_util::stream;
use mcp_manager::lifecycle::Tasks;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::command::User;

/// A user whose manager does not run; the relay needs none but the endpoint.
pub fn user() -> User {
    User::of("http://127.0.0.1:9")
}

/// A relay that runs.
pub struct Relay {
    pub child: Child,
    pub input: ChildStdin,
    pub lines: Lines<BufReader<ChildStdout>>,
}

impl Relay {
    pub fn to(url: &str) -> Self {
        let mut child = user().command(&format!("client relay {url}")).stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, lines }
    }

    pub async fn gets(&mut self, message: &Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    /// The next message that its client gets.
    pub async fn gives(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a message").unwrap().expect("a message");
        serde_json::from_str(&line).unwrap()
    }

    /// Its input ends, and so does it.
    pub async fn ends(mut self) {
        drop(self.input);
        assert!(timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap().success());
        assert_eq!(self.lines.next_line().await.unwrap(), None, "nothing more was to be said");
    }
}

pub fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub fn notification(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": method})
}

pub fn initialize() -> Value {
    request(
        1,
        "initialize",
        &json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}),
    )
}

pub fn result(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// An endpoint that does what a test does with each request.
pub struct Endpoint {
    pub url: String,
    pub requests: mpsc::UnboundedReceiver<Asked>,
}

/// A request, and the way back.
pub struct Asked {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Value,
    pub back: oneshot::Sender<Response>,
}

/// A stream that is open. It ends when this goes.
pub struct Saying(mpsc::UnboundedSender<io::Result<String>>);

impl Endpoint {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        let router = Router::new().fallback(async move |method: Method, headers: HeaderMap, body: String| {
            let (back, answer) = oneshot::channel();
            let body = serde_json::from_str(&body).unwrap_or_default();
            let _ = sender.send(Asked { method, headers, body, back });
            // A request that is dropped is one that is never answered.
            match answer.await {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            }
        });
        // It ends with the test's runtime.
        Tasks::default().spawn("endpoint", async move { axum::serve(listener, router).await.unwrap() });
        Self { url, requests }
    }

    pub async fn next(&mut self) -> Asked {
        timeout(PATIENCE, self.requests.recv()).await.expect("a request").unwrap()
    }

    /// The next request, which is this one in this session.
    pub async fn posted(&mut self, method: &str, session: Option<&str>) -> Asked {
        let asked = self.next().await;
        let body = &asked.body;
        assert!(asked.method == Method::POST && body["method"] == method, "{method} is said, not: {} {body}", asked.method);
        assert_eq!(asked.header("mcp-session-id"), session, "{body}");
        asked
    }

    /// The next request, which opens a stream in this session behind this event.
    pub async fn listened(&mut self, session: &str, last: Option<&str>) -> Asked {
        let asked = self.next().await;
        assert_eq!(asked.method, Method::GET, "{}", asked.body);
        assert_eq!((asked.header("mcp-session-id"), asked.header("last-event-id")), (Some(session), last));
        asked
    }

    /// The end of a session, and of its relay.
    pub async fn left(&mut self, relay: Relay, session: &str) {
        let leaving = async {
            let asked = self.next().await;
            assert_eq!((&asked.method, asked.header("mcp-session-id")), (&Method::DELETE, Some(session)), "{}", asked.body);
            asked.with(StatusCode::OK);
        };
        tokio::join!(relay.ends(), leaving);
    }

    /// Answers what begins a session.
    pub async fn begins(&mut self, session: &str) {
        let asked = self.posted("initialize", None).await;
        let begun = result(&asked.body["id"], &json!({"protocolVersion": "2025-06-18", "capabilities": {}}));
        asked.replies(([("mcp-session-id", session)], Json(begun)).into_response());
    }

    /// A relay that has begun a session here. What it listens with is answered with this status.
    pub async fn with_relay(status: Option<StatusCode>) -> (Self, Relay) {
        let mut endpoint = Self::start().await;
        let mut relay = Relay::to(&endpoint.url);
        relay.gets(&initialize()).await;
        endpoint.begins("s1").await;
        assert_eq!(relay.gives().await["result"]["protocolVersion"], "2025-06-18");
        if let Some(status) = status {
            endpoint.listened("s1", None).await.with(status);
        }
        (endpoint, relay)
    }
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn replies(self, answer: Response) {
        self.back.send(answer).unwrap();
    }

    pub fn with(self, status: StatusCode) {
        self.replies(status.into_response());
    }

    pub fn grants(self, granted: &Value) {
        let answer = result(&self.body["id"], granted);
        self.replies(Json(answer).into_response());
    }

    /// Answers with events, the first of which are these.
    pub fn streams(self, events: &str) -> Saying {
        let (sender, receiver) = mpsc::unbounded_channel();
        let saying = Saying(sender);
        saying.says(events);
        let events = stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|event| (event, receiver)));
        self.replies(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response());
        saying
    }
}

impl Saying {
    pub fn says(&self, events: &str) {
        self.0.send(Ok(events.to_owned())).unwrap();
    }

    /// The connection breaks.
    pub fn breaks(self) {
        self.0.send(Err(io::Error::other("broken"))).unwrap();
    }
}

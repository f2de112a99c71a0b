//! Who waits for the lease, and how a server that is away is asked, before a server that has nothing but a lease.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Mutex;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use kube::Config;
use kube::core::Status;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_stream::wrappers::WatchStream;

use super::super::names::Names;
use super::super::settings::{Access, Settings};
use super::*;
use crate::lifecycle::Tasks;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn busy() -> kube::Error {
    kube::Error::Api(Box::new(Status { code: 503, message: "starting".to_owned(), ..Status::default() }))
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_again_while_it_owes_answers() {
    let (asked, third) = (Cell::new(0), Notify::new());
    let ask = || async {
        asked.set(asked.get() + 1);
        match asked.get() {
            1 => third.notified().await,
            3 => {
                third.notify_one();
                std::future::pending::<()>().await;
            }
            _ => std::future::pending::<()>().await,
        }
        Ok(())
    };
    tokio::time::timeout(LONG, answers(ask)).await.expect("the first question is answered while two others are open");
}

#[tokio::test]
async fn what_a_server_says_of_itself_being_away_is_no_answer_and_a_refusal_is_one() {
    let asked = Cell::new(0);
    let ask = || async {
        asked.set(asked.get() + 1);
        let refusal = || kube::Error::Api(Box::new(Status { code: 403, ..Status::default() }));
        if asked.get() < 3 { Err(busy()) } else { Err(refusal()) }
    };
    tokio::time::timeout(LONG, answers(ask)).await.unwrap();
    assert_eq!(asked.get(), 3);
}

/// A server with a lease.
struct Server {
    lease: watch::Sender<Value>,
    /// What it was asked.
    asked: Mutex<Vec<&'static str>>,
    can_be_watched: bool,
}

impl Server {
    /// One whose lease somebody else holds, and the way to it.
    async fn start(can_be_watched: bool) -> (Arc<Self>, Arc<Shared>) {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "mcp-manager", "namespace": "tools", "resourceVersion": "1"}, "spec": {"holderIdentity": "another"}});
        let server = Arc::new(Self { lease: watch::Sender::new(lease), asked: Mutex::default(), can_be_watched });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let leases = "/apis/coordination.k8s.io/v1/namespaces/tools/leases";
        let router = Router::new()
            .route(leases, get(told))
            .route(&format!("{leases}/mcp-manager"), get(shown).patch(changed))
            .with_state(server.clone());
        let tasks = Tasks::default();
        tasks.spawn("server", async move { axum::serve(listener, router).await.unwrap() });
        let names = Names { instance: "mcp".into(), namespace: "tools".into() };
        let settings = Settings::new(Access::Account);
        (server, Arc::new(Shared::new(Config::new(address), names, settings, tasks).unwrap()))
    }

    fn note(&self, what: &'static str) {
        self.asked.lock().unwrap().push(what);
    }

    /// Somebody writes the lease.
    fn write(&self, holder: &str) {
        self.lease.send_modify(|lease| {
            let version: u64 = lease["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            lease["metadata"]["resourceVersion"] = json!((version + 1).to_string());
            lease["spec"]["holderIdentity"] = json!(holder);
        });
    }

    /// Waits until this holds.
    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{:?} {}", self.asked, *self.lease.borrow()));
    }

    fn holder(&self) -> String {
        self.lease.borrow()["spec"]["holderIdentity"].as_str().unwrap().to_owned()
    }
}

async fn told(State(server): State<Arc<Server>>) -> Response {
    let changes = server.lease.subscribe();
    server.note("watch");
    if !server.can_be_watched {
        let refusal = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "leases is forbidden"});
        return (StatusCode::FORBIDDEN, Json(refusal)).into_response();
    }
    let line = |lease: Value| Bytes::from(json!({"type": "MODIFIED", "object": lease}).to_string() + "\n");
    let changes = WatchStream::from_changes(changes).map(line);
    // The head of an answer goes out with its first bytes.
    let lines = stream::once(std::future::ready(Bytes::from_static(b"\n"))).chain(changes);
    Response::new(Body::from_stream(lines.map(Ok::<_, Infallible>)))
}

async fn shown(State(server): State<Arc<Server>>) -> Json<Value> {
    server.note("get");
    Json(server.lease.borrow().clone())
}

async fn changed(State(server): State<Arc<Server>>, change: Bytes) -> Json<Value> {
    server.note("patch");
    let change: Value = serde_json::from_slice(&change).unwrap();
    server.write(change["spec"]["holderIdentity"].as_str().unwrap());
    Json(server.lease.borrow().clone())
}

#[tokio::test]
async fn who_waits_for_the_lease_asks_nothing_while_it_is_renewed_and_takes_it_at_once_when_it_is_given_back() {
    let (server, shared) = Server::start(true).await;
    let ends = CancellationToken::new();
    let takes_part = shared.tasks.spawn("leader", take_part(shared.clone(), ends.clone()));
    server.until(|server| server.asked.lock().unwrap().contains(&"watch")).await;
    server.write("another");
    server.write("");
    server.until(|_| shared.is_leading()).await;
    assert_eq!(*server.asked.lock().unwrap(), ["get", "watch", "get", "patch"]);
    ends.cancel();
    assert!(takes_part.await.unwrap().is_some());
    assert_eq!(server.holder(), "", "who ends gives it back");
}

#[tokio::test]
async fn who_may_not_watch_the_lease_looks_at_it() {
    let (server, shared) = Server::start(false).await;
    let takes_part = shared.tasks.spawn("leader", take_part(shared.clone(), CancellationToken::new()));
    server.until(|server| server.asked.lock().unwrap().contains(&"watch")).await;
    server.write("");
    server.until(|_| shared.is_leading()).await;
    takes_part.abort();
}

//! A server that has nothing but a lease, and managers before it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::{StreamExt as _, stream};
use kube::Config;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use super::super::names::Names;
use super::super::settings::{Access, Settings};
use super::super::shared::Shared;
use crate::lifecycle::Tasks;

/// Longer than anything here takes.
pub(in super::super) const LONG: Duration = Duration::from_secs(20);

/// A server with a lease.
pub(in super::super) struct Server {
    pub(in super::super) lease: watch::Sender<Value>,
    /// What it was asked.
    pub(in super::super) asked: Mutex<Vec<&'static str>>,
    can_be_watched: bool,
    address: Uri,
}

impl Server {
    /// One whose lease somebody else holds.
    pub(in super::super) async fn start(can_be_watched: bool) -> Arc<Self> {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "lease", "namespace": "tools", "resourceVersion": "1"}, "spec": {"holderIdentity": "another"}});
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = Arc::new(Self { lease: watch::Sender::new(lease), asked: Mutex::default(), can_be_watched, address });
        let leases = "/apis/coordination.k8s.io/v1/namespaces/tools/leases";
        let router = Router::new()
            .route(leases, get(told))
            .route(&format!("{leases}/{{name}}"), get(shown).patch(changed))
            .route("/api/v1/namespaces/tools/configmaps", get(listed))
            .with_state(server.clone());
        Tasks::default().spawn("server", async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    /// What a manager has that asks it.
    pub(in super::super) fn manager(&self) -> Arc<Shared> {
        let names = Names { instance: "mcp".into(), namespace: "tools".into() };
        let config = Config::new(self.address.clone());
        Arc::new(Shared::new(config, names, Settings::new(Access::Account), Tasks::default()).unwrap())
    }

    fn note(&self, what: &'static str) {
        self.asked.lock().unwrap().push(what);
    }

    /// What it was asked since the last time.
    pub(in super::super) fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Somebody writes the lease.
    pub(in super::super) fn write(&self, holder: &str) {
        self.lease.send_modify(|lease| {
            let version: u64 = lease["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            lease["metadata"]["resourceVersion"] = json!((version + 1).to_string());
            lease["spec"]["holderIdentity"] = json!(holder);
        });
    }

    /// Waits until this holds.
    pub(in super::super) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{:?} {}", self.asked, *self.lease.borrow()));
    }

    pub(in super::super) fn holder(&self) -> String {
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

async fn changed(State(server): State<Arc<Server>>, change: Bytes) -> Response {
    server.note("patch");
    let change: Value = serde_json::from_slice(&change).unwrap();
    let mut is_overtaken = false;
    server.lease.send_if_modified(|lease| {
        is_overtaken = change["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"];
        if let (false, Some(notes)) = (is_overtaken, change["metadata"]["annotations"].as_object()) {
            // What is written as nothing goes.
            let kept = notes.iter().filter(|(_, text)| !text.is_null()).map(|(name, text)| (name.clone(), text.clone()));
            lease["metadata"]["annotations"] = kept.collect();
        }
        false
    });
    if is_overtaken {
        let conflict = json!({"kind": "Status", "code": 409, "reason": "Conflict", "message": "it has been modified"});
        return (StatusCode::CONFLICT, Json(conflict)).into_response();
    }
    server.write(change["spec"]["holderIdentity"].as_str().unwrap());
    let lease = server.lease.borrow().clone();
    Json(lease).into_response()
}

async fn listed(State(server): State<Arc<Server>>) -> Json<Value> {
    server.note("list");
    Json(json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": []}))
}

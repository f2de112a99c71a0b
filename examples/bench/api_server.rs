//! A cluster's API server as far as the manager notices: objects in memory, lists, watches, writes, and pods that are ready
//! as soon as a workload asks for them. So thousands of services can be had without a node. It counts what it is asked.
//!
//! It checks nothing, forgets nothing but what is deleted, and knows no rights: the tests have a real one for that.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use crate::figure;
use crate::http::ask;

/// When everything here was made.
const TIME: &str = "2026-01-01T00:00:00Z";

#[derive(Args)]
pub struct Serve {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
}

#[derive(Args)]
pub struct Calls {
    /// Where it listens.
    #[arg(long)]
    server: SocketAddr,
    /// What asks; part of the figure's name.
    #[arg(long)]
    label: String,
    /// How long calls are counted.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The goal for one minute.
    #[arg(long)]
    goal: Option<f64>,
}

/// How often the server was asked, watches that were begun included.
pub fn calls(arguments: &Calls) -> anyhow::Result<()> {
    let so_far = || -> anyhow::Result<u64> { Ok(serde_json::from_slice(&ask(arguments.server, "GET", "/calls", "")?.body)?) };
    let before = so_far()?;
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let minute = (so_far()? - before) as f64 * 60.0 / arguments.seconds as f64;
    let goal = arguments.goal.map_or_else(String::new, |goal| format!("<= {goal}"));
    figure("view", &format!("calls of the API server per idle minute, {}", arguments.label), minute, "calls", &goal);
    Ok(())
}

/// Serves until it is ended.
#[tokio::main(flavor = "current_thread")]
pub async fn serve(arguments: &Serve) -> anyhow::Result<()> {
    let version = || async {
        Json(json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "",
        "buildDate": TIME, "goVersion": "", "compiler": "", "platform": "linux/amd64"}))
    };
    let router = Router::new()
        .route("/version", get(version))
        .route("/calls", get(async |State(cluster): State<Arc<Cluster>>| Json(cluster.lock().calls)))
        .route("/api/v1/namespaces/{namespace}/{kind}", any(collection))
        .route("/api/v1/namespaces/{namespace}/{kind}/{name}", any(single))
        .route("/apis/{group}/{version}/namespaces/{namespace}/{kind}", any(collection))
        .route("/apis/{group}/{version}/namespaces/{namespace}/{kind}/{name}", any(single))
        .with_state(Arc::new(Cluster { objects: Mutex::default(), news: broadcast::Sender::new(1 << 16) }));
    Ok(axum::serve(tokio::net::TcpListener::bind(arguments.listen).await?, router).await?)
}

struct Cluster {
    objects: Mutex<Objects>,
    /// Kind, and the line that its watches get.
    news: broadcast::Sender<(String, Bytes)>,
}

#[derive(Default)]
struct Objects {
    /// By kind and name.
    all: BTreeMap<(String, String), Value>,
    version: u64,
    calls: u64,
}

impl Cluster {
    fn lock(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, kind: &str, what: &str, object: &Value) {
        let line = json!({"type": what, "object": object}).to_string() + "\n";
        // Nobody may be watching.
        let _ = self.news.send((kind.to_owned(), line.into()));
    }

    /// Keeps an object, and makes the pods of a workload.
    fn put(&self, kind: &str, name: &str, mut object: Value) -> Value {
        let mut objects = self.lock();
        objects.version += 1;
        let version = objects.version;
        let key = (kind.to_owned(), name.to_owned());
        let known = objects.all.get(&key).map(|known| known["metadata"]["uid"].clone());
        object["metadata"]["uid"] = known.clone().unwrap_or_else(|| format!("uid-{version}").into());
        object["metadata"]["resourceVersion"] = version.to_string().into();
        object["metadata"]["creationTimestamp"] = TIME.into();
        if kind == "deployments" {
            object["metadata"]["generation"] = 1.into();
            object["status"] = json!({"observedGeneration": 1, "readyReplicas": object["spec"]["replicas"]});
        }
        objects.all.insert(key, object.clone());
        drop(objects);
        self.tell(kind, if known.is_some() { "MODIFIED" } else { "ADDED" }, &object);
        if kind == "deployments" {
            for number in 0..object["spec"]["replicas"].as_u64().unwrap_or_default() {
                let pod = format!("{name}-{version}-{number}");
                self.put("pods", &pod, ready(&pod, version, &object));
            }
        }
        object
    }

    fn remove(&self, kind: &str, name: &str) -> Option<Value> {
        let removed = self.lock().all.remove(&(kind.to_owned(), name.to_owned()))?;
        self.tell(kind, "DELETED", &removed);
        let owned = |object: &Value| object["metadata"]["ownerReferences"][0]["uid"] == removed["metadata"]["uid"];
        let objects = self.lock();
        let theirs: Vec<_> = objects.all.iter().filter(|(_, object)| owned(object)).map(|(key, _)| key.clone()).collect();
        drop(objects);
        for (kind, name) in theirs {
            self.remove(&kind, &name);
        }
        Some(removed)
    }
}

/// A pod of that workload as a node reports it once it is ready.
fn ready(name: &str, number: u64, workload: &Value) -> Value {
    let template = &workload["spec"]["template"];
    let [high, low] = [(number >> 8) & 0xff, number & 0xff];
    let conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": TIME});
    let conditions = conditions.map(condition);
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"],
        "status": {"phase": "Running", "podIP": format!("10.0.{high}.{low}"), "hostIP": "10.1.0.1", "startTime": TIME,
            "qosClass": "Burstable", "conditions": conditions,
            "containerStatuses": [{"name": "service", "ready": true, "started": true, "restartCount": 0, "lastState": {},
                "image": template["spec"]["containers"][0]["image"], "imageID": "sha256:0", "containerID": "containerd://0",
                "state": {"running": {"startedAt": TIME}}}]}});
    pod["spec"]["nodeName"] = "node".into();
    pod["metadata"]["name"] = name.into();
    pod["metadata"]["namespace"] = workload["metadata"]["namespace"].clone();
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": workload["metadata"]["name"], "uid": workload["metadata"]["uid"]}]);
    pod
}

fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason,
        "code": code.as_u16()});
    (code, Json(body)).into_response()
}

async fn collection(
    State(cluster): State<Arc<Cluster>>,
    method: Method,
    Path(path): Path<BTreeMap<String, String>>,
    Query(query): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> Response {
    let kind = path["kind"].clone();
    cluster.lock().calls += 1;
    if method == Method::POST {
        let object: Value = serde_json::from_slice(&body).unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if cluster.lock().all.contains_key(&(kind.clone(), name.clone())) {
            return status(StatusCode::CONFLICT, "AlreadyExists");
        }
        return (StatusCode::CREATED, Json(cluster.put(&kind, &name, object))).into_response();
    }
    if query.get("watch").is_some_and(|watch| watch == "true" || watch == "1") {
        let news = BroadcastStream::new(cluster.news.subscribe());
        let lines = news.filter_map(move |news| {
            std::future::ready(news.ok().filter(|(told, _)| *told == kind).map(|(_, line)| Ok::<_, Infallible>(line)))
        });
        // The head of an answer goes out with its first bytes.
        let lines = stream::once(std::future::ready(Ok(Bytes::from_static(b"\n")))).chain(lines);
        return Response::new(Body::from_stream(lines));
    }
    let objects = cluster.lock();
    let items: Vec<&Value> = objects.all.iter().filter(|((of, _), _)| *of == kind).map(|(_, object)| object).collect();
    let list =
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": objects.version.to_string()}, "items": items});
    Json(list).into_response()
}

async fn single(
    State(cluster): State<Arc<Cluster>>,
    method: Method,
    uri: Uri,
    Path(path): Path<BTreeMap<String, String>>,
    body: Bytes,
) -> Response {
    let (kind, name) = (path["kind"].as_str(), path["name"].as_str());
    let known = {
        let mut objects = cluster.lock();
        objects.calls += 1;
        objects.all.get(&(kind.to_owned(), name.to_owned())).cloned()
    };
    let change: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_applied = uri.query().is_some_and(|query| query.contains("force=true"));
    match (method.as_str(), known) {
        ("PATCH", _) if is_applied => Json(cluster.put(kind, name, change)).into_response(),
        ("PATCH", Some(mut object)) => {
            merge(&mut object, change);
            Json(cluster.put(kind, name, object)).into_response()
        }
        ("DELETE", _) => cluster
            .remove(kind, name)
            .map_or_else(|| status(StatusCode::NOT_FOUND, "NotFound"), |gone| Json(gone).into_response()),
        (_, Some(object)) => Json(object).into_response(),
        (_, None) => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}

/// RFC 7386.
fn merge(object: &mut Value, change: Value) {
    match (object, change) {
        (Value::Object(object), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    object.remove(&key);
                } else {
                    merge(object.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (object, change) => *object = change,
    }
}

//! A door to the cluster for one account: what comes through it is asked in the account's name, and which rights that took
//! and which it lacked is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use reqwest::header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::kubernetes::Namespace;

/// No request of the product is larger, in bytes.
const LARGEST: usize = 4 << 20;

/// A verb on a resource of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    pub group: String,
    pub resource: String,
    pub verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, resource, verb } = self;
        write!(formatter, "{verb} {resource}{}{group}", if group.is_empty() { "" } else { "." })
    }
}

impl Right {
    /// The right that a request needs; `None` when it is for nothing in a namespace.
    fn of(method: &Method, path: &str, query: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let group = if parts.next()? == "api" { "" } else { parts.next()? };
        let mut parts = parts.skip_while(|part| *part != "namespaces").skip(2);
        let (resource, name, part) = (parts.next()?, parts.next(), parts.next());
        let watches = query.split('&').any(|word| matches!(word, "watch=true" | "watch=1"));
        let verb = match (method.as_str(), name) {
            ("GET", Some(_)) => "get",
            ("GET", None) if watches => "watch",
            ("GET", None) => "list",
            ("POST", _) => "create",
            ("PATCH", _) => "patch",
            ("PUT", _) => "update",
            _ => "delete",
        };
        let resource = part.map_or_else(|| resource.to_owned(), |part| format!("{resource}/{part}"));
        Some(Self { group: group.to_owned(), resource, verb: verb.to_owned() })
    }
}

/// What was asked so far.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Rights that were used.
    pub used: BTreeSet<Right>,
    /// Rights that the account lacked, with the server's words.
    pub refused: BTreeMap<Right, String>,
}

/// The door; it closes with this.
pub struct Door {
    /// The file that leads through it.
    pub kubeconfig: PathBuf,
    pub heard: watch::Receiver<Heard>,
    server: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Door {
    /// A door to the cluster of this namespace for one of its accounts.
    pub async fn open(namespace: &Namespace, account: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let text = serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": "door",
            "contexts": [{"name": "door", "context": {"cluster": "door", "user": "door"}}],
            "clusters": [{"name": "door", "cluster": {"server": server}}], "users": [{"name": "door", "user": {}}]});
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let (tell, heard) = watch::channel(Heard::default());
        let user = format!("system:serviceaccount:{}:{account}", namespace.name);
        let keeper = Arc::new(Keeper { client: namespace.client.clone(), user: HeaderValue::from_str(&user).unwrap(), tell });
        let router = Router::new().fallback(pass).with_state(keeper);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { kubeconfig, heard, server, _folder: folder }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Keeper {
    client: kube::Client,
    user: HeaderValue,
    tell: watch::Sender<Heard>,
}

async fn pass(State(keeper): State<Arc<Keeper>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let right = Right::of(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default());
    let patches = parts.method == Method::PATCH;
    let body = to_bytes(body, LARGEST).await.unwrap();
    parts.headers.remove(HOST);
    parts.headers.insert("impersonate-user", keeper.user.clone());
    let request = axum::http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let mut response = match keeper.client.send(request).await {
        Ok(response) => response,
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    for of_the_connection in [TRANSFER_ENCODING, CONNECTION] {
        response.headers_mut().remove(of_the_connection);
    }
    let Some(right) = right else { return response.map(Body::new) };
    if response.status() != StatusCode::FORBIDDEN {
        keeper.tell.send_modify(|heard| {
            // Applying what is not there creates it.
            if patches && response.status() == StatusCode::CREATED {
                heard.used.insert(Right { verb: "create".to_owned(), ..right.clone() });
            }
            heard.used.insert(right);
        });
        return response.map(Body::new);
    }
    let (parts, body) = response.into_parts();
    let body = body.collect_bytes().await.unwrap();
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let said = said["message"].as_str().unwrap_or_default();
    // Admission refuses with the same status, and in other words.
    if let Some(verb) = said.split(" cannot ").nth(1).and_then(|rest| rest.split(' ').next()) {
        let right = Right { verb: verb.to_owned(), ..right };
        keeper.tell.send_modify(|heard| drop(heard.refused.insert(right, said.to_owned())));
    }
    Response::from_parts(parts, Body::from(body))
}

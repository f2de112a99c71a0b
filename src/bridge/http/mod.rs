//! The bridge's HTTP side: listener, connections, routes. Leaves out what MCP says over it (see [`legacy`], [`modern`]
//! and [`sse`]).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::Bridge;
use super::metrics::Gauges;
use super::owner::Whose;
use crate::error::{Error, Result};

mod batch;
mod body;
mod forward;
mod guard;
mod legacy;
mod modern;
mod response;
mod sse;

pub use body::Payload;
use response::{Response, plain};

/// Connections at once; each costs a buffer.
const CONNECTIONS: usize = 8192;

/// Listens at the address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| Error::internal(format!("cannot listen at {address}: {error}"), error))
}

/// What all requests need.
#[derive(Debug)]
pub(super) struct Front {
    bridge: Arc<Bridge>,
    peers: forward::Peers,
    connections: AtomicUsize,
}

/// A running listener.
#[derive(Debug)]
pub struct Server {
    accepting: CancellationToken,
}

impl Server {
    /// Accepts no further connections, and no further request on those that are open.
    pub fn stop_accepting(&self) {
        self.accepting.cancel();
    }
}

/// Serves requests until told to stop.
#[must_use]
pub fn serve(bridge: &Arc<Bridge>, listener: TcpListener) -> Server {
    let accepting = CancellationToken::new();
    let front = Arc::new(Front {
        peers: forward::Peers::new(&bridge.context.options),
        bridge: Arc::clone(bridge),
        connections: AtomicUsize::new(0),
    });
    let stop = accepting.clone();
    bridge.context.tasks.spawn("listener", async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) if front.connections.load(Ordering::Relaxed) < CONNECTIONS => {
                    front.connections.fetch_add(1, Ordering::Relaxed);
                    let tasks = front.bridge.context.tasks.clone();
                    tasks.spawn("connection", connection(Arc::clone(&front), stream, stop.clone()));
                }
                Ok(_) => {}
                Err(error) => {
                    // Out of file descriptors: the ones in use come back in time.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    Server { accepting }
}

async fn connection(front: Arc<Front>, stream: TcpStream, stop: CancellationToken) {
    // Small answers must not wait for more to come.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was lost at once");
    }
    let options = &front.bridge.context.options;
    let mut builder = http1::Builder::new();
    // A body goes out as it is, behind its head; gathering answers of several requests would copy it into the buffer of heads.
    builder.timer(TokioTimer::new()).header_read_timeout(options.header_timeout).max_buf_size(64 * 1024).writev(true);
    let service = service_fn(|request| {
        let front = Arc::clone(&front);
        async move { Ok::<_, Infallible>(front.answer(request).await) }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    front.connections.fetch_sub(1, Ordering::Relaxed);
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection has ended badly");
    }
}

impl Front {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response {
        let metrics = &self.bridge.context.metrics;
        metrics.requests.add(1);
        let response = self.route(request).await;
        if response.status().as_u16() >= 400 {
            metrics.requests_refused.add(1);
        }
        response
    }

    async fn route(self: &Arc<Self>, request: Request<Incoming>) -> Response {
        let options = &self.bridge.context.options;
        let path = request.uri().path();
        match path {
            "/health" => return self.health(),
            "/metrics" => return plain(StatusCode::OK, self.metrics()),
            _ => {}
        }
        if let Err(refused) = guard::check(options, &request) {
            return refused;
        }
        if path == options.path {
            match *request.method() {
                Method::POST => self.post(request).await,
                Method::GET => self.get(request).await,
                Method::DELETE => self.delete(request).await,
                _ => response::method_not_allowed("GET, POST, DELETE"),
            }
        } else if options.sse && matches!(path, sse::STREAM | sse::MESSAGES) {
            sse::route(self, request).await
        } else {
            plain(StatusCode::NOT_FOUND, format!("there is nothing here; the MCP endpoint is {}", options.path))
        }
    }

    fn health(&self) -> Response {
        let sessions = self.bridge.sessions.failure().map_or(Ok(()), Err);
        match self.bridge.common.health().and(sessions) {
            Ok(()) => plain(StatusCode::OK, "ok".to_owned()),
            Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why),
        }
    }

    fn metrics(&self) -> String {
        let context = &self.bridge.context;
        context.metrics.text(Gauges {
            sessions: self.bridge.sessions.count(),
            children: context.processes.count(),
            pending: context.links.pending(),
            connections: self.connections.load(Ordering::Relaxed),
        })
    }

    /// Who asks, where callers are known.
    fn caller<B>(&self, request: &Request<B>) -> String {
        let name = self.bridge.context.options.caller_header.as_ref();
        let value = name.and_then(|name| request.headers().get(name));
        value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
    }

    /// Whose session the request is of; nothing if it names none.
    fn whose<B>(&self, request: &Request<B>) -> Option<(String, Whose)> {
        let id = request.headers().get(response::SESSION)?.to_str().unwrap_or_default();
        // An open session needs no proof that its id is genuine, only that it is its caller's, where callers are known.
        if self.bridge.context.options.caller_header.is_none() && self.bridge.sessions.get(id).is_some() {
            return Some((id.to_owned(), Whose::Own));
        }
        Some((id.to_owned(), self.bridge.ids.whose(id, &self.caller(request))))
    }
}

//! Accepting connections and carrying HTTP/1 over them, within limits, until the manager stops.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Settings;
use super::body::Body;
use super::stall::Stalling;
use crate::lifecycle::Tasks;

/// Accepts connections until `tasks` stop. `visit` makes the service of one connection from its peer's address.
pub(super) async fn accept<V, S, F>(listener: TcpListener, settings: Settings, tasks: Tasks, visit: V)
where
    V: Fn(SocketAddr) -> S,
    S: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(settings.head_timeout).max_header_size(settings.max_head_bytes);
    let free = Arc::new(Semaphore::new(settings.max_connections));
    let stopping = tasks.stopping();
    loop {
        let accepted = async {
            let permit = if let Ok(permit) = Arc::clone(&free).try_acquire_owned() {
                permit
            } else {
                tracing::warn!(limit = settings.max_connections, "all connections are in use; new ones wait");
                Arc::clone(&free).acquire_owned().await.ok()?
            };
            match listener.accept().await {
                Ok((stream, peer)) => Some((permit, stream, peer)),
                Err(error) => {
                    accept_failed(&error).await;
                    None
                }
            }
        };
        let (permit, stream, peer) = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = accepted => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
        };
        let (http, service, stopping, drain) = (http.clone(), visit(peer), stopping.clone(), settings.drain);
        let stall_timeout = settings.stall_timeout;
        tasks.spawn("http connection", async move {
            if stream.set_nodelay(true).is_ok() {
                carry(&http, Stalling::new(stream, stall_timeout), service, stopping.cancelled(), drain).await;
            }
            drop(permit);
        });
    }
}

async fn accept_failed(error: &std::io::Error) {
    // A client that has given up already is nobody's fault. Anything else, mostly want of file descriptors, passes with
    // time; without a pause this would be a busy loop.
    if !matches!(error.kind(), std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset) {
        tracing::warn!(%error, "no connection can be accepted at present");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn carry<S, F>(http: &http1::Builder, stream: Stalling, service: S, stopping: impl Future<Output = ()>, drain: Duration)
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service_fn(service)).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(drain, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("a connection is cut by the manager's end"),
            }
        }
    };
    if let Err(error) = ended {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::debug!(%error, cause, "a connection broke off");
    }
}

//! Upgraded connections: WebSocket and whatever else switches protocols. After the switch, bytes pass as they are.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{RequestBody, ResponseBody};
use super::failure::Failure;
use super::proxy::answer;
use super::routes::Route;
use super::{Gateway, upstream::Upstream};

impl Gateway {
    /// Passes on a request to switch protocols, over a connection of its own; `downstream` is the client's half.
    pub(super) async fn proxy_upgrade(
        &self,
        route: &Route,
        request: Request<RequestBody>,
        downstream: OnUpgrade,
    ) -> Result<Response<ResponseBody>, Failure> {
        let (upstream, stream) = self.connect(route, route.pick(&[])).await?;
        let replica = upstream.address;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| Failure::of(replica, error))?;
        self.tasks.spawn("gateway: connection to be upgraded", connection.with_upgrades());
        let limit = self.settings.head_timeout;
        let response = tokio::time::timeout(limit, sender.send_request(request)).await;
        let mut response =
            response.map_err(|_| Failure::Timeout(replica, limit))?.map_err(|error| Failure::of(replica, error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer(response, |body| ResponseBody::detached(body, self.settings.idle_timeout)));
        }
        let protocol = response.headers().get(UPGRADE).cloned();
        let tunnel = self.tunnel(downstream, hyper::upgrade::on(&mut response), upstream);
        self.tasks.spawn_for_request("gateway: tunnel", tunnel);
        let mut response = answer(response, |_| ResponseBody::from(bytes::Bytes::new()));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            response.headers_mut().insert(UPGRADE, protocol);
        }
        Ok(response)
    }

    /// Carries bytes between both ends until one of them closes, or until the manager has stopped for a while.
    fn tunnel(&self, downstream: OnUpgrade, upstream: OnUpgrade, replica: Arc<Upstream>) -> impl Future<Output = ()> + use<> {
        let (stopping, drain, idle_timeout) = (self.tasks.stopping(), self.settings.drain, self.settings.idle_timeout);
        let passed = Arc::new(AtomicU64::new(0));
        let end = async move {
            stopping.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        async move {
            let carried = async {
                let (client, server) = tokio::try_join!(downstream, upstream).map_err(io::Error::other)?;
                let (mut client, mut server) = (Counted::new(client, &passed), Counted::new(server, &passed));
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            };
            tokio::select! {
                carried = carried => match carried {
                    Ok((sent, received)) => tracing::debug!(replica = %replica.address, sent, received, "an upgraded connection has ended"),
                    Err(error) => tracing::debug!(replica = %replica.address, %error, "an upgraded connection broke off"),
                },
                () = silence(&passed, idle_timeout) => {
                    tracing::debug!(replica = %replica.address, "an upgraded connection was silent for too long");
                }
                () = end => tracing::debug!(replica = %replica.address, "an upgraded connection is cut by the manager's end"),
            }
        }
    }
}

/// Returns once nothing has been counted for the whole of `limit`.
async fn silence(passed: &AtomicU64, limit: Duration) {
    let mut before = None;
    loop {
        let now = Some(passed.load(Ordering::Relaxed));
        if now == before {
            return;
        }
        before = now;
        tokio::time::sleep(limit).await;
    }
}

/// One half of a tunnel, which counts what comes out of it.
struct Counted {
    half: TokioIo<Upgraded>,
    passed: Arc<AtomicU64>,
}

impl Counted {
    fn new(half: Upgraded, passed: &Arc<AtomicU64>) -> Self {
        Self { half: TokioIo::new(half), passed: Arc::clone(passed) }
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.half).poll_read(context, buffer);
        if polled.is_ready() {
            self.passed.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.half).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_shutdown(context)
    }
}

//! Upgraded connections: WebSocket and whatever else switches protocols. After the switch, bytes pass as they are.

use std::sync::Arc;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

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
            return Ok(answer(response, ResponseBody::detached));
        }
        let protocol = response.headers().get(UPGRADE).cloned();
        self.tasks.spawn("gateway: tunnel", self.tunnel(downstream, hyper::upgrade::on(&mut response), upstream));
        let mut response = answer(response, |_| ResponseBody::from(bytes::Bytes::new()));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            response.headers_mut().insert(UPGRADE, protocol);
        }
        Ok(response)
    }

    /// Carries bytes between both ends until one of them closes, or until the manager has stopped for a while.
    fn tunnel(&self, downstream: OnUpgrade, upstream: OnUpgrade, replica: Arc<Upstream>) -> impl Future<Output = ()> + use<> {
        let (stopping, drain) = (self.tasks.stopping(), self.settings.drain);
        let end = async move {
            stopping.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        async move {
            let carried = async {
                let (client, server) = tokio::try_join!(downstream, upstream).map_err(std::io::Error::other)?;
                let (mut client, mut server): (TokioIo<Upgraded>, TokioIo<Upgraded>) =
                    (TokioIo::new(client), TokioIo::new(server));
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            };
            tokio::select! {
                carried = carried => match carried {
                    Ok((sent, received)) => tracing::debug!(replica = %replica.address, sent, received, "an upgraded connection has ended"),
                    Err(error) => tracing::debug!(replica = %replica.address, %error, "an upgraded connection broke off"),
                },
                () = end => tracing::debug!(replica = %replica.address, "an upgraded connection is cut by the manager's end"),
            }
        }
    }
}

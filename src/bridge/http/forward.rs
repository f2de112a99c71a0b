//! The way to the replica that has a session: a request is forwarded once, and a replica that does not accept soon is
//! gone. Leaves out whose session it is (see [`super::super::owner`]).

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri};
use hyper::body::Incoming;
use hyper::{Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::super::Context;
use super::super::options::Options;
use super::Payload;
use super::response::{Response, no_session};

/// Marks a forwarded request, which is not forwarded again.
const FORWARDED: HeaderName = HeaderName::from_static("mcp-bridge-forwarded");

/// The other replicas of the service.
#[derive(Debug)]
pub struct Peers {
    client: Client<HttpConnector, Payload>,
    pattern: Option<String>,
}

impl Peers {
    /// As the options say.
    pub fn new(options: &Options) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(options.peer_timeout));
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(16).build(connector);
        Self { client, pattern: options.peer.clone() }
    }

    /// Forwards a request to its owner. An owner that cannot be reached is gone, and so is its session.
    pub async fn forward(&self, context: &Arc<Context>, owner: &str, request: Request<Incoming>) -> Response {
        self.send(context, owner, request.map(Payload::Foreign)).await
    }

    /// As [`Peers::forward`], for a request whose body was read already.
    pub async fn send(&self, context: &Arc<Context>, owner: &str, mut request: Request<Payload>) -> Response {
        let Some(pattern) = self.pattern.as_ref().filter(|_| !request.headers().contains_key(FORWARDED)) else {
            return no_session();
        };
        let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let Ok(uri) = format!("{}{path}", pattern.replace("{owner}", &super::super::owner::host(owner))).parse::<Uri>() else {
            return no_session();
        };
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(FORWARDED, HeaderValue::from_static("1"));
        for name in [header::CONNECTION, header::TE, header::UPGRADE, header::HOST] {
            headers.remove(name);
        }
        context.metrics.forwarded.add(1);
        match self.client.request(request).await {
            Ok(mut response) => {
                response.headers_mut().remove(header::CONNECTION);
                response.headers_mut().remove(header::TRANSFER_ENCODING);
                response.map(Payload::Foreign)
            }
            Err(error) => {
                tracing::info!(owner, %error, "the replica of a session cannot be reached");
                no_session()
            }
        }
    }
}

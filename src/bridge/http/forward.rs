//! Requests for the replica that has a session. Leaves out the way there (see [`super::super::way`]), and whose session it
//! is (see [`super::super::owner`]).

use std::sync::Arc;

use http::{HeaderName, Uri};
use hyper::body::Incoming;
use hyper::{Request, header};

use super::super::Context;
use super::super::options::Options;
use super::super::way::Way;
use super::Payload;
use super::response::{Response, no_session};

/// Marks a forwarded request, which is not forwarded again.
const FORWARDED: HeaderName = HeaderName::from_static("mcp-bridge-forwarded");

/// The other replicas of the service.
#[derive(Debug)]
pub struct Peers {
    way: Way<Payload>,
    pattern: Option<String>,
}

impl Peers {
    /// As the options say.
    pub fn new(options: &Options) -> Self {
        Self { way: Way::new(FORWARDED, options.peer_timeout), pattern: options.peer.clone() }
    }

    /// Forwards a request to its owner. An owner that cannot be reached is gone, and so is its session.
    pub async fn forward(&self, context: &Arc<Context>, owner: &str, request: Request<Incoming>) -> Response {
        self.send(context, owner, request.map(Payload::Foreign)).await
    }

    /// As [`Peers::forward`], for a request whose body was read already.
    pub async fn send(&self, context: &Arc<Context>, owner: &str, mut request: Request<Payload>) -> Response {
        let Some(pattern) = self.pattern.as_ref().filter(|_| !self.way.was_gone(request.headers())) else {
            return no_session();
        };
        let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let Ok(uri) = format!("{}{path}", pattern.replace("{owner}", &super::super::owner::host(owner))).parse::<Uri>() else {
            return no_session();
        };
        // A replica takes requests under its own name.
        request.headers_mut().remove(header::HOST);
        context.metrics.forwarded.add(1);
        match self.way.go(uri, request).await {
            Ok(response) => response.map(Payload::Foreign),
            Err(error) => {
                tracing::info!(owner, %error, "the replica of a session cannot be reached");
                no_session()
            }
        }
    }
}

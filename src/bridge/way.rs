//! The way to whoever has a session: a request is passed on once, and an owner that does not accept soon is gone. Whose
//! session it is stands in [`super::owner`]; which requests go this way, and what a client is told when there is none, is
//! the caller's.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;

/// A client of owners of sessions.
#[derive(Debug)]
pub struct Way<B> {
    client: Client<HttpConnector, B>,
    mark: HeaderName,
}

impl<B> Way<B>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    /// `mark` is the header of requests that were passed on; an owner has `patience` to accept a connection.
    #[must_use]
    pub fn new(mark: HeaderName, patience: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(patience));
        Self { client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(16).build(connector), mark }
    }

    /// Whether a request came this way, which it does not go again.
    #[must_use]
    pub fn was_gone(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(&self.mark)
    }

    /// Passes a request on to the owner at `uri`.
    pub async fn go(&self, uri: Uri, mut request: Request<B>) -> Result<Response<Incoming>, Error> {
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(&self.mark, HeaderValue::from_static("1"));
        for name in [header::CONNECTION, header::TE, header::UPGRADE] {
            headers.remove(name);
        }
        let mut response = self.client.request(request).await?;
        for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
            response.headers_mut().remove(name);
        }
        Ok(response)
    }
}

//! One request: a replica is chosen, the request goes there, its answer comes back.
//!
//! A request is tried again, on another connection or replica, when nothing of it can have been acted on: the
//! connection was refused, or a kept connection turned out closed before the request was written. One that was
//! written on a kept connection and got no answer is repeated only if that is harmless (RFC 9110, section 9.2.2).

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use hyper::body::{Body as _, Incoming};
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::body::{RequestBody, ResponseBody};
use super::client::Client;
use super::failure::Failure;
use super::routes::Route;
use super::upstream::{Link, Upstream};
use super::{Gateway, headers};

/// So often is one request sent at most.
const ATTEMPTS: usize = 4;

/// How one sending of a request failed.
enum Attempt {
    /// Nothing was written; here is the request again.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    /// It was written, at least in part.
    Sent(hyper::Error),
    /// No answer in time.
    Timeout,
}

impl Gateway {
    /// Passes a request to a ready replica of the service.
    pub(super) async fn proxy(
        &self,
        route: &Route,
        request: Request<RequestBody>,
        client: &Client,
    ) -> Result<Response<ResponseBody>, Failure> {
        if request.method() == Method::CONNECT {
            return Err(Failure::Method);
        }
        let (mut parts, body) = request.into_parts();
        let upgrade = headers::wanted_upgrade(&parts.headers).filter(|_| parts.version == Version::HTTP_11);
        let downstream = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
        make_origin_form(&mut parts);
        let streamed = !body.is_end_stream() && body.size_hint().exact().is_none();
        headers::prepare_request(&mut parts.headers, client, upgrade.clone(), streamed);
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        match (upgrade, downstream) {
            (Some(_), Some(downstream)) => self.proxy_upgrade(route, Request::from_parts(parts, body), downstream).await,
            _ => self.proxy_plain(route, parts, body).await,
        }
    }

    async fn proxy_plain(&self, route: &Route, mut parts: Parts, body: RequestBody) -> Result<Response<ResponseBody>, Failure> {
        let owner = route.owner(&mut parts.headers);
        let spare = (parts.method.is_idempotent() && body.is_end_stream()).then(|| parts.clone());
        let mut request = Request::from_parts(parts, body);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (upstream, mut link) = self.link(route, owner.as_ref(), attempts > 1).await?;
            let waiting = upstream.wait();
            let failed = match self.exchange(&mut link, request).await {
                Ok(mut response) => {
                    drop(waiting);
                    route.learn(response.headers_mut(), &upstream);
                    return Ok(answer(response, |body| ResponseBody::driven(body, link, upstream, self.settings.idle_timeout)));
                }
                Err(failed) => failed,
            };
            request = match (failed, &spare) {
                (Attempt::Unsent(unsent, _), _) if attempts < ATTEMPTS => *unsent,
                (Attempt::Sent(error), Some(parts)) if attempts < ATTEMPTS && link.reused && !error.is_parse() => {
                    Request::from_parts(parts.clone(), RequestBody::empty())
                }
                (Attempt::Unsent(_, error) | Attempt::Sent(error), _) => return Err(Failure::of(upstream.address, error)),
                (Attempt::Timeout, _) => return Err(Failure::Timeout(upstream.address, self.settings.head_timeout)),
            };
        }
    }

    /// A connection to the owner of the request's session, or to the replica whose turn it is: a kept one unless a fresh
    /// one is asked for.
    async fn link(
        &self,
        route: &Route,
        owner: Option<&Arc<Upstream>>,
        fresh: bool,
    ) -> Result<(Arc<Upstream>, Box<Link>), Failure> {
        let turn = owner.or_else(|| route.pick(&[]));
        if let (false, Some(upstream)) = (fresh, turn)
            && let Some(link) = upstream.take()
        {
            return Ok((Arc::clone(upstream), link));
        }
        let (upstream, stream) = self.connect(route, turn).await?;
        let link = Link::over(stream).await.map_err(|error| Failure::of(upstream.address, error))?;
        Ok((upstream, link))
    }

    /// A fresh connection to the replica `turn`. When it takes none, the others are asked; when there is none left, the
    /// failure of the last is returned.
    pub(super) async fn connect(
        &self,
        route: &Route,
        mut turn: Option<&Arc<Upstream>>,
    ) -> Result<(Arc<Upstream>, TcpStream), Failure> {
        let mut tried = Vec::new();
        while let Some(upstream) = turn {
            match upstream.connect(self.settings.connect_timeout).await {
                Ok(stream) => return Ok((Arc::clone(upstream), stream)),
                Err(error) => {
                    tracing::debug!(replica = %upstream.address, %error, "a ready replica took no connection");
                    tried.push(Arc::clone(upstream));
                    turn = route.pick(&tried);
                    if turn.is_none() {
                        return Err(Failure::Connect(upstream.address, error));
                    }
                }
            }
        }
        Err(Failure::not_ready(route.state()))
    }

    /// Sends the request and waits for the head of the answer. The limit starts anew as long as the body of the request
    /// makes progress.
    async fn exchange(&self, link: &mut Link, mut request: Request<RequestBody>) -> Result<Response<Incoming>, Attempt> {
        let progress = request.body_mut().watch();
        let mut passed = 0;
        let mut limit = pin!(tokio::time::sleep(self.settings.head_timeout));
        let mut answer = pin!(link.sender.try_send_request(request));
        // Tokio's budget could hold the answer back after it has arrived, and nobody would ask for it again, as the
        // connection alone has the waker.
        unconstrained(poll_fn(|context| {
            link.drive(context);
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Poll::Ready(answer.map_err(|mut failed| match failed.take_message() {
                    Some(request) => Attempt::Unsent(Box::new(request), failed.into_error()),
                    None => Attempt::Sent(failed.into_error()),
                }));
            }
            while limit.as_mut().poll(context).is_ready() {
                let now = progress.as_ref().map_or(0, |progress| progress.load(Ordering::Relaxed));
                if now == passed {
                    return Poll::Ready(Err(Attempt::Timeout));
                }
                passed = now;
                limit.as_mut().reset(Instant::now() + self.settings.head_timeout);
            }
            Poll::Pending
        }))
        .await
    }
}

/// The replica's answer as the client gets it.
pub(super) fn answer(response: Response<Incoming>, body: impl FnOnce(Incoming) -> ResponseBody) -> Response<ResponseBody> {
    let (mut parts, incoming) = response.into_parts();
    headers::prepare_response(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, body(incoming))
}

/// A request that names its host in the request line, as if to a proxy, is passed on in the usual form.
fn make_origin_form(parts: &mut Parts) {
    let Some(authority) = parts.uri.authority() else { return };
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        parts.headers.insert(header::HOST, host);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
}

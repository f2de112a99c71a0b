//! The one HTTP listener: connections, limits, request ids, host checks, and the choice between gateway and router.
//!
//! Requests for `NAME.DOMAIN` go to the gateway before any of the router's work; everything else goes to the
//! [`axum::Router`] of the faces. What the routes do is not decided here.

mod body;
mod connections;
mod hosts;
mod provider;
mod request_id;
mod stall;
mod unread;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use crate::gateway::{Client, Gateway};
use crate::lifecycle::Tasks;
use crate::problem::Problem;
use crate::routing::Domain;
use crate::telemetry::Metrics;

use body::Body;
pub use hosts::host;
pub use provider::serve_provider;
pub use request_id::RequestId;

/// How the listener behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts that are answered besides `localhost`, addresses, and names below `domain`: `mcp-manager`,
    /// `manager.example.org`, `*.example.org`; `*` answers all and gives up the protection against DNS rebinding.
    pub allowed_hosts: Vec<String>,
    /// Names below it are services' or the installation's own.
    pub domain: Domain,
    /// How long a client may take for the head of a request, and how long a connection may lie idle.
    pub head_timeout: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub stall_timeout: Duration,
    /// Largest head of a request, in bytes; larger ones are answered with 431.
    pub max_head_bytes: usize,
    /// So many connections at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// How long requests may go on once the manager stops.
    pub drain: Duration,
    /// Where refusals are counted that no route sees.
    pub metrics: Option<Metrics>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allowed_hosts: vec!["mcp-manager".to_owned()],
            domain: Domain::default(),
            head_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_hours(1),
            max_head_bytes: 64 * 1024,
            max_connections: 4096,
            drain: Duration::from_secs(5),
            metrics: None,
        }
    }
}

/// Serves until `tasks` stop: names below the domain through `gateway`, where there is one, everything else through
/// `router`. Requests reach the router with [`RequestId`] and [`ConnectInfo`] of [`SocketAddr`] as extensions.
///
/// It returns when nothing is accepted any more; connections under way are tasks of `tasks` and end within the drain.
pub async fn serve(listener: TcpListener, settings: Settings, router: Router, gateway: Option<Arc<Gateway>>, tasks: Tasks) {
    let refusals = Refusals(settings.metrics.clone());
    let site = Arc::new(Site { router, gateway, allowed: hosts::Allowed::new(&settings), refusals });
    connections::accept(listener, settings, tasks, move |peer| {
        let visit =
            Arc::new(Visit { site: Arc::clone(&site), peer, client: site.gateway.as_ref().map(|gateway| gateway.client(peer)) });
        move |request| answer(Arc::clone(&visit), request)
    })
    .await;
}

/// What all connections share.
struct Site {
    router: Router,
    gateway: Option<Arc<Gateway>>,
    allowed: hosts::Allowed,
    refusals: Refusals,
}

/// Refusals of requests that reach no route: told and counted as answers of routes are.
struct Refusals(Option<Metrics>);

impl Refusals {
    fn answer<B>(&self, request: &Request<B>, id: &http::HeaderValue, problem: Problem) -> Response<Body> {
        let response = problem.into_response();
        if let Some(metrics) = &self.0 {
            metrics.answered(request.method(), "none", response.status(), None);
        }
        let host = request.headers().get(http::header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
        let host = host.map(|host| crate::domain::shown(&host));
        span(request, id).in_scope(|| tracing::debug!(status = response.status().as_u16(), host, "refused"));
        response
    }
}

/// One connection.
struct Visit {
    site: Arc<Site>,
    peer: SocketAddr,
    client: Option<Client>,
}

async fn answer(visit: Arc<Visit>, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let id = request_id::ensure(request.headers_mut());
    let site = &visit.site;
    let mut response = match hosts::host(&request) {
        Err(problem) => site.refusals.answer(&request, &id, *problem),
        Ok(host) => match (&site.gateway, &visit.client) {
            (Some(gateway), Some(client)) if gateway.matches(&host) => {
                let span = span(&request, &id);
                let handled = async {
                    let response = gateway.handle(request, &host, client).await;
                    tracing::debug!(status = response.status().as_u16(), "answered");
                    response
                };
                handled.instrument(span).await.map(Body::Gateway)
            }
            _ if site.allowed.contains(&host) => route(&visit, request, &id).await,
            _ => site.refusals.answer(&request, &id, hosts::misdirected(&host)),
        },
    };
    response.headers_mut().insert(request_id::HEADER, id);
    Ok(response)
}

async fn route(visit: &Visit, mut request: Request<Incoming>, id: &http::HeaderValue) -> Response<Body> {
    let span = span(&request, id);
    request.extensions_mut().insert(RequestId(text(id).to_owned()));
    request.extensions_mut().insert(ConnectInfo(visit.peer));
    let rest = unread::Rest::default();
    let answered = visit.site.router.clone().oneshot(rest.of(request)).instrument(span).await;
    let mut response = answered.unwrap_or_else(|never| match never {}).map(Body::Router);
    rest.discard(&mut response).await;
    response
}

/// What each log line about the request says.
fn span<B>(request: &Request<B>, id: &http::HeaderValue) -> tracing::Span {
    tracing::info_span!("request", request_id = text(id), method = %request.method(), path = request.uri().path())
}

fn text(id: &http::HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

//! The embedded host router: a request for `NAME.DOMAIN` goes to a ready replica of the service NAME.
//!
//! It reads the live view and proxies; which replicas are ready is the backend's business, and listening is
//! [`crate::server`]'s. The pieces: [`routes`] (who is reached where), [`upstream`] (connections to replicas), [`affinity`]
//! (sessions that live in one replica),
//! [`headers`] (what a proxy must change), [`body`] (streams both ways), [`tunnel`] (upgraded connections),
//! [`failure`] (answers of its own); [`mcp`] (one endpoint over many services).

mod affinity;
mod body;
mod client;
mod failure;
mod headers;
pub mod mcp;
mod proxy;
mod routes;
mod tunnel;
mod upstream;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use http::{Request, Response};
use prometheus::{IntCounter, IntCounterVec};
use tokio::sync::watch;

use crate::domain::access::CALLER_HEADER;
use crate::domain::address_range::AddressRange;
use crate::domain::mcp_path::mcp_path;
use crate::domain::name::RESERVED;
use crate::domain::spec::Transport;
use crate::domain::status::Snapshot;
use crate::lifecycle::Tasks;
use crate::routing::Domain;
use crate::telemetry::Metrics;

pub use body::{RequestBody, ResponseBody};
pub use client::Client;
use failure::Failure;
use routes::{Route, Routes};

/// How the gateway behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Services answer at `NAME.DOMAIN`.
    pub domain: Domain,
    /// How long a connection to a replica may take.
    pub connect_timeout: Duration,
    /// How long a replica may take from the end of the request to the head of its answer. The body that follows may
    /// take for ever: event streams do.
    pub head_timeout: Duration,
    /// How long the body of an answer, or an upgraded connection, may be silent.
    pub idle_timeout: Duration,
    /// How long requests wait for the first look at what runs before they are refused.
    pub sync_wait: Duration,
    /// How long upgraded connections may go on once the manager stops.
    pub drain: Duration,
    /// Proxies in front of the gateway, whose `X-Forwarded-*` and `Forwarded` headers are believed and extended. What
    /// anybody else sends under these names is replaced.
    pub trusted_proxies: Vec<AddressRange>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: Domain::default(),
            connect_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_mins(5),
            idle_timeout: Duration::from_hours(1),
            sync_wait: Duration::from_secs(5),
            drain: Duration::from_secs(5),
            trusted_proxies: Vec::new(),
        }
    }
}

/// The host router.
#[derive(Debug)]
pub struct Gateway {
    view: watch::Receiver<Arc<Snapshot>>,
    /// Replaced when `view` has changed; a plain lock, since it is held for the copy of an `Arc` only.
    routes: RwLock<Arc<Routes>>,
    settings: Settings,
    metrics: Counters,
    tasks: Tasks,
}

impl Gateway {
    /// A gateway over a live view. It stops with `tasks`.
    #[must_use]
    pub fn new(view: watch::Receiver<Arc<Snapshot>>, settings: Settings, metrics: &Metrics, tasks: &Tasks) -> Arc<Self> {
        let gateway =
            Arc::new(Self { view, routes: RwLock::default(), settings, metrics: Counters::new(metrics), tasks: tasks.clone() });
        tasks.spawn("gateway: idle connections", close_idle(Arc::downgrade(&gateway), tasks.clone()));
        gateway
    }

    /// Whether requests for this host (with or without a port) are the gateway's: all below the domain but the names
    /// that belong to the installation itself.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        self.settings.domain.label(host).is_some_and(|name| !RESERVED.iter().any(|own| name.eq_ignore_ascii_case(own)))
    }

    /// What the gateway knows of a client; made once for each connection.
    #[must_use]
    pub fn client(&self, peer: SocketAddr) -> Client {
        Client::new(peer, &self.settings.trusted_proxies)
    }

    /// Answers a request for a host that [`Gateway::matches`].
    pub async fn handle<B: Into<RequestBody>>(
        &self,
        mut request: Request<B>,
        host: &str,
        client: &Client,
    ) -> Response<ResponseBody> {
        // Nobody is known here, and nobody passes for somebody.
        request.headers_mut().remove(CALLER_HEADER);
        let name = self.settings.domain.label(host).unwrap_or_default().to_ascii_lowercase();
        self.forward(&name, request, client).await
    }

    /// Answers a request for the service `name`, whatever its host; its path is passed on as it is.
    pub async fn forward<B: Into<RequestBody>>(
        &self,
        name: &str,
        request: Request<B>,
        client: &Client,
    ) -> Response<ResponseBody> {
        let answer = match self.route(name).await {
            Ok(route) => self.proxy(&route, request.map(Into::into), client).await,
            Err(failure) => Err(failure),
        };
        let response = answer.unwrap_or_else(|failure| {
            self.metrics.errors.with_label_values(&[failure.slug()]).inc();
            tracing::debug!(service = name, reason = failure.slug(), "the gateway answers itself: the service {failure}");
            failure.answer(name)
        });
        self.metrics.answered(response.status());
        response
    }

    /// The host by which the service `name` is reached.
    #[must_use]
    pub fn host(&self, name: &str) -> String {
        format!("{name}.{}", self.settings.domain)
    }

    /// Whether there is a service of that name, as far as is known.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        let routes = self.routes();
        routes.get(name).is_some() || !routes.synced()
    }

    /// Whether the bridge is in front of the service `name`. It alone is told who calls, and keeps that to itself.
    #[must_use]
    pub fn is_bridged(&self, name: &str) -> bool {
        self.routes().get(name).is_some_and(|route| route.state().record.spec.transport != Transport::Http)
    }

    /// Where the service `name` speaks MCP, as its label `mcp.path` says.
    #[must_use]
    pub fn mcp_path(&self, name: &str) -> String {
        let routes = self.routes();
        let path = routes.get(name).and_then(|route| mcp_path(&route.state().record.spec.labels));
        path.unwrap_or("/mcp").to_owned()
    }

    /// The service of that name, once what runs is known at all.
    async fn route(&self, name: &str) -> Result<Arc<Route>, Failure> {
        let mut routes = self.routes();
        if !routes.synced() {
            let mut view = self.view.clone();
            let _ = tokio::time::timeout(self.settings.sync_wait, view.wait_for(|snapshot| snapshot.synced)).await;
            routes = self.routes();
        }
        match routes.get(name) {
            Some(route) if route.replicas() > 0 => Ok(Arc::clone(route)),
            _ if !routes.synced() => Err(Failure::NotSynced),
            Some(route) => Err(Failure::not_ready(route.state())),
            None => Err(Failure::unknown(name, routes.names())),
        }
    }

    /// The routes of the present view. They are made by whoever first asks after a change, so that a caller who has
    /// been told that a service is ready reaches it.
    fn routes(&self) -> Arc<Routes> {
        let view = self.view.borrow();
        {
            let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
            if routes.are_of(&view) {
                return Arc::clone(&routes);
            }
        }
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if !routes.are_of(&view) {
            *routes = Arc::new(Routes::of(&view, &routes));
        }
        Arc::clone(&routes)
    }
}

/// Closes connections to replicas that nobody has used for a while.
async fn close_idle(gateway: Weak<Gateway>, tasks: Tasks) {
    let mut ticks = tokio::time::interval(upstream::IDLE_LIMIT / 2);
    let stopping = tasks.stopping();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopping.cancelled() => return,
        }
        let Some(gateway) = gateway.upgrade() else { return };
        let routes = Arc::clone(&gateway.routes.read().unwrap_or_else(PoisonError::into_inner));
        routes.close_idle();
    }
}

/// The gateway's metrics, with the hot ones looked up once.
#[derive(Debug)]
struct Counters {
    by_class: [IntCounter; 5],
    errors: IntCounterVec,
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let by_class = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| metrics.gateway_requests.with_label_values(&[class]));
        Self { by_class, errors: metrics.gateway_errors.clone() }
    }

    fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.by_class[class].inc();
    }
}

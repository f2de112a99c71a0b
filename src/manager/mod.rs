//! Every capability of the product, once: REST, MCP, command line and dashboard call these functions.
//!
//! [`Manager::perform`] wraps each: authorise, open the audit entry, do, close the entry, measure. Transport is left out;
//! so is how containers are driven, which is the backend's.

mod capacity;
mod changes;
mod diagnostics;
mod host_paths;
mod images;
mod logs;
mod packages;
mod plan;
mod read;
mod redact;
mod request;
mod services;
mod system;
mod templates;
pub mod views;
mod wait;
mod wanted;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::backend::Backend;
use crate::domain::access::{Actor, Operation};
use crate::domain::spec::Defaults;
use crate::domain::status::Phase;
use crate::error::{Error, Kind, Result};
use crate::lifecycle::Tasks;
use crate::registry::Registry;
use crate::telemetry::Metrics;

// What faces show of others' things; they name the manager alone.
pub use crate::backend::ImageInfo;
pub use crate::registry::{TemplateDetail, TemplateSummary};
pub use diagnostics::{Diagnostics, Finding, Severity};
pub use images::{ImageList, OnProgress, PullRequest};
pub use logs::{LogPage, LogRequest, tail};
pub use packages::{PackageAnswer, PackageRequest, PackageSettings};
pub use plan::Purpose;
pub use read::{ListQuery, ListRequest, label_entry};
pub use request::{PatchRequest, ServiceRequest};
pub use system::{Check, SystemHealth, SystemInfo};
pub use templates::{TemplateCheck, TemplateList};
pub use wait::{Patience, Wait};

/// What the manager is told by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Defaults and bounds of specs.
    pub defaults: Defaults,
    /// Containers of all services together (`MAX_CONTAINERS`).
    pub max_containers: u32,
    /// Services are reached at `http://NAME.DOMAIN[:PORT]`.
    pub domain: String,
    /// Port in the URLs of services; none for the protocol's own.
    pub public_port: Option<u16>,
    /// `http` or `https`.
    pub public_scheme: String,
    /// Longest time a request may wait for a service.
    pub max_wait: std::time::Duration,
    /// How images of packages are made.
    pub packages: PackageSettings,
}

/// Looks up a variable of the manager's own environment, for templates that allow it.
pub type EnvironmentLookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The manager. Cheap to share; all state that must survive is in the backend.
pub struct Manager {
    backend: Arc<dyn Backend>,
    registry: Arc<Registry>,
    audit: Audit,
    metrics: Metrics,
    tasks: Tasks,
    settings: Settings,
    environment: EnvironmentLookup,
    capacity: capacity::Capacity,
    started: Instant,
}

impl Manager {
    /// A manager over its parts.
    #[must_use]
    pub fn new(
        backend: Arc<dyn Backend>,
        registry: Arc<Registry>,
        audit: Audit,
        metrics: Metrics,
        tasks: Tasks,
        settings: Settings,
        environment: EnvironmentLookup,
    ) -> Arc<Self> {
        let capacity = capacity::Capacity::new(settings.max_containers);
        let started = Instant::now();
        Arc::new(Self { backend, registry, audit, metrics, tasks, settings, environment, capacity, started })
    }

    /// Starts the background work: keeps the gauges of the metrics true to the view.
    pub fn start(self: &Arc<Self>) {
        let (manager, stopping) = (self.clone(), self.tasks.stopping());
        self.tasks.spawn("service gauges", async move {
            let mut view = manager.backend.view();
            loop {
                manager.measure_services();
                tokio::select! {
                    () = stopping.cancelled() => return,
                    changed = view.changed() => if changed.is_err() { return },
                }
            }
        });
    }

    fn measure_services(&self) {
        let snapshot = self.snapshot();
        for phase in Phase::ALL {
            let count = snapshot.services.values().filter(|service| service.phase == phase).count();
            self.metrics.services.with_label_values(&[phase.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let (ready, all) = snapshot
            .services
            .values()
            .fold((0, 0), |(ready, all), service| (ready + service.ready().count(), all + service.replicas.len()));
        self.metrics.replicas.with_label_values(&["ready"]).set(i64::try_from(ready).unwrap_or(i64::MAX));
        self.metrics.replicas.with_label_values(&["not_ready"]).set(i64::try_from(all - ready).unwrap_or(i64::MAX));
        self.metrics.engine_connected.set(i64::from(snapshot.connected));
    }

    /// The one way in: authorises, audits, does `work` and measures it.
    ///
    /// An audited operation runs in a task of its own, so that a caller that goes away cancels nothing. When its audit
    /// entry cannot be opened it is not done; an entry that cannot be closed is logged and does not fail it.
    async fn perform<T, F>(self: &Arc<Self>, actor: &Actor, operation: Operation, target: &str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let started = Instant::now();
        let result = self.authorised(actor, operation, target, work).await;
        let outcome = result.as_ref().err().map_or("ok", |error| error.kind.slug());
        self.metrics.operations.with_label_values(&[operation.slug(), outcome]).inc();
        self.metrics.operation_duration.with_label_values(&[operation.slug()]).observe(started.elapsed().as_secs_f64());
        result
    }

    async fn authorised<T, F>(self: &Arc<Self>, actor: &Actor, operation: Operation, target: &str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if actor.role < operation.least_role() {
            let needed = format!("{:?}", operation.least_role()).to_lowercase();
            return Err(Error::new(Kind::Forbidden, format!("'{}' may not do {}", actor.name, operation.slug()))
                .remedy(format!("use a key with the role {needed} or above")));
        }
        if !operation.audited() {
            return work.await;
        }
        let entry = self.audit.begin(actor, operation, target).await?;
        let task = self.tasks.spawn_for_request("operation", async move {
            let result = work.await;
            entry.finish(result.as_ref().err()).await;
            result
        });
        match task.await {
            Ok(Some(result)) => result,
            Ok(None) => Err(Error::new(Kind::Internal, "the operation broke off")
                .remedy("the manager's log says why, under the request's id; look at how things stand before it is sent again")),
            Err(cancelled) => Err(Error::shutting_down().because(cancelled)),
        }
    }
}

/// What somebody follows, until the manager stops. Its end says so then: who follows something that ends by itself takes the
/// end of the stream for that.
fn until_stopped<T: Send + 'static>(
    followed: BoxStream<'static, Result<T>>,
    stopping: CancellationToken,
) -> BoxStream<'static, Result<T>> {
    let stopped = stopping.clone();
    let last = async move { stopped.is_cancelled().then(|| Err(Error::shutting_down())) };
    let end = stream::once(last).filter_map(std::future::ready);
    followed.take_until(stopping.cancelled_owned()).chain(end).boxed()
}

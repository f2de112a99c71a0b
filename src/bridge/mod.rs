//! The bridge: a stdio MCP server becomes a Streamable HTTP endpoint. ARCHITECTURE.md has the map of the modules and the
//! decisions. Leaves out how the program gets into a container.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};
use crate::lifecycle::{StopSignals, Tasks};
use crate::memory::Rest;

pub mod ask;
pub mod backoff;
pub mod child;
pub mod common;
pub mod era;
pub mod events;
pub mod frame;
pub mod http;
pub mod json;
pub mod link;
pub mod links;
pub mod listeners;
mod log;
pub mod metrics;
pub mod options;
mod own;
pub mod owner;
pub mod reader;
pub mod reaper;
pub mod remote;
mod repeat;
mod salvage;
pub mod scan;
pub mod session;
pub mod sessions;
pub mod splice;
pub mod stateless;
pub mod stragglers;
pub mod stream;
mod waiting;
pub mod way;

#[cfg(test)]
mod tests;

pub use options::{Arguments, Options};

/// How often idle sessions and late requests are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// What all parts share.
#[derive(Debug)]
pub struct Context {
    /// How the bridge runs.
    pub options: Options,
    /// Background tasks.
    pub tasks: Tasks,
    /// Figures.
    pub metrics: metrics::Metrics,
    /// Server processes.
    pub processes: reaper::Processes,
    /// Children with their requests.
    pub links: links::Links,
    /// The process of a server that speaks HTTP+SSE.
    pub program: remote::Program,
}

impl Context {
    /// With `alone` the bridge waits for every process that ends, as process 1 must.
    #[must_use]
    pub fn new(options: Options, alone: bool) -> Arc<Self> {
        // The common server, and children that are ending while the next ones start, come on top of the sessions.
        let most = options.max_sessions + sessions::MOST_SPARES * options.spare + 8;
        Arc::new(Self {
            processes: reaper::Processes::new(most, alone),
            options,
            tasks: Tasks::default(),
            metrics: metrics::Metrics::default(),
            links: links::Links::default(),
            program: remote::Program::default(),
        })
    }
}

/// A running bridge.
#[derive(Debug)]
pub struct Bridge {
    /// What all parts share.
    pub context: Arc<Context>,
    /// The server that requests of the stateless era share.
    pub common: Arc<common::Common>,
    /// Sessions of the earlier eras.
    pub sessions: Arc<sessions::Sessions>,
    /// Requests of the stateless era.
    pub stateless: stateless::Stateless,
    /// Session ids.
    pub ids: owner::Ids,
}

impl Bridge {
    /// Starts the bridge's tasks and the first children. Must be called inside the runtime.
    pub fn start(context: Arc<Context>) -> Result<Arc<Self>> {
        let mut ended = signal(SignalKind::child()).map_err(|error| Error::internal("cannot listen for signals", error))?;
        let common = common::Common::new(&context);
        let ids = owner::Ids::new(&context.options.session_key, &context.options.owner);
        let bridge = Arc::new(Self {
            sessions: sessions::Sessions::new(&context, &common, ids.clone()),
            stateless: stateless::Stateless::new(&context, &common, &ids),
            ids,
            common,
            context,
        });
        let reaping = Arc::clone(&bridge.context);
        bridge.context.tasks.spawn("reaper", async move {
            let mut signalled = true;
            loop {
                reaping.processes.reap(signalled);
                if reaping.processes.count() == 0 && reaping.tasks.stopping().is_cancelled() {
                    return;
                }
                signalled = tokio::select! {
                    _ = ended.recv() => true,
                    // A signal can be missed when two become one; a look now and then costs nothing.
                    () = tokio::time::sleep(SWEEP) => false,
                };
            }
        });
        let sweeping = Arc::clone(&bridge);
        bridge.context.tasks.spawn("sweeper", async move {
            let stopping = sweeping.context.tasks.stopping();
            let mut rest = Rest::default();
            while tokio::time::timeout(SWEEP, stopping.cancelled()).await.is_err() {
                sweeping.sweep();
                rest.look(sweeping.context.metrics.happened());
            }
        });
        let first = Arc::clone(&bridge);
        bridge.context.tasks.spawn("first start", async move {
            if let Err(error) = first.common.ready().await {
                tracing::error!(%error, "the server does not work yet");
                first.common.start_again();
            }
            first.sessions.fill_spares();
        });
        Ok(bridge)
    }

    fn sweep(&self) {
        if let Some(limit) = self.context.options.request_timeout {
            for link in self.context.links.alive() {
                link.expire(limit);
            }
        }
        self.sessions.sweep();
        self.stateless.sweep();
        self.common.sweep();
    }

    /// Waits until no request is pending, at most for the drain time, then ends all children.
    pub async fn drain(&self) {
        for link in self.context.links.alive() {
            link.end_subscriptions();
        }
        let pending = || self.context.links.pending();
        let idle = async {
            while pending() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(self.context.options.drain_timeout, idle).await.is_err() {
            tracing::warn!(pending = pending(), "requests are given up, as the time to drain is over");
        }
        self.sessions.close_all();
        self.stateless.close_all();
        self.common.close();
        for link in self.context.links.alive() {
            link.stop("the bridge ends");
        }
        self.context.program.stop(&self.context);
        self.context.tasks.stop(Duration::from_secs(6)).await;
    }
}

/// Runs the bridge until a signal ends it.
pub async fn run(options: Options) -> Result<()> {
    let mut signals = StopSignals::listen()?;
    let listener = http::listen(options.listen).await?;
    // Orphans of the server become children of the bridge, so that none is lost. Process 1 gets them anyhow.
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::warn!(%error, "orphans of the server cannot be reaped");
    }
    let bridge = Bridge::start(Context::new(options, true))?;
    let address = listener.local_addr().map_err(|error| Error::internal("the address is not known", error))?;
    tracing::info!(%address, mode = ?bridge.context.options.session_mode, "the bridge is listening");
    let server = http::serve(&bridge, listener);
    let signal = signals.next().await;
    tracing::info!(signal, "the bridge ends; pending requests are finished first");
    server.stop_accepting();
    bridge.drain().await;
    Ok(())
}

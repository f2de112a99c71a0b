//! Start and end of everything that runs in the background: one cancellation, one tracker, one deadline.
//!
//! Stopping is in two steps. *Soft*: nothing new is accepted, what is under way goes on. *Hard*, at the deadline or at a
//! second signal: tasks are dropped where they stand; the records are written so that nothing is lost by that.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};

/// The background tasks of the process. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    soft: CancellationToken,
}

impl Tasks {
    /// Starts a task that shutdown waits for. A panic ends the task alone and is logged under `name`.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> tokio::task::JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(whole(name, future))
    }

    /// Starts a task that works for the request that is being answered: all that is logged in it, a panic too, is said to be
    /// that request's.
    pub fn spawn_for_request<F>(&self, name: &'static str, future: F) -> tokio::task::JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        use tracing::Instrument as _;
        self.tracker.spawn(whole(name, future).in_current_span())
    }

    /// Is cancelled when the process begins to stop.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Begins to stop: cancels [`Tasks::stopping`] and waits for the tasks, at most until `deadline`. True when all ended.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.soft.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

/// A task to its end; nothing when it panicked.
async fn whole<F: Future>(name: &'static str, future: F) -> Option<F::Output> {
    use futures_util::FutureExt as _;
    match std::panic::AssertUnwindSafe(future).catch_unwind().await {
        Ok(output) => Some(output),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            tracing::error!(task = name, panic = text, "a background task panicked; the rest goes on");
            None
        }
    }
}

/// The signals that end the process. From its making on none of them kills any more, so it is made before anybody is
/// told that the process is up.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl StopSignals {
    /// Begins to listen.
    pub fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| Error::internal("cannot listen for signals", error));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Returns at the next SIGTERM, SIGINT or SIGHUP; the name of the signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

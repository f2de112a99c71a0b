//! Process groups: starts them, waits for every process that ends, and lets none outlive its leader. Leaves out what
//! is said to a process (see [`super::child`]).
//!
//! As process 1, or as the subreaper, the bridge inherits orphans of its servers and reaps them too.

use std::collections::HashMap;
use std::fmt;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};
use tokio::sync::watch;

use super::stragglers::{self, Mark};
use crate::error::{Error, Kind, Result};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "the server exited with status {status}"),
            Self::Signal(signal) => write!(formatter, "the server was killed by signal {signal}"),
        }
    }
}

/// A started process, leader of its group.
#[derive(Debug, Clone)]
pub struct Process {
    pid: Pid,
    ended: watch::Receiver<Option<Ended>>,
}

impl Process {
    /// The process id.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        *self.ended.borrow()
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Ended {
        let mut ended = self.ended.clone();
        let found = ended.wait_for(Option::is_some).await.ok().and_then(|ended| *ended);
        found.unwrap_or(Ended::Signal(9))
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, signal: Signal) {
        if self.ended().is_none() {
            // A group that is gone meanwhile is what the signal wanted.
            let _gone = rustix::process::kill_process_group(self.pid, signal);
        }
    }
}

/// All the processes that the bridge started.
#[derive(Debug)]
pub struct Processes {
    known: Mutex<HashMap<Pid, watch::Sender<Option<Ended>>>>,
    most: usize,
    orphans: bool,
}

impl Processes {
    /// At most `most` processes at once. With `orphans` every process that ends is waited for, whoever started it: only
    /// for a process that starts nothing by other means.
    #[must_use]
    pub fn new(most: usize, orphans: bool) -> Self {
        Self { known: Mutex::default(), most, orphans }
    }

    /// How many run.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known().len()
    }

    /// How many may run.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether orphans of the servers become children of this process.
    #[must_use]
    pub fn inherits(&self) -> bool {
        self.orphans
    }

    /// Starts a process as leader of a new group; the mark is on it and on all that it starts, its limit from the
    /// moment on in which the program runs.
    ///
    /// # Errors
    /// `LimitReached`, or `StartFailed` with the cause in its detail.
    pub fn spawn(&self, command: &mut Command, mark: &Mark) -> Result<(Process, std::process::Child)> {
        use std::os::unix::process::CommandExt as _;
        // Held until the process is known, so that its end is not missed.
        let mut known = self.known();
        if known.len() >= self.most {
            let detail = format!("{} processes of the server are running, which is the limit", known.len());
            return Err(Error::new(Kind::LimitReached, detail));
        }
        mark.put_on(command);
        let child = command.process_group(0).spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy();
            Error::new(Kind::StartFailed, format!("the server could not be started: {program}: {error}")).because(error)
        })?;
        let pid = Pid::from_child(&child);
        mark.put_on_process(pid);
        let (sender, ended) = watch::channel(None);
        known.insert(pid, sender);
        Ok((Process { pid, ended }, child))
    }

    /// Waits for whatever has ended, without blocking. To be called with `orphans` after each SIGCHLD.
    pub fn reap(&self, orphans: bool) {
        let mut known = self.known();
        known.retain(|&pid, sender| {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let Ok(Some(_)) = rustix::process::waitid(WaitId::Pid(pid), options) else { return true };
            // Its id cannot be given to another process before it is waited for, so this hits its own group alone.
            let _gone = rustix::process::kill_process_group(pid, Signal::KILL);
            let Ok(Some((_, status))) = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) else { return true };
            let ended = match (status.exit_status(), status.terminating_signal()) {
                (Some(status), _) => Ended::Status(status),
                (None, signal) => Ended::Signal(signal.unwrap_or(0)),
            };
            sender.send_replace(Some(ended));
            false
        });
        // Most of the time nobody else has ended, which is known without a look at the table of processes.
        let any = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if self.orphans && orphans && matches!(rustix::process::waitid(WaitId::All, any), Ok(Some(_))) {
            // Asked one by one, because waiting for any process could take the status of a known one.
            for pid in stragglers::children_of_this_process() {
                if !known.contains_key(&pid) {
                    let _alive = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
                }
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Pid, watch::Sender<Option<Ended>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

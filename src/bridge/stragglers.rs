//! Processes that a server left behind by leaving its process group: they carry marks which every descendant inherits,
//! and are found in `/proc`. Leaves out the group itself, which the reaper ends.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Resource, Rlimit, Signal};

/// The variable that marks all descendants of one child of the bridge.
const VARIABLE: &str = "MCP_BRIDGE_CHILD";

/// The beginning of the line of `/proc/PID/limits` whose upper limit marks those that have cleared their environment. It
/// bounds what a process of real-time priority may do without a pause, in microseconds: the marks stand for more than
/// 100,000 years.
const LIMIT: &str = "Max realtime timeout";

/// What tells the descendants of one child of the bridge from all other processes: a variable and a limit.
#[derive(Debug, Clone)]
pub struct Mark {
    variable: Arc<str>,
    limit: u64,
}

impl Mark {
    /// One that nobody else has among the processes that this bridge looks at: where it looks at all, its own id is in it.
    #[must_use]
    pub fn unique() -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let (bridge, child) = (std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let limit = (1 << 62) | (u64::from(bridge) << 32) | (child & u64::from(u32::MAX));
        Self { variable: format!("{bridge}-{child}").into(), limit }
    }

    /// Gives the variable to what the command will start.
    pub fn put_on(&self, command: &mut Command) {
        command.env(VARIABLE, &*self.variable);
    }

    /// Gives the limit to a process that has just been started. Where that is forbidden, the variable is left.
    pub fn put_on_process(&self, pid: Pid) {
        let limit = Rlimit { current: Some(self.limit), maximum: Some(self.limit) };
        if let Err(error) = rustix::process::prlimit(Some(pid), Resource::Rttime, limit) {
            tracing::debug!(%error, "what the server starts is known by its environment alone");
        }
    }

    fn is_on(&self, pid: Pid) -> bool {
        let file = |name: &str| fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap_or_default();
        let variable = format!("{VARIABLE}={}", self.variable);
        file("environ").split(|&byte| byte == 0).any(|entry| entry == variable.as_bytes())
            || upper_limit(&String::from_utf8_lossy(&file("limits"))) == Some(self.limit)
    }
}

/// The upper limit that marks, of the text of `/proc/PID/limits`.
fn upper_limit(limits: &str) -> Option<u64> {
    let values = limits.lines().find_map(|line| line.strip_prefix(LIMIT))?;
    values.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Ends every process that carries this mark. With `inherited` only descendants of this process are looked at, which are
/// all there can be where it inherits orphans. The look takes milliseconds on a machine with many processes, so it has a
/// thread of its own.
pub async fn end(mark: &Mark, inherited: bool) {
    let mark = mark.clone();
    if let Err(error) = tokio::task::spawn_blocking(move || end_now(&mark, inherited)).await {
        tracing::debug!(%error, "nobody looked for what a server left behind");
    }
}

fn end_now(mark: &Mark, inherited: bool) {
    let descendants = if inherited { descendants_of_this_process() } else { None };
    for pid in descendants.unwrap_or_else(|| processes().collect()) {
        if mark.is_on(pid) {
            // It may have ended by itself meanwhile.
            let _gone = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// The present children of this process, its own and inherited ones.
#[must_use]
pub fn children_of_this_process() -> Vec<Pid> {
    let own = rustix::process::getpid();
    // The table of all processes is long on a machine that is shared, and this is asked whenever a process ends.
    children(own).unwrap_or_else(|| processes().filter(|pid| parent(*pid) == Some(own)).collect())
}

/// Everything below this process, or nothing where the kernel does not say.
fn descendants_of_this_process() -> Option<Vec<Pid>> {
    let mut found = children(rustix::process::getpid())?;
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        // One that has ended meanwhile has none.
        found.extend(children(*pid).unwrap_or_default());
        next += 1;
    }
    Some(found)
}

fn children(of: Pid) -> Option<Vec<Pid>> {
    let threads = fs::read_dir(format!("/proc/{}/task", of.as_raw_nonzero())).ok()?;
    let mut found = Vec::new();
    for thread in threads.flatten() {
        let children = fs::read_to_string(thread.path().join("children")).ok()?;
        found.extend(children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    Some(found)
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name in parentheses may hold anything, parentheses and spaces too.
    let (_, rest) = stat.rsplit_once(')')?;
    Pid::from_raw(rest.split_ascii_whitespace().nth(1)?.parse().ok()?)
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

//! Processes that a server left behind by leaving its process group: they carry a mark in their environment, which
//! every descendant inherits, and are found in `/proc`. Leaves out the group itself, which the reaper ends.

use std::fs;

use rustix::process::{Pid, Signal};

/// The variable that marks all descendants of one child of the bridge.
pub const MARK: &str = "MCP_BRIDGE_CHILD";

/// Ends every process that carries this mark. With `inherited` only descendants of this process are looked at, which are
/// all there can be where it inherits orphans. The look takes milliseconds on a machine with many processes, so it has a
/// thread of its own.
pub async fn end(mark: &str, inherited: bool) {
    let mark = mark.to_owned();
    if let Err(error) = tokio::task::spawn_blocking(move || end_now(&mark, inherited)).await {
        tracing::debug!(%error, "nobody looked for what a server left behind");
    }
}

fn end_now(mark: &str, inherited: bool) {
    let wanted = format!("{MARK}={mark}");
    let descendants = if inherited { descendants_of_this_process() } else { None };
    for pid in descendants.unwrap_or_else(|| processes().collect()) {
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
        if environment.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes()) {
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

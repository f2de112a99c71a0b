//! Processes that a server left behind by leaving its process group: they carry a mark in their environment, which
//! every descendant inherits, and are found in `/proc`. Leaves out the group itself, which the reaper ends.

use std::fs;

use rustix::process::{Pid, Signal};

/// The variable that marks all descendants of one child of the bridge.
pub const MARK: &str = "MCP_BRIDGE_CHILD";

/// Ends every process that carries this mark.
pub fn end(mark: &str) {
    let wanted = format!("{MARK}={mark}");
    for pid in processes() {
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
    let is_child = |pid: &Pid| parent(*pid) == Some(own);
    processes().filter(is_child).collect()
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

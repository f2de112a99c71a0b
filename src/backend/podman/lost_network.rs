//! Whether a container still has the network that it was started with.
//!
//! Podman 4 has the networks of all containers of a user in one namespace, which it makes for the first of them and gives
//! up with the last. One that is just being started does not count yet: when the last of the others ends in that moment,
//! its namespace is given up. For as long as the name server, which lives there too, goes on, such a container is reached
//! through its port; but nothing outside is reached from it, and it and those that come later, in another namespace, do not
//! find each other by name. After that it has no network at all. Starting it again is the only cure. (Podman 5 counts what
//! is being started.)

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Written when the namespace is made, taken away when it is given up.
const MADE: &str = "rootless-netns/rootless-netns-slirp4netns.pid";
/// The lock of these two: where it is, Podman keeps its namespace in this way.
const LOCK: &str = "rootless-netns.lock";

/// What became of a container's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It is gone, and the container cannot be reached.
    All,
    /// The process is gone that takes connections to its published port.
    Port,
    /// Its namespace was given up. The present one was made at that time, if there is one.
    Namespace(Option<Timestamp>),
}

/// The namespace of the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Namespace {
    Made(Timestamp),
    GivenUp,
}

/// A container whose network is looked at.
#[derive(Debug, Clone)]
pub(super) struct Attached {
    pub(super) pid: u32,
    pub(super) started_at: Option<Timestamp>,
    /// Where Podman 4 keeps what it knows of the namespace.
    pub(super) namespace: Option<PathBuf>,
}

impl Attached {
    /// What became of its network; `None` when it has it, or when that cannot be seen.
    pub(super) fn lost(&self) -> Option<Lost> {
        if is_cut_off(self.pid)? {
            return Some(Lost::All);
        }
        match namespace(self.namespace.as_deref()?)? {
            Namespace::GivenUp => Some(Lost::Namespace(None)),
            Namespace::Made(at) => (self.started_at? < at).then_some(Lost::Namespace(Some(at))),
        }
    }
}

/// Whether no route leads anywhere but to the loopback.
fn is_cut_off(pid: u32) -> Option<bool> {
    let routes = fs::read_to_string(format!("/proc/{pid}/net/route")).ok()?;
    let more = fs::read_to_string(format!("/proc/{pid}/net/ipv6_route")).unwrap_or_default();
    lead_nowhere(&routes, &more)
}

/// Of the kernel's tables of routes: the first has a heading, then the interface in the first column; the second has the
/// interface in the last. `None` when there is no table, as with a process that has ended.
fn lead_nowhere(routes: &str, more: &str) -> Option<bool> {
    let mut lines = routes.lines();
    lines.next()?;
    let first = lines.filter_map(|line| line.split_whitespace().next());
    let second = more.lines().filter_map(|line| line.split_whitespace().next_back());
    Some(first.chain(second).all(|interface| interface == "lo"))
}

/// The present namespace; `None` when that cannot be seen.
pub(super) fn namespace(folder: &Path) -> Option<Namespace> {
    fs::metadata(folder.join(LOCK)).ok()?;
    match fs::metadata(folder.join(MADE)).and_then(|file| file.modified()) {
        Ok(time) => Timestamp::try_from(time).ok().map(Namespace::Made),
        Err(error) if error.kind() == ErrorKind::NotFound => Some(Namespace::GivenUp),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_routes_is_cut_off() {
        let heading = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let route = format!("{heading}eth0\t0000590A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n");
        let six =
            |interface| format!("{0} 00 {0} 00 {0} ffffffff 00000001 00000001 00200200 {1:>8}\n", "0".repeat(32), interface);
        assert_eq!(lead_nowhere(&route, &six("lo")), Some(false));
        assert_eq!(lead_nowhere(heading, &(six("lo") + &six("eth0"))), Some(false), "IPv6 alone is a network, too");
        assert_eq!(lead_nowhere(heading, &six("lo").repeat(2)), Some(true));
        assert_eq!(lead_nowhere(heading, ""), Some(true), "without IPv6");
        assert_eq!(lead_nowhere("", ""), None, "the process has ended");
        assert_eq!(is_cut_off(u32::MAX), None);
    }

    #[test]
    fn a_container_older_than_the_namespace_was_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let started = |at| Attached { pid: std::process::id(), started_at: Some(at), namespace: Some(folder.path().to_owned()) };
        let old: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(started(old).lost(), None, "an engine that does it otherwise");
        fs::write(folder.path().join(LOCK), "").unwrap();
        assert_eq!(started(old).lost(), Some(Lost::Namespace(None)));
        fs::create_dir(folder.path().join("rootless-netns")).unwrap();
        fs::write(folder.path().join(MADE), "1").unwrap();
        let Some(Namespace::Made(made)) = namespace(folder.path()) else { panic!("there is one") };
        assert_eq!(started(old).lost(), Some(Lost::Namespace(Some(made))));
        assert_eq!(started(made).lost(), None);
    }
}

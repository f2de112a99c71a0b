//! What the machine's process table tells of a container's network: whether anything listens on a port, and whether it has
//! lost its network.
//!
//! The engine's port forwarder takes connections also when nobody listens behind it, and tries for 190 ms before it
//! closes them. Where the container's processes can be seen, the kernel's table of its sockets tells at once.

use std::fs;

/// The state of a socket that listens.
const LISTENING: &str = "0A";

/// Whether something listens on `port` where the forwarder can reach it; `None` when it cannot be seen.
pub(super) fn listens(pid: u32, port: u16) -> Option<bool> {
    let first = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    // Machines without IPv6 have no second table.
    let second = fs::read_to_string(format!("/proc/{pid}/net/tcp6")).unwrap_or_default();
    Some([first, second].iter().any(|table| has_listener(table, port)))
}

/// Whether a container that had a network has none any more: no route leads anywhere but to the loopback; `None` when that
/// cannot be seen.
///
/// Podman 4 takes the network of all away when the last container that it knows to have one ends, and does not know it of
/// one that is just being started.
pub(super) fn is_cut_off(pid: u32) -> Option<bool> {
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

/// Whether a table of sockets has one that listens on `port` on another address than the loopback.
fn has_listener(table: &str, port: u16) -> bool {
    let port = format!("{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut columns = line.split_whitespace();
        let local = columns.nth(1).and_then(|local| local.split_once(':'));
        let state = columns.nth(1);
        state == Some(LISTENING) && local.is_some_and(|(address, of)| of == port && !is_loopback(address))
    })
}

/// Whether an address, in the kernel's hexadecimal form, is 127.0.0.0/8 or `::1`: each group of four bytes is a number in
/// the machine's own byte order.
fn is_loopback(address: &str) -> bool {
    let groups = address.as_bytes().chunks(8).map(|group| std::str::from_utf8(group).ok());
    let words: Option<Vec<u32>> = groups.map(|group| u32::from_str_radix(group?, 16).ok()).collect();
    match words.as_deref() {
        Some([word]) => word.to_ne_bytes()[0] == 127,
        Some([0, 0, 0, word]) => word.to_ne_bytes() == [0, 0, 0, 1],
        Some([0, 0, mapped, word]) => mapped.to_ne_bytes() == [0, 0, 255, 255] && word.to_ne_bytes()[0] == 127,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn own_listeners_are_seen_unless_they_are_on_the_loopback() {
        let pid = std::process::id();
        let open = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = |listener: &tokio::net::TcpListener| listener.local_addr().unwrap().port();
        let (open_port, closed_port) = (port(&open), port(&closed));
        assert_eq!(listens(pid, open_port), Some(true));
        assert_eq!(listens(pid, closed_port), Some(false), "the forwarder does not reach it");
        drop(open);
        assert_eq!(listens(pid, open_port), Some(false));
        assert_eq!(listens(u32::MAX, 80), None);
    }

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
    #[cfg(target_endian = "little")]
    fn only_the_loopback_is_one() {
        for loopback in ["0100007F", "0101007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"] {
            assert!(is_loopback(loopback), "{loopback}");
        }
        for other in ["00000000", "0200590A", "00000000000000000000000000000000", "000080FE0000000000000000FE000000", "x"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}

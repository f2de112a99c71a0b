//! Whether anything listens on a port inside a container, or here, from the machine's process table.
//!
//! The engine's port forwarder takes connections also when nobody listens behind it, and tries for 190 ms before it
//! closes them. Where the container's processes can be seen, the kernel's table of its sockets tells at once.

use std::fs;
use std::net::SocketAddr;

/// The state of a socket that listens.
const LISTENING: &str = "0A";

/// Whether something listens on `port` where the forwarder can reach it; `None` when it cannot be seen.
pub(super) fn listens(pid: u32, port: u16) -> Option<bool> {
    any_listener(&format!("/proc/{pid}/net"), port, |address| !is_loopback(address))
}

/// Whether something listens here on the port of `address`, on whichever address; `None` when it cannot be seen.
pub(super) fn listens_here(address: SocketAddr) -> Option<bool> {
    any_listener("/proc/self/net", address.port(), |_| true)
}

fn any_listener(folder: &str, port: u16, counts: impl Fn(&str) -> bool) -> Option<bool> {
    let first = fs::read_to_string(format!("{folder}/tcp")).ok()?;
    // Machines without IPv6 have no second table.
    let second = fs::read_to_string(format!("{folder}/tcp6")).unwrap_or_default();
    Some([first, second].iter().any(|table| has_listener(table, port, &counts)))
}

/// Whether a table of sockets has one that listens on `port` on an address that counts.
fn has_listener(table: &str, port: u16, counts: &impl Fn(&str) -> bool) -> bool {
    let port = format!("{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut columns = line.split_whitespace();
        let local = columns.nth(1).and_then(|local| local.split_once(':'));
        let state = columns.nth(1);
        state == Some(LISTENING) && local.is_some_and(|(address, of)| of == port && counts(address))
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
        assert_eq!(listens_here(closed.local_addr().unwrap()), Some(true));
        let was = closed.local_addr().unwrap();
        drop((open, closed));
        assert_eq!(listens_here(was), Some(false));
        assert_eq!(listens(pid, open_port), Some(false));
        assert_eq!(listens(u32::MAX, 80), None);
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

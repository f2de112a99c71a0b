//! Figures of a process and all its descendants, from `/proc`.

use std::fs;

/// Clock ticks a second in `/proc/PID/stat`: fixed at 100 for user space on all architectures of Linux that we run on.
const TICKS: f64 = 100.0;

/// Sums over a tree of processes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Figures {
    /// CPU time of the living processes and of those they have waited for.
    pub(super) cpu_seconds: f64,
    /// Resident memory, in bytes; pages that processes share count for each.
    pub(super) memory: u64,
    pub(super) threads: u64,
    /// Bytes received and sent in the network namespace of the tree's root, without the loopback.
    pub(super) network: Option<(u64, u64)>,
}

/// The figures of `pid` and its descendants; `None` when it cannot be seen.
///
/// The tree of a container's first process is the container: it adopts whatever loses its parent.
pub(super) fn tree(pid: u32) -> Option<Figures> {
    let mut figures = Figures { network: network(pid), ..Figures::default() };
    let mut open = vec![pid];
    let mut seen = 0_u32;
    while let Some(pid) = open.pop() {
        let Some((cpu, threads)) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| stat(&text)) else {
            // It ended while we looked; the root must be there.
            if seen == 0 {
                return None;
            }
            continue;
        };
        seen += 1;
        figures.cpu_seconds += cpu;
        figures.threads += threads;
        figures.memory += resident(pid).unwrap_or_default();
        open.extend(children(pid));
    }
    Some(figures)
}

/// CPU seconds and threads out of a `stat` line. The name in parentheses may contain anything.
fn stat(line: &str) -> Option<(f64, u64)> {
    let fields: Vec<&str> = line.rsplit_once(") ")?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u32>().ok();
    let ticks: u64 = [11, 12, 13, 14].into_iter().filter_map(number).map(u64::from).sum();
    #[expect(clippy::cast_precision_loss, reason = "52 bits of ticks are a million years")]
    let seconds = ticks as f64 / TICKS;
    Some((seconds, u64::from(number(17)?)))
}

/// Resident memory in bytes.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

fn network(pid: u32) -> Option<(u64, u64)> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    Some(traffic(&table))
}

/// Sums of received and sent bytes over all interfaces but the loopback.
fn traffic(table: &str) -> (u64, u64) {
    let interfaces = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    let outside = interfaces.filter(|(name, _)| name.trim() != "lo");
    outside.fold((0, 0), |(received, sent), (_, counters)| {
        let counter = |index| counters.split_whitespace().nth(index).and_then(|text| text.parse().ok()).unwrap_or(0_u64);
        (received + counter(0), sent + counter(8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_be_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let figures = tree(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(figures.memory > 0 && figures.threads >= 2, "{figures:?}");
    }

    #[test]
    fn a_process_that_is_gone_has_no_figures() {
        assert_eq!(tree(u32::MAX), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 10 5 20 0 9 0 100 1 2";
        assert_eq!(stat(line), Some((2.15, 9)));
    }

    #[test]
    fn the_loopback_does_not_count_as_traffic() {
        let table = "head\nhead\n lo: 5 0 0 0 0 0 0 0 5 0\neth0: 10 1 0 0 0 0 0 0 20 1\neth1: 1 1 0 0 0 0 0 0 2 1\n";
        assert_eq!(traffic(table), (11, 22));
    }
}

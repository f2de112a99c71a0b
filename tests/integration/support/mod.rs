//! What several tests need: running programs, and clients that speak to them. No claims here.

pub mod bridged;
pub mod clients;
pub mod command;
pub mod conformance;
pub mod echo;
pub mod kubernetes;
pub mod kubernetes_way;
pub mod machine;
pub mod mcp;
pub mod podman;
pub mod product;

use std::time::{Duration, Instant};

/// Longest time anything in these tests may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until `holds` is true; fails the test when that takes too long.
pub async fn eventually(claim: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {claim}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Process ids of this user's processes, zombies left out, whose command line contains both texts.
pub fn processes(one: &str, other: &str) -> Vec<i32> {
    let user = rustix::process::getuid().as_raw();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let matching = entries.filter_map(|entry| {
        use std::os::unix::fs::MetadataExt as _;
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?.replace('\0', " ");
        (entry.metadata().ok()?.uid() == user && line.contains(one) && line.contains(other)).then_some(pid)
    });
    matching.collect()
}

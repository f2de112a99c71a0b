//! What several tests need: running programs, and clients that speak to them. No claims here.

pub mod echo;
#[allow(dead_code, reason = "parts without a test yet")]
pub mod machine;
pub mod mcp;

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

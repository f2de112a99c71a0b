//! How long whoever opens a stream or a session again leaves the other side alone.

use std::time::Duration;

/// A stream that was open for so long has worked, and its end is no failure.
pub const WORKS: Duration = Duration::from_secs(5);

/// What follows the first pause; the last for good.
const LATER: [Duration; 5] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(30)];

/// Pauses between attempts that fail, longer and longer.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    first: Duration,
    failed: usize,
}

impl Pauses {
    /// Those that begin with this one, which is not longer than the others.
    #[must_use]
    pub const fn beginning_with(first: Duration) -> Self {
        Self { first, failed: 0 }
    }

    /// The next one.
    pub fn pause(&mut self) -> Duration {
        let pause = self.failed.checked_sub(1).map_or(self.first, |later| LATER[later.min(LATER.len() - 1)]);
        self.failed += 1;
        pause
    }

    /// It is as if none had failed.
    pub const fn reset(&mut self) {
        self.failed = 0;
    }
}

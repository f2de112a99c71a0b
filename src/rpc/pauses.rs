//! How long whoever opens a stream or a session again leaves the other side alone.

use std::time::Duration;

/// A stream that was open for so long has worked, and its end is no failure.
pub const WORKS: Duration = Duration::from_secs(5);

/// Pauses between attempts that fail: one after the other, and the last for good.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    each: &'static [Duration],
    failed: usize,
}

impl Pauses {
    /// These, of which there is one at least.
    #[must_use]
    pub const fn of(each: &'static [Duration]) -> Self {
        Self { each, failed: 0 }
    }

    /// The next one.
    pub fn pause(&mut self) -> Duration {
        let pause = self.each[self.failed.min(self.each.len() - 1)];
        self.failed += 1;
        pause
    }

    /// It is as if none had failed.
    pub const fn reset(&mut self) {
        self.failed = 0;
    }
}

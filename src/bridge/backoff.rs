//! How soon a server that fails is started again: at once the first time, then later and later. Leaves out who starts it.
//!
//! That a server starts says little: one that ends right behind its handshake would be started a thousand times a second.
//! So failures are forgotten only when one ends that had worked (see [`super::link::Link::has_worked`]).

use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};

/// Delays starts of a server that fails.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
    why: String,
    /// Nothing has started since the last failure.
    down: bool,
}

impl Backoff {
    /// # Errors
    /// `BackendUnavailable` with the last failure while a start would be too soon.
    pub fn check(&self) -> Result<()> {
        let left = self.wait();
        if left.is_zero() {
            return Ok(());
        }
        let detail = format!("{}; the next start is in {} ms", self.why, left.as_millis());
        Err(Error::new(Kind::BackendUnavailable, detail))
    }

    /// How long to wait until the next start.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.not_before.map_or(Duration::ZERO, |time| time.saturating_duration_since(Instant::now()))
    }

    /// A start failed. The first failure costs nothing.
    pub fn failed(&mut self, why: &str) {
        why.clone_into(&mut self.why);
        self.down = true;
        let delay = match self.failures {
            0 => Duration::ZERO,
            more => Duration::from_millis(250) * 2_u32.pow(more.min(8) - 1),
        };
        self.failures += 1;
        self.not_before = Some(Instant::now() + delay.min(Duration::from_secs(30)));
    }

    /// What was started has ended by itself. Nothing that failed before counts if it had worked.
    pub fn ended(&mut self, why: &str, had_worked: bool) {
        if had_worked {
            self.reset();
        }
        self.failed(why);
    }

    /// A start succeeded; whether what was started works will be seen.
    pub fn started(&mut self) {
        self.down = false;
    }

    /// It works.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The last failure, unless something started since.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.down.then_some(&self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_starts_and_ends_is_started_later_and_later_until_one_has_worked() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..4 {
            backoff.started();
            assert_eq!(backoff.failure(), None);
            backoff.ended("it ended", false);
            assert_eq!(backoff.failure(), Some("it ended"));
            waits.push(backoff.wait());
        }
        assert!(waits[0].is_zero(), "the first failure costs nothing: {waits:?}");
        assert!(waits.is_sorted_by(|one, next| one < next), "{waits:?}");
        assert!(backoff.check().unwrap_err().to_string().contains("it ended; the next start is in"));
        backoff.ended("it ended", true);
        assert!(backoff.check().is_ok(), "what had worked is started again at once");
    }
}

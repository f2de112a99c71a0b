//! Section `health`: how the health of services is found out where their templates do not say.

use super::section::{Check, section};
use crate::domain::quantity::Span;

section! {
    /// How the health of services is found out where their templates do not say.
    pub struct Health in "health" {
        /// Time between two health checks.
        interval: Span = Span(30_000), also "HEALTH_CHECK_INTERVAL";
        /// Longest time from the start of a service until it is healthy.
        start_timeout: Span = Span(60_000);
    }
}

impl Health {
    fn validate(&self, check: &mut Check) {
        check.that((100..=3_600_000).contains(&self.interval.0), "interval", "is out of range", "use 100ms to 1h");
        check.that((100..=3_600_000).contains(&self.start_timeout.0), "start_timeout", "is out of range", "use 100ms to 1h");
    }
}

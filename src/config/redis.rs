//! Section `redis`: known so that existing set-ups keep starting, and reported as not yet used.

use super::section::{Check, section};

section! {
    /// Known, not used yet; the manager warns when it is on.
    pub struct Redis in "redis" {
        /// Has no effect yet: one manager needs no cache, since it answers from memory.
        enabled: bool = false, also "ENABLE_REDIS";
        /// Has no effect yet.
        url: Option<String> = None, also "REDIS_URL", secret true;
    }
}

impl Redis {
    fn validate(&self, check: &mut Check) {
        let right =
            self.url.as_ref().is_none_or(|url| ["redis://", "rediss://", "unix://"].iter().any(|scheme| url.starts_with(scheme)));
        check.that(right, "url", "is not the address of a Redis server", "write redis://HOST:PORT/DATABASE");
    }
}

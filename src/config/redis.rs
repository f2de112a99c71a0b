//! Section `redis`: a Redis server that managers share where they share no folder. What they keep there is the key of their
//! sessions (`peers`); everything else that they share is with the services.

use super::section::{Check, section};

section! {
    /// A Redis server that managers share.
    pub struct Redis in "redis" {
        /// Keep what managers must share about MCP sessions in Redis. Those that share a folder, as in the composition, do not need
        /// it; answers come from memory either way.
        enabled: bool = false, also "ENABLE_REDIS";
        /// Where it is: `redis://[USER:PASSWORD@]HOST:PORT/DATABASE` or `unix://PATH`.
        url: Option<String> = None, also "REDIS_URL", secret true;
    }
}

impl Redis {
    fn validate(&self, check: &mut Check) {
        let right = self.url.as_ref().is_none_or(|url| ["redis://", "unix://"].iter().any(|scheme| url.starts_with(scheme)));
        check.that(right, "url", "is not the address of a Redis server", "write redis://HOST:PORT/DATABASE; there is no TLS");
        check.that(!self.enabled || self.url.is_some(), "url", "is not set, but Redis is enabled", "set REDIS_URL");
    }
}

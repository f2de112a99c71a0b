//! Section `gateway`: the built-in router from host names to services.

use super::section::{Check, section};
use crate::domain::address_range::AddressRange;
use crate::domain::quantity::Span;

section! {
    /// The built-in router from host names to services.
    pub struct Gateway in "gateway" {
        /// Route `NAME.DOMAIN` to services; off where Traefik does it alone.
        enabled: bool = true;
        /// Longest time to connect to a service.
        connect_timeout: Span = Span(5_000);
        /// Longest time until a service begins to answer; then the gateway answers 504. It starts anew with each piece of a
        /// request's body.
        response_timeout: Span = Span(300_000);
        /// Longest time that an answer, event streams included, or a WebSocket may be silent, or that a client may take
        /// nothing of an answer; then the connection is closed. An event's comment or a ping counts as a word.
        idle_timeout: Span = Span(3_600_000);
        /// Addresses of proxies in front whose `X-Forwarded-*` and `Forwarded` headers are believed and extended; anybody
        /// else's are replaced.
        trusted_proxies: Vec<AddressRange> = Vec::new();
    }
}

impl Gateway {
    fn validate(&self, check: &mut Check) {
        check.that((10..=60_000).contains(&self.connect_timeout.0), "connect_timeout", "is out of range", "use 10ms to 1m");
        let day = 86_400_000;
        check.that((100..=day).contains(&self.response_timeout.0), "response_timeout", "is out of range", "use 100ms to 24h");
        check.that((100..=day).contains(&self.idle_timeout.0), "idle_timeout", "is out of range", "use 100ms to 24h");
    }
}

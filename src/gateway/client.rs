//! Who is at the other end of a connection, and whether its word on earlier clients is taken.

use std::net::SocketAddr;

use crate::domain::address_range::AddressRange;
use http::HeaderValue;

/// The other end of one connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its address as headers carry it.
    pub(super) address: HeaderValue,
    /// It is a proxy whose forwarding headers are believed.
    pub(super) trusted: bool,
}

impl Client {
    /// The client at `peer`, where the proxies in `trusted` are believed.
    #[must_use]
    pub fn new(peer: SocketAddr, trusted: &[AddressRange]) -> Self {
        let address = peer.ip().to_canonical();
        let text = HeaderValue::from_str(&address.to_string());
        Self {
            address: text.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            trusted: trusted.iter().any(|range| range.contains(address)),
        }
    }
}

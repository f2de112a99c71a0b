//! Who is at the other end of a connection, and whether its word on earlier clients is taken.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

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
    pub fn new(peer: SocketAddr, trusted: &[Network]) -> Self {
        let address = peer.ip().to_canonical();
        let text = HeaderValue::from_str(&address.to_string());
        Self {
            address: text.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            trusted: trusted.iter().any(|network| network.contains(address)),
        }
    }
}

/// A range of addresses: `10.0.0.0/8`, `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether the address is in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => u128::from(own.to_bits() ^ other.to_bits()) << 96,
            (IpAddr::V6(own), IpAddr::V6(other)) => own.to_bits() ^ other.to_bits(),
            _ => return false,
        };
        differ.leading_zeros() >= u32::from(self.bits)
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address = address.parse::<IpAddr>().ok();
        let longest = if matches!(address, Some(IpAddr::V4(_))) { 32 } else { 128 };
        let bits = bits.map_or(Some(longest), |bits| bits.parse().ok().filter(|bits| *bits <= longest));
        match (address, bits) {
            (Some(address), Some(bits)) => Ok(Self { address, bits }),
            _ => Err(Error::invalid_field(
                "trusted_proxies",
                format!("'{}' is not a range of addresses", text.escape_debug()),
                "write an address or a range: 127.0.0.1, 10.0.0.0/8, fd00::/8",
            )),
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.address, self.bits)
    }
}

impl Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|error: Error| serde::de::Error::custom(error.detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_the_addresses_of_its_prefix() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} lacks {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} holds {outside}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "localhost", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad:?} was taken");
        }
    }
}

//! Ranges of network addresses, as lists of trusted proxies are written.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// One address, or all that share its first bits: `127.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    address: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// Whether `address` is in the range. An IPv4 address that came mapped into IPv6 counts as itself.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (range, length) = bits(self.address);
        let (address, other_length) = bits(address.to_canonical());
        // The shift by the whole width, for a prefix of nought, is no shift in Rust.
        let differing = (range ^ address).checked_shr(u32::from(length - self.prefix)).unwrap_or(0);
        length == other_length && differing == 0
    }
}

impl AddressRange {
    /// With its prefix even if that is the whole address: `127.0.0.1/32`.
    #[must_use]
    pub fn in_full(&self) -> String {
        format!("{}/{}", self.address, self.prefix)
    }
}

/// The address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

impl FromStr for AddressRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let (_, length) = bits(address);
        let prefix = prefix.map_or(Ok(length), str::parse).map_err(|_| ())?;
        if prefix > length { Err(()) } else { Ok(Self { address, prefix }) }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.address)?;
        if self.prefix < bits(self.address).1 { write!(formatter, "/{}", self.prefix) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_the_addresses_that_share_its_prefix() {
        let contains = |range: &str, address: &str| range.parse::<AddressRange>().unwrap().contains(address.parse().unwrap());
        assert!(contains("10.0.0.0/8", "10.255.1.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("127.0.0.1", "127.0.0.1") && !contains("127.0.0.1", "127.0.0.2"));
        assert!(contains("127.0.0.0/8", "::ffff:127.0.0.1"), "mapped addresses count as what they are");
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "fd00::1") && contains("fd00::/8", "fd12::1"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in ["", "x", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "::/129"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
    }
}

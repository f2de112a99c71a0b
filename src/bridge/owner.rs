//! Session ids that name the replica that has the session: `v1.OWNER.NONCE.MAC`. Leaves out the way there (see
//! [`super::http`]).
//!
//! The key is the service's, so every replica can tell a session of the service from a forged or foreign one without
//! asking anybody.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Makes and checks session ids.
#[derive(Clone)]
pub struct Ids {
    keyed: Hmac<Sha256>,
    owner: String,
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ids").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// Whose session an id names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// This replica's.
    Own,
    /// Another replica's, of this name.
    Other(String),
    /// Nobody's: the id is forged, of another service, or of another caller.
    Nobody,
}

impl Ids {
    /// Ids of the replica `owner` of the service that has this key.
    #[must_use]
    pub fn new(key: &[u8], owner: &str) -> Self {
        // The HMAC takes keys of any length, so its making cannot fail; an all-zero key would be found by every test.
        let keyed = Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default()));
        Self { keyed, owner: owner.to_owned() }
    }

    /// A new id. `caller` is who may use it, empty where callers are not known.
    #[must_use]
    pub fn make(&self, caller: &str) -> String {
        self.of(&hex(&rand::random::<[u8; 16]>()), caller)
    }

    /// The id by which others know a session that this owner calls `name`; a name has no dot.
    #[must_use]
    pub fn of(&self, name: &str, caller: &str) -> String {
        let mac = hex(&self.mac(&self.owner, name, caller).finalize().into_bytes()[..16]);
        format!("v1.{}.{name}.{mac}", self.owner)
    }

    /// What the owner itself calls the session of an id.
    #[must_use]
    pub fn name_in(id: &str) -> Option<&str> {
        id.split('.').nth(2)
    }

    /// Whose session this id names, if the caller may use it.
    #[must_use]
    pub fn whose(&self, id: &str, caller: &str) -> Whose {
        let mut parts = id.split('.');
        let (Some("v1"), Some(owner), Some(nonce), Some(mac), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Whose::Nobody;
        };
        let Some(mac) = unhex(mac).filter(|mac| mac.len() == 16) else { return Whose::Nobody };
        if !is_owner(owner) || self.mac(owner, nonce, caller).verify_truncated_left(&mac).is_err() {
            Whose::Nobody
        } else if owner == self.owner {
            Whose::Own
        } else {
            Whose::Other(owner.to_owned())
        }
    }

    fn mac(&self, owner: &str, nonce: &str, caller: &str) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        // The dot can stand in none of the parts before the caller, so no two texts are the same.
        mac.update(format!("v1.{owner}.{nonce}.{caller}").as_bytes());
        mac
    }
}

/// Whether a name can stand in session ids: letters, digits and `-`, at most 63, as in host names.
#[must_use]
pub fn is_owner(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The name of a replica that is known by its address: the address with `-` for what cannot stand in session ids.
#[must_use]
pub fn of_address(address: &str) -> Option<String> {
    address.parse::<IpAddr>().ok().map(|address| address.to_string().replace(['.', ':'], "-"))
}

/// The host of a replica of this name, as it stands in URLs: its address, if the name was made of one.
#[must_use]
pub fn host(owner: &str) -> String {
    if let Ok(address) = owner.replace('-', ".").parse::<Ipv4Addr>() {
        return address.to_string();
    }
    match owner.replace('-', ":").parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => owner.to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to memory does not fail.
        let _ok = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let all = digits.iter().all(u8::is_ascii_hexdigit) && digits.len().is_multiple_of(2);
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
    if all { digits.chunks(2).map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"0123456789abcdef";

    #[test]
    fn every_replica_of_the_service_knows_whose_an_id_is() {
        let (one, two) = (Ids::new(KEY, "one"), Ids::new(KEY, "two"));
        let id = one.make("");
        assert_eq!(one.whose(&id, ""), Whose::Own);
        assert_eq!(two.whose(&id, ""), Whose::Other("one".into()));
    }

    #[test]
    fn an_owner_finds_its_own_name_of_a_session_again() {
        let ids = Ids::new(KEY, "one");
        let id = ids.of("5f1c-77", "");
        assert_eq!((ids.whose(&id, ""), Ids::name_in(&id)), (Whose::Own, Some("5f1c-77")));
        assert_eq!(id, ids.of("5f1c-77", ""), "the same session has one id");
    }

    #[test]
    fn what_is_forged_foreign_or_stolen_is_nobodys() {
        let ids = Ids::new(KEY, "one");
        let id = ids.make("alice");
        assert_eq!(ids.whose(&id, "alice"), Whose::Own);
        assert_eq!(ids.whose(&id, "bob"), Whose::Nobody);
        assert_eq!(Ids::new(b"another key of 16", "one").whose(&id, "alice"), Whose::Nobody);
        assert_eq!(ids.whose(&id.replace("v1.one", "v1.two"), "alice"), Whose::Nobody);
        for forged in ["", "v1", "v1...", "v1.one.a.b", "v1.one.a.00", &format!("{id}.x"), &id[..id.len() - 2], "v1.ö.a.é"] {
            assert_eq!(ids.whose(forged, "alice"), Whose::Nobody, "{forged}");
        }
    }

    #[test]
    fn a_replica_that_is_named_by_its_address_is_reached_there() {
        for (address, host_of_it) in [("10.22.0.5", "10.22.0.5"), ("fd00::5", "[fd00::5]"), ("::1", "[::1]")] {
            let owner = of_address(address).unwrap();
            assert!(is_owner(&owner), "{owner}");
            assert_eq!(host(&owner), host_of_it);
        }
        assert_eq!(of_address("echo-1"), None);
        assert_eq!(host("r0123-abc"), "r0123-abc");
    }

    #[test]
    fn no_two_ids_are_the_same() {
        let ids = Ids::new(KEY, "one");
        assert_ne!(ids.make(""), ids.make(""));
    }
}

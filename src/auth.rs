//! Who is asking: turns the credentials of a request into an [`Actor`].
//!
//! Off (`ENABLE_AUTH=false`) everybody is an administrator, which the default listen address, loopback, makes
//! acceptable. On, a key is needed for all but health and metrics. What an actor may do is decided by the manager.

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::domain::access::{Actor, Role};
use crate::error::{Error, Kind, Result};

/// A key that somebody may present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Name for the audit.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// SHA-256 of the key; the key itself is stored nowhere.
    pub digest: [u8; 32],
}

/// Turns credentials into actors.
#[derive(Debug, Clone)]
pub enum Authenticator {
    /// Everybody may do everything.
    Off,
    /// One of these keys is needed.
    Keys(Vec<Key>),
}

impl Authenticator {
    /// Whether keys are asked for.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        matches!(self, Self::Keys(_))
    }

    /// The actor who presents `key`, the text of an `Authorization: Bearer` or `X-API-Key` header.
    pub fn actor(&self, key: Option<&str>, request_id: Option<String>) -> Result<Actor> {
        let keys = match self {
            Self::Off => return Ok(Actor { name: "anonymous".to_owned(), role: Role::Admin, request_id }),
            Self::Keys(keys) => keys,
        };
        let Some(key) = key else {
            return Err(Error::new(Kind::Unauthenticated, "this needs a key")
                .remedy("send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"));
        };
        // Digests are compared, not keys, so the time tells nothing about a key.
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        match keys.iter().find(|known| known.digest == digest) {
            Some(known) => Ok(Actor { name: known.name.clone(), role: known.role, request_id }),
            None => Err(Error::new(Kind::Unauthenticated, "the key is not known").remedy("check the key, or ask for a new one")),
        }
    }
}

/// The key in `Authorization: Bearer` or `X-API-Key`.
#[must_use]
pub fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_keys_make_actors_with_roles() {
        let digest = Sha256::digest(b"k").into();
        let keys = Authenticator::Keys(vec![Key { name: "ci".into(), role: Role::Operator, digest }]);
        assert_eq!(keys.actor(Some("k"), None).unwrap().role, Role::Operator);
        assert_eq!(keys.actor(None, None).unwrap_err().kind, Kind::Unauthenticated);
        assert_eq!(keys.actor(Some("x"), None).unwrap_err().kind, Kind::Unauthenticated);
        assert_eq!(Authenticator::Off.actor(None, None).unwrap().role, Role::Admin);
    }
}

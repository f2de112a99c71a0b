//! Names of services: DNS labels, because a service's name is its host name.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest name in characters; leaves room for prefix, generation and replica within a 63-character DNS label.
pub const MAX_LENGTH: usize = 40;

/// Names that hosts of the installation itself use.
pub const RESERVED: [&str; 4] = ["localhost", "traefik", "api", "manager"];

/// A pattern of such names, for schemas; the reserved ones fit it, too.
#[must_use]
pub fn pattern() -> String {
    format!("^[a-z0-9]([a-z0-9-]{{0,{}}}[a-z0-9])?$", MAX_LENGTH - 2)
}

/// The name of a service: 1 to 40 characters of `a-z`, `0-9` and `-`, starting and ending with a letter or digit.
///
/// Parsing is the only way to get one, so a name can stand in host names, labels and container names as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ServiceName(String);

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |message: String| {
            Err(Error::invalid_field(
                "service_name",
                message,
                "use 1 to 40 lower-case letters, digits and '-', starting and ending with a letter or digit",
            ))
        };
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() {
            return wrong("the name is empty".to_owned());
        }
        if text.len() > MAX_LENGTH {
            return wrong(format!("the name is longer than {MAX_LENGTH} characters"));
        }
        if !text.bytes().all(allowed) || text.starts_with('-') || text.ends_with('-') {
            // `escape_debug` keeps control characters out of logs and answers.
            return wrong(format!("'{}' is not a service name", text.escape_debug()));
        }
        if RESERVED.contains(&text) {
            let message = format!("'{text}' is reserved for the installation itself");
            return Err(Error::invalid_field("service_name", message, "choose another name"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ServiceName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.detail))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ServiceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_label_is_a_name() {
        for good in ["echo", "a", "my-app-2", "0"] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn what_cannot_be_a_host_name_is_refused() {
        for bad in ["", "-a", "a-", "Echo", "a.b", "../etc", "a/b", "a\0b", "ä", "traefik", &"a".repeat(41)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_remedy_for_a_reserved_name_is_not_what_it_is_already() {
        for reserved in RESERVED {
            let error = reserved.parse::<ServiceName>().unwrap_err();
            assert_eq!(error.fields[0].remedy.as_deref(), Some("choose another name"), "{reserved}");
        }
    }
}

//! The domain below which services have their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A lower-case DNS name, `localhost` by default.
///
/// It stands in Traefik's rules and in regular expressions, so parsing, the only way to get one, lets nothing through
/// that could end a string there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Domain(String);

impl Domain {
    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in front of the domain: `echo` for `echo.localhost`, in any case and with or without a port or a final
    /// dot; `None` for the domain itself and for other hosts. It may hold dots and need not be a service's name.
    #[must_use]
    pub fn label<'a>(&self, host: &'a str) -> Option<&'a str> {
        let name = without_port(host);
        let name = name.strip_suffix('.').unwrap_or(name);
        let (label, domain) = name.split_at_checked(name.len().checked_sub(self.0.len())?)?;
        let label = label.strip_suffix('.')?;
        (!label.is_empty() && domain.eq_ignore_ascii_case(&self.0)).then_some(label)
    }
}

/// A host without its port; an IPv6 address keeps its brackets.
#[must_use]
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if (name.ends_with(']') || !name.starts_with('[')) && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            name
        }
        _ => host,
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self("localhost".to_owned())
    }
}

impl FromStr for Domain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let text = text.trim_matches('.').to_ascii_lowercase();
        if text.len() <= 200 && text.split('.').all(label) {
            return Ok(Self(text));
        }
        let message = format!("'{}' is not a DNS name", text.escape_debug());
        Err(Error::invalid_field("domain", message, "write a name such as localhost or mcp.example.org"))
    }
}

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|error: Error| serde::de::Error::custom(error.detail))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_front_of_the_domain_is_found_however_the_host_is_written() {
        let domain = Domain::default();
        for host in ["echo.localhost", "echo.localhost:8000", "echo.LocalHost", "echo.localhost.", "echo.localhost.:80"] {
            assert_eq!(domain.label(host), Some("echo"), "{host}");
        }
        assert_eq!(domain.label("a.b.localhost"), Some("a.b"));
        for other in ["localhost", ".localhost", "localhost:8000", "echolocalhost", "echo.localhost.evil", "127.0.0.1", "", "é.x"]
        {
            assert_eq!(domain.label(other), None, "{other}");
        }
    }

    #[test]
    fn a_domain_cannot_end_a_string_in_a_rule() {
        for bad in ["", "a`b", "a b", "a..b", "-a", "a/b", "ä", "a\n", "(a)", "*"] {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?} was taken");
        }
        assert_eq!("MCP.Example.org.".parse::<Domain>().unwrap().as_str(), "mcp.example.org");
    }
}

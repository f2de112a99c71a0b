//! Who may be asked under which name: Host and Origin checks against DNS rebinding. Leaves out who is asking.

use http::header::{HOST, ORIGIN};
use hyper::{Request, StatusCode};

use super::response::{Response, error};
use crate::bridge::options::Options;
use crate::rpc;

/// Refuses requests that a web page of a stranger could have sent.
///
/// # Errors
/// The refusal.
#[expect(clippy::result_large_err, reason = "the error is the answer, and is moved once")]
pub fn check<B>(options: &Options, request: &Request<B>) -> Result<(), Response> {
    let refuse = |says: &str| Err(error(StatusCode::FORBIDDEN, None, rpc::INVALID_REQUEST, says));
    let headers = request.headers();
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    // A request line with a whole address counts more than the header.
    let host = request.uri().authority().map(http::uri::Authority::as_str).or(host);
    if !host.is_some_and(|host| is_allowed(&options.allowed_hosts, host)) {
        return refuse("this host name is not allowed here; see --allowed-host");
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let host = origin.split_once("://").map(|(_, host)| host);
        if !host.is_some_and(|host| is_allowed(&options.allowed_hosts, host)) {
            return refuse("this origin is not allowed here; see --allowed-host");
        }
    }
    Ok(())
}

/// Whether no stranger can make a name server answer for this host, or it was allowed by name.
fn is_allowed(allowed: &[String], authority: &str) -> bool {
    let name = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => return address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => authority.split_once(':').map_or(authority, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let label =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    name.parse::<std::net::Ipv4Addr>().is_ok()
        || label(&name)
        || (name.ends_with(".localhost") && name.split('.').all(label))
        || allowed.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some("") => true,
            Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
            None => *pattern == name,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_stranger_can_hold_are_refused_unless_allowed() {
        for host in ["localhost", "127.0.0.1:8080", "[::1]:80", "time.localhost", "a.b.localhost:8000", "mcp-time", "LOCALHOST"] {
            assert!(is_allowed(&[], host), "{host}");
        }
        for host in ["evil.example.com", "localhost.evil.com", "127.0.0.1.evil.com", "", "[evil]", ".localhost", "a b"] {
            assert!(!is_allowed(&[], host), "{host}");
        }
        let allowed = ["*.example.com".to_owned(), "one.org".to_owned()];
        assert!(is_allowed(&allowed, "a.example.com") && is_allowed(&allowed, "one.org:1"));
        assert!(
            !is_allowed(&allowed, "example.com") && !is_allowed(&allowed, "aexample.com") && !is_allowed(&allowed, "two.org")
        );
        assert!(is_allowed(&["*".to_owned()], "evil.example.com"));
    }
}

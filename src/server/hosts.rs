//! For which hosts requests are answered. A page of a stranger must not reach the manager by pointing a name of its own
//! at this machine (DNS rebinding), so names are answered only if no stranger can own them or if they are allowed.

use std::net::IpAddr;

use http::header::HOST;
use http::{Request, StatusCode};

use super::Settings;
use crate::problem::Problem;
use crate::routing::{Domain, without_port};

/// The host a request is for, with its port if it names one: from the request line if it stands there, as RFC 9112
/// wants it, else from the one `Host` header.
pub fn host<B>(request: &Request<B>) -> Result<String, Box<Problem>> {
    let mut values = request.headers().get_all(HOST).iter();
    let text = match (request.uri().authority(), values.next(), values.next()) {
        (Some(authority), ..) => Some(authority.as_str()),
        (None, Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    // A host is a name or an address and perhaps a port; nothing else may reach logs and answers.
    let plain = |text: &&str| {
        (1..=261).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
    };
    text.filter(plain).map(str::to_owned).ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid-host",
            "The host is missing or malformed",
            "there must be one Host header that names a host",
        )
        .remedy("send a Host header such as localhost:8000")
        .into()
    })
}

/// The hosts that are answered.
#[derive(Debug)]
pub(super) struct Allowed {
    domain: Domain,
    names: Vec<String>,
}

impl Allowed {
    pub(super) fn new(settings: &Settings) -> Self {
        let names = settings.allowed_hosts.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        Self { domain: settings.domain.clone(), names: names.collect() }
    }

    /// Addresses are always allowed: there is no name that a stranger could point elsewhere.
    pub(super) fn contains(&self, host: &str) -> bool {
        let name = without_port(host);
        let name = name.strip_suffix('.').unwrap_or(name);
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        name.eq_ignore_ascii_case("localhost")
            || name.eq_ignore_ascii_case(self.domain.as_str())
            || literal.parse::<IpAddr>().is_ok()
            || self.domain.label(host).is_some()
            || self.names.iter().any(|allowed| matches(allowed, name))
    }
}

fn matches(allowed: &str, name: &str) -> bool {
    match allowed.strip_prefix('*') {
        None => allowed.eq_ignore_ascii_case(name),
        Some("") => true,
        Some(ending) => {
            let start = name.len().checked_sub(ending.len());
            start.is_some_and(|start| start > 0 && name.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(ending)))
        }
    }
}

/// What callers of other hosts are told.
pub(super) fn misdirected(host: &str) -> Problem {
    let name = without_port(host);
    Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "misdirected-request",
        "Not a host of this server",
        format!("this server does not answer for '{name}'"),
    )
    .remedy(format!("ask for localhost, or add '{name}' to the setting server.allowed_hosts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(names: &[&str]) -> Allowed {
        let allowed_hosts = names.iter().map(ToString::to_string).collect();
        Allowed::new(&Settings { allowed_hosts, ..Settings::default() })
    }

    #[test]
    fn names_that_no_stranger_can_own_are_answered() {
        let allowed = allowed(&[]);
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "localhost.",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:8000",
            "10.1.2.3",
            "traefik.localhost:80",
        ] {
            assert!(allowed.contains(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example", "mcp-manager", "[::1].evil"]
        {
            assert!(!allowed.contains(host), "{host}");
        }
    }

    #[test]
    fn allowed_names_are_answered_and_no_others() {
        let allowed = allowed(&["mcp-manager", "*.Example.org", "manager.test."]);
        for host in ["mcp-manager:8000", "a.example.org", "A.B.EXAMPLE.ORG.", "manager.test"] {
            assert!(allowed.contains(host), "{host}");
        }
        for host in ["example.org", "evilexample.org", "mcp-manager.evil", "xmanager.test"] {
            assert!(!allowed.contains(host), "{host}");
        }
        assert!(super::tests::allowed(&["*"]).contains("any.example"));
    }

    #[test]
    fn a_request_has_one_host() {
        let with = |lines: &[&str]| {
            let mut request = Request::get("/");
            for line in lines {
                request = request.header(HOST, *line);
            }
            host(&request.body(()).unwrap()).map_err(|problem| problem.status)
        };
        assert_eq!(with(&["echo.localhost:8000"]).unwrap(), "echo.localhost:8000");
        for bad in [&[][..], &["a", "b"], &["a", "a"], &[""], &["a b"], &["a/b"], &["user@a"], &["a\u{e9}"]] {
            assert_eq!(with(bad), Err(400), "{bad:?}");
        }
        let absolute = Request::get("http://echo.localhost/x").header(HOST, "evil").body(()).unwrap();
        assert_eq!(host(&absolute).unwrap(), "echo.localhost");
        assert!(host(&Request::get("http://user@echo.localhost/x").body(()).unwrap()).is_err());
    }
}

//! Guards /mcp against DNS rebinding: a web page must not reach a server on the user's own machine by pointing a
//! public name at it. Plain endpoints are not guarded; they only give back what the caller sent.

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::problem::Problem;

/// Host names taken besides the built-in private ones; `*` takes any.
pub type AllowedHosts = std::sync::Arc<[String]>;

/// Name endings that public DNS never answers, so no stranger's page can own them: this machine, a container
/// network, a cluster.
const PRIVATE_ENDINGS: [&str; 6] = [".localhost", ".local", ".internal", ".svc", ".svc.cluster.local", ".test"];

/// Middleware: refuses with 403 a request whose Host or Origin is a name that could be a stranger's.
pub async fn guard(State(allowed): State<AllowedHosts>, request: Request, next: Next) -> Response {
    match check(request.headers(), &allowed) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    if allowed.iter().any(|name| name == "*") {
        return Ok(());
    }
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<Authority>().ok());
    let Some(host) = host else {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "the Host header is missing or malformed",
            "send a Host header that names this server",
        ));
    };
    require(host.host(), "Host", allowed)?;
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    // An opaque origin ("null") is no host, though it parses as one, and is refused like any stranger's.
    let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok()).filter(|uri| uri.scheme().is_some());
    require(origin.as_ref().and_then(Uri::host).unwrap_or_default(), "Origin", allowed)
}

fn require(name: &str, header: &str, allowed: &[String]) -> Result<(), Problem> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if is_private(&name) || allowed.iter().any(|other| other.eq_ignore_ascii_case(&name)) {
        return Ok(());
    }
    tracing::warn!(header, name, "refused a request for a host name that is not ours");
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        format!("the {header} header names '{name}', which this server does not answer to"),
        "add the name to MCP_ECHO_ALLOWED_HOSTS if it is meant to reach this server",
    ))
}

/// An address, a name without a dot (a container's or service's), or a name that public DNS cannot hold.
fn is_private(name: &str) -> bool {
    if name.is_empty() {
        return false;
    }
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    literal.parse::<std::net::IpAddr>().is_ok()
        || !name.contains('.')
        || PRIVATE_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(host: &str, origin: Option<&str>, allowed: &[&str]) -> Option<StatusCode> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        check(&headers, &allowed).err().map(|problem| problem.into_response().status())
    }

    #[test]
    fn names_that_only_this_machine_or_its_networks_can_hold_are_taken() {
        for host in ["localhost:8000", "echo.localhost", "127.0.0.1:41234", "[::1]:8000", "10.88.0.7:8000", "echo"] {
            assert_eq!(status(host, None, &[]), None, "{host}");
        }
        assert_eq!(status("echo.tools.svc.cluster.local", None, &[]), None);
        assert_eq!(status("echo.localhost", Some("http://dashboard.localhost:8000"), &[]), None);
    }

    #[test]
    fn a_public_name_in_host_or_origin_is_refused_until_it_is_allowed() {
        let refused = Some(StatusCode::FORBIDDEN);
        assert_eq!(status("evil.example.com", None, &[]), refused);
        assert_eq!(status("localhost.example.com", None, &[]), refused);
        assert_eq!(status("localhost", Some("https://evil.example.com"), &[]), refused);
        assert_eq!(status("localhost", Some("null"), &[]), refused);
        assert_eq!(status("echo.example.com", Some("https://echo.example.com"), &["echo.example.com"]), None);
        assert_eq!(status("evil.example.com", Some("https://evil.example.com"), &["*"]), None);
    }
}

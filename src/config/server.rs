//! Section `server`: the manager's own HTTP server, and how its services are addressed.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::section::{Check, section};
use super::value::choice;
use crate::domain::quantity::{Bytes, Span};

choice! {
    /// The scheme in the URLs of services.
    pub enum Scheme, "http or https" {
        /// Plain HTTP.
        Http = "http",
        /// HTTP over TLS, which a proxy in front ends.
        Https = "https",
    }
}

section! {
    /// The manager's own HTTP server, and how its services are addressed.
    pub struct Server in "server" {
        /// Address and port of API, gateway and documentation.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8000));
        /// Host names, besides its own, under which the API may be called (`api.example.org`, `*.example.org`); `*` allows all. The check
        /// keeps web pages of strangers from reaching the API through a browser (DNS rebinding).
        allowed_hosts: Vec<String> = Vec::new();
        /// Origins of web pages that may call the API from a browser; `*` for all, nothing for none.
        cors_origins: Vec<String> = Vec::new(), also "CORS_ORIGINS";
        /// Services are reached at `http://NAME.DOMAIN`. In a cluster another domain replaces the pods of `stdio` and `sse` services,
        /// because their bridges take no other name.
        domain: String = "localhost".to_owned();
        /// Scheme in the URLs of services; `https` where a proxy in front ends TLS.
        public_scheme: Scheme = Scheme::Http;
        /// Port in the URLs of services, where a proxy in front listens on another one than `listen`.
        public_port: Option<u16> = None;
        /// Longest body of a request to the API.
        max_body_bytes: Bytes = Bytes(1 << 20);
        /// Longest time a client may take to send a request to the API.
        request_timeout: Span = Span(30_000);
        /// Longest time a request may wait for a service (`?wait=`).
        max_wait: Span = Span(600_000);
        /// Longest time that requests under way may take to end when the manager stops.
        drain_timeout: Span = Span(10_000);
        /// Most connections at once; further ones wait.
        max_connections: u32 = 4096, within "a whole number from 1 to 4294967295";
        /// Second address, for Traefik's HTTP provider alone; without it the routes are not offered to Traefik.
        traefik_provider_listen: Option<SocketAddr> = None;
        /// Where Traefik reaches the manager, e.g. `http://mcp-manager:8000`: requests for services that are down go there, to be
        /// answered with the reason. When nothing is set, the address of `listen` as seen from the same machine.
        traefik_fallback_url: Option<String> = None;
        /// Entry points of Traefik at which services are reached.
        traefik_entrypoints: Vec<String> = vec!["web".to_owned()];
        /// Threads that answer requests.
        worker_threads: u16 = 2, within "a whole number from 1 to 64";
    }
}

const HOUR: u64 = 3_600_000;

impl Server {
    fn validate(&self, check: &mut Check) {
        let host_name = |text: &str| {
            !text.is_empty()
                && text.len() <= 253
                && text
                    .split('.')
                    .all(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
        };
        check.that(host_name(&self.domain), "domain", "is not a host name", "write e.g. localhost or mcp.example.org");
        for host in &self.allowed_hosts {
            // `*.example.org` stands for all names below it.
            let name = host.strip_prefix("*.").unwrap_or(host);
            let right = host == "*" || host_name(name) || host.parse::<std::net::IpAddr>().is_ok();
            let message = format!("'{}' is not a host name", host.escape_debug());
            check.that(
                right,
                "allowed_hosts",
                message,
                "write names without scheme and port, e.g. api.example.org or *.example.org, or *",
            );
        }
        for origin in &self.cors_origins {
            let right = origin == "*" || origin_is_complete(origin);
            let message = format!("'{}' is not an origin", origin.escape_debug());
            check.that(right, "cors_origins", message, "write scheme, host and port only, e.g. https://app.example.org, or *");
        }
        let body = (1 << 10)..=(1 << 30);
        check.that(body.contains(&self.max_body_bytes.0), "max_body_bytes", "is out of range", "use 1k to 1g");
        check.that((100..=HOUR).contains(&self.request_timeout.0), "request_timeout", "is out of range", "use 100ms to 1h");
        check.that((1000..=HOUR).contains(&self.max_wait.0), "max_wait", "is out of range", "use 1s to 1h");
        check.that(self.drain_timeout.0 <= HOUR, "drain_timeout", "is out of range", "use 0s to 1h");
        check.that(self.max_connections > 0, "max_connections", "is 0", "allow at least one connection");
        check.that((1..=64).contains(&self.worker_threads), "worker_threads", "is out of range", "use 1 to 64");
        let twice = self.traefik_provider_listen == Some(self.listen) && self.listen.port() != 0;
        check.that(!twice, "traefik_provider_listen", "is the same address as listen", "use another port");
        let word =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        for entrypoint in &self.traefik_entrypoints {
            let message = format!("'{}' is not the name of an entry point", entrypoint.escape_debug());
            check.that(word(entrypoint), "traefik_entrypoints", message, "write e.g. web or websecure");
        }
        let plain = |url: &str| url.starts_with("http://") && origin_is_complete(url.strip_suffix('/').unwrap_or(url));
        let right = self.traefik_fallback_url.as_deref().is_none_or(plain);
        check.that(right, "traefik_fallback_url", "is not the URL of a server", "write e.g. http://mcp-manager:8000");
    }

    /// Where Traefik sends requests for services that are down, for a manager that listens on `listening`.
    #[must_use]
    pub fn fallback_url(&self, listening: SocketAddr) -> String {
        self.traefik_fallback_url.clone().unwrap_or_else(|| format!("http://{}", reachable(listening)))
    }

    /// The port in the URLs of services, for a manager that listens on `listening`; `None` when it is the scheme's own.
    #[must_use]
    pub fn url_port(&self, listening: u16) -> Option<u16> {
        let port = self.public_port.unwrap_or(listening);
        let own = if self.public_scheme == Scheme::Http { 80 } else { 443 };
        (port != own).then_some(port)
    }
}

/// An address to connect to from this machine, where `listening` may be all of them.
#[must_use]
pub fn reachable(mut listening: SocketAddr) -> SocketAddr {
    if listening.ip().is_unspecified() {
        listening.set_ip(if listening.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    listening
}

/// `SCHEME://HOST[:PORT]` and nothing after it, as browsers send it.
fn origin_is_complete(origin: &str) -> bool {
    let Ok(uri) = origin.parse::<http::Uri>() else { return false };
    uri.scheme().is_some()
        && uri.authority().is_some()
        && !origin.ends_with('/')
        && uri.path_and_query().is_none_or(|path| path == "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemes_own_port_is_left_out_of_urls() {
        let server = |scheme, port| Server { public_scheme: scheme, public_port: port, ..Server::default() };
        assert_eq!(server(Scheme::Http, None).url_port(8000), Some(8000));
        assert_eq!(server(Scheme::Http, Some(80)).url_port(8000), None);
        assert_eq!(server(Scheme::Https, Some(443)).url_port(8000), None);
        assert_eq!(server(Scheme::Https, Some(80)).url_port(8000), Some(80));
    }

    #[test]
    fn traefik_is_sent_to_an_address_that_it_can_reach() {
        let server = |url: Option<&str>| Server { traefik_fallback_url: url.map(str::to_owned), ..Server::default() };
        assert_eq!(server(None).fallback_url("0.0.0.0:8000".parse().unwrap()), "http://127.0.0.1:8000");
        assert_eq!(server(None).fallback_url("[::]:8000".parse().unwrap()), "http://[::1]:8000");
        assert_eq!(server(None).fallback_url("10.0.0.1:8000".parse().unwrap()), "http://10.0.0.1:8000");
        assert_eq!(server(Some("http://manager:1")).fallback_url("10.0.0.1:8000".parse().unwrap()), "http://manager:1");
        for bad in ["manager:8000", "https://manager", "http://manager/path", "http://"] {
            let mut check = Check::default();
            server(Some(bad)).validate(&mut check);
            assert_eq!(check.problems.len(), 1, "{bad}");
        }
    }

    #[test]
    fn hosts_and_origins_are_names_and_not_addresses_of_pages() {
        let wrong = |server: Server| {
            let mut check = Check::default();
            server.validate(&mut check);
            check.problems.len()
        };
        let hosts =
            |hosts: &[&str]| Server { allowed_hosts: hosts.iter().map(ToString::to_string).collect(), ..Server::default() };
        assert_eq!(wrong(hosts(&["a.example", "*.example.org", "*", "10.0.0.1", "::1"])), 0);
        assert_eq!(wrong(hosts(&["http://a", "a:80", "a/b", "", "*.*.a", "a..b"])), 6);
        let origins =
            |list: &[&str]| Server { cors_origins: list.iter().map(ToString::to_string).collect(), ..Server::default() };
        assert_eq!(wrong(origins(&["*", "https://a.example", "http://localhost:3000"])), 0);
        assert_eq!(wrong(origins(&["a.example", "https://a.example/", "https://a.example/x", "https://"])), 4);
    }
}

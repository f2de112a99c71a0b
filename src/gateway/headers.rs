//! What a proxy must change in the headers that pass it (RFC 9110, section 7.6), and what it tells about the client.

use http::header::{
    CONNECTION, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};

use super::client::Client;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Makes the client's headers those of the request to the replica. `upgrade` is the protocol the connection is to be
/// switched to, if any; `streamed` says that a body of unknown length follows.
pub(super) fn prepare_request(headers: &mut HeaderMap, client: &Client, upgrade: Option<HeaderValue>, streamed: bool) {
    let trailers = headers.get(TE).is_some_and(|value| lists(value, "trailers"));
    strip(headers, |name| {
        *name == EXPECT
            || *name == PROXY_AUTHORIZATION
            || (!client.trusted && (*name == FORWARDED || *name == REAL_IP || is_forwarding(name.as_str())))
    });
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    } else if trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if streamed {
        // Said aloud, since a body is not expected with every method.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    forward(headers, client);
}

/// Makes the replica's headers those of the answer to the client.
pub(super) fn prepare_response(headers: &mut HeaderMap) {
    strip(headers, |name| *name == PROXY_AUTHENTICATE);
}

/// The protocol that the request asks to switch to. `h2c` is not among them: a service that spoke it would be reached
/// past everything that looks at requests here.
pub(super) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let asked = headers.get_all(CONNECTION).iter().any(|value| lists(value, "upgrade"));
    (asked && !lists(protocol, "h2c")).then(|| protocol.clone())
}

/// Whether a comma-separated list holds the token, in any case.
fn lists(value: &HeaderValue, token: &str) -> bool {
    tokens(value).any(|listed| listed.eq_ignore_ascii_case(token))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|token| !token.is_empty())
}

/// Removes what belongs to one connection only: the fixed names, those that `Connection` lists, and `more`.
fn strip(headers: &mut HeaderMap, more: impl Fn(&HeaderName) -> bool) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(tokens)
        .filter(|token| !["close", "keep-alive"].iter().any(|usual| token.eq_ignore_ascii_case(usual)))
        .filter_map(|token| token.parse().ok())
        // The target of the request cannot be made to vanish.
        .filter(|name| *name != HOST)
        .collect();
    let own = |name: &HeaderName| {
        *name == CONNECTION
            || *name == TE
            || *name == TRANSFER_ENCODING
            || *name == UPGRADE
            || *name == KEEP_ALIVE
            || *name == PROXY_CONNECTION
    };
    // Mostly there is nothing to remove, or one; looking first spares the list.
    while let Some(name) = headers.keys().find(|name| own(name) || more(name)).cloned() {
        headers.remove(name);
    }
    for name in listed {
        headers.remove(name);
    }
}

/// Names under which proxies pass on who asked. Underscores too: many servers read `X_Forwarded_For` as the same name.
fn is_forwarding(name: &str) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    let name = name.as_bytes();
    let same = |(own, byte): (&u8, &u8)| own == byte || (*own == b'-' && *byte == b'_');
    (name.len() >= PREFIX.len() && PREFIX.iter().zip(name).all(same)) || name == b"x_real_ip"
}

/// Tells the replica who asked, and for what.
fn forward(headers: &mut HeaderMap, client: &Client) {
    let host = headers.get(HOST).cloned().unwrap_or_else(|| HeaderValue::from_static(""));
    let addresses = match headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).reduce_joined() {
        Some(earlier) => {
            let joined = [earlier.as_bytes(), b", ", client.address.as_bytes()].concat();
            HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)).unwrap_or_else(|_| client.address.clone())
        }
        None => client.address.clone(),
    };
    headers.insert(FORWARDED_FOR, addresses);
    if !headers.contains_key(&FORWARDED_PORT) {
        let port = host.to_str().ok().and_then(|host| host.rsplit_once(':')).map(|(_, port)| port);
        let port = port.filter(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = port.and_then(|port| HeaderValue::from_str(port).ok());
        headers.insert(FORWARDED_PORT, port.unwrap_or_else(|| HeaderValue::from_static("80")));
    }
    if !headers.contains_key(&FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !headers.contains_key(&REAL_IP) {
        headers.insert(REAL_IP, client.address.clone());
    }
    if headers.contains_key(FORWARDED) {
        // It came from a trusted proxy, which wants its chain to go on; nobody else's gets this far.
        let element = forwarded_element(client, &host);
        headers.append(FORWARDED, element);
    }
    if !headers.contains_key(&FORWARDED_HOST) {
        headers.insert(FORWARDED_HOST, host);
    }
}

/// One element of `Forwarded` (RFC 7239); values are quoted, as addresses hold colons.
fn forwarded_element(client: &Client, host: &HeaderValue) -> HeaderValue {
    let address = client.address.to_str().unwrap_or("unknown");
    let node = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let host = host.to_str().unwrap_or_default().replace(['"', '\\'], "");
    HeaderValue::from_str(&format!("for=\"{node}\";host=\"{host}\";proto=http"))
        .unwrap_or_else(|_| HeaderValue::from_static("for=unknown"))
}

/// Joins the lines of one list into one.
trait ReduceJoined {
    fn reduce_joined(self) -> Option<String>;
}

impl<'a, I: Iterator<Item = &'a str>> ReduceJoined for I {
    fn reduce_joined(mut self) -> Option<String> {
        let first = self.next()?.to_owned();
        Some(self.fold(first, |joined, line| joined + ", " + line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(trusted: bool) -> Client {
        Client::new("192.0.2.7:40000".parse().unwrap(), &if trusted { vec!["192.0.2.0/24".parse().unwrap()] } else { vec![] })
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn prepared(trusted: bool, lines: &[(&str, &str)]) -> Vec<String> {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        prepare_request(&mut map, &client(trusted), None, false);
        let mut lines: Vec<String> = map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_belongs_to_one_connection_does_not_pass() {
        let lines = prepared(
            false,
            &[
                ("host", "echo.localhost:8000"),
                ("connection", "keep-alive, X-Secret-Hop"),
                ("connection", "Host, te"),
                ("x-secret-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("proxy-authorization", "Basic x"),
                ("transfer-encoding", "chunked"),
                ("te", "trailers, deflate"),
                ("upgrade", "h2c"),
                ("expect", "100-continue"),
                ("trailer", "x-sum"),
                ("authorization", "Bearer x"),
            ],
        );
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_strangers_word_on_earlier_clients_is_replaced() {
        let lines = prepared(
            false,
            &[
                ("host", "echo.localhost"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x_forwarded_for", "10.0.0.2"),
                ("x-forwarded-prefix", "/admin"),
                ("x-real-ip", "10.0.0.3"),
                ("forwarded", "for=10.0.0.4"),
            ],
        );
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_trusted_proxys_word_is_extended() {
        let lines = prepared(
            true,
            &[
                ("host", "echo.localhost"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x-forwarded-for", "10.0.0.2"),
                ("x-forwarded-host", "echo.example.org"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", "10.0.0.1"),
                ("forwarded", "for=10.0.0.1"),
            ],
        );
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn only_a_request_that_says_so_on_its_connection_is_upgraded() {
        let wanted = |lines: &[(&str, &str)]| wanted_upgrade(&headers(lines)).is_some();
        assert!(wanted(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
        assert!(!wanted(&[("upgrade", "websocket")]));
        assert!(!wanted(&[("connection", "upgrade")]));
        assert!(!wanted(&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c")]));
    }

    proptest! {
        #[test]
        fn no_listed_header_survives_and_no_client_poses_as_another(
            lines in prop::collection::vec(("[a-zA-Z-]{1,12}|x.forwarded.for|connection|te", "[ -~]{0,30}"), 0..12)
        ) {
            let mut map = HeaderMap::from_iter([(HOST, HeaderValue::from_static("echo.localhost"))]);
            for (name, value) in &lines {
                if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                    map.append(name, value);
                }
            }
            prepare_request(&mut map, &client(false), None, false);
            prop_assert_eq!(map.get_all(&FORWARDED_FOR).iter().collect::<Vec<_>>(), vec!["192.0.2.7"]);
            prop_assert!(map.keys().filter(|name| is_forwarding(name.as_str())).count() == 4);
            prop_assert!(!map.contains_key(KEEP_ALIVE) && !map.contains_key(TRANSFER_ENCODING) && map.contains_key(HOST));
        }
    }
}

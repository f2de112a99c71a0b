//! The id by which one request is found again in logs, answers and the audit.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Where the id stands in requests and answers.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Extension of every request that reaches the router: its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

/// The id of a request: the caller's own if it is sane, else a new one, which is then in the headers too.
pub(super) fn ensure(headers: &mut HeaderMap) -> HeaderValue {
    if let Some(id) = headers.get(HEADER)
        && is_sane(id)
    {
        return id.clone();
    }
    let id = new();
    headers.insert(HEADER, id.clone());
    id
}

/// Short, and without anything that means something in a log.
fn is_sane(id: &HeaderValue) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:=+/@".contains(byte);
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(plain)
}

fn new() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = rand::random::<[u8; 16]>();
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_any_other_is_replaced() {
        let ensured = |id: &str| {
            let mut headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_bytes(id.as_bytes()).unwrap())]);
            let given = ensure(&mut headers);
            assert_eq!(headers[HEADER], given);
            given.to_str().unwrap().to_owned()
        };
        assert_eq!(ensured("abc-1/2"), "abc-1/2");
        for bad in ["", "a b", "a\"", "{}", "é", &"x".repeat(129)] {
            assert_ne!(ensured(bad), bad);
        }
    }

    #[test]
    fn new_ids_differ_and_are_sane() {
        let (one, other) = (ensure(&mut HeaderMap::new()), ensure(&mut HeaderMap::new()));
        assert_ne!(one, other);
        assert!(is_sane(&one) && one.len() == 32);
    }
}

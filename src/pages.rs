//! Which web pages may send requests to us. A browser names a page's origin with each request that could change
//! something; other programs name none. Reading across origins is the browser's to prevent (CORS).
//!
//! The check of the Host header comes before this one: without it a page's own name could be made to lead here.

use http::{HeaderMap, Method, header};

/// The origin of the page that sends a request, when it is neither ours nor one of `allowed` (`*` allows all). Cut short
/// and printable, for texts.
#[must_use]
pub fn stranger(headers: &HeaderMap, allowed: &[String]) -> Option<String> {
    let origin = headers.get(header::ORIGIN)?.to_str().unwrap_or("a strange origin");
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host);
    let known = own || allowed.iter().any(|allowed| allowed == "*" || allowed == origin);
    (!known).then(|| origin.chars().take(100).flat_map(char::escape_debug).collect())
}

/// Whether a request of this method may change something.
#[must_use]
pub fn may_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(origin: Option<&str>, allowed: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::from_iter([(header::HOST, "localhost:8000".parse().unwrap())]);
        headers.extend(origin.map(|origin| (header::ORIGIN, origin.parse().unwrap())));
        stranger(&headers, &allowed.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn own_pages_allowed_ones_and_programs_are_no_strangers() {
        for own in [None, Some("http://localhost:8000"), Some("https://localhost:8000")] {
            assert_eq!(of(own, &[]), None);
        }
        assert_eq!(of(Some("https://a.example"), &["https://a.example"]), None);
        assert_eq!(of(Some("null"), &["*"]), None);
        for strange in ["http://localhost", "http://localhost:80000", "https://a.example.org", "null", ""] {
            assert_eq!(of(Some(strange), &["https://a.example"]).as_deref(), Some(strange));
        }
        assert_eq!(of(Some(&"x".repeat(1000)), &[]).unwrap().len(), 100);
    }
}

//! What kind of answer a client asks for with its `Accept`, where there are two.

use axum::http::{HeaderMap, header};

/// Whether the client would rather have events than JSON. Of two kinds that it likes as much, the one that it names more
/// closely is preferred, and JSON of two that it names alike. Who names no events gets none.
pub(super) fn prefers_events(headers: &HeaderMap) -> bool {
    let accepted = || headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    // The range that names a kind most closely says how much it is liked.
    let liked = |kinds: [&str; 3]| {
        let ranges = accepted().flat_map(|value| value.split(',')).filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let closeness = kinds.iter().position(|known| kind.eq_ignore_ascii_case(known))?;
            let weights = parts.filter_map(|part| part.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q")));
            let weight = weights.filter_map(|(_, weight)| weight.trim().parse::<f32>().ok()).next_back();
            Some((closeness, weight.unwrap_or(1.0)))
        });
        ranges.max_by_key(|(closeness, _)| *closeness)
    };
    let events = liked(["*/*", "text/*", "text/event-stream"]).filter(|(closeness, weight)| *closeness > 0 && *weight > 0.0);
    let json = liked(["*/*", "application/*", "application/json"]).unwrap_or((0, 0.0));
    events.is_some_and(|(closeness, weight)| weight > json.1 || (weight >= json.1 && closeness > json.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_for_those_who_prefer_them() {
        for (accepted, events) in [
            ("", false),
            ("*/*", false),
            ("application/json", false),
            ("application/json, text/event-stream", false),
            ("text/event-stream, application/json", false),
            ("text/event-stream | application/json", false),
            ("text/event-stream;q=0.5, application/json;q=0.9", false),
            ("text/event-stream;q=0.5, */*", false),
            ("text/event-stream;q=0", false),
            ("text/html", false),
            ("text/event-streams", false),
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("text/event-stream, */*", true),
            ("text/event-stream, application/json;q=0.9", true),
            ("text/event-stream; q=0.2, application/json; Q=0.1", true),
            ("*/*;q=0.9, application/json;q=0.1", false),
        ] {
            // Several lines of the header are one list.
            let lines = accepted.split(" | ").filter(|line| !line.is_empty());
            let headers: HeaderMap = lines.map(|line| (header::ACCEPT, line.parse().unwrap())).collect();
            assert_eq!(prefers_events(&headers), events, "{accepted:?}");
        }
    }
}

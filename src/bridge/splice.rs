//! Changing a text by replacing some of its bytes; what is not named stays as it was. Leaves out finding the places.

use bytes::Bytes;

use super::json::{self, Span};

/// One replacement. An empty range inserts.
#[derive(Debug, Clone)]
pub struct Edit {
    /// What goes.
    pub at: Span,
    /// What comes in its place.
    pub with: Vec<u8>,
}

impl Edit {
    /// Replaces the range by these bytes.
    #[must_use]
    pub fn replace(at: Span, with: impl Into<Vec<u8>>) -> Self {
        Self { at, with: with.into() }
    }

    /// Puts a member (`"name":value`) in front of the members of the object at `object`.
    #[must_use]
    pub fn add_member(text: &[u8], object: Span, name: &str, value: &[u8]) -> Self {
        let inside = object.start + 1;
        let empty = text.get(json::skip_white(text, inside)) == Some(&b'}');
        let mut with = Vec::with_capacity(name.len() + value.len() + 4);
        with.push(b'"');
        with.extend_from_slice(name.as_bytes());
        with.extend_from_slice(b"\":");
        with.extend_from_slice(value);
        if !empty {
            with.push(b',');
        }
        Self { at: Span { start: inside, end: inside }, with }
    }
}

/// The text with all edits made, which must not overlap. Several insertions at one place come out in their order.
#[must_use]
pub fn apply(text: &[u8], edits: &mut [Edit]) -> Bytes {
    edits.sort_by_key(|edit| edit.at.start);
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = Vec::with_capacity(text.len() + added);
    let mut position = 0;
    for edit in &*edits {
        out.extend_from_slice(&text[position..edit.at.start]);
        out.extend_from_slice(&edit.with);
        position = edit.at.end;
    }
    out.extend_from_slice(&text[position..]);
    out.into()
}

/// The text on one line: line breaks, which valid JSON has between tokens only, become spaces. Nothing is copied when
/// there are none.
#[must_use]
pub fn one_line(text: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &text).is_none() {
        return text;
    }
    text.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect::<Vec<u8>>().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_named_stays_as_it_was() {
        let text = br#"{ "id" : 1.0e0, "x":"\u00e9" }"#;
        let [id] = json::find(text, json::check(text).ok(), ["id"]);
        let changed = apply(text, &mut [Edit::replace(id.unwrap(), "77")]);
        assert_eq!(&changed[..], br#"{ "id" : 77, "x":"\u00e9" }"#);
    }

    #[test]
    fn a_member_is_added_to_any_object() {
        for (before, after) in [("{}", r#"{"a":1}"#), ("{ }", r#"{"a":1 }"#), (r#"{"b":2}"#, r#"{"a":1,"b":2}"#)] {
            let whole = json::check(before.as_bytes()).unwrap();
            let edit = Edit::add_member(before.as_bytes(), whole, "a", b"1");
            assert_eq!(&apply(before.as_bytes(), &mut [edit])[..], after.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn replacing_and_replacing_back_gives_the_text_again(before in ".*", inner in ".*", after in ".*", other in ".*") {
            let text = format!("{before}{inner}{after}");
            let at = Span { start: before.len(), end: before.len() + inner.len() };
            let changed = apply(text.as_bytes(), &mut [Edit::replace(at, other.as_bytes())]);
            let at = Span { start: before.len(), end: before.len() + other.len() };
            prop_assert_eq!(apply(&changed, &mut [Edit::replace(at, inner.as_bytes())]), text.as_bytes());
        }
    }
}

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

/// As [`apply`], for a text that goes on to a client: of a large one nothing is copied.
#[must_use]
pub fn apply_in_pieces(text: &Bytes, edits: &mut [Edit]) -> Pieces {
    if text.len() < LARGE {
        return apply(text, edits).into();
    }
    edits.sort_by_key(|edit| edit.at.start);
    let mut pieces = Pieces::default();
    let mut position = 0;
    for edit in &*edits {
        pieces.push(text.slice(position..edit.at.start));
        pieces.push(Bytes::copy_from_slice(&edit.with));
        position = edit.at.end;
    }
    pieces.push(text.slice(position..));
    pieces
}

/// From this size on a text is cheaper in pieces than copied.
const LARGE: usize = 32 * 1024;

/// A text in one piece or several, none of which is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces {
    first: Bytes,
    more: Vec<Bytes>,
}

impl Pieces {
    /// How many bytes the text has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first.len() + self.more.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether there is no text, or none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The text in one piece.
    #[must_use]
    pub fn whole(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.collect::<Vec<_>>().concat().into() }
    }

    fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
        } else if !piece.is_empty() {
            self.more.push(piece);
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(first: Bytes) -> Self {
        Self { first, more: Vec::new() }
    }
}

/// Takes the pieces in their order.
impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let next = if self.more.is_empty() { Bytes::new() } else { self.more.remove(0) };
        Some(std::mem::replace(&mut self.first, next)).filter(|piece| !piece.is_empty())
    }
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

        #[test]
        fn a_text_in_pieces_is_the_same_text(length in 0_usize..100_000, cuts in prop::collection::vec((0_usize..100_000, 0_usize..9), 0..4), with in "[a-z]{0,5}") {
            let text: Bytes = (0..=250).cycle().take(length).collect::<Vec<u8>>().into();
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut edits = Vec::new();
            let mut end = 0;
            for (start, size) in cuts {
                let at = Span { start: start.clamp(end, length), end: (start + size).clamp(end, length) };
                end = at.end;
                edits.push(Edit::replace(at, with.as_bytes()));
            }
            let copied = apply(&text, &mut edits.clone());
            let pieces = apply_in_pieces(&text, &mut edits);
            prop_assert_eq!(pieces.len(), copied.len());
            prop_assert_eq!(pieces.is_empty(), copied.is_empty());
            prop_assert!(pieces.clone().all(|piece| !piece.is_empty()));
            prop_assert_eq!(pieces.whole(), copied);
        }
    }
}

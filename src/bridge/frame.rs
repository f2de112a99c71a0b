//! Lines out of the bytes that a server writes, with a limit of their length. Leaves out what is in a line.

use bytes::{Bytes, BytesMut};

/// Room that is made for one read.
const READ: usize = 64 * 1024;
/// For a line that is expected to be longer than this no room is made ahead.
const FORESEEN: usize = 4 << 20;

/// So much is kept of a line that is too long.
const START: usize = 4 * 1024;

/// A line of the server's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Without its line end.
    Text(Bytes),
    /// It was longer than allowed and is thrown away, but for its beginning.
    TooLong(Bytes),
}

/// Cuts what is read into lines.
#[derive(Debug)]
pub struct Lines {
    buffer: BytesMut,
    /// So far no line end was found.
    searched: usize,
    limit: usize,
    /// The rest of a line that was too long is thrown away.
    skipping: bool,
    /// How long the last line was that did not fit into one read; the next is often as long.
    long: usize,
}

impl Lines {
    /// Lines of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, limit, skipping: false, long: 0 }
    }

    /// Where to read to; bytes are added at its end.
    pub fn space(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < READ / 8 {
            // A buffer that grows bit by bit copies what is in it time and again.
            let foreseen = if self.buffer.len() < READ / 2 { 0 } else { self.long.saturating_sub(self.buffer.len()) };
            self.buffer.reserve(foreseen + READ);
        }
        &mut self.buffer
    }

    /// The next line, if it is complete. Empty lines are left out.
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                if self.skipping {
                    self.clear();
                } else if self.buffer.len() > self.limit {
                    self.skipping = true;
                    let start = start_of(&self.buffer);
                    self.clear();
                    return Some(Line::TooLong(start));
                }
                return None;
            };
            let mut line = self.buffer.split_to(self.searched + at + 1);
            self.searched = 0;
            // What is left behind a large line must not keep the memory of all of it.
            if line.len() > READ {
                self.long = line.len().min(FORESEEN);
                if self.buffer.is_empty() || line.len() > FORESEEN {
                    self.buffer = BytesMut::from(&self.buffer[..]);
                }
            }
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            line.truncate(line.len() - 1);
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if line.len() > self.limit {
                return Some(Line::TooLong(start_of(&line)));
            }
            if !line.is_empty() {
                return Some(Line::Text(line.freeze()));
            }
        }
    }

    /// Throws away what was read, and gives back the memory of what was too long.
    fn clear(&mut self) {
        if self.buffer.capacity() > 2 * READ {
            self.buffer = BytesMut::new();
        }
        self.buffer.clear();
        self.searched = 0;
    }
}

/// The beginning of a line that is too long; a copy, which keeps nothing of the rest.
fn start_of(line: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&line[..line.len().min(START)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines_of(text: &[u8], limit: usize, pieces: &[usize]) -> Vec<Line> {
        let mut lines = Lines::new(limit);
        let mut found = Vec::new();
        let mut rest = text;
        let mut sizes = pieces.iter().copied().cycle();
        while !rest.is_empty() {
            let size = sizes.next().unwrap_or(1).clamp(1, rest.len());
            lines.space().extend_from_slice(&rest[..size]);
            rest = &rest[size..];
            while let Some(line) = lines.next_line() {
                found.push(line);
            }
        }
        found
    }

    #[test]
    fn a_line_as_long_as_the_last_one_is_not_copied_as_it_grows() {
        let mut lines = Lines::new(8 << 20);
        let text = [vec![b'x'; 1_000_000], b"\n".to_vec()].concat();
        let rooms = |lines: &mut Lines| {
            let mut rooms = std::collections::BTreeSet::new();
            for piece in text.chunks(READ) {
                lines.space().extend_from_slice(piece);
                rooms.insert(lines.buffer.capacity());
            }
            assert_eq!(lines.next_line(), Some(Line::Text(text[..text.len() - 1].to_vec().into())));
            assert_eq!(lines.buffer.capacity(), 0, "what is left keeps nothing of it");
            rooms.len()
        };
        assert!(rooms(&mut lines) > 2, "the first one is a surprise");
        assert_eq!(rooms(&mut lines), 2, "one for its beginning, and one for the rest");
    }

    #[test]
    fn nothing_of_the_memory_of_a_very_long_line_is_kept() {
        let mut lines = Lines::new(8 << 20);
        let feed = |lines: &mut Lines, text: &[u8]| {
            let mut found = Vec::new();
            for piece in text.chunks(READ) {
                lines.space().extend_from_slice(piece);
                found.extend(std::iter::from_fn(|| lines.next_line()));
            }
            found
        };
        assert_eq!(feed(&mut lines, &vec![b'x'; 9 << 20]), [Line::TooLong(vec![b'x'; START].into())]);
        assert!(lines.buffer.capacity() <= 2 * READ, "{} bytes while the rest is thrown away", lines.buffer.capacity());
        assert_eq!(feed(&mut lines, b"\na\n"), [Line::Text("a".into())]);
        // A line that is not too long, and the beginning of the next one right behind it.
        let text = [vec![b'x'; 7 << 20], b"\nb".to_vec()].concat();
        assert!(matches!(&feed(&mut lines, &text)[..], [Line::Text(line)] if line.len() == 7 << 20));
        for _ in 0..10 {
            let text = [vec![b'x'; READ / 2], b"\nb".to_vec()].concat();
            assert_eq!(feed(&mut lines, &text).len(), 1);
            assert!(lines.buffer.capacity() <= 4 * READ, "{} bytes behind it", lines.buffer.capacity());
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_however_it_is_cut(
            texts in prop::collection::vec("[^\r\n]{1,40}", 0..20), pieces in prop::collection::vec(1_usize..50, 1..10)
        ) {
            let mut text = texts.join("\n").into_bytes();
            text.push(b'\n');
            let expected: Vec<Line> = texts.iter().map(|text| Line::Text(text.clone().into())).collect();
            prop_assert_eq!(lines_of(&text, 1000, &pieces), expected);
        }

        #[test]
        fn a_long_line_is_thrown_away_and_the_next_one_is_whole(
            length in 11_usize..500, pieces in prop::collection::vec(1_usize..50, 1..10)
        ) {
            let text = format!("a\r\n{}\n\nb\n", "x".repeat(length));
            let found = lines_of(text.as_bytes(), 10, &pieces);
            prop_assert!(
                matches!(&found[..], [Line::Text(a), Line::TooLong(start), Line::Text(b)]
                    if a == "a" && b == "b" && start.len() > 10 && start.iter().all(|&byte| byte == b'x')),
                "{found:?}"
            );
        }
    }
}

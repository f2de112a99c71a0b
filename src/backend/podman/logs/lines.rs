//! Log lines out of the pieces in which the engine sends them. Pure.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::domain::status::{LogLine, Stream};

/// A longer line is cut into several.
const MAX_LINE: usize = 1 << 20;

/// A line that has not ended yet.
#[derive(Debug, Default)]
struct Partial {
    timestamp: Option<Timestamp>,
    bytes: Vec<u8>,
}

/// Puts lines together. Each piece starts with its time; a piece without an end of line is continued by the next one of
/// the same stream.
#[derive(Debug)]
pub(super) struct Lines {
    replica: u32,
    partial: [Partial; 2],
    whole: VecDeque<LogLine>,
}

const fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Lines {
    pub(super) fn new(replica: u32) -> Self {
        Self { replica, partial: Default::default(), whole: VecDeque::new() }
    }

    pub(super) fn feed(&mut self, stream: Stream, piece: &[u8]) {
        let (timestamp, text) = split_time(piece);
        let partial = &mut self.partial[index(stream)];
        if partial.bytes.is_empty() {
            partial.timestamp = timestamp;
        }
        let ends = text.last() == Some(&b'\n');
        partial.bytes.extend_from_slice(if ends { &text[..text.len() - 1] } else { text });
        if ends || partial.bytes.len() >= MAX_LINE {
            self.end(stream);
        }
    }

    fn end(&mut self, stream: Stream) {
        let partial = std::mem::take(&mut self.partial[index(stream)]);
        let bytes = partial.bytes.strip_suffix(b"\r").unwrap_or(&partial.bytes);
        let line = String::from_utf8_lossy(bytes).into_owned();
        self.whole.push_back(LogLine { replica: self.replica, stream: Some(stream), timestamp: partial.timestamp, line });
    }

    /// The stream has ended: what is left is a line too.
    pub(super) fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.partial[index(stream)].bytes.is_empty() {
                self.end(stream);
            }
        }
    }

    pub(super) fn next(&mut self) -> Option<LogLine> {
        self.whole.pop_front()
    }
}

/// The time that a piece starts with, and the rest.
fn split_time(piece: &[u8]) -> (Option<Timestamp>, &[u8]) {
    let Some(space) = piece.iter().take(40).position(|byte| *byte == b' ') else { return (None, piece) };
    let time = std::str::from_utf8(&piece[..space]).ok().and_then(|text| text.parse().ok());
    if time.is_some() { (time, &piece[space + 1..]) } else { (None, piece) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[(Stream, &str)]) -> Vec<(Stream, String)> {
        let mut lines = Lines::new(1);
        for (stream, piece) in pieces {
            lines.feed(*stream, piece.as_bytes());
        }
        lines.finish();
        std::iter::from_fn(|| lines.next()).map(|line| (line.stream.unwrap(), line.line)).collect()
    }

    #[test]
    fn pieces_of_a_long_line_are_joined_per_stream() {
        use Stream::{Stderr, Stdout};
        let joined = lines(&[
            (Stdout, "2026-11-21T03:16:18Z one "),
            (Stderr, "2026-11-21T03:16:18Z err\n"),
            (Stdout, "2026-11-21T03:16:18Z two\n"),
            (Stdout, "2026-11-21T03:16:19Z last"),
        ]);
        let expected = [(Stderr, "err"), (Stdout, "one two"), (Stdout, "last")];
        assert_eq!(joined, expected.map(|(stream, line)| (stream, line.to_owned())));
    }

    #[test]
    fn times_are_read_and_taken_off() {
        let mut lines = Lines::new(3);
        lines.feed(Stream::Stdout, b"2026-11-21T03:16:18Z hello world\r\n");
        lines.feed(Stream::Stdout, b"2026-11-21T03:16:18.5+01:00 \n");
        lines.feed(Stream::Stdout, b"no time here\n");
        let line = lines.next().unwrap();
        assert_eq!((line.replica, line.line.as_str()), (3, "hello world"));
        assert_eq!(line.timestamp, Some("2026-11-21T03:16:18Z".parse().unwrap()));
        assert_eq!(lines.next().unwrap().line, "");
        let line = lines.next().unwrap();
        assert_eq!((line.timestamp, line.line.as_str()), (None, "no time here"));
    }

    #[test]
    fn a_line_without_end_does_not_grow_without_bound() {
        let mut lines = Lines::new(1);
        let piece = vec![b'x'; 1 << 16];
        (0..40).for_each(|_| lines.feed(Stream::Stdout, &piece));
        let cut: Vec<_> = std::iter::from_fn(|| lines.next()).map(|line| line.line.len()).collect();
        assert_eq!(cut, [MAX_LINE, MAX_LINE]);
    }
}

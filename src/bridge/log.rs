//! Standard error of a server on its way to the bridge's own, line by line, so that lines of several servers do not mix.
//! Leaves out what is in a line.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

/// Longer lines are cut.
const LONGEST: usize = 16 * 1024;
/// Stands behind a line that was cut.
const CUT: &[u8] = b" (the rest of this line is left out)";

/// Brings lines to standard error until all who can write them have ended.
pub(super) async fn log(mut pipe: pipe::Receiver, child: i32) {
    let (mut read, mut whole) = (BytesMut::with_capacity(8 * 1024), Vec::new());
    let mut lines = Lines::default();
    let mut out = tokio::io::stderr();
    loop {
        let ended = !matches!(pipe.read_buf(&mut read).await, Ok(1..));
        lines.add(&read, &mut whole);
        read.clear();
        if ended {
            // The last words of many a program have no line end.
            lines.end_line(&mut whole);
        }
        if out.write_all(&whole).await.is_err() || out.flush().await.is_err() {
            tracing::debug!(child, "the log cannot be written");
        }
        whole.clear();
        if ended {
            return;
        }
    }
}

/// The line that is not complete yet.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
    /// The line was written as far as it goes, and the rest of it is left out.
    skipping: bool,
}

impl Lines {
    /// Adds what was read; what is complete goes to `whole`.
    fn add(&mut self, mut read: &[u8], whole: &mut Vec<u8>) {
        while !read.is_empty() {
            let end = memchr::memchr(b'\n', read);
            let part = &read[..end.unwrap_or(read.len())];
            if !self.skipping {
                let room = LONGEST - self.line.len();
                self.line.extend_from_slice(&part[..part.len().min(room)]);
                if part.len() > room {
                    self.line.extend_from_slice(CUT);
                    self.end_line(whole);
                    self.skipping = true;
                }
            }
            let Some(end) = end else { return };
            self.end_line(whole);
            read = &read[end + 1..];
        }
    }

    /// Writes what there is of the line. Empty lines are left out.
    fn end_line(&mut self, whole: &mut Vec<u8>) {
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        if !self.line.is_empty() {
            whole.append(&mut self.line);
            whole.push(b'\n');
        }
        self.skipping = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(text: &[u8], piece: usize) -> String {
        let (mut lines, mut whole) = (Lines::default(), Vec::new());
        for piece in text.chunks(piece) {
            lines.add(piece, &mut whole);
        }
        lines.end_line(&mut whole);
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn last_words_need_no_line_end_and_long_lines_are_cut_where_they_are_too_long() {
        let long = "x".repeat(LONGEST + 1);
        let text = format!("a\r\n\n{long}\n{}\nlast words", &long[1..]);
        let cut = std::str::from_utf8(CUT).unwrap();
        let expected = format!("a\n{}{cut}\n{}\nlast words\n", &long[1..], &long[1..]);
        for piece in [1, 7, 4096, 100_000] {
            assert_eq!(logged(text.as_bytes(), piece), expected, "in pieces of {piece}");
        }
    }
}

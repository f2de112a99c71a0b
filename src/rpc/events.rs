//! Server-sent events, read and written: each carries one JSON-RPC message.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

/// A longer id of an event is none: no server takes it back in a header.
const LONGEST_ID: usize = 1024;

/// Takes a stream of events apart as its bytes come.
#[derive(Debug, Default)]
pub struct Events {
    buffer: BytesMut,
    /// So far no line end was found: a long line is looked through once, however many pieces it comes in.
    searched: usize,
    data: Vec<u8>,
    /// That of the event which is being read.
    id: Option<Vec<u8>>,
    last_id: Option<Vec<u8>>,
    retry: Option<Duration>,
}

impl Events {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How much is waiting for its end, in bytes.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() + self.data.len()
    }

    /// The id of the last whole event that had one. It is empty where the server has taken back the one before.
    #[must_use]
    pub fn last_id(&self) -> Option<&[u8]> {
        self.last_id.as_deref()
    }

    /// How long the server wants to be left alone before the stream is opened again.
    #[must_use]
    pub const fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// The data of the next whole event that has any.
    pub fn take(&mut self) -> Option<Bytes> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(std::mem::take(&mut self.searched) + end + 1);
            let line = line.trim_ascii_end();
            if line.is_empty() {
                self.last_id = self.id.take().or_else(|| self.last_id.take());
                if !self.data.is_empty() {
                    return Some(std::mem::take(&mut self.data).into());
                }
            } else if let Some(data) = value(line, b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(data);
            } else if let Some(id) = value(line, b"id:") {
                self.id = Some(if id.len() > LONGEST_ID { Vec::new() } else { id.to_vec() });
            } else if let Some(retry) = value(line, b"retry:") {
                let milliseconds = std::str::from_utf8(retry).ok().and_then(|retry| retry.parse().ok());
                self.retry = milliseconds.map(Duration::from_millis).or(self.retry);
            }
        }
    }
}

/// The value of a field, if the line is one of this name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// One event with this message, whatever line breaks stand between its parts.
#[must_use]
pub fn event(message: &[u8]) -> Bytes {
    let mut text = BytesMut::with_capacity(message.len() + 32);
    text.extend_from_slice(b"event: message\ndata: ");
    let (first, mut begin) = (text.len(), 0);
    for end in memchr::memchr2_iter(b'\r', b'\n', message).chain([message.len()]) {
        if begin < end {
            if text.len() > first {
                text.extend_from_slice(b"\ndata: ");
            }
            text.extend_from_slice(&message[begin..end]);
        }
        begin = end + 1;
    }
    text.extend_from_slice(b"\n\n");
    text.freeze()
}

/// What keeps a silent stream open.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let text = b": hello\r\nid: 1\ndata: {\"a\":\r\ndata: 1}\r\n\r\nevent: x\n\ndata:2\n\ndata: open";
        for size in 1..text.len() {
            let (mut events, mut found) = (Events::default(), Vec::new());
            for piece in text.chunks(size) {
                events.push(piece);
                found.extend(std::iter::from_fn(|| events.take()));
            }
            assert_eq!(found, ["{\"a\":\n1}", "2"], "in pieces of {size}");
            assert!(events.pending() > 0);
        }
    }

    #[test]
    fn the_last_id_is_that_of_a_whole_event_and_can_be_taken_back() {
        let mut events = Events::default();
        let mut last = |text: &str| {
            events.push(text.as_bytes());
            while events.take().is_some() {}
            (events.last_id().map(|id| String::from_utf8_lossy(id).into_owned()), events.retry())
        };
        assert_eq!(last("data: 1\n\nretry: soon\n"), (None, None));
        assert_eq!(last("id: a 1\nretry: 1500\ndata:\n\nid: b"), (Some("a 1".to_owned()), Some(Duration::from_millis(1500))));
        assert_eq!(last("\ndata: 2\n").0.unwrap(), "a 1", "that event is not whole");
        assert_eq!(last("\ndata: 3\n\n").0.unwrap(), "b", "the last that had one");
        assert_eq!(last(&format!("id: {}\n\n", "x".repeat(2000))).0.unwrap(), "");
        assert_eq!(last("id:\n\n").0.unwrap(), "");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut events = Events::default();
        events.push(&event(b"{\"a\":\r\n\n1}"));
        assert_eq!(events.take().unwrap(), "{\"a\":\n1}");
    }
}

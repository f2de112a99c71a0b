//! Server-sent events, read and written: each carries one JSON-RPC message.

use bytes::{Bytes, BytesMut};

/// Takes a stream of events apart as its bytes come.
#[derive(Debug, Default)]
pub struct Events {
    buffer: BytesMut,
    data: Vec<u8>,
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

    /// The data of the next whole event that has any.
    pub fn take(&mut self) -> Option<Bytes> {
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
            let line = self.buffer.split_to(end + 1);
            let line = line.trim_ascii_end();
            if line.is_empty() {
                if !self.data.is_empty() {
                    return Some(std::mem::take(&mut self.data).into());
                }
            } else if let Some(data) = line.strip_prefix(b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            }
        }
    }
}

/// One event with this message, whatever line breaks stand between its parts.
#[must_use]
pub fn event(message: &[u8]) -> Bytes {
    let lines: Vec<&[u8]> = message.split(|byte| b"\r\n".contains(byte)).filter(|line| !line.is_empty()).collect();
    [b"event: message\ndata: ", &lines.join(&b"\ndata: "[..])[..], b"\n\n"].concat().into()
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
    fn what_is_written_is_read_again() {
        let mut events = Events::default();
        events.push(&event(b"{\"a\":\r\n\n1}"));
        assert_eq!(events.take().unwrap(), "{\"a\":\n1}");
    }
}

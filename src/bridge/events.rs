//! Server-sent events as a client reads them. Leaves out what is in an event.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `message` if it has no name.
    pub name: String,
    /// Lines of data, with line breaks between them.
    pub data: Bytes,
}

/// A body of events.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    parts: Parts,
}

/// Cuts what is read into events.
#[derive(Debug)]
struct Parts {
    unread: BytesMut,
    /// So far no line end was found.
    searched: usize,
    name: Option<String>,
    data: Option<BytesMut>,
    limit: usize,
}

impl Events {
    /// Events of at most `limit` bytes.
    #[must_use]
    pub fn new(body: Incoming, limit: usize) -> Self {
        Self { body, parts: Parts::new(limit) }
    }

    /// The next event; nothing at the end of the body.
    ///
    /// # Errors
    /// A sentence that says why no more can be read.
    pub async fn next(&mut self) -> Result<Option<Event>, String> {
        loop {
            if let Some(event) = self.parts.next()? {
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| format!("the stream of events broke off: {error}"))?;
            if let Ok(data) = frame.into_data() {
                self.parts.add(data);
            }
        }
    }
}

impl Parts {
    fn new(limit: usize) -> Self {
        Self { unread: BytesMut::new(), searched: 0, name: None, data: None, limit }
    }

    fn add(&mut self, data: Bytes) {
        if self.unread.is_empty() {
            self.unread = data.into();
        } else {
            self.unread.extend_from_slice(&data);
        }
    }

    fn next(&mut self) -> Result<Option<Event>, String> {
        while let Some(at) = memchr::memchr(b'\n', &self.unread[self.searched..]) {
            let mut line = self.unread.split_to(self.searched + at + 1);
            self.searched = 0;
            line.truncate(line.len() - 1);
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if line.is_empty() {
                let name = self.name.take();
                if let Some(data) = self.data.take() {
                    return Ok(Some(Event { name: name.unwrap_or_else(|| "message".to_owned()), data: data.freeze() }));
                }
                continue;
            }
            self.field(line);
            self.check(0)?;
        }
        self.searched = self.unread.len();
        self.check(self.unread.len())?;
        Ok(None)
    }

    fn field(&mut self, line: BytesMut) {
        let colon = memchr::memchr(b':', &line).unwrap_or(line.len());
        let mut value = line;
        let name = value.split_to(colon);
        let mark = usize::from(!value.is_empty());
        let skipped = mark + usize::from(value.get(mark) == Some(&b' '));
        let value = value.split_off(skipped);
        match &name[..] {
            b"event" => self.name = Some(String::from_utf8_lossy(&value).into_owned()),
            b"data" => match &mut self.data {
                None => self.data = Some(value),
                Some(data) => {
                    data.extend_from_slice(b"\n");
                    data.extend_from_slice(&value);
                }
            },
            _ => {}
        }
    }

    fn check(&self, unread: usize) -> Result<(), String> {
        if self.data.as_ref().map_or(0, BytesMut::len) + unread > self.limit.saturating_add(16) {
            return Err(format!("the server sent an event of more than {} bytes", self.limit));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned().into() }
    }

    fn read(text: &[u8], pieces: &[usize]) -> Vec<Event> {
        let mut parts = Parts::new(1000);
        let mut rest = text;
        let mut sizes = pieces.iter().copied().cycle();
        let mut found = Vec::new();
        while !rest.is_empty() {
            let size = sizes.next().unwrap_or(1).clamp(1, rest.len());
            parts.add(Bytes::copy_from_slice(&rest[..size]));
            rest = &rest[size..];
            while let Some(event) = parts.next().unwrap() {
                found.push(event);
            }
        }
        found
    }

    proptest! {
        #[test]
        fn events_come_out_however_they_are_cut(pieces in prop::collection::vec(1_usize..20, 1..10)) {
            let text = ": comment\n\nevent: endpoint\r\ndata: /messages\r\n\r\ndata:{\"a\":\nid: 7\ndata: 1}\n\nevent: lost\n\ndata:  x\n\ndata: unfinished\n";
            let expected = [event("endpoint", "/messages"), event("message", "{\"a\":\n1}"), event("message", " x")];
            prop_assert_eq!(read(text.as_bytes(), &pieces), expected);
        }
    }

    #[test]
    fn an_event_that_is_too_long_is_refused() {
        for text in [format!("data: {}", "x".repeat(2000)), "data: 1234567890\n".repeat(200)] {
            let mut parts = Parts::new(1000);
            parts.add(text.into());
            assert!(parts.next().is_err());
        }
    }
}

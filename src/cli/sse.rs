//! Server-sent events: from a response's bytes to events. What they mean is the caller's business.

use futures_util::StreamExt as _;
use reqwest::Response;

use super::client::Client;
use super::exit::{Outcome, Trouble};
use crate::error::{Error, Kind};

/// An event longer than this is not from a manager.
const MAX_EVENT: usize = 16 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// What it carries.
    pub data: String,
}

/// Calls `handle` with each event until the stream ends, `handle` fails, or the manager breaks off. What is no stream of
/// events would look like one without any, and is an error.
pub async fn follow(client: &Client, response: Response, mut handle: impl FnMut(Event) -> Outcome) -> Outcome {
    let mut parser = Parser::default();
    if !is_stream(&response) {
        return Err(client.stranger(None));
    }
    let mut bytes = response.bytes_stream();
    while let Some(chunk) = bytes.next().await {
        for event in parser.push(&chunk.map_err(|error| client.no_answer(error))?)? {
            handle(event)?;
        }
    }
    Ok(())
}

/// Whether a response is a stream of events.
pub fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("text/event-stream")
}

/// Cuts a stream of bytes into events; pieces may end anywhere.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    event: Event,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Outcome<Vec<Event>> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len() + self.event.data.len() > MAX_EVENT {
                let error = Error::new(Kind::BackendUnavailable, "an event is longer than 16 MiB");
                return Err(Trouble::unreachable(error.remedy("check that --server names a manager")));
            }
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(self.end_line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n'])));
            }
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Ids, retry times and comments (keep-alives) are of no use to us.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let stream = "event: line\nid: 3\ndata: {\"a\":\"\u{fc}\"}\n\n:keep-alive\n\nevent: x\r\ndata: one\r\ndata: two\r\n\r\n"
            .as_bytes();
        let whole = Parser::default().push(stream).unwrap();
        assert_eq!(whole.len(), 2);
        assert_eq!(whole[0], Event { name: "line".into(), data: "{\"a\":\"\u{fc}\"}".into() });
        assert_eq!(whole[1], Event { name: "x".into(), data: "one\ntwo".into() });
        for size in 1..stream.len() {
            let mut parser = Parser::default();
            let cut: Vec<Event> = stream.chunks(size).flat_map(|piece| parser.push(piece).unwrap()).collect();
            assert_eq!(cut, whole, "cut every {size} bytes");
        }
    }
}

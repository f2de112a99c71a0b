//! A body of server-sent events that reads a [`Stream`]. Leaves out what is in a stream and for how long.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::time::Sleep;

use super::splice::Pieces;
use super::stream::{BATCH, End, Stream, wake};

/// A comment is sent after this much silence, so that nobody on the way takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How events look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Events carry ids, so that the client can come back.
    pub ids: bool,
    /// The first event carries an id and no data.
    pub primed: bool,
    /// Events carry their name, as clients of 2024-11-05 expect.
    pub named: bool,
}

/// A body of server-sent events that reads a stream. The latest reader of a stream ends the one before.
pub struct Reader {
    stream: Arc<Stream>,
    number: u64,
    look: Look,
    parts: VecDeque<Bytes>,
    silence: Pin<Box<Sleep>>,
    finished: bool,
    /// Dropped with the reader: whoever must know that the client has gone.
    _guard: Option<Box<dyn Send + Sync>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reader").field("stream", &self.stream.number).finish_non_exhaustive()
    }
}

impl Reader {
    /// Reads what was not read yet; with `after`, what came after the event of this number, as far as it is kept.
    #[must_use]
    pub fn open(stream: Arc<Stream>, look: Look, after: Option<u64>, guard: Option<Box<dyn Send + Sync>>) -> Self {
        let mut state = stream.state();
        state.events = true;
        state.reader += 1;
        state.attached = true;
        wake(&mut state);
        if let Some(after) = after {
            let from = after.saturating_add(1).clamp(state.first, state.first + state.frames.len() as u64);
            let skip = usize::try_from(from - state.first).unwrap_or(usize::MAX);
            let unread = state.frames.iter().skip(skip).map(Pieces::len).sum();
            let all: usize = state.frames.iter().map(Pieces::len).sum();
            state.next = from;
            state.unread = unread;
            state.kept = all - unread;
        }
        let number = state.reader;
        drop(state);
        let mut parts = VecDeque::new();
        if look.primed && after.is_none() {
            parts.push_back(format!("id: {}-0\nretry: 1000\ndata: \n\n", stream.number).into());
        }
        let silence = Box::pin(tokio::time::sleep(KEEP_ALIVE));
        Self { stream, number, look, parts, silence, finished: false, _guard: guard }
    }

    /// Sends these bytes before all else.
    #[must_use]
    pub fn starting_with(mut self, bytes: impl Into<Bytes>) -> Self {
        self.parts.push_front(bytes.into());
        self
    }

    /// Takes what can be sent now; nothing if the reader has to wait.
    fn take(&mut self, waker: &Waker) -> Taken {
        let stream = Arc::clone(&self.stream);
        let mut state = stream.state();
        if state.reader != self.number || state.end == End::Cut {
            return Taken::Cut;
        }
        let mut batch = BytesMut::new();
        while let Some(frame) = usize::try_from(state.next - state.first).ok().and_then(|index| state.frames.get(index)).cloned()
        {
            let length = frame.len();
            if !batch.is_empty() && batch.len() + length > BATCH {
                break;
            }
            self.begin(&mut batch, state.next);
            if length > BATCH {
                self.parts.push_back(batch.split().freeze());
                self.parts.extend(frame);
            } else {
                frame.for_each(|piece| batch.extend_from_slice(&piece));
            }
            batch.extend_from_slice(b"\n\n");
            state.next += 1;
            state.unread -= length;
            state.kept += length;
            while state.kept > stream.limits.replay && state.first < state.next {
                stream.drop_first(&mut state);
            }
            if !self.parts.is_empty() {
                break;
            }
        }
        if !batch.is_empty() {
            self.parts.push_back(batch.freeze());
            return Taken::Some;
        }
        if state.end == End::Done {
            return Taken::End;
        }
        state.waker = Some(waker.clone());
        Taken::Nothing
    }

    fn begin(&self, batch: &mut BytesMut, sequence: u64) {
        // Writing to memory does not fail.
        if self.look.named {
            batch.extend_from_slice(b"event: message\n");
        }
        if self.look.ids {
            let _ok = writeln!(batch, "id: {}-{sequence}", self.stream.number);
        }
        batch.extend_from_slice(b"data: ");
    }
}

enum Taken {
    Some,
    Nothing,
    End,
    Cut,
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = &mut *self;
        if this.finished {
            return Poll::Ready(None);
        }
        if this.parts.is_empty() {
            match this.take(context.waker()) {
                Taken::Some => {}
                Taken::End => {
                    this.finished = true;
                    return Poll::Ready(None);
                }
                Taken::Cut => {
                    this.finished = true;
                    return Poll::Ready(Some(Err(std::io::Error::other("the stream was cut or is read by another request"))));
                }
                Taken::Nothing => {
                    if this.silence.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    this.parts.push_back(Bytes::from_static(b":\n\n"));
                }
            }
            this.silence.as_mut().reset(tokio::time::Instant::now() + KEEP_ALIVE);
        }
        Poll::Ready(this.parts.pop_front().map(|part| Ok(Frame::data(part))))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.stream.state();
        if state.reader == self.number {
            state.attached = false;
            // Nobody is there any more who could have read what goes now.
            let _whole = self.stream.make_room(&mut state, 0);
        }
    }
}

/// Reads an event id: the number of its stream and its own.
#[must_use]
pub fn event_id(text: &str) -> Option<(u64, u64)> {
    let (stream, event) = text.trim().split_once('-')?;
    Some((stream.parse().ok()?, event.parse().ok()?))
}

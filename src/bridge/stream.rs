//! What goes to one client, in order: the answer of a request alone, or events with the answer at their end. Bounded, and
//! kept for a client that comes back with `Last-Event-ID`. Leaves out HTTP, which is a [`super::reader::Reader`]'s.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::splice::Pieces;

/// Larger messages are handed on as they are instead of being copied into the batch.
pub(super) const BATCH: usize = 32 * 1024;

/// How much a stream may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes that were not read yet. A single message may always wait.
    pub unread: usize,
    /// Bytes that were read and are kept for replay; 0 for streams that cannot be resumed.
    pub replay: usize,
    /// Whether old messages give way to new ones, instead of ending the stream.
    pub lossy: bool,
    /// Whether the client takes the answer alone; other messages are not kept for it.
    pub solo: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    Done,
    Cut,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) frames: VecDeque<Pieces>,
    /// Number of the first frame; numbers start at 1.
    pub(super) first: u64,
    /// Number of the first frame that was not read.
    pub(super) next: u64,
    pub(super) unread: usize,
    pub(super) kept: usize,
    pub(super) end: End,
    /// Whether a reader has taken over; before that, messages wait for the decision between answer and events.
    pub(super) events: bool,
    /// Counts readers; only the latest may read.
    pub(super) reader: u64,
    pub(super) attached: bool,
    pub(super) waker: Option<Waker>,
}

/// Messages to one client.
#[derive(Debug)]
pub struct Stream {
    pub(super) number: u64,
    pub(super) limits: Limits,
    owner: AtomicUsize,
    /// The code of the answer, if it is an error; 0 otherwise.
    error_code: AtomicI32,
    /// Where all messages go instead.
    joined: OnceLock<Arc<Stream>>,
    state: Mutex<State>,
}

/// What came first on a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// The answer, and nothing else.
    Answer(Pieces),
    /// Something before the answer.
    Events,
    /// The stream ended without an answer.
    Nothing,
}

impl Stream {
    /// A stream with this number, which stands in its event ids.
    #[must_use]
    pub fn new(number: u64, limits: Limits) -> Arc<Self> {
        let state = State {
            frames: VecDeque::new(),
            first: 1,
            next: 1,
            unread: 0,
            kept: 0,
            end: End::Open,
            events: false,
            reader: 0,
            attached: false,
            waker: None,
        };
        Arc::new(Self {
            number,
            limits,
            owner: AtomicUsize::new(0),
            error_code: AtomicI32::new(0),
            joined: OnceLock::new(),
            state: Mutex::new(state),
        })
    }

    /// Lets all messages go to another stream, as clients of 2024-11-05 have but one. The other one does not end with it.
    pub fn join(&self, other: &Arc<Self>) {
        let _first = self.joined.set(Arc::clone(other));
    }

    /// Whether [`Stream::join`] was called.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.joined.get().is_some()
    }

    /// Notes that the answer is an error of this code.
    pub fn note_error(&self, code: i32) {
        self.error_code.store(code, Ordering::Relaxed);
    }

    /// The code of the answer, if it is an error.
    #[must_use]
    pub fn error_code(&self) -> Option<i32> {
        Some(self.error_code.load(Ordering::Relaxed)).filter(|&code| code != 0)
    }

    /// Marks whose stream it is; the mark is an opaque number.
    pub fn belong_to(&self, owner: usize) {
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// Whose stream it is; 0 if nobody said.
    #[must_use]
    pub fn belongs_to(&self) -> usize {
        self.owner.load(Ordering::Relaxed)
    }

    /// The stream's number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Adds a message. False if messages were lost, or the stream has ended.
    pub fn push(&self, message: impl Into<Pieces>) -> bool {
        let message = message.into();
        self.push_shared(if self.limits.solo { message } else { self.kept_apart(message) })
    }

    /// A small message must not keep the whole block alive that it was read with, if it is to wait for a reader.
    fn kept_apart(&self, message: Pieces) -> Pieces {
        let is_small = message.len() < BATCH / 2 && self.has_events();
        if is_small { Bytes::copy_from_slice(&message.whole()).into() } else { message }
    }

    /// As [`Stream::push`], for a message that many streams share; none of them copies it.
    pub fn push_shared(&self, message: impl Into<Pieces>) -> bool {
        if let Some(other) = self.joined.get() {
            return other.push_shared(message);
        }
        if self.limits.solo {
            return false;
        }
        let mut state = self.state();
        let whole = self.add(&mut state, message.into());
        wake(&mut state);
        whole
    }

    /// Adds the answer, the last message.
    pub fn finish(&self, answer: impl Into<Pieces>) {
        if let Some(other) = self.joined.get() {
            other.push(answer);
            return self.close();
        }
        let answer = self.kept_apart(answer.into());
        let mut state = self.state();
        if self.add(&mut state, answer) || state.end == End::Open {
            state.end = End::Done;
        }
        wake(&mut state);
    }

    /// Ends the stream without an answer.
    pub fn close(&self) {
        let mut state = self.state();
        if state.end == End::Open {
            state.end = End::Done;
        }
        wake(&mut state);
    }

    /// Whether nothing more can come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.state().end != End::Open
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        let state = self.state();
        state.unread + state.kept
    }

    /// Whether it has messages that nobody has read.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.state().unread > 0
    }

    /// Whether somebody reads events of it now.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.state().attached
    }

    /// Whether events were opened on it.
    #[must_use]
    pub fn has_events(&self) -> bool {
        self.state().events
    }

    /// Waits for the first message.
    pub async fn first(&self) -> First {
        poll_fn(|context| {
            let mut state = self.state();
            match (state.end, state.frames.len()) {
                (End::Open, 0) => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
                (End::Done, 1) => Poll::Ready(state.frames.pop_front().map_or(First::Nothing, First::Answer)),
                (End::Done | End::Cut, 0) => Poll::Ready(First::Nothing),
                _ => Poll::Ready(First::Events),
            }
        })
        .await
    }

    /// Takes all messages, if nobody has read any and they are exactly so many.
    #[must_use]
    pub fn take_exactly(&self, count: usize) -> Option<VecDeque<Pieces>> {
        let mut state = self.state();
        (state.first == 1 && state.frames.len() == count).then(|| {
            state.unread = 0;
            std::mem::take(&mut state.frames)
        })
    }

    /// Takes the next message, for who reads a stream inside the bridge; whether it is the last one.
    pub async fn next(&self) -> Option<(Bytes, bool)> {
        poll_fn(|context| {
            let mut state = self.state();
            if let Some(frame) = state.frames.pop_front() {
                state.first += 1;
                state.next = state.first;
                state.unread -= frame.len();
                let last = state.end != End::Open && state.frames.is_empty();
                return Poll::Ready(Some((frame.whole(), last)));
            }
            if state.end != End::Open {
                return Poll::Ready(None);
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Whether messages other than the answer can go here.
    #[must_use]
    pub fn takes_events(&self) -> bool {
        !self.limits.solo
    }

    fn add(&self, state: &mut State, message: Pieces) -> bool {
        if state.end != End::Open {
            return false;
        }
        let mut whole = true;
        if state.unread > 0 && state.unread + message.len() > self.limits.unread {
            whole = false;
            // Whoever reads too slowly is let go; a resuming client gets what is still there.
            state.reader += 1;
            state.attached = false;
            if !self.limits.lossy && self.limits.replay == 0 {
                state.frames.clear();
                state.unread = 0;
                state.end = End::Cut;
                return false;
            }
            while self.limits.lossy && state.unread > 0 && state.unread + message.len() > self.limits.unread {
                self.drop_first(state);
            }
        }
        whole &= self.make_room(state, message.len());
        state.unread += message.len();
        state.frames.push_back(message);
        whole
    }

    /// Of a stream that can be resumed and that nobody reads only the latest messages are kept, the answer at its end among
    /// them, however large. False if messages were lost that nobody has read.
    pub(super) fn make_room(&self, state: &mut State, coming: usize) -> bool {
        if self.limits.lossy || self.limits.replay == 0 || state.attached {
            return true;
        }
        // Before it is known whether the client gets events or an answer it has not missed anything.
        let most = if state.events { self.limits.replay } else { self.limits.unread };
        let least = usize::from(coming == 0);
        let mut whole = true;
        while state.frames.len() > least && state.kept + state.unread + coming > most {
            whole &= state.first < state.next;
            self.drop_first(state);
        }
        whole
    }

    /// Gives up the first message, read or not.
    pub(super) fn drop_first(&self, state: &mut State) {
        debug_assert!(self.limits.lossy || self.limits.replay > 0 || state.first < state.next);
        if let Some(frame) = state.frames.pop_front() {
            if state.first < state.next {
                state.kept -= frame.len();
            } else {
                state.unread -= frame.len();
                state.next += 1;
            }
            state.first += 1;
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes whoever reads the stream.
pub(super) fn wake(state: &mut State) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::super::reader::{Look, Reader};
    use super::*;

    const LIMITS: Limits = Limits { unread: 100, replay: 100, lossy: false, solo: false };
    const IDS: Look = Look { ids: true, primed: false, named: false };

    async fn text(reader: Reader) -> String {
        String::from_utf8(reader.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_answer_alone_is_no_event() {
        let stream = Stream::new(1, LIMITS);
        stream.finish(Bytes::from("{}"));
        assert_eq!(stream.first().await, First::Answer(Bytes::from("{}").into()));
    }

    #[tokio::test]
    async fn events_come_in_order_and_again_for_who_comes_back() {
        let stream = Stream::new(3, LIMITS);
        stream.push(Bytes::from("a"));
        assert_eq!(stream.first().await, First::Events);
        stream.push(Bytes::from("b"));
        stream.finish(Bytes::from("c"));
        let whole = text(Reader::open(Arc::clone(&stream), IDS, None, None)).await;
        assert_eq!(whole, "id: 3-1\ndata: a\n\nid: 3-2\ndata: b\n\nid: 3-3\ndata: c\n\n");
        let again = text(Reader::open(Arc::clone(&stream), IDS, Some(2), None)).await;
        assert_eq!(again, "id: 3-3\ndata: c\n\n");
    }

    #[tokio::test]
    async fn a_slow_reader_is_cut_and_keeps_nothing_in_memory() {
        let stream = Stream::new(3, Limits { replay: 0, ..LIMITS });
        let reader = Reader::open(Arc::clone(&stream), IDS, None, None);
        for _ in 0..5 {
            stream.push(Bytes::from(vec![b'x'; 60]));
        }
        assert!(reader.collect().await.is_err());
        assert!(stream.state().frames.is_empty());
    }

    #[tokio::test]
    async fn a_slow_reader_that_is_cut_comes_back_for_the_latest_and_the_answer() {
        let stream = Stream::new(3, LIMITS);
        let reader = Reader::open(Arc::clone(&stream), IDS, None, None);
        for _ in 0..50 {
            stream.push(Bytes::from(vec![b'x'; 60]));
        }
        assert!(reader.collect().await.is_err());
        stream.finish(Bytes::from("c"));
        assert!(stream.held() <= 100, "{} bytes are held", stream.held());
        let again = text(Reader::open(stream, IDS, Some(1), None)).await;
        assert_eq!(again, format!("id: 3-50\ndata: {}\n\nid: 3-51\ndata: c\n\n", "x".repeat(60)));
    }

    #[tokio::test]
    async fn an_answer_larger_than_what_is_kept_is_kept_alone() {
        let stream = Stream::new(3, LIMITS);
        let reader = Reader::open(Arc::clone(&stream), IDS, None, None);
        stream.push(Bytes::from("a"));
        stream.finish(Bytes::from("x".repeat(200)));
        drop(reader);
        assert_eq!(stream.held(), 200);
        let last = Some(u64::MAX);
        assert_eq!(text(Reader::open(stream, IDS, last, None)).await, "");
    }

    #[tokio::test]
    async fn a_lossy_stream_keeps_what_is_new() {
        let stream = Stream::new(0, Limits { unread: 4, replay: 0, lossy: true, solo: false });
        for message in ["aa", "bb", "cc"] {
            stream.push(Bytes::from(message));
        }
        stream.close();
        assert_eq!(text(Reader::open(stream, IDS, None, None)).await, "id: 0-2\ndata: bb\n\nid: 0-3\ndata: cc\n\n");
    }

    #[tokio::test]
    async fn one_message_may_be_larger_than_the_queue() {
        let stream = Stream::new(1, LIMITS);
        let large = "x".repeat(200_000);
        stream.push(Bytes::from("a"));
        drop(Reader::open(Arc::clone(&stream), IDS, None, None));
        let stream = Stream::new(1, LIMITS);
        stream.finish(Bytes::from(large.clone()));
        assert_eq!(text(Reader::open(stream, IDS, None, None)).await, format!("id: 1-1\ndata: {large}\n\n"));
    }
}

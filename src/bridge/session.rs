//! One session of the earlier eras: its streams, and the server behind it. Leaves out who may use it and when it ends (see
//! [`super::sessions`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Context;
use super::ask::{Ask, Reply};
use super::common::Common;
use super::era::Dress;
use super::era::backward::Backward;
use super::json;
use super::link::Link;
use super::listeners::Wanted;
use super::own::{Own, Voice};
use super::scan::{Message, scan};
use super::stream::{Limits, Stream};
use crate::error::{Error, Kind, Result};
use crate::rpc;

/// Finished streams of events that are kept for clients that come back.
const KEPT_STREAMS: usize = 16;
/// Unread bytes of the listening stream before anybody has listened.
const UNHEARD: usize = 256 * 1024;

/// Bytes of a log level, none of which is as long.
const LONGEST_LEVEL: usize = 32;

/// The server behind a session.
pub enum Backing {
    /// A child of its own, of the earlier eras: everything passes as it is.
    Own(Box<Own>),
    /// The common server, of the earlier eras.
    Shared(Arc<Common>),
    /// A server of the stateless era, which is spoken to in its way.
    Backward(Backward),
}

/// A session.
pub struct Session {
    /// Its id, as clients know it.
    pub id: String,
    /// The revision that was agreed on.
    pub version: OnceLock<String>,
    pub(super) context: Arc<Context>,
    pub(super) backing: Backing,
    listening: Arc<Stream>,
    wanted: Arc<Mutex<Wanted>>,
    streams: Mutex<Streams>,
    busy: AtomicUsize,
    used: Mutex<Instant>,
}

#[derive(Default)]
struct Streams {
    last: u64,
    kept: VecDeque<Arc<Stream>>,
}

impl Streams {
    /// Forgets finished streams that nobody reads, the oldest first, until there are at most so many streams and bytes. The
    /// latest one stays as long as it has something that nobody has read: that may be an answer larger than all that is kept.
    fn forget(&mut self, most: usize, bytes: usize) {
        let mut held: usize = self.kept.iter().map(|stream| stream.held()).sum();
        let mut count = self.kept.len();
        let latest = self.kept.back().filter(|stream| stream.has_unread()).map(|stream| stream.number());
        self.kept.retain(|stream| {
            let is_latest = latest == Some(stream.number());
            let goes = (count > most || held > bytes) && stream.is_finished() && !stream.is_attached() && !is_latest;
            if goes {
                count -= 1;
                held -= stream.held().min(held);
            }
            !goes
        });
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Keeps a session from being idle while it lives.
#[derive(Debug)]
pub struct Busy(Arc<Session>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

impl Session {
    /// A session with this id and server.
    #[must_use]
    pub fn new(context: &Arc<Context>, id: String, backing: Backing) -> Arc<Self> {
        let unread = context.options.max_queue.min(UNHEARD);
        let limits = Limits { unread, replay: context.options.replay.min(UNHEARD), lossy: true, solo: false };
        let session = Arc::new(Self {
            id,
            version: OnceLock::new(),
            context: Arc::clone(context),
            backing,
            listening: Stream::new(0, limits),
            wanted: Arc::new(Mutex::new(Wanted::lists())),
            streams: Mutex::default(),
            busy: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
        });
        match &session.backing {
            Backing::Own(own) => {
                if let Some(link) = &*lock(&own.link) {
                    link.own(Voice(Arc::downgrade(&session)));
                }
            }
            Backing::Shared(common) => common.listeners.add(&session.listening, Arc::clone(&session.wanted), None),
            Backing::Backward(backward) => backward.listen(&session.listening, &session.wanted),
        }
        session
    }

    /// Marks the session as used for as long as the answer lives.
    #[must_use]
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// For how long nothing has happened; nothing while something does.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        let pending = match &self.backing {
            Backing::Own(own) => lock(&own.link).as_ref().map_or(0, |link| link.pending()),
            Backing::Backward(backward) => backward.pending(),
            Backing::Shared(common) => common.running().map_or(0, |ready| ready.link.pending_of(self.mark())),
        };
        let quiet = self.busy.load(Ordering::Relaxed) == 0 && pending == 0 && !self.listening.is_joined();
        quiet.then(|| lock(&self.used).elapsed())
    }

    /// For how long nothing has happened, if the session can end without a loss for its client: beside what [`Session::idle`]
    /// says, no answer waits for a client that comes back.
    #[must_use]
    pub fn spent(&self) -> Option<Duration> {
        let is_owed = lock(&self.streams).kept.iter().any(|stream| !stream.is_finished() || stream.has_unread());
        self.idle().filter(|_| !is_owed)
    }

    /// Begins the time anew for which nothing has happened.
    pub(super) fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    /// The stream of what belongs to no request.
    #[must_use]
    pub fn listening(&self) -> &Arc<Stream> {
        &self.listening
    }

    /// Lets everything that the server says go to one stream, as clients of 2024-11-05 expect.
    pub fn join(&self, stream: &Arc<Stream>) {
        self.listening.join(stream);
    }

    /// A stream that a client comes back to.
    #[must_use]
    pub fn stream(&self, number: u64) -> Option<Arc<Stream>> {
        if number == 0 {
            return Some(Arc::clone(&self.listening));
        }
        lock(&self.streams).kept.iter().find(|stream| stream.number() == number).cloned()
    }

    /// Keeps a stream of events for clients that come back.
    pub fn keep(&self, stream: &Arc<Stream>) {
        let mut streams = lock(&self.streams);
        streams.forget(KEPT_STREAMS - 1, self.context.options.replay);
        streams.kept.push_back(Arc::clone(stream));
    }

    /// Forgets what is more than is kept of a session: streams that were open together end without a further one coming.
    pub fn forget_streams(&self) {
        lock(&self.streams).forget(KEPT_STREAMS, self.context.options.replay);
    }

    /// How many bytes are kept of its streams.
    #[must_use]
    pub fn held(&self) -> usize {
        lock(&self.streams).kept.iter().map(|stream| stream.held()).sum()
    }

    /// A new stream for the answer of one request. With `solo` the client takes the answer alone.
    #[must_use]
    pub fn open_stream(&self, solo: bool) -> Arc<Stream> {
        let mut streams = lock(&self.streams);
        streams.last += 1;
        let options = &self.context.options;
        Stream::new(streams.last, Limits { unread: options.max_queue, replay: options.replay, lossy: false, solo })
    }

    /// Sends a request to the server; its answer comes on `stream`.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub async fn request(self: &Arc<Self>, text: Bytes, message: &Message, stream: &Arc<Stream>) -> Result<()> {
        let id = message.id.map(|id| id.of(&text).to_vec()).unwrap_or_default();
        match &self.backing {
            Backing::Own(own) => {
                let link = self.own_link(own).await?;
                self.ask_noting(&link, &text, message, stream, &own.level)
            }
            Backing::Backward(backward) => backward.request(self, text, message, stream).await,
            Backing::Shared(common) => {
                let method = message.method(&text).into_owned();
                match &*method {
                    "ping" => {
                        stream.finish(rpc::result(&id, b"{}"));
                        return Ok(());
                    }
                    "initialize" => return Err(Error::new(Kind::Invalid, "the session is initialised already")),
                    "resources/unsubscribe" => {
                        let uri = uri_of(&text, message);
                        self.forget(&uri);
                        if common.listeners.any_wants(&uri) {
                            stream.finish(rpc::result(&id, b"{}"));
                            return Ok(());
                        }
                        return self.ask(&common.ready().await?.link, &text, message, stream);
                    }
                    _ => {}
                }
                self.ask_noting(&common.ready().await?.link, &text, message, stream, &common.level)
            }
        }
    }

    /// Asks a server of an earlier era, and notes what one in its place has to hear again.
    fn ask_noting(
        self: &Arc<Self>,
        link: &Link,
        text: &Bytes,
        message: &Message,
        stream: &Arc<Stream>,
        level: &Mutex<Option<Bytes>>,
    ) -> Result<()> {
        match &*message.method(text) {
            "resources/subscribe" => return self.subscribe(link, text, message, stream),
            "resources/unsubscribe" => self.forget(&uri_of(text, message)),
            "logging/setLevel" => {
                let [said] = message.params(text, ["level"]);
                if let Some(said) = said.map(|said| said.of(text)).filter(|said| said.len() <= LONGEST_LEVEL) {
                    *lock(level) = Some(Bytes::copy_from_slice(said));
                }
            }
            _ => {}
        }
        self.ask(link, text, message, stream)
    }

    /// Subscribes to a resource. What the server refuses is not wanted any more.
    fn subscribe(self: &Arc<Self>, link: &Link, text: &Bytes, message: &Message, stream: &Arc<Stream>) -> Result<()> {
        let uri = uri_of(text, message);
        let limits = Limits { unread: self.context.options.max_queue, replay: 0, lossy: true, solo: !stream.takes_events() };
        let inner = Stream::new(0, limits);
        if !self.want(&uri) {
            let id = message.id.map(|id| id.of(text));
            stream.finish(rpc::error(id, rpc::INVALID_PARAMS, rpc::TOO_MANY_SUBSCRIBED, None));
            return Ok(());
        }
        self.ask(link, text, message, &inner).inspect_err(|_| self.forget(&uri))?;
        let (session, stream) = (Arc::clone(self), Arc::clone(stream));
        self.context.tasks.spawn("subscribe", async move {
            while let Some((said, is_answer)) = inner.next().await {
                if !is_answer {
                    stream.push(said);
                    continue;
                }
                if scan(&said).is_ok_and(|said| said.result.is_none()) {
                    session.forget(&uri);
                }
                return stream.finish(said);
            }
            session.forget(&uri);
            stream.close();
        });
        Ok(())
    }

    /// Brings a notification to the server.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub async fn notify(self: &Arc<Self>, text: Bytes, message: &Message) -> Result<()> {
        self.touch();
        let cancelled = message.is(&text, "notifications/cancelled");
        let [request] = message.params(&text, ["requestId"]);
        let request = request.filter(|_| cancelled);
        match &self.backing {
            Backing::Own(own) => {
                let link = self.own_link(own).await?;
                if message.is(&text, "notifications/initialized") {
                    let mut introduction = lock(&own.introduction);
                    introduction.truncate(1);
                    introduction.push(text.clone());
                }
                link.tell(&text);
                if let Some(key) = request.and_then(|id| link.key_of(id.of(&text), |_| true)) {
                    link.forget(&key);
                }
            }
            Backing::Shared(common) => {
                // What is left of the client's notifications would speak for all clients.
                let link = &common.ready().await?.link;
                if let Some(key) = request.and_then(|id| link.key_of(id.of(&text), |stream| self.has(stream))) {
                    link.cancel(&key, "the client cancelled it");
                }
            }
            Backing::Backward(backward) => backward.notify(&text, message),
        }
        Ok(())
    }

    /// Brings the client's answer to a request of the server.
    pub fn answer(&self, text: &Bytes, message: &Message) {
        self.touch();
        match &self.backing {
            Backing::Own(own) => {
                let link = lock(&own.link).clone();
                if let Some(link) = link {
                    link.tell(text);
                }
            }
            Backing::Backward(backward) => backward.answer(text, message),
            // The common server was told of no client capability, so it asks nothing.
            Backing::Shared(_) => self.context.metrics.messages_dropped.add(1),
        }
    }

    /// Ends the session and the child that is its own; what is pending is answered with the reason. Its streams end with
    /// those answers.
    pub fn close(&self, why: &str) {
        match &self.backing {
            Backing::Own(own) => own.close(why),
            Backing::Backward(backward) => backward.close(self.mark(), why),
            Backing::Shared(common) => {
                if let Some(ready) = common.running() {
                    ready.link.give_up_of(self.mark(), why);
                }
            }
        }
        self.listening.close();
        lock(&self.streams).kept.clear();
    }

    /// Starts hearing of a resource. False if the client wants to hear of too many.
    #[must_use]
    pub fn want(&self, uri: &str) -> bool {
        lock(&self.wanted).add(uri)
    }

    /// Ends hearing of a resource.
    pub fn forget(&self, uri: &str) {
        lock(&self.wanted).uris.retain(|known| known != uri);
    }

    /// The resources that the client wants to hear of.
    pub(super) fn wanted_uris(&self) -> Vec<String> {
        lock(&self.wanted).uris.clone()
    }

    /// Brings what belongs to no request to the client: on the latest request that is not answered, or on the listening
    /// stream. Nothing on stdio says more about where it belongs.
    pub fn tell(&self, link: &Link, text: Bytes, message: &Message) {
        let method = message.method(&text);
        let changed = method.ends_with("/list_changed") || method == "notifications/resources/updated";
        let request = || link.streams(false).into_iter().find(|stream| stream.takes_events() && !stream.is_finished());
        let stream = if changed && self.listening.is_attached() { None } else { request() };
        let stream = stream.unwrap_or_else(|| Arc::clone(&self.listening));
        if !stream.push(text) {
            self.context.metrics.messages_dropped.add(1);
        }
    }

    /// The mark of the session's streams.
    #[must_use]
    pub fn mark(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn has(&self, stream: &Stream) -> bool {
        stream.belongs_to() == self.mark()
    }

    fn ask(&self, link: &Link, text: &Bytes, message: &Message, stream: &Arc<Stream>) -> Result<()> {
        stream.belong_to(self.mark());
        let reply = Reply::Stream(Arc::clone(stream));
        link.ask(text, message, Ask { reply, dress: Dress::Plain, logs: true, endless: false }).map(drop)
    }
}

/// The resource that a request to subscribe or unsubscribe names.
pub(super) fn uri_of(text: &[u8], message: &Message) -> String {
    let [uri] = message.params(text, ["uri"]);
    uri.and_then(|uri| json::string(text, uri)).unwrap_or_default().into_owned()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A client of the earlier eras at a server that speaks the stateless one alone: the bridge answers `initialize` out of
//! `server/discover`, says in every request what the client said once, and turns an `input_required` result into requests
//! to the client, whose answers it brings with a repeated call. Leaves out sessions (see [`super::super::session`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::super::Context;
use super::super::ask::{Ask, Owner, Reply};
use super::super::backoff::Backoff;
use super::super::common::{Common, Era, refuse_request};
use super::super::json::{self, Span};
use super::super::link::Link;
use super::super::listeners::Wanted;
use super::super::options::SessionMode;
use super::super::scan::{Message, scan};
use super::super::session::{Session, uri_of};
use super::super::splice::{Edit, apply};
use super::super::stream::{Limits, Stream};
use super::calls::Calls;
use super::questions::{ENDED, Questions};
use super::{Dress, LEGACY, MODERN, is_legacy};
use crate::error::{Error, Kind, Result};
use crate::rpc;
use crate::rpc::keys::{CAPABILITIES, CLIENT, LOG_LEVEL, SERVER, VERSION};

/// How often a server may ask in the course of one request.
const ROUNDS: usize = 20;
/// The pause between two attempts to subscribe at a server that has ended.
const AGAIN: Duration = Duration::from_millis(500);

/// Translates for one session.
pub struct Backward {
    inner: Arc<Inner>,
    discovered: Bytes,
}

/// The session's listening stream, and what its client wants to hear there.
type Listening = (Arc<Stream>, Arc<Mutex<Wanted>>);

struct Inner {
    context: Arc<Context>,
    common: Arc<Common>,
    own: bool,
    /// The server that is spoken to now.
    link: Mutex<Arc<Link>>,
    starting: tokio::sync::Mutex<()>,
    backoff: Mutex<Backoff>,
    closed: AtomicBool,
    capabilities: Vec<u8>,
    client: Vec<u8>,
    level: Mutex<Option<Vec<u8>>>,
    questions: Questions,
    calls: Arc<Calls>,
    subscription: Mutex<Option<(Weak<Link>, Bytes)>>,
    listening: Mutex<Option<Listening>>,
}

impl Backward {
    /// Has a server for the client that introduced itself by `initialize`: the common one, or one of its own, which `start`
    /// gives.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn open(
        context: &Arc<Context>,
        common: &Arc<Common>,
        text: &Bytes,
        message: &Message,
        start: impl FnOnce() -> Result<Arc<Link>>,
    ) -> Result<Self> {
        let ready = common.ready().await?;
        let Era::Modern(discovered) = &ready.era else {
            return Err(Error::new(Kind::NotSupported, "the server is of an earlier era and refuses this client"));
        };
        let own = context.options.session_mode == SessionMode::PerSession;
        let link = if own { start()? } else { Arc::clone(&ready.link) };
        let [capabilities, client] = message.params(text, ["capabilities", "clientInfo"]);
        let raw = |span: Option<Span>| span.map_or_else(|| b"{}".to_vec(), |span| span.of(text).to_vec());
        let inner = Inner {
            context: Arc::clone(context),
            common: Arc::clone(common),
            own,
            link: Mutex::new(Arc::clone(&link)),
            starting: tokio::sync::Mutex::default(),
            backoff: Mutex::default(),
            closed: AtomicBool::new(false),
            capabilities: raw(capabilities),
            client: raw(client),
            level: Mutex::default(),
            questions: Questions::default(),
            calls: Arc::default(),
            subscription: Mutex::default(),
            listening: Mutex::default(),
        };
        let inner = Arc::new(inner);
        if own {
            link.own(Voice(Arc::downgrade(&inner)));
        }
        Ok(Self { inner, discovered: discovered.clone().unwrap_or_else(|| Bytes::from_static(b"{}")) })
    }

    /// The answer to `initialize`, and the revision that was agreed on.
    #[must_use]
    pub fn introduction(&self, text: &Bytes, message: &Message) -> (Bytes, String) {
        let [asked] = message.params(text, ["protocolVersion"]);
        let asked = asked.and_then(|asked| json::string(text, asked)).filter(|asked| is_legacy(asked));
        let version = asked.map_or_else(|| LEGACY[0].to_owned(), std::borrow::Cow::into_owned);
        let found = &self.discovered;
        let whole = json::check(found).ok();
        let [capabilities, instructions, meta] = json::find(found, whole, ["capabilities", "instructions", "_meta"]);
        let [server] = json::find(found, meta, [SERVER]);
        let raw = |span: Option<Span>, other: &'static str| span.map_or(other.as_bytes(), |span| span.of(found)).to_vec();
        let mut result = format!("{{\"protocolVersion\":\"{version}\",\"capabilities\":").into_bytes();
        result.extend(raw(capabilities, "{}"));
        result.extend_from_slice(b",\"serverInfo\":");
        result.extend(raw(server, "{\"name\":\"unknown\",\"version\":\"0\"}"));
        if instructions.is_some() {
            result.extend_from_slice(b",\"instructions\":");
            result.extend(raw(instructions, ""));
        }
        result.push(b'}');
        let id = message.id.map(|id| id.of(text)).unwrap_or_default();
        (rpc::result(id, &result), version)
    }

    /// Calls that are not answered, those among them whose client is asked something.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.inner.calls.count()
    }

    /// Begins to hear of changes.
    pub fn listen(&self, stream: &Arc<Stream>, wanted: &Arc<Mutex<Wanted>>) {
        *lock(&self.inner.listening) = Some((Arc::clone(stream), Arc::clone(wanted)));
        let link = Arc::clone(&*lock(&self.inner.link));
        self.inner.subscribe(&link);
    }

    /// Brings a request to the server; its answer comes on `stream`.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub async fn request(&self, session: &Session, text: Bytes, message: &Message, stream: &Arc<Stream>) -> Result<()> {
        let id = message.id.map(|id| id.of(&text).to_vec()).unwrap_or_default();
        let method = message.method(&text).into_owned();
        match &*method {
            "ping" => stream.finish(rpc::result(&id, b"{}")),
            "initialize" => return Err(Error::new(Kind::Invalid, "the session is initialised already")),
            "logging/setLevel" => {
                let [level] = message.params(&text, ["level"]);
                *lock(&self.inner.level) = level.map(|level| level.of(&text).to_vec());
                stream.finish(rpc::result(&id, b"{}"));
            }
            "resources/subscribe" | "resources/unsubscribe" => {
                let uri = uri_of(&text, message);
                if method == "resources/unsubscribe" {
                    session.forget(&uri);
                } else if !session.want(&uri) {
                    stream.finish(rpc::error(Some(&id), rpc::INVALID_PARAMS, rpc::TOO_MANY_SUBSCRIBED, None));
                    return Ok(());
                }
                let link = self.inner.link().await?;
                self.inner.subscribe(&link);
                stream.finish(rpc::result(&id, b"{}"));
            }
            _ => {
                let owner = session.mark();
                let call = self.inner.calls.begin(id.into());
                let first = self.inner.ask(&text, message, None, owner).await?;
                let (inner, stream) = (Arc::clone(&self.inner), Arc::clone(stream));
                self.inner.context.tasks.spawn("call", async move {
                    tokio::select! {
                        biased;
                        () = call.cancelled.cancelled() => {}
                        () = inner.drive(first, &text, &stream, owner) => return,
                    }
                    inner.give_up(&call.id, owner);
                    stream.close();
                });
            }
        }
        Ok(())
    }

    /// Brings a notification.
    pub fn notify(&self, text: &Bytes, message: &Message) {
        if message.is(text, "notifications/cancelled") {
            let [request] = message.params(text, ["requestId"]);
            if let Some(id) = request {
                self.inner.calls.cancel(id.of(text));
            }
        }
    }

    /// Brings the client's answer to a question.
    pub fn answer(&self, text: &Bytes, message: &Message) {
        self.inner.questions.answered(text, message);
    }

    /// Ends the server that is the session's own, and what is pending with this reason.
    pub fn close(&self, mark: usize, why: &str) {
        self.inner.closed.store(true, Ordering::Relaxed);
        self.inner.questions.end();
        *lock(&self.inner.listening) = None;
        unsubscribe(lock(&self.inner.subscription).take(), why);
        let link = Arc::clone(&*lock(&self.inner.link));
        if self.inner.own {
            link.stop(why);
        } else {
            link.give_up_of(mark, why);
        }
    }
}

/// Ends a subscription, if the server that has it is there.
fn unsubscribe(subscription: Option<(Weak<Link>, Bytes)>, why: &str) {
    if let Some((link, key)) = subscription
        && let Some(link) = link.upgrade()
    {
        link.cancel(&key, why);
    }
}

impl Inner {
    /// The server that is spoken to; where that has ended, the one in its place, with the subscription there.
    async fn link(self: &Arc<Self>) -> Result<Arc<Link>> {
        let running = || Some(Arc::clone(&*lock(&self.link))).filter(|link| link.ended().is_none());
        if let Some(link) = running() {
            return Ok(link);
        }
        let _one = self.starting.lock().await;
        if let Some(link) = running() {
            return Ok(link);
        }
        let link = if self.own {
            lock(&self.backoff).check()?;
            let link = Link::start(&self.context, true).inspect_err(|error| lock(&self.backoff).failed(&error.to_string()))?;
            link.own(Voice(Arc::downgrade(self)));
            lock(&self.backoff).started();
            link
        } else {
            let ready = self.common.ready().await?;
            if !matches!(ready.era, Era::Modern(_)) {
                return Err(Error::new(Kind::NotSupported, "the server has become one of an earlier era; begin with initialize"));
            }
            Arc::clone(&ready.link)
        };
        *lock(&self.link) = Arc::clone(&link);
        if self.closed.load(Ordering::Relaxed) {
            if self.own {
                link.stop("the session has ended");
            }
            return Err(Error::new(Kind::BackendUnavailable, "the session has ended"));
        }
        self.subscribe(&link);
        Ok(link)
    }

    /// Tells the server that nobody waits for the call any more, if it works on it.
    fn give_up(&self, id: &[u8], owner: usize) {
        let link = Arc::clone(&*lock(&self.link));
        if let Some(key) = link.key_of(id, |stream| stream.belongs_to() == owner) {
            link.cancel(&key, "the client cancelled it");
        }
    }

    /// What the client said once, as every request has to say it.
    fn meta(&self) -> Vec<u8> {
        let mut members = format!("\"{VERSION}\":\"{MODERN}\",\"{CLIENT}\":").into_bytes();
        members.extend_from_slice(&self.client);
        members.extend_from_slice(format!(",\"{CAPABILITIES}\":").as_bytes());
        members.extend_from_slice(&self.capabilities);
        if let Some(level) = &*lock(&self.level) {
            members.extend_from_slice(format!(",\"{LOG_LEVEL}\":").as_bytes());
            members.extend_from_slice(level);
        }
        members
    }

    /// Sends a request with what the stateless era wants in it; `more` are further members of its parameters.
    async fn ask(self: &Arc<Self>, text: &Bytes, message: &Message, more: Option<&[u8]>, owner: usize) -> Result<Arc<Stream>> {
        let object = |span: &Span| text[span.start] == b'{';
        let meta = self.meta();
        let mut edits = Vec::new();
        if let Some(params) = message.params.filter(object) {
            let [old] = json::find(text, Some(params), ["_meta"]);
            if let Some(old) = old.filter(object) {
                let empty = json::members(text, old).next().is_none();
                let with = [&meta[..], if empty { b"" } else { b"," }].concat();
                edits.push(Edit { at: Span { start: old.start + 1, end: old.start + 1 }, with });
            } else {
                edits.push(Edit::add_member(text, params, "_meta", &[b"{", &meta[..], b"}"].concat()));
            }
            if let Some(more) = more {
                edits
                    .insert(0, Edit { at: Span { start: params.start + 1, end: params.start + 1 }, with: [more, b","].concat() });
            }
        } else {
            let whole = Span { start: json::skip_white(text, 0), end: text.len() };
            edits.push(Edit::add_member(text, whole, "params", &[b"{\"_meta\":{", &meta[..], b"}}"].concat()));
        }
        let text = apply(text, &mut edits);
        let message = scan(&text).map_err(|error| Error::internal("the bridge said something wrong", error))?;
        let limits = Limits { unread: self.context.options.max_queue, replay: 0, lossy: true, solo: false };
        let inner = Stream::new(0, limits);
        inner.belong_to(owner);
        let logs = lock(&self.level).is_some();
        let reply = Reply::Stream(Arc::clone(&inner));
        self.link().await?.ask(&text, &message, Ask { reply, dress: Dress::Plain, logs, endless: false })?;
        Ok(inner)
    }

    /// Follows a request until its answer, and asks the client in between.
    async fn drive(self: &Arc<Self>, first: Arc<Stream>, text: &Bytes, stream: &Arc<Stream>, owner: usize) {
        let mut inner = first;
        for _ in 0..ROUNDS {
            let answer = loop {
                match inner.next().await {
                    Some((answer, true)) => break answer,
                    Some((said, false)) => drop(stream.push(said)),
                    None => return stream.close(),
                }
            };
            let said = scan(&answer).unwrap_or_default();
            let [kind, questions, state] = json::find(&answer, said.result, ["resultType", "inputRequests", "requestState"]);
            if !json::is_string(&answer, kind, "input_required") {
                return stream.finish(answer);
            }
            let message = scan(text).unwrap_or_default();
            let id = message.id.map(|id| id.of(text));
            let answers = match self.ask_client(&answer, questions, stream).await {
                Ok(answers) => answers,
                Err(error) => return stream.finish(rpc::error_of(id.unwrap_or_default(), &error)),
            };
            let mut more = [b"\"inputResponses\":", &answers[..]].concat();
            if let Some(state) = state {
                more.extend_from_slice(b",\"requestState\":");
                more.extend_from_slice(state.of(&answer));
            }
            match self.ask(text, &message, Some(&more), owner).await {
                Ok(next) => inner = next,
                Err(error) => return stream.finish(rpc::error(id, rpc::INTERNAL_ERROR, &error.to_string(), None)),
            }
        }
        let message = scan(text).unwrap_or_default();
        let says = format!("the server asked more than {ROUNDS} times");
        stream.finish(rpc::error(message.id.map(|id| id.of(text)), rpc::INTERNAL_ERROR, &says, None));
    }

    /// Asks the client on the stream of its call, or on the listening one where it takes nothing but the answer there.
    async fn ask_client(&self, answer: &Bytes, questions: Option<Span>, stream: &Arc<Stream>) -> Result<Vec<u8>, Bytes> {
        let listening = lock(&self.listening).as_ref().map(|(listening, _)| Arc::clone(listening));
        let on = if stream.takes_events() { Arc::clone(stream) } else { listening.ok_or(Bytes::from_static(ENDED))? };
        self.questions.ask(answer, questions, &on, self.context.options.request_timeout).await
    }

    /// Opens a subscription to what is wanted now, in place of the one before.
    fn subscribe(self: &Arc<Self>, link: &Arc<Link>) {
        let Some((listening, wanted)) = lock(&self.listening).clone() else { return };
        let uris = serde_json::Value::from(lock(&wanted).uris.clone());
        let params = [
            b"{\"_meta\":{",
            &self.meta()[..],
            b"},\"notifications\":{\"toolsListChanged\":true,\"promptsListChanged\":true,\"resourcesListChanged\":true,\"resourceSubscriptions\":",
            uris.to_string().as_bytes(),
            b"}}",
        ]
        .concat();
        let text = rpc::request(b"0", "subscriptions/listen", &params);
        let Ok(message) = scan(&text) else { return };
        let limits = Limits { unread: self.context.options.max_queue, replay: 0, lossy: true, solo: false };
        let inner = Stream::new(0, limits);
        let ask = Ask { reply: Reply::Stream(Arc::clone(&inner)), dress: Dress::Plain, logs: false, endless: true };
        let Ok(key) = link.ask(&text, &message, ask) else { return };
        let old = lock(&self.subscription).replace((Arc::downgrade(link), key));
        unsubscribe(old, "another subscription takes its place");
        let (link, this) = (Arc::downgrade(link), Arc::downgrade(self));
        self.context.tasks.spawn("subscription", async move {
            while let Some((said, false)) = inner.next().await {
                let told = scan(&said).is_ok_and(|message| !message.is(&said, "notifications/subscriptions/acknowledged"));
                if told {
                    listening.push(said);
                }
            }
            if link.upgrade().is_none_or(|link| link.ended().is_some()) {
                Self::subscribe_again(this).await;
            }
        });
    }

    /// Hears on when the common server has ended and is started again. An own one is started by the next request alone.
    async fn subscribe_again(this: Weak<Self>) {
        loop {
            let Some(this) = this.upgrade() else { return };
            let stopping = this.context.tasks.stopping();
            if this.own || this.closed.load(Ordering::Relaxed) || this.link().await.is_ok() {
                return;
            }
            drop(this);
            if tokio::time::timeout(AGAIN, stopping.cancelled()).await.is_ok() {
                return;
            }
        }
    }
}

/// Hears for a server of the stateless era, which says nothing that belongs to no request.
struct Voice(Weak<Inner>);

impl Owner for Voice {
    fn request(&self, link: &Arc<Link>, text: Bytes, message: &Message) {
        refuse_request(link, &text, message);
    }

    fn notification(&self, link: &Arc<Link>, text: Bytes, message: &Message) {
        if message.is(&text, "notifications/message")
            && let [only] = link.streams(true).as_slice()
        {
            only.push(text);
        }
    }

    fn ended(&self, link: &Arc<Link>, why: &str) {
        let Some(inner) = self.0.upgrade().filter(|inner| !inner.closed.load(Ordering::Relaxed)) else { return };
        if Arc::ptr_eq(&lock(&inner.link), link) {
            tracing::warn!(why, "the server of a session has ended; the next request starts it again");
            inner.context.metrics.children_failed.add(1);
            lock(&inner.backoff).ended(why, link.has_worked());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

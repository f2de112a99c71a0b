//! One child and who waits for which answer of it. Leaves out what is to be done with what belongs to no request: that
//! is the link's [`Owner`].
//!
//! A link of one client passes ids and progress tokens as they are. A link that several clients share gives every
//! request a number of its own, as id and as progress token, and gives back the client's where it comes out again.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Context;
use super::ask::{Ask, Owner, Reply, Waits};
use super::child::{Child, Hears};
use super::era::Dress;
use super::frame::Line;
use super::json;
use super::salvage::{self, Whose};
use super::scan::{Kind, Message, Refused, scan};
use super::splice::{Edit, Pieces, apply, apply_in_pieces, one_line};
use super::stream::Stream;
use super::waiting::{State, Waiting};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::rpc;

/// The member of `_meta` that names the subscription of a notification.
pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// A server that has lived so long works, even if nobody has asked it anything.
const PROVEN: Duration = Duration::from_secs(30);

/// A child with its unanswered requests.
pub struct Link {
    context: Arc<Context>,
    child: Arc<Child>,
    shared: bool,
    owner: OnceLock<Box<dyn Owner>>,
    started: Instant,
    state: Mutex<State>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Link").field("child", &self.child.id()).field("shared", &self.shared).finish_non_exhaustive()
    }
}

struct Ears(std::sync::Weak<Link>);

impl Hears for Ears {
    fn line(&self, line: Line) {
        if let Some(link) = self.0.upgrade() {
            link.hear(line);
        }
    }

    fn ended(&self, why: &str) {
        if let Some(link) = self.0.upgrade() {
            link.end(why);
        }
    }
}

impl Link {
    /// Starts a child. `shared` says whether several clients will use it.
    ///
    /// # Errors
    /// `LimitReached` or `StartFailed`.
    pub fn start(context: &Arc<Context>, shared: bool) -> Result<Arc<Self>> {
        let mut made = None;
        Child::start(context, |child| {
            let link = Arc::new(Self {
                context: Arc::clone(context),
                child: Arc::clone(child),
                shared,
                owner: OnceLock::new(),
                started: Instant::now(),
                state: Mutex::default(),
            });
            let ears = Arc::new(Ears(Arc::downgrade(&link)));
            made = Some(link);
            ears
        })?;
        let link = made.ok_or_else(|| Error::new(ErrorKind::Internal, "a child started without its link"))?;
        context.links.add(&link);
        Ok(link)
    }

    /// Says who gets what belongs to no request. Only the first owner counts.
    pub fn own(&self, owner: impl Owner + 'static) {
        let _kept = self.owner.set(Box::new(owner));
    }

    /// The child.
    #[must_use]
    pub fn child(&self) -> &Arc<Child> {
        &self.child
    }

    /// Why the server has ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Arc<str>> {
        self.state().ended.clone()
    }

    /// Whether the server did what it is there for: it answered a request of a client, or lived for a while. One that has
    /// may be started again at once when it ends: clients then set the pace. Its handshake alone says nothing.
    #[must_use]
    pub fn has_worked(&self) -> bool {
        self.state().has_answered || self.started.elapsed() >= PROVEN
    }

    /// How many requests wait, apart from subscriptions.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.state().calls()
    }

    /// Ends all subscriptions in good order.
    pub fn end_subscriptions(&self) {
        let ended = self.state().take_all(|waiting| waiting.endless);
        for (key, waiting) in ended {
            self.child.send(&rpc::cancelled(&key, "the bridge ends"));
            if let Reply::Stream(stream) = waiting.reply {
                let result =
                    [b"{\"resultType\":\"complete\",\"_meta\":{\"", SUBSCRIPTION.as_bytes(), b"\":", &waiting.id[..], b"}}"]
                        .concat();
                stream.finish(rpc::result(&waiting.id, &result));
            }
        }
    }

    /// Sends a request; the number or id by which the server knows it.
    ///
    /// # Errors
    /// `LimitReached`, `Conflict` for an id that is in use, `BackendUnavailable` if the server has ended or does not read.
    pub fn ask(&self, text: &Bytes, message: &Message, ask: Ask) -> Result<Bytes> {
        let Some(id) = message.id else { return Err(Error::new(ErrorKind::Invalid, "a request has an id")) };
        let id_text = text.slice(id.start..id.end);
        let (token, twice) = message.progress_token(text);
        if let Some(name) = twice.filter(|_| self.shared) {
            // One of two would be left as it is, and mean another client's request.
            return Err(Error::new(ErrorKind::Invalid, format!("{name} occurs twice")));
        }
        let mut state = self.state();
        if let Some(why) = &state.ended {
            return Err(Error::new(ErrorKind::BackendUnavailable, why.to_string()));
        }
        state.check_room(ask.endless, self.context.options.max_pending)?;
        state.order += 1;
        let order = state.order;
        let (key, changed) = if self.shared {
            let number = order.to_string();
            let mut edits = vec![Edit::replace(id, number.as_bytes())];
            edits.extend(token.map(|token| Edit::replace(token, number.as_bytes())));
            (Bytes::from(number), Some(apply(text, &mut edits)))
        } else {
            (id_text.clone(), None)
        };
        if state.get(&key).is_some() {
            return Err(Error::new(ErrorKind::Conflict, "a request with this id is not answered yet"));
        }
        if !self.child.send(changed.as_ref().unwrap_or(text)) {
            return Err(Error::new(ErrorKind::BackendUnavailable, "the server does not read its input"));
        }
        let token = token.map(|token| text.slice(token.start..token.end));
        let Ask { reply, dress, logs, endless } = ask;
        let waiting = Waiting { reply, dress, logs, endless, id: id_text, token, order, since: Instant::now() };
        state.insert(key.clone(), waiting);
        Ok(key)
    }

    /// Asks for the bridge itself and waits for the answer.
    ///
    /// # Errors
    /// As [`Link::ask`]; `Timeout`.
    pub async fn call(&self, text: Bytes, limit: Duration) -> Result<(Bytes, Message)> {
        let message = scan(&text).map_err(|error| Error::internal("the bridge said something wrong", error))?;
        let (sender, answer) = oneshot::channel();
        let key =
            self.ask(&text, &message, Ask { reply: Reply::Own(sender), dress: Dress::Plain, logs: false, endless: false })?;
        let _waits = Waits(self, key);
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => {
                let message = scan(&answer).unwrap_or_default();
                Ok((answer, message))
            }
            Ok(Err(_)) => {
                let why = self.ended().map_or_else(|| "the server has ended".to_owned(), |why| why.to_string());
                Err(Error::new(ErrorKind::BackendUnavailable, why))
            }
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("the server did not answer within {} s", limit.as_secs()))),
        }
    }

    /// Sends a notification or an answer.
    pub fn tell(&self, text: &[u8]) -> bool {
        self.child.send(text)
    }

    /// Gives up a request that the server knows by `key`, and tells it so.
    pub fn cancel(&self, key: &[u8], reason: &str) {
        let waiting = self.state().remove(key);
        if let Some(waiting) = waiting {
            self.child.send(&rpc::cancelled(key, reason));
            if let Reply::Stream(stream) = waiting.reply {
                stream.close();
            }
        }
    }

    /// Ends the stream of a request without an answer; the server was told already.
    pub fn forget(&self, key: &[u8]) {
        if let Some(Waiting { reply: Reply::Stream(stream), .. }) = self.state().remove(key) {
            stream.close();
        }
    }

    /// The key of an unanswered request of the client that reads `of`, by the client's id.
    #[must_use]
    pub fn key_of(&self, id: &[u8], is_of: impl Fn(&Stream) -> bool) -> Option<Bytes> {
        self.state().key_of(id, is_of)
    }

    /// The streams of unanswered requests, the latest first.
    #[must_use]
    pub fn streams(&self, only_logging: bool) -> Vec<Arc<Stream>> {
        self.state().streams(only_logging)
    }

    /// Ends the child, and fails what waits for it with this reason.
    pub fn stop(&self, why: &str) {
        self.child.stop(&self.context);
        // The link may be gone before the child is. Its owner is told nothing: this end is wanted.
        let _not_yet = self.fail_all(why);
    }

    /// Gives up requests that have waited for `limit`.
    pub fn expire(&self, limit: Duration) {
        let late = self.state().take_late(limit);
        self.give_up(late, "it took too long", &format!("the server did not answer within {} s", limit.as_secs()));
    }

    /// Gives up the requests of whom this is the mark.
    pub fn give_up_of(&self, mark: usize, why: &str) {
        let all = self.state().take_of(mark);
        self.give_up(all, why, why);
    }

    fn give_up(&self, all: Vec<(Bytes, Waiting)>, reason: &str, says: &str) {
        for (key, waiting) in all {
            self.child.send(&rpc::cancelled(&key, reason));
            waiting.fail(says);
        }
    }

    fn hear(self: &Arc<Self>, line: Line) {
        let metrics = &self.context.metrics;
        let text = match line {
            Line::Text(text) => text,
            Line::TooLong(start) => {
                metrics.lines_refused.add(1);
                let limit = self.context.options.max_message;
                tracing::warn!(child = self.child.id(), limit, "the server wrote a message that is too long; it is thrown away");
                return self.lost(&start, true, &format!("the server's answer is longer than {limit} bytes"));
            }
        };
        match scan(&text) {
            Ok(message) => self.route(text, &message),
            Err(Refused::Batch) => {
                let whole = json::check(&text).and_then(|whole| json::elements(&text, whole)).unwrap_or_default();
                for element in whole {
                    self.hear(Line::Text(text.slice(element.start..element.end)));
                }
            }
            Err(refused) => {
                let mended = salvage::mended(&text).and_then(|mended| Some((scan(&mended).ok()?, mended)));
                if let Some((message, mended)) = mended {
                    return self.route(mended, &message);
                }
                metrics.lines_refused.add(1);
                let start = String::from_utf8_lossy(&text[..text.len().min(200)]);
                tracing::warn!(child = self.child.id(), %refused, "the server wrote a line that is no message: {}", start.escape_debug());
                let is_message = matches!(refused, Refused::Json(fault) if fault.is_depth());
                self.lost(&text, is_message, &format!("the server's answer cannot be passed on: {refused}"));
            }
        }
    }

    fn route(self: &Arc<Self>, text: Bytes, message: &Message) {
        self.context.metrics.messages_out.add(1);
        // Only white space between tokens can be a carriage return here; in an event it would end a line.
        let text = one_line(text);
        match message.kind() {
            Kind::Response => self.answered(text, message),
            Kind::Request => {
                if message.is(&text, "ping") {
                    let id = message.id.map(|id| id.of(&text).to_vec()).unwrap_or_default();
                    self.child.send(&rpc::result(&id, b"{}"));
                } else if let Some(owner) = self.owner.get() {
                    owner.request(self, text, message);
                }
            }
            Kind::Notification => self.notified(text, message),
        }
    }

    fn answered(&self, text: Bytes, message: &Message) {
        let Some(id) = message.id.filter(|id| id.of(&text) != b"null") else {
            // The server could not read a request, and so does not know its id.
            let only = self.state().only_one();
            let unread = &br#"{"code":-32603,"message":"the server could not read the request"}"#[..];
            let error = message.error.filter(|error| text[error.start] == b'{').map_or(unread, |error| error.of(&text));
            return only.map_or((), |key| self.answer_with(rpc::error_of(&key, error)));
        };
        let raw = id.of(&text);
        let waiting = {
            let mut state = self.state();
            let waiting = state.take(raw);
            let is_of_client = waiting.as_ref().is_some_and(|waiting| matches!(waiting.reply, Reply::Stream(_)));
            state.has_answered |= is_of_client && message.result.is_some();
            waiting
        };
        let Some(waiting) = waiting else {
            // The answer to a request that was cancelled, or was never asked.
            return self.context.metrics.answers_unknown.add(1);
        };
        let mut edits = Vec::new();
        if raw != waiting.id {
            edits.push(Edit::replace(id, &waiting.id[..]));
            // Only the end of a subscription names it, and only there a look into the result is worth its time.
            let subscribed = message.result.filter(|_| self.shared && waiting.endless);
            let [meta] = json::find(&text, subscribed, ["_meta"]);
            let [subscription] = json::find(&text, meta, [SUBSCRIPTION]);
            edits.extend(subscription.map(|subscription| Edit::replace(subscription, &waiting.id[..])));
        }
        let [code] = json::find(&text, message.error, ["code"]);
        let code = code.and_then(|code| std::str::from_utf8(code.of(&text)).ok()?.parse().ok());
        waiting.dress.answer(&text, message, &mut edits);
        let text = if edits.is_empty() { Pieces::from(text) } else { apply_in_pieces(&text, &mut edits) };
        match waiting.reply {
            Reply::Stream(stream) => {
                stream.note_error(code.unwrap_or(0));
                stream.finish(text);
            }
            // Nobody waits any more.
            Reply::Own(sender) => drop(sender.send(text.whole())),
        }
    }

    fn notified(self: &Arc<Self>, text: Bytes, message: &Message) {
        if message.is(&text, "notifications/progress") {
            let [token] = message.params(&text, ["progressToken"]);
            let state = self.state();
            let found = token.and_then(|token| {
                let raw = token.of(&text);
                let waiting = if self.shared { state.get(raw) } else { state.of_token(raw) };
                waiting.map(|waiting| (token, waiting))
            });
            if let Some((token, Waiting { reply: Reply::Stream(stream), token: own, .. })) = found {
                let own = own.as_ref().filter(|own| self.shared && &own[..] != token.of(&text));
                let text = own.map_or(text.clone(), |own| apply(&text, &mut [Edit::replace(token, &own[..])]));
                stream.push(text);
            }
            return;
        }
        if self.shared {
            let [subscription] = message.meta(&text, [SUBSCRIPTION]);
            if let Some(at) = subscription {
                let state = self.state();
                if let Some(Waiting { reply: Reply::Stream(stream), id, .. }) = state.get(at.of(&text)) {
                    stream.push(apply(&text, &mut [Edit::replace(at, &id[..])]));
                    return;
                }
            }
            if message.is(&text, "notifications/cancelled") {
                let [request] = message.params(&text, ["requestId"]);
                let waiting = request.and_then(|request| self.state().remove(request.of(&text)));
                if let Some(Waiting { reply: Reply::Stream(stream), .. }) = waiting {
                    stream.close();
                    return;
                }
            }
        }
        if let Some(owner) = self.owner.get() {
            owner.notification(self, text, message);
        }
    }

    /// A line was lost. If it was an answer, whoever waits for it is told. Where a message does not say whose it is and one
    /// request waits, it was its; otherwise nobody can tell.
    fn lost(&self, text: &[u8], is_message: bool, says: &str) {
        let key = match salvage::whose(text) {
            Whose::Request(id) => Some(id),
            Whose::Unknown if is_message => self.state().only_one(),
            Whose::Unknown | Whose::Nobody => None,
        };
        if let Some(key) = key {
            self.answer_with(rpc::error(Some(&key), rpc::INTERNAL_ERROR, says, None));
        }
    }

    /// Answers a request in the server's place, by the id that the server knows.
    fn answer_with(&self, text: Bytes) {
        if let Ok(message) = scan(&text) {
            self.answered(text, &message);
        }
    }

    fn end(self: &Arc<Self>, why: &str) {
        if self.fail_all(why)
            && let Some(owner) = self.owner.get()
        {
            owner.ended(self, why);
        }
    }

    /// Takes no more requests and fails those that wait. False if that was done before.
    fn fail_all(&self, why: &str) -> bool {
        let all = {
            let mut state = self.state();
            if state.ended.is_some() {
                return false;
            }
            state.ended = Some(why.into());
            state.take_all(|_| true)
        };
        for (_, waiting) in all {
            waiting.fail(why);
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop("the server was not needed any more");
    }
}

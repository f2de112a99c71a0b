//! One child and who waits for which answer of it. Leaves out what is to be done with what belongs to no request: that
//! is the link's [`Owner`]. What the child says is in `hear`.
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
use super::scan::{Message, scan};
use super::splice::{Edit, apply};
use super::stream::Stream;
use super::waiting::{State, Waiting};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::rpc;
use crate::rpc::keys::SUBSCRIPTION;

mod hear;

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

    /// How many requests of whom this is the mark wait.
    #[must_use]
    pub fn pending_of(&self, mark: usize) -> usize {
        self.state().count_of(mark)
    }

    /// Whether several clients can use it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
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

//! All sessions of the earlier eras: opening, finding, ending, and children started ahead. Leaves out what is said in one.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Context;
use super::backoff::Backoff;
use super::common::{Common, Era, introduction};
use super::era::backward::Backward;
use super::era::{self, LEGACY};
use super::json;
use super::link::Link;
use super::options::{EraChoice, SessionMode};
use super::own::Own;
use super::owner::Ids;
use super::scan::Message;
use super::session::{Backing, Session};
use super::splice::{Edit, apply};
use super::stream::Stream;
use crate::error::{Error, Kind, Result};
use crate::rpc;

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    context: Arc<Context>,
    common: Arc<Common>,
    ids: Ids,
    open: Mutex<HashMap<String, Arc<Session>>>,
    /// Streams of clients of 2024-11-05, whose sessions open with their first message.
    expected: Mutex<HashMap<String, Arc<Stream>>>,
    /// Sessions that are being opened, so that the limit holds.
    opening: Mutex<usize>,
    spares: Mutex<Spares>,
    /// Of sessions that could not be opened.
    backoff: Mutex<Backoff>,
    /// Whether it is being tried out if a session could be opened again.
    trying: AtomicBool,
    /// Whether the server has refused `initialize` as one of the stateless era alone does. Its children are then of use only
    /// to who speaks to them in the way of that era.
    is_stateless: AtomicBool,
}

/// Children started ahead: more of them while sessions open faster than children start.
#[derive(Debug, Default)]
struct Spares {
    ready: VecDeque<Arc<Link>>,
    /// Of spares that ended before anybody had a use for them.
    backoff: Backoff,
    /// How many beyond the usual number are kept.
    more: usize,
    /// Sweeps since a session last wanted one.
    quiet: u32,
}

/// How many times the usual number of spares is kept at most.
pub(super) const MOST_SPARES: usize = 4;
/// After so many sweeps without a new session one spare beyond the usual number ends.
const QUIET_SWEEPS: u32 = 5;

/// Counts a session that is being opened.
struct Opening<'a>(&'a Sessions);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        *lock(&self.0.opening) -= 1;
    }
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(context: &Arc<Context>, common: &Arc<Common>, ids: Ids) -> Arc<Self> {
        Arc::new(Self {
            context: Arc::clone(context),
            common: Arc::clone(common),
            ids,
            open: Mutex::default(),
            expected: Mutex::default(),
            opening: Mutex::default(),
            spares: Mutex::default(),
            backoff: Mutex::default(),
            trying: AtomicBool::new(false),
            is_stateless: AtomicBool::new(false),
        })
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open().len()
    }

    /// Why the last session could not be opened, unless one could since.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.backoff).failure().map(str::to_owned)
    }

    /// The session with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.open().get(id).cloned()
    }

    /// Opens a session with the client's `initialize` request: the server's answer, and the session unless the server
    /// refused.
    ///
    /// # Errors
    /// `LimitReached`, or why no server can be had.
    pub async fn open_with(
        self: &Arc<Self>,
        text: Bytes,
        message: &Message,
        caller: &str,
    ) -> Result<(Bytes, Option<Arc<Session>>)> {
        self.open_as(self.ids.make(caller), text, message).await
    }

    /// As [`Sessions::open_with`], with an id that was made before.
    ///
    /// # Errors
    /// The same.
    pub async fn open_as(self: &Arc<Self>, id: String, text: Bytes, message: &Message) -> Result<(Bytes, Option<Arc<Session>>)> {
        let _opening = self.begin()?;
        let opened = match self.context.options.session_mode {
            SessionMode::PerSession => self.open_own(id, text, message).await,
            SessionMode::Shared => self.open_shared(id, text, message).await,
        };
        if let Ok((_, Some(session))) = &opened {
            self.context.metrics.sessions_opened.add(1);
            // Its server may have taken long to start; the client's time begins now.
            session.touch();
            self.open().insert(session.id.clone(), Arc::clone(session));
        }
        opened
    }

    /// Announces the stream of a session that is about to open. False if there are too many.
    #[must_use]
    pub fn expect(&self, id: &str, stream: &Arc<Stream>) -> bool {
        let mut expected = lock(&self.expected);
        if expected.len() >= self.context.options.max_sessions {
            return false;
        }
        expected.insert(id.to_owned(), Arc::clone(stream));
        true
    }

    /// The stream that was announced.
    #[must_use]
    pub fn expected(&self, id: &str) -> Option<Arc<Stream>> {
        lock(&self.expected).get(id).cloned()
    }

    /// Forgets the stream that was announced.
    pub fn leave(&self, id: &str) {
        lock(&self.expected).remove(id);
    }

    fn begin(&self) -> Result<Opening<'_>> {
        let displaced = {
            let mut opening = lock(&self.opening);
            let is_full = self.open().len() + *opening >= self.context.options.max_sessions;
            let displaced = if is_full { self.displace() } else { None };
            if is_full && displaced.is_none() {
                self.context.metrics.sessions_refused.add(1);
                let detail = format!("{} sessions are open, which is the limit", self.context.options.max_sessions);
                return Err(Error::new(Kind::LimitReached, detail));
            }
            *opening += 1;
            displaced
        };
        if let Some(session) = displaced {
            self.context.metrics.sessions_displaced.add(1);
            tracing::info!(
                limit = self.context.options.max_sessions,
                "the session that was idle for longest has ended, for a new one to open"
            );
            session.close("the session has ended");
        }
        Ok(Opening(self))
    }

    /// Takes out the session that has been idle for longest, if any has been for long enough: most clients go without a word,
    /// and must not keep others out until the idle limit. None goes for one that will hardly open: where the server fails,
    /// or so many processes are still ending that no other can start.
    fn displace(&self) -> Option<Arc<Session>> {
        let processes = &self.context.processes;
        if self.failure().is_some() || processes.count() >= processes.most() {
            return None;
        }
        let mut open = self.open();
        let spent = open.iter().filter_map(|(id, session)| Some((session.spent()?, id)));
        let (idle, id) = spent.max_by_key(|(idle, _)| *idle)?;
        let id = (idle >= self.context.options.grace).then(|| id.clone())?;
        open.remove(&id)
    }

    async fn open_own(self: &Arc<Self>, id: String, text: Bytes, message: &Message) -> Result<(Bytes, Option<Arc<Session>>)> {
        if self.context.options.era == EraChoice::Modern || self.is_stateless.load(Ordering::Relaxed) {
            return self.open_backward(id, &text, message).await;
        }
        let link = self.take_spare(false)?;
        let client_id = message.id.map(|id| text.slice(id.start..id.end)).unwrap_or_default();
        // Its owner hears from the first line on, so the session exists before the server has answered.
        let session = Session::new(&self.context, id.clone(), Backing::Own(Box::new(Own::new(Arc::clone(&link), text.clone()))));
        let called = link.call(text.clone(), self.context.options.start_timeout).await;
        let (answer, said) = called.inspect_err(|error| {
            session.close("the session could not be opened");
            self.failed(error);
        })?;
        lock(&self.backoff).reset();
        lock(&self.spares).backoff.reset();
        if said.result.is_none() {
            session.close("the session could not be opened");
            // A server of the stateless era alone knows no initialize; the bridge does it for it.
            if matches!(self.common.era().await, Ok(Era::Modern(Some(_)))) {
                let [code] = json::find(&answer, said.error, ["code"]);
                // One that speaks both eras may have refused this client alone.
                if code.is_some_and(|code| matches!(code.of(&answer), b"-32601" | b"-32020" | b"-32021" | b"-32022")) {
                    self.is_stateless.store(true, Ordering::Relaxed);
                }
                return self.open_backward(id, &text, message).await;
            }
            let mut edits: Vec<_> = said.id.map(|id| Edit::replace(id, &client_id[..])).into_iter().collect();
            return Ok((apply(&answer, &mut edits), None));
        }
        let [version] = json::find(&answer, said.result, ["protocolVersion"]);
        let version = version.and_then(|version| json::string(&answer, version)).unwrap_or_default().into_owned();
        let _first = session.version.set(version);
        Ok((answer, Some(session)))
    }

    async fn open_backward(
        self: &Arc<Self>,
        id: String,
        text: &Bytes,
        message: &Message,
    ) -> Result<(Bytes, Option<Arc<Session>>)> {
        let opened = Backward::open(&self.context, &self.common, text, message, || self.take_spare(true)).await;
        let backward = opened.inspect_err(|error| {
            // It has become another one since.
            if error.kind == Kind::NotSupported {
                self.is_stateless.store(false, Ordering::Relaxed);
            }
        })?;
        let (answer, version) = backward.introduction(text, message);
        let session = Session::new(&self.context, id, Backing::Backward(backward));
        let _first = session.version.set(version);
        Ok((answer, Some(session)))
    }

    async fn open_shared(self: &Arc<Self>, id: String, text: Bytes, message: &Message) -> Result<(Bytes, Option<Arc<Session>>)> {
        let ready = self.common.ready().await?;
        let Era::Legacy(result) = &ready.era else { return self.open_backward(id, &text, message).await };
        let [asked] = message.params(&text, ["protocolVersion"]);
        let asked = asked.and_then(|asked| json::string(&text, asked)).unwrap_or_default();
        let whole = json::check(result).ok();
        let [agreed] = json::find(result, whole, ["protocolVersion"]);
        let server = agreed.and_then(|agreed| json::string(result, agreed)).unwrap_or_default();
        let version = older(&asked, &server).to_owned();
        let mut edits: Vec<_> = agreed.map(|agreed| Edit::replace(agreed, rpc::quoted(&version))).into_iter().collect();
        let client_id = message.id.map(|id| id.of(&text)).unwrap_or_default();
        let answer = rpc::result(client_id, &apply(result, &mut edits));
        let session = Session::new(&self.context, id, Backing::Shared(Arc::clone(&self.common)));
        let _first = session.version.set(version);
        Ok((answer, Some(session)))
    }

    /// Ends a session. False if there is none.
    pub fn close(&self, id: &str) -> bool {
        let session = self.open().remove(id);
        session.inspect(|session| session.close("the session has ended")).is_some()
    }

    /// Ends all sessions and spares.
    pub fn close_all(&self) {
        let all: Vec<_> = self.open().drain().collect();
        for (_, session) in all {
            session.close("the bridge ends");
        }
        for spare in lock(&self.spares).ready.drain(..) {
            spare.stop("the bridge ends");
        }
        for (_, stream) in lock(&self.expected).drain() {
            stream.close();
        }
    }

    /// Ends sessions on which nothing happens, and forgets what the others need not keep.
    pub fn sweep(self: &Arc<Self>) {
        let limit = self.context.options.idle_timeout;
        let idle = |session: &Arc<Session>| session.idle().is_some_and(|idle| idle >= limit);
        let ended: Vec<_> = self.open().extract_if(|_, session| idle(session)).collect();
        for (_, session) in ended {
            self.context.metrics.sessions_expired.add(1);
            session.close("the session has ended");
        }
        for session in self.open().values() {
            session.forget_streams();
        }
        self.shrink_spares();
        self.fill_spares();
        self.try_out();
    }

    fn shrink_spares(&self) {
        let usual = self.context.options.spare;
        let mut spares = lock(&self.spares);
        spares.quiet += 1;
        if spares.more > 0 && spares.quiet >= QUIET_SWEEPS {
            spares.more -= 1;
            spares.quiet = 0;
            if spares.ready.len() > usual + spares.more
                && let Some(link) = spares.ready.pop_back()
            {
                link.stop("the server was not needed any more");
            }
        }
    }

    /// A child that was started ahead, or a new one; `shared` as for [`Link::start`].
    fn take_spare(self: &Arc<Self>, shared: bool) -> Result<Arc<Link>> {
        let usual = self.context.options.spare;
        let spare = {
            let mut spares = lock(&self.spares);
            spares.ready.retain(|link| link.ended().is_none() && link.is_shared() == shared);
            spares.quiet = 0;
            let spare = spares.ready.pop_front();
            if spare.is_none() {
                spares.more = (spares.more + 1).min(usual * (MOST_SPARES - 1));
            }
            spare
        };
        let link = if let Some(link) = spare {
            link
        } else {
            lock(&self.backoff).check()?;
            Link::start(&self.context, shared).inspect_err(|error| self.failed(error))?
        };
        // In a task of its own, so that this session's first request is on its way before the next child starts.
        let this = Arc::clone(self);
        self.context.tasks.spawn("spare", async move { this.fill_spares() });
        Ok(link)
    }

    /// Starts children ahead, as many as are missing.
    pub fn fill_spares(&self) {
        let options = &self.context.options;
        let stopping = self.context.tasks.stopping().is_cancelled();
        if options.session_mode == SessionMode::Shared || options.era == EraChoice::Modern || stopping {
            return;
        }
        let mut spares = lock(&self.spares);
        let ended = spares.ready.iter().find_map(|link| Some((link.ended()?, link.has_worked())));
        if let Some((why, had_worked)) = ended {
            spares.ready.retain(|link| link.ended().is_none());
            spares.backoff.ended(&why, had_worked);
        }
        let shared = self.is_stateless.load(Ordering::Relaxed);
        spares.ready.retain(|link| link.is_shared() == shared);
        let wanted = (options.spare + spares.more).min(options.max_sessions.saturating_sub(self.open().len()));
        while spares.ready.len() < wanted && spares.backoff.check().is_ok() && self.failure().is_none() {
            match Link::start(&self.context, shared) {
                Ok(link) => spares.ready.push_back(link),
                Err(error) => spares.backoff.failed(&error.to_string()),
            }
        }
    }

    fn failed(&self, error: &Error) {
        // That there are many servers says nothing of the next one.
        if error.kind != Kind::LimitReached {
            lock(&self.backoff).failed(&error.to_string());
        }
    }

    /// After a session could not be opened it is tried out when one can, so that the bridge is not said to be broken for
    /// good where nobody asks it any more for that very reason.
    fn try_out(self: &Arc<Self>) {
        let due = {
            let backoff = lock(&self.backoff);
            backoff.failure().is_some() && backoff.wait().is_zero()
        };
        if !due || self.trying.swap(true, Ordering::Relaxed) {
            return;
        }
        let this = Arc::clone(self);
        self.context.tasks.spawn("try of a server", async move {
            let tried = async {
                let link = Link::start(&this.context, false)?;
                // Any answer will do: a server of the stateless era alone refuses.
                let answered = link.call(introduction(), this.context.options.start_timeout).await;
                link.stop("the server was only tried out");
                answered
            };
            match tried.await {
                Ok(_) => lock(&this.backoff).reset(),
                Err(error) => this.failed(&error),
            }
            this.trying.store(false, Ordering::Relaxed);
        });
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        lock(&self.open)
    }
}

/// The older one of two revisions; the server's, if the client's is not known.
fn older<'a>(client: &'a str, server: &'a str) -> &'a str {
    if era::is_legacy(client) && (client < server || !era::is_legacy(server)) {
        client
    } else if server.is_empty() {
        LEGACY[0]
    } else {
        server
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! One client's session of the earlier eras: its own session with each service that it uses, what services ask it, and
//! what is to be told to it outside of answers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::changes::Version;
use super::listening::FIRST_PAUSE;
use super::look::{Line, Unknown};
use super::raw::{Message, Object, PROGRESS_TOKEN, Raw};
use super::upstream::{Unanswered, Upstream};
use crate::domain::aggregate::{Scope, shown_uri};
use crate::domain::name::ServiceName;
use crate::lifecycle::Tasks;
use crate::rpc::{self, pauses::Pauses};

/// Longest time until a service has opened a session; some start a program for each.
pub(super) const OPEN_LIMIT: Duration = Duration::from_mins(1);

/// So many messages wait for a client that listens to no stream; then the oldest goes.
const MAX_WAITING: usize = 256;
/// So many questions of services may be unanswered at once; then the oldest is forgotten.
const MAX_ASKED: usize = 256;
/// So many subscriptions are said again at once.
const SAID_AT_ONCE: usize = 8;

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) scope: Scope,
    pub(super) actor: String,
    /// The parameters of `initialize`, which each service gets as they came.
    pub(super) introduction: Object,
    pub(super) ended: CancellationToken,
    state: Mutex<State>,
    /// Opening a line takes a while and happens once for each service; no service waits for another.
    opening: Mutex<HashMap<ServiceName, Arc<tokio::sync::Mutex<()>>>>,
    waiting: Notify,
    counter: AtomicU64,
    /// Requests and streams that are open.
    pub(super) open: AtomicUsize,
}

#[derive(Debug)]
struct State {
    lines: HashMap<ServiceName, Line>,
    /// Each ends listening to its service.
    heard: HashMap<ServiceName, DropGuard>,
    /// What services asked, by the number in the id that the client knows.
    asked: BTreeMap<u64, Asked>,
    /// Which service has the request with this id, and whether the client has called it off.
    pending: HashMap<String, (ServiceName, CancellationToken)>,
    /// Resources that are watched.
    watched: HashMap<(ServiceName, String), Watched>,
    outbox: VecDeque<Bytes>,
    log_level: Option<Raw>,
    used: Instant,
    /// Changes up to here have been told.
    seen: Version,
    /// Whoever listens last gets the messages.
    listener: CancellationToken,
}

/// A resource that the client wants to hear of.
#[derive(Debug)]
struct Watched {
    /// The URI that the client knows.
    known: String,
    /// The service has agreed.
    is_agreed: bool,
}

/// A question of a service.
#[derive(Debug)]
struct Asked {
    service: ServiceName,
    /// As the service knows it.
    id: Raw,
    /// By which the service wants news of it.
    token: Option<Raw>,
}

impl Asked {
    /// The id, and the token, that the client knows.
    fn known(&self, number: u64) -> String {
        format!("{}:{number}", self.service)
    }
}

impl State {
    /// The question that the client knows by this id or token.
    fn number(&self, known: &RawValue) -> Option<u64> {
        let known: String = serde_json::from_str(known.get()).ok()?;
        let number = known.rsplit_once(':')?.1.parse().ok()?;
        (self.asked.get(&number)?.known(number) == known).then_some(number)
    }
}

impl Session {
    pub(super) fn new(scope: Scope, actor: String, introduction: Object, seen: Version) -> Self {
        let id = crate::random::id();
        let state = State {
            lines: HashMap::new(),
            heard: HashMap::new(),
            asked: BTreeMap::new(),
            pending: HashMap::new(),
            watched: HashMap::new(),
            outbox: VecDeque::new(),
            log_level: None,
            used: Instant::now(),
            seen,
            listener: CancellationToken::new(),
        };
        Self {
            id,
            scope,
            actor,
            introduction,
            ended: CancellationToken::new(),
            state: Mutex::new(state),
            opening: Mutex::default(),
            waiting: Notify::new(),
            counter: AtomicU64::new(0),
            open: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the client is there.
    pub(super) fn touch(&self) {
        self.state().used = Instant::now();
    }

    /// Since when nobody has used it; `None` while something is open.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.open.load(Ordering::Relaxed) == 0).then(|| self.state().used)
    }

    /// This session's own line to a service.
    pub(super) async fn line(
        self: &Arc<Self>,
        upstream: &Upstream,
        service: &ServiceName,
        tasks: &Tasks,
    ) -> Result<Line, Unanswered> {
        self.line_after(Pauses::beginning_with(FIRST_PAUSE), upstream, service, tasks).await
    }

    /// The same, after attempts to listen to the service that have failed.
    pub(super) async fn line_after(
        self: &Arc<Self>,
        pauses: Pauses,
        upstream: &Upstream,
        service: &ServiceName,
        tasks: &Tasks,
    ) -> Result<Line, Unanswered> {
        let opening = {
            let mut all = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(service.clone()).or_default())
        };
        let _one_at_a_time = opening.lock().await;
        if let Some(line) = self.state().lines.get(service) {
            return Ok(line.clone());
        }
        let mut line = Line { limit: OPEN_LIMIT, ..Line::new(upstream, service) };
        match line.initialize(&self.introduction).await {
            Ok(_) => {}
            // A service of the era without sessions alone: it is told who asks with each request.
            Err(Unknown::NoSessions(_)) => line = Line::new(upstream, service),
            Err(unknown) => return Err(unknown.into()),
        }
        self.state().lines.insert(service.clone(), line.clone());
        if self.ended.is_cancelled() {
            // Whoever ended it may not have seen this line.
            line.close().await;
            return Err(Unanswered::NotTaken("the session has ended".to_owned()));
        }
        if line.session.is_some() {
            let until = self.ended.child_token();
            self.state().heard.insert(service.clone(), until.clone().drop_guard());
            let hear = Arc::clone(self).hear(line.clone(), until, tasks.clone(), pauses);
            tasks.spawn("mcp: listen for a session", hear);
        }
        if !line.stateless {
            self.say_again(&line).await;
        }
        Ok(line)
    }

    /// Says to a service that the client has a new session with what it has said to all, and in the former session.
    async fn say_again(&self, line: &Line) {
        let level = self.state().log_level.clone();
        if let Some(level) = level {
            line.say(set_level(&level)).await;
        }
        let said = stream::iter(self.watched(&line.service)).for_each_concurrent(SAID_AT_ONCE, |uri| async move {
            let mut params = Object::default();
            params.put("uri", &uri);
            let refused = match line.ask("resources/subscribe", params).await {
                Ok(answer) => answer.whole.object("error").and_then(|error| error.text("message")),
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = refused {
                tracing::debug!(service = line.service.as_str(), uri, why, "a service does not take a subscription again");
            }
        });
        // The call that this session is opened for waits.
        let _ = tokio::time::timeout(OPEN_LIMIT, said).await;
    }

    /// The service's own URIs of the resources that the client waits for news of.
    pub(super) fn watched(&self, service: &ServiceName) -> Vec<String> {
        let state = self.state();
        let agreed = state.watched.iter().filter(|((of, _), watched)| of == service && watched.is_agreed);
        agreed.map(|((_, uri), _)| uri.clone()).collect()
    }

    /// Forgets a line that the service does not know any more, unless there is another in its place. Nobody waits for the
    /// answers to what was asked over it.
    pub(super) fn forget(&self, line: &Line) {
        let mut state = self.state();
        if state.lines.get(&line.service).is_some_and(|own| own.is(line)) {
            state.lines.remove(&line.service);
            state.heard.remove(&line.service);
            state.asked.retain(|_, asked| asked.service != line.service);
        }
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        self.state().lines.values().cloned().collect()
    }

    /// Passes on what a service says outside of answers. Of changed lists every client is told by the manager, which knows
    /// them all.
    pub(super) fn hears(&self, service: &ServiceName, message: Message, text: Bytes) {
        let of_lists = message.method.as_deref().is_some_and(|method| method.ends_with("/list_changed"));
        if let (false, Some(text)) = (of_lists, self.told(service, message, text)) {
            self.tell(text);
        }
    }

    /// A service's message as the client gets it: questions under an id that leads back, resources under the URI that
    /// the client knows, everything else as it came.
    pub(super) fn told(&self, service: &ServiceName, mut message: Message, text: Bytes) -> Option<Bytes> {
        let method = message.method.clone()?;
        if let Some(id) = message.id.take() {
            let mut params = message.params();
            let mut meta = params.object("_meta").unwrap_or_default();
            let token = meta.get(PROGRESS_TOKEN).map(ToOwned::to_owned);
            let number = self.counter.fetch_add(1, Ordering::Relaxed);
            let asked = Asked { service: service.clone(), id, token };
            let known = asked.known(number);
            if asked.token.is_some() {
                meta.put(PROGRESS_TOKEN, &known);
                params.put("_meta", &meta);
                message.set_params(&params);
            }
            let mut state = self.state();
            if state.asked.len() >= MAX_ASKED {
                state.asked.pop_first();
            }
            state.asked.insert(number, asked);
            message.whole.put("id", &known);
            return Some(message.whole.to_text().into());
        }
        if method == "notifications/cancelled" {
            // It has no need of an answer any more.
            let mut params = message.params();
            let id = params.get("requestId")?.get().to_owned();
            let mut state = self.state();
            let (&number, _) = state.asked.iter().find(|(_, asked)| asked.service == *service && asked.id.get() == id)?;
            params.put("requestId", &state.asked.remove(&number)?.known(number));
            message.set_params(&params);
            return Some(message.whole.to_text().into());
        }
        if method == "notifications/resources/updated" {
            let mut params = message.params();
            let uri = params.text("uri")?;
            let known = self.state().watched.get(&(service.clone(), uri.clone())).map(|watched| watched.known.clone());
            params.put("uri", &known.unwrap_or_else(|| shown_uri(service.as_str(), &uri)));
            message.set_params(&params);
            return Some(message.whole.to_text().into());
        }
        Some(text)
    }

    /// Whose question the client has answered, and under which id it was asked.
    pub(super) fn answered(&self, id: &RawValue) -> Option<(Line, Raw)> {
        let mut state = self.state();
        let number = state.number(id)?;
        let asked = state.asked.remove(&number)?;
        Some((state.lines.get(&asked.service)?.clone(), asked.id))
    }

    /// Whose question the client has news of, and by which token the service wants them.
    pub(super) fn news_of(&self, token: &RawValue) -> Option<(Line, Raw)> {
        let state = self.state();
        let asked = state.asked.get(&state.number(token)?)?;
        Some((state.lines.get(&asked.service)?.clone(), asked.token.clone()?))
    }

    /// Notes under which URI the client knows a resource that it subscribes to; `None` if these are too many.
    pub(super) fn watch(self: &Arc<Self>, service: &ServiceName, uri: &str, known: &str) -> Option<Watch> {
        let mut state = self.state();
        let key = (service.clone(), uri.to_owned());
        let held = state.watched.values().map(|watched| watched.known.len());
        let (has_room, before) = (rpc::has_room_for_subscription(held, known.len()), state.watched.get(&key));
        if !has_room && before.is_none() {
            return None;
        }
        let is_agreed = before.is_some_and(|before| before.is_agreed);
        state.watched.insert(key.clone(), Watched { known: known.to_owned(), is_agreed });
        Some(Watch { session: Arc::clone(self), key })
    }

    /// Forgets a resource that the client has unsubscribed from.
    pub(super) fn unwatch(&self, service: &ServiceName, uri: &str) {
        self.state().watched.remove(&(service.clone(), uri.to_owned()));
    }

    pub(super) fn set_log_level(&self, level: Raw) -> Bytes {
        let text = set_level(&level);
        self.state().log_level = Some(level);
        text
    }

    /// Notes that a service works on a request, until the guard is dropped.
    pub(super) fn pending(self: &Arc<Self>, id: &Raw, service: &ServiceName) -> Pending {
        self.open.fetch_add(1, Ordering::Relaxed);
        let cancelled = CancellationToken::new();
        self.state().pending.insert(id.get().to_owned(), (service.clone(), cancelled.clone()));
        Pending { session: Arc::clone(self), id: id.get().to_owned(), cancelled }
    }

    /// Notes that the client calls off the request with this id; the line to the service that works on it.
    pub(super) fn call_off(&self, id: &Raw) -> Option<Line> {
        let state = self.state();
        let (service, cancelled) = state.pending.get(id.get())?;
        cancelled.cancel();
        state.lines.get(service).cloned()
    }

    fn tell(&self, text: Bytes) {
        let mut state = self.state();
        if state.outbox.len() >= MAX_WAITING {
            state.outbox.pop_front();
        }
        state.outbox.push_back(text);
        drop(state);
        self.waiting.notify_one();
    }

    /// Makes the caller the one who gets the messages; cancelled when somebody else becomes that.
    pub(super) fn become_listener(&self) -> CancellationToken {
        let mine = self.ended.child_token();
        std::mem::replace(&mut self.state().listener, mine.clone()).cancel();
        mine
    }

    /// The next message for the listener.
    pub(super) async fn next_message(&self) -> Bytes {
        loop {
            if let Some(text) = self.state().outbox.pop_front() {
                return text;
            }
            self.waiting.notified().await;
        }
    }

    /// Which lists have changed since the client was last told.
    pub(super) fn changes(&self, now: Version) -> Vec<&'static str> {
        let before = std::mem::replace(&mut self.state().seen, now);
        now.since(before).collect()
    }
}

fn set_level(level: &Raw) -> Bytes {
    let mut params = Object::default();
    params.set("level", level.clone());
    super::raw::request("logging/setLevel", &params)
}

/// A subscription, which is forgotten with this unless the service agrees.
#[derive(Debug)]
pub(super) struct Watch {
    session: Arc<Session>,
    key: (ServiceName, String),
}

impl Watch {
    /// Notes that the service agrees.
    pub(super) fn agree(&self) {
        if let Some(watched) = self.session.state().watched.get_mut(&self.key) {
            watched.is_agreed = true;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.session.state();
        if state.watched.get(&self.key).is_some_and(|watched| !watched.is_agreed) {
            state.watched.remove(&self.key);
        }
    }
}

/// See [`Session::pending`].
#[derive(Debug)]
pub(super) struct Pending {
    session: Arc<Session>,
    id: String,
    /// The client has called it off.
    pub(super) cancelled: CancellationToken,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.session.open.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.session.state();
        state.pending.remove(&self.id);
        state.used = Instant::now();
    }
}

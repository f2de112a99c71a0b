//! The one server that several clients share: it finds out the server's era, keeps the server running, and says whether
//! the bridge is healthy. Leaves out what clients say to it (see [`super::stateless`] and [`super::session`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Context;
use super::ask::Owner;
use super::backoff::Backoff;
use super::era::headers::ToolHeaders;
use super::era::{self, MODERN};
use super::json;
use super::link::Link;
use super::listeners::Listeners;
use super::options::{EraChoice, SessionMode};
use super::repeat::repeat;
use super::scan::Message;
use crate::error::{Error, Kind, Result};
use crate::rpc::{self, keys};

/// A common server of an earlier era that nobody uses ends after this time where sessions have servers of their own.
const UNUSED: Duration = Duration::from_secs(15);

/// What is known of the server.
#[derive(Debug, Clone)]
pub enum Era {
    /// It speaks revision 2026-07-28; the result of `server/discover`, JSON, or nothing if it gave none.
    Modern(Option<Bytes>),
    /// It wants `initialize`; the result of that, JSON.
    Legacy(Bytes),
}

/// A running server that was asked its era.
#[derive(Debug)]
pub struct Ready {
    /// The server.
    pub link: Arc<Link>,
    /// Its era.
    pub era: Era,
    /// Headers that repeat arguments of its tools.
    pub tool_headers: ToolHeaders,
}

impl Ready {
    fn new(link: Arc<Link>, era: Era) -> Self {
        Self { link, era, tool_headers: ToolHeaders::default() }
    }
}

#[derive(Debug, Default)]
struct State {
    ready: Option<Arc<Ready>>,
    known: Option<Era>,
    backoff: Backoff,
    used: Option<Instant>,
}

/// The server that clients share.
#[derive(Debug)]
pub struct Common {
    context: Arc<Context>,
    state: Mutex<State>,
    /// Held while a server is started, so that all who need one wait for the same.
    starting: tokio::sync::Mutex<()>,
    /// Who hears what belongs to no request.
    pub listeners: Listeners,
    /// The log level that a client has set last, JSON.
    pub level: Mutex<Option<Bytes>>,
}

impl Common {
    /// Nothing is started yet.
    #[must_use]
    pub fn new(context: &Arc<Context>) -> Arc<Self> {
        Arc::new(Self {
            context: Arc::clone(context),
            state: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
            listeners: Listeners::default(),
            level: Mutex::default(),
        })
    }

    /// The running server; it is started if it does not run.
    ///
    /// # Errors
    /// Why it does not start, at once while it is too soon to try again.
    pub async fn ready(self: &Arc<Self>) -> Result<Arc<Ready>> {
        if let Some(ready) = self.running() {
            return Ok(ready);
        }
        let _one = self.starting.lock().await;
        if let Some(ready) = self.running() {
            return Ok(ready);
        }
        self.state().backoff.check()?;
        let known = self.state().known.clone();
        let started = start(&self.context, known.as_ref(), |link| link.own(Voice(Arc::downgrade(self)))).await;
        let mut state = self.state();
        match started {
            Ok(ready) => {
                let ready = Arc::new(ready);
                state.backoff.started();
                state.known = Some(ready.era.clone());
                state.ready = Some(Arc::clone(&ready));
                state.used = Some(Instant::now());
                self.repeat(&ready);
                Ok(ready)
            }
            Err(error) => {
                self.context.metrics.children_failed.add(1);
                state.backoff.failed(&error.to_string());
                Err(error)
            }
        }
    }

    /// Tells a server in the place of another one what that one was told.
    fn repeat(self: &Arc<Self>, ready: &Arc<Ready>) {
        let (level, uris) = (self.level.lock().unwrap_or_else(PoisonError::into_inner).clone(), self.listeners.wanted_uris());
        let is_due = matches!(ready.era, Era::Legacy(_)) && (level.is_some() || !uris.is_empty());
        if is_due {
            let (this, ready) = (Arc::clone(self), Arc::clone(ready));
            self.context.tasks.spawn("subscribe again", async move {
                let uris = uris.into_iter().filter(|uri| this.listeners.any_wants(uri));
                repeat(&ready.link, level, uris, this.context.options.start_timeout).await;
            });
        }
    }

    /// The server's era, found out if it is not known yet.
    pub async fn era(self: &Arc<Self>) -> Result<Era> {
        let known = self.state().known.clone();
        match known {
            Some(era) => Ok(era),
            None => Ok(self.ready().await?.era.clone()),
        }
    }

    /// Whether the server works: nothing, or why not.
    ///
    /// # Errors
    /// The reason.
    pub fn health(&self) -> std::result::Result<(), String> {
        let state = self.state();
        match (state.backoff.failure(), &state.known) {
            (Some(why), _) => Err(why.to_owned()),
            (None, None) => Err("the server has not answered yet".to_owned()),
            (None, Some(_)) => Ok(()),
        }
    }

    /// Ends a server that nobody needs.
    pub fn sweep(&self) {
        let mut state = self.state();
        let Some(ready) = state.ready.clone() else { return };
        let limit = match ready.era {
            Era::Legacy(_) if self.context.options.session_mode == SessionMode::PerSession => UNUSED,
            _ => self.context.options.idle_timeout,
        };
        let needed = self.context.options.session_mode == SessionMode::Shared || !self.listeners.is_empty();
        if ready.link.pending() > 0 || needed {
            state.used = Some(Instant::now());
        } else if state.used.is_some_and(|used| used.elapsed() >= limit) {
            state.ready = None;
            ready.link.stop("the server was not used any more");
        }
    }

    /// Ends the server for good.
    pub fn close(&self) {
        let ready = self.state().ready.take();
        if let Some(ready) = ready {
            ready.link.stop("the bridge ends");
        }
    }

    /// The running server, if one runs.
    pub fn running(&self) -> Option<Arc<Ready>> {
        let mut state = self.state();
        let ready = state.ready.clone().filter(|ready| ready.link.ended().is_none() && !ready.link.child().is_ending())?;
        state.used = Some(Instant::now());
        Some(ready)
    }

    /// The server ended by itself: it is started again, later and later if it goes on so.
    fn restart(self: &Arc<Self>, link: &Link, why: &str) {
        if self.context.tasks.stopping().is_cancelled() {
            return;
        }
        self.context.metrics.children_failed.add(1);
        tracing::warn!(why, "the common server has ended and is started again");
        {
            let mut state = self.state();
            state.ready = None;
            state.backoff.ended(why, link.has_worked());
        }
        self.start_again();
    }

    /// Starts the server in the background, as soon as it may be after the last failure, and later and later until it runs:
    /// where nobody is led to a server that does not work, no request will start it.
    pub fn start_again(self: &Arc<Self>) {
        let (this, stopping) = (Arc::clone(self), self.context.tasks.stopping());
        self.context.tasks.spawn("restart", async move {
            let mut wait = this.state().backoff.wait();
            while tokio::time::timeout(wait, stopping.cancelled()).await.is_err() {
                let Err(error) = this.ready().await else { return };
                tracing::warn!(%error, "the server does not start");
                wait = this.state().backoff.wait().max(Duration::from_millis(50));
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears for the common server.
struct Voice(Weak<Common>);

impl Owner for Voice {
    fn request(&self, link: &Arc<Link>, text: Bytes, message: &Message) {
        refuse_request(link, &text, message);
    }

    fn notification(&self, link: &Arc<Link>, text: Bytes, message: &Message) {
        let Some(common) = self.0.upgrade() else { return };
        if message.is(&text, "notifications/tools/list_changed")
            && let Some(ready) = &common.state().ready
        {
            ready.tool_headers.forget();
        }
        if message.is(&text, "notifications/message") {
            // Nothing says which request a log message belongs to; it goes to the only one that may have caused it.
            let streams = link.streams(true);
            if let [only] = streams.as_slice() {
                only.push(text);
            } else {
                common.context.metrics.messages_dropped.add(1);
            }
        } else if common.listeners.tell(&text, message) == 0 {
            common.context.metrics.messages_dropped.add(1);
        }
    }

    fn ended(&self, link: &Arc<Link>, why: &str) {
        let Some(common) = self.0.upgrade() else { return };
        let is_present = common.state().ready.as_ref().is_some_and(|ready| Arc::ptr_eq(&ready.link, link));
        if is_present {
            common.restart(link, why);
        }
    }
}

/// Answers a request of a server that has no client of its own: it was told of no client capability.
pub fn refuse_request(link: &Link, text: &Bytes, message: &Message) {
    let id = message.id.map(|id| id.of(text));
    let method = message.method(text);
    link.tell(&rpc::error(id, rpc::METHOD_NOT_FOUND, &format!("the clients of this server do not offer {method}"), None));
}

/// Starts a server for several clients and finds out its era.
async fn start(context: &Arc<Context>, known: Option<&Era>, own: impl Fn(&Link)) -> Result<Ready> {
    let start = || {
        let link = Link::start(context, true)?;
        own(&link);
        Ok::<_, Error>(link)
    };
    let mut link = start()?;
    if context.options.era != EraChoice::Legacy && !matches!(known, Some(Era::Legacy(_))) {
        match find_out(context, &link).await {
            Ok(era) => return Ok(Ready::new(link, era)),
            // A server that ends at a request it does not know gets another chance without the question.
            Err(error) if error.kind == Kind::BackendUnavailable => link = start()?,
            Err(error) => return Err(error),
        }
    }
    let result = initialize(&link, era::LEGACY[0], b"{}", context.options.start_timeout).await?;
    Ok(Ready::new(link, Era::Legacy(result)))
}

/// Asks a server its era. One that is silent for a while is initialised as well: either it passes over what it does not
/// know, or it only starts slowly, and then it answers both, and refuses `initialize` if it knows the stateless era alone.
async fn find_out(context: &Arc<Context>, link: &Arc<Link>) -> Result<Era> {
    let (choice, limit) = (context.options.era, context.options.start_timeout);
    let patience = if choice == EraChoice::Modern { limit } else { context.options.silence };
    let mut discovery = std::pin::pin!(link.call(rpc::request(b"0", "server/discover", &modern_params()), limit));
    // Begun when it is waited for.
    let mut initialized = std::pin::pin!(async { initialize(link, era::LEGACY[0], b"{}", limit).await.map(Era::Legacy) });
    let heard = tokio::time::timeout(patience, &mut discovery).await;
    let said = match heard {
        Ok(Err(error)) if error.kind != Kind::Timeout => return Err(error),
        _ if choice == EraChoice::Modern => {
            return Ok(heard.ok().and_then(Result::ok).and_then(modern).unwrap_or(Era::Modern(None)));
        }
        Ok(said) => said,
        Err(_) => tokio::select! {
            biased;
            said = &mut discovery => said,
            era = &mut initialized => return match era {
                Err(refused) if refused.kind == Kind::StartFailed => discovery.await.ok().and_then(modern).ok_or(refused),
                era => era,
            },
        },
    };
    match said.ok().and_then(modern) {
        Some(era) => Ok(era),
        None => initialized.await,
    }
}

/// The era of a server that answers `server/discover` so, if it is the stateless one.
fn modern((answer, message): (Bytes, Message)) -> Option<Era> {
    let [versions] = json::find(&answer, message.result, ["supportedVersions"]);
    if let Some(result) = message.result.filter(|_| versions.is_some()) {
        return Some(Era::Modern(Some(answer.slice(result.start..result.end))));
    }
    let [code] = json::find(&answer, message.error, ["code"]);
    code.is_some_and(|code| matches!(code.of(&answer), b"-32020" | b"-32021" | b"-32022")).then_some(Era::Modern(None))
}

/// Initialises a server of an earlier era for the bridge; the result, JSON.
///
/// # Errors
/// `StartFailed` with the server's words; as [`Link::call`].
pub async fn initialize(link: &Arc<Link>, version: &str, capabilities: &[u8], limit: Duration) -> Result<Bytes> {
    let (answer, message) = link.call(introduce(version, capabilities), limit).await?;
    let Some(result) = message.result else {
        let [says] = json::find(&answer, message.error, ["message"]);
        let says = says.and_then(|says| json::string(&answer, says)).unwrap_or_default();
        return Err(Error::new(Kind::StartFailed, format!("the server refuses to be initialised: {says}")));
    };
    link.tell(&rpc::notification("notifications/initialized", Some(b"{}")));
    Ok(answer.slice(result.start..result.end))
}

fn introduce(version: &str, capabilities: &[u8]) -> Bytes {
    let params = [
        b"{\"protocolVersion\":\"",
        version.as_bytes(),
        b"\",\"capabilities\":",
        capabilities,
        b",\"clientInfo\":",
        client_info().as_bytes(),
        b"}",
    ]
    .concat();
    rpc::request(b"0", "initialize", &params)
}

/// A request `initialize` of the bridge itself.
#[must_use]
pub fn introduction() -> Bytes {
    introduce(era::LEGACY[0], b"{}")
}

/// What the bridge says of itself.
#[must_use]
pub fn client_info() -> String {
    format!("{{\"name\":\"mcp-bridge\",\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION"))
}

/// Parameters of a request of the stateless era that the bridge makes for itself.
#[must_use]
pub fn modern_params() -> Vec<u8> {
    let meta = format!(
        "{{\"_meta\":{{\"{}\":\"{MODERN}\",\"{}\":{},\"{}\":{{}}}}}}",
        keys::VERSION,
        keys::CLIENT,
        client_info(),
        keys::CAPABILITIES
    );
    meta.into_bytes()
}

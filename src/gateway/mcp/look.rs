//! Finding out what one service offers: its eras, its capabilities, its lists.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::meta;
use super::raw::{Message, Object, Raw, request};
use super::upstream::{self, Answers, Unanswered, Upstream};
use crate::domain::aggregate::is_of_template;
use crate::domain::name::ServiceName;
use crate::lifecycle::Tasks;
use crate::rpc;
use crate::rpc::headers::encoded;

/// The revision without sessions.
pub(super) const STATELESS: &str = "2026-07-28";
/// The revisions with sessions, the latest first.
pub(super) const SESSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Longest wait for an answer to what the manager asks on its own.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Longest wait for a page of a list. Nobody waits for it but those who list a service that has just appeared.
const LIST_LIMIT: Duration = Duration::from_secs(30);

/// A service whose lists have more pages is not read on.
const MAX_PAGES: usize = 100;

/// One thing that a service offers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    /// What the service calls it.
    pub(super) name: String,
    /// Its URI, or URI template, if it is a resource.
    pub(super) uri: Option<String>,
    pub(super) whole: Object,
}

/// What a service offers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Offer {
    pub(super) capabilities: Object,
    pub(super) instructions: Option<String>,
    pub(super) lists: Lists,
}

/// Its lists, in its own order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Lists {
    pub(super) tools: Vec<Item>,
    pub(super) prompts: Vec<Item>,
    pub(super) resources: Vec<Item>,
    pub(super) templates: Vec<Item>,
}

/// One of the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListOf {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl ListOf {
    const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// The capability of who has it.
    const fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }

    /// The one that this method asks for.
    pub(super) fn of_method(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.method() == method)
    }

    const fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    /// The member of the answer that holds it.
    pub(super) const fn member(self) -> &'static str {
        match self {
            Self::Templates => "resourceTemplates",
            other => other.capability(),
        }
    }
}

impl Lists {
    /// Those that who has these capabilities has.
    pub(super) fn only_of(&self, capabilities: &Object) -> Self {
        let mut lists = Self::default();
        for list in ListOf::ALL.into_iter().filter(|list| capabilities.has(list.capability())) {
            lists.put(list, self.of(list).clone());
        }
        lists
    }

    pub(super) const fn of(&self, list: ListOf) -> &Vec<Item> {
        match list {
            ListOf::Tools => &self.tools,
            ListOf::Prompts => &self.prompts,
            ListOf::Resources => &self.resources,
            ListOf::Templates => &self.templates,
        }
    }

    /// Puts one list in the place of what was known of it.
    pub(super) fn put(&mut self, list: ListOf, items: Vec<Item>) {
        *match list {
            ListOf::Tools => &mut self.tools,
            ListOf::Prompts => &mut self.prompts,
            ListOf::Resources => &mut self.resources,
            ListOf::Templates => &mut self.templates,
        } = items;
    }

    /// The resource of this URI.
    pub(super) fn resource(&self, uri: &str) -> Option<&Item> {
        self.resources.iter().find(|item| item.uri.as_deref() == Some(uri))
    }

    /// The first template that this URI may be of, or is.
    pub(super) fn template_of(&self, uri: &str) -> Option<&Item> {
        self.templates.iter().find(|item| item.uri.as_deref().is_some_and(|template| is_of_template(template, uri)))
    }
}

/// Why nothing is known of what a service offers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    /// It does not know `initialize`, as one that speaks the era without sessions alone.
    #[error("{0}")]
    NoSessions(String),
    /// It does not speak MCP, or not with such a client, and asking again is of no use.
    #[error("{0}")]
    NotMcp(Unanswered),
    /// It may be otherwise next time.
    #[error("{0}")]
    Failed(Unanswered),
}

impl From<Unknown> for Unanswered {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::NoSessions(why) => Self::NotMcp(why),
            Unknown::NotMcp(error) | Unknown::Failed(error) => error,
        }
    }
}

impl From<Unanswered> for Unknown {
    fn from(error: Unanswered) -> Self {
        Self::Failed(error)
    }
}

/// How the manager itself talks to a service.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) upstream: Upstream,
    pub(super) service: ServiceName,
    /// The session's id, for a service of the earlier eras that gave one.
    pub(super) session: Option<HeaderValue>,
    /// The revision that is spoken.
    pub(super) version: HeaderValue,
    pub(super) stateless: bool,
    /// What the manager says that its client can be asked. It refuses what it then is asked itself.
    pub(super) capabilities: Value,
    /// Longest wait for an answer.
    pub(super) limit: Duration,
}

pub(super) fn client_info() -> serde_json::Value {
    json!({"name": "mcp-manager", "version": env!("CARGO_PKG_VERSION")})
}

impl Line {
    /// Whether it is the same session, or both are none.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.service == other.service && self.session == other.session && self.version == other.version
    }

    /// A line over which nothing has been said yet, for requests without a session.
    pub(super) fn new(upstream: &Upstream, service: &ServiceName) -> Self {
        Self {
            upstream: upstream.clone(),
            service: service.clone(),
            session: None,
            version: HeaderValue::from_static(STATELESS),
            stateless: true,
            capabilities: json!({}),
            limit: LIMIT,
        }
    }

    /// A line to a service, in the era that it speaks, the one without sessions first; and what it says of itself. Over it
    /// the manager sees what any client could use.
    pub(super) async fn open(upstream: &Upstream, service: &ServiceName) -> Result<(Self, Object), Unknown> {
        let mut line = Self { capabilities: meta::of_any_client(), ..Self::new(upstream, service) };
        match line.ask("server/discover", Object::default()).await {
            Ok(message) => {
                let result = message.whole.object("result").unwrap_or_default();
                let versions: Vec<String> = result.read("supportedVersions").unwrap_or_default();
                if versions.iter().any(|version| version == STATELESS) {
                    return Ok((line, result));
                }
            }
            // The service is there; it only does not know this era.
            Err(Unanswered::Refused(_) | Unanswered::Foreign(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let params = json!({"protocolVersion": SESSIONS[0], "capabilities": line.capabilities, "clientInfo": client_info()});
        let result = line.initialize(&params).await?;
        Ok((line, result))
    }

    /// Opens a session of the earlier eras with these parameters of `initialize`; what the service says of itself.
    pub(super) async fn initialize(&mut self, params: &impl serde::Serialize) -> Result<Object, Unknown> {
        self.stateless = false;
        self.session = None;
        self.version = HeaderValue::from_static(SESSIONS[0]);
        let answers = match self.request("initialize", params).await {
            Ok(answers) => answers,
            Err(Unanswered::Refused(status)) if is_final(status) => {
                let why = format!("it answers initialize with {status}");
                let is_there = !status.is_server_error();
                return Err(if is_there { Unknown::NoSessions(why) } else { Unknown::NotMcp(Unanswered::NotMcp(why)) });
            }
            Err(error @ Unanswered::Foreign(_)) => return Err(Unknown::NotMcp(Unanswered::NotMcp(error.to_string()))),
            Err(error) => return Err(error.into()),
        };
        self.session.clone_from(&answers.session);
        let status = answers.status;
        let answer = within(self.limit, self.answer(answers)).await?;
        let Some(result) = answer.whole.object("result") else {
            return Err(refused(status, answer.whole.object("error").unwrap_or_default()));
        };
        if let Some(version) = result.text("protocolVersion").and_then(|version| HeaderValue::from_str(&version).ok()) {
            self.version = version;
        }
        let initialized = "notifications/initialized";
        self.send(initialized, rpc::notification(initialized, None)).await?;
        Ok(result)
    }

    /// The headers that MCP wants with a message of this method, if it has one, about a thing of this name.
    pub(super) fn headers(&self, method: Option<&str>, name: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(upstream::PROTOCOL_VERSION, self.version.clone());
        if let Some(session) = &self.session {
            headers.insert(upstream::SESSION_ID, session.clone());
        }
        if self.stateless {
            let method = method.and_then(|method| HeaderValue::from_str(method).ok());
            headers.extend(method.map(|method| (upstream::METHOD, method)));
            headers.extend(name.map(|name| (upstream::NAME, encoded(name))));
        }
        headers
    }

    /// Sends a request of the manager's own.
    pub(super) async fn request(&self, method: &str, params: &impl serde::Serialize) -> Result<Answers, Unanswered> {
        self.send(method, request(method, params)).await
    }

    async fn send(&self, method: &str, message: Bytes) -> Result<Answers, Unanswered> {
        let sent = self.upstream.post(&self.service, self.headers(Some(method), None), message);
        within(self.limit, sent).await
    }

    /// Sends a client's message. How long the answer may take is the gateway's business. [`Unanswered::NotTaken`] when the
    /// session is gone, as after a restart of the service.
    pub(super) async fn send_unbounded(&self, message: &Object) -> Result<Answers, Unanswered> {
        let params = message.object("params").unwrap_or_default();
        let name = params.text("name").or_else(|| params.text("uri"));
        let headers = self.headers(message.text("method").as_deref(), name.as_deref());
        let sent = self.upstream.post(&self.service, headers, message.to_text()).await;
        let mut answers = match sent {
            Err(Unanswered::Refused(status)) if !self.stateless && may_be_of_the_session(status) => {
                return Err(Unanswered::NotTaken(status.to_string()));
            }
            other => other?,
        };
        let status = answers.status;
        if self.session.is_some() && may_be_of_the_session(status) && !answers.is_stream() {
            self.is_known(status, answers.first().await?)?;
        }
        Ok(answers)
    }

    /// An error if this answer says that the service does not know the session. The protocol has 404 for that. Many servers
    /// have 400, as for requests that are wrong, but of those they name the id; some have 404 for a method as well.
    fn is_known(&self, status: StatusCode, answer: Option<&Message>) -> Result<(), Unanswered> {
        let error = answer.and_then(|answer| answer.whole.object("error")).unwrap_or_default();
        let of_none = answer.is_some_and(|answer| answer.is_answer() && answer.id.is_none());
        let of_method = !of_none && error.read("code") == Some(rpc::METHOD_NOT_FOUND);
        let is_known = !of_none && (status != StatusCode::NOT_FOUND || of_method);
        if is_known || self.session.is_none() || !may_be_of_the_session(status) {
            return Ok(());
        }
        Err(Unanswered::NotTaken(error.text("message").unwrap_or_else(|| status.to_string())))
    }

    /// Says what needs no answer.
    pub(super) async fn say(&self, message: Bytes) {
        let said = self.upstream.post(&self.service, self.headers(None, None), message);
        if let Err(error) = within(self.limit, said).await {
            tracing::debug!(service = self.service.as_str(), %error, "a service did not take a message");
        }
    }

    /// Says what needs no answer, while others go on.
    pub(super) fn say_later(&self, tasks: &Tasks, message: Bytes) {
        let line = self.clone();
        tasks.spawn_for_request("mcp: tell a service", async move { line.say(message).await });
    }

    /// Asks, and waits for the answer within the limit.
    pub(super) async fn ask(&self, method: &str, mut params: Object) -> Result<Message, Unanswered> {
        if self.stateless {
            params.put("_meta", &meta::own(&self.capabilities));
        }
        let answers = self.request(method, &params).await?;
        let status = answers.status;
        let answer = within(self.limit, self.answer(answers)).await?;
        self.is_known(status, Some(&answer))?;
        Ok(answer)
    }

    /// The answer to the one request that was sent. A service that asks the manager itself before that is refused, lest it
    /// waits; what it asks a client is nothing of the manager's.
    async fn answer(&self, mut answers: Answers) -> Result<Message, Unanswered> {
        while let Some((message, _)) = answers.next().await? {
            if message.is_answer() {
                return Ok(message);
            }
            if let Some(refusal) = self.refusal(&message) {
                Box::pin(self.say(refusal)).await;
            }
        }
        Err(Unanswered::BrokeOff("it ended without an answer".to_owned()))
    }

    /// What is answered to a question on a line of the manager's own; `None` if it is none.
    pub(super) fn refusal(&self, message: &Message) -> Option<Bytes> {
        let is_own = self.capabilities != json!({});
        meta::to_question(message).filter(|_| is_own)
    }

    /// All pages of a list.
    async fn list(&self, method: &str, member: &str) -> Result<Vec<Item>, Unanswered> {
        let (mut items, mut cursor) = (Vec::new(), None::<Raw>);
        for _ in 0..MAX_PAGES {
            let mut params = Object::default();
            if let Some(cursor) = cursor.take() {
                params.set("cursor", cursor);
            }
            let answer = self.ask(method, params).await?;
            let Some(result) = answer.whole.object("result") else { break };
            let page: Vec<Object> = result.read(member).unwrap_or_default();
            items.extend(page.into_iter().filter_map(|whole| {
                let uri = whole.text("uri").or_else(|| whole.text("uriTemplate"));
                Some(Item { name: whole.text("name")?, uri, whole })
            }));
            cursor = result.get("nextCursor").filter(|cursor| cursor.get() != "null").map(ToOwned::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        Ok(items)
    }

    /// The lists that the service has by its own word, all asked for at once: each comes when it is there, so that one that
    /// takes long, or cannot be had, holds up none of the others.
    pub(super) fn lists(&self, about: &Object) -> impl Stream<Item = Result<(ListOf, Vec<Item>), Unanswered>> + use<> {
        let capabilities = about.object("capabilities").unwrap_or_default();
        let line = Self { limit: LIST_LIMIT, ..self.clone() };
        let had = ListOf::ALL.into_iter().filter(|list| capabilities.has(list.capability()));
        had.map(|list| {
            let line = line.clone();
            async move { Ok((list, line.list(list.method(), list.member()).await?)) }
        })
        .collect::<FuturesUnordered<_>>()
    }

    /// Ends the session, if there is one; the service would do so by itself after a while.
    pub(super) async fn close(&self) {
        if let Some(session) = &self.session {
            let mut headers = HeaderMap::new();
            headers.insert(upstream::SESSION_ID, session.clone());
            headers.insert(upstream::PROTOCOL_VERSION, self.version.clone());
            let ended = self.upstream.send(&self.service, http::Method::DELETE, headers, axum::body::Body::empty());
            let _ = within(self.limit, ended).await;
        }
    }
}

pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Unanswered>>) -> Result<T, Unanswered> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Unanswered::Late(limit)))
}

/// Whether this may be how a service says that it knows no such session.
const fn may_be_of_the_session(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST)
}

/// Why a service has answered `initialize` with this error. That it does not know the method is said by its number, by the
/// versions that it knows, or by what the era without sessions wants in a request. Any other error may come of a service
/// with sessions, whose clients would be put together if it were called without one.
fn refused(status: StatusCode, error: Object) -> Unknown {
    let code = error.read("code").unwrap_or(rpc::INTERNAL_ERROR);
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || code == rpc::INTERNAL_ERROR {
        return Unknown::Failed(Unanswered::Said(error));
    }
    let is_unknown = match code {
        rpc::METHOD_NOT_FOUND | rpc::UNSUPPORTED_VERSION | rpc::HEADER_MISMATCH => true,
        rpc::INVALID_PARAMS => status == StatusCode::BAD_REQUEST,
        _ => false,
    };
    if is_unknown {
        return Unknown::NoSessions(format!("it refuses initialize: {}", error.text("message").unwrap_or_default()));
    }
    Unknown::NotMcp(Unanswered::Said(error))
}

/// Whether a refusal says that there is no MCP here, rather than that something is wrong for now.
fn is_final(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::GONE)
}

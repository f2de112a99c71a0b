//! `mcp-manager client relay`: MCP on standard input and output for an endpoint of Streamable HTTP, for clients that know no
//! servers but programs. Messages pass as they came; nothing of what they say is decided here. Only a session that the endpoint
//! knows no more, since it was started anew, is begun again for a client that could not know, and what HTTP wants beside a body
//! of revision 2026-07-28 is added: headers, and leaving a request that is called off.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use futures_util::stream::FuturesUnordered;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::super::arguments::Common;
use super::super::client::Client;
use super::super::exit::{Outcome, Trouble};
use super::super::sse;
use crate::error::{Error, Kind};
use crate::rpc;
use crate::rpc::headers::{Annotated, annotated, argument, encoded};

/// Messages that wait for their turn; the client waits when there are more.
const QUEUE: usize = 64;

/// How long an endpoint may take to say which tools it has.
const PATIENCE: Duration = Duration::from_secs(15);

/// More pages of tools than this are not asked for.
const MAX_PAGES: usize = 50;

/// What a client of the first era offers when it asks for tools.
const VERSION: &str = "2025-11-25";

const SESSION: &str = "mcp-session-id";
const PROTOCOL: &str = "mcp-protocol-version";

/// What has ended.
enum Ended {
    /// A request of this id; others went on meanwhile.
    Request { id: Option<String>, lasts: bool },
    /// A message after which the next may be read.
    Turn,
    /// The stream of what the server says by itself.
    Listening,
}

/// Passes messages until standard input ends.
pub async fn relay(common: &Common, url: &str) -> Outcome {
    let link = Rc::new(Link::to(common, url)?);
    let mut messages = lines_of_standard_input();
    let mut running: FuturesUnordered<LocalBoxFuture<'static, Ended>> = FuturesUnordered::new();
    // Those that the client waits for, and those that can be dropped.
    let mut requests = 0_usize;
    let mut open: BTreeMap<String, CancellationToken> = BTreeMap::new();
    let mut turn = false;
    let mut listening = false;
    let mut listened = None;
    let mut ended = false;
    loop {
        if ended && requests == 0 && !turn {
            link.leave().await;
            return Ok(());
        }
        tokio::select! {
            message = messages.recv(), if !turn && !ended => {
                let Some(text) = message else {
                    ended = true;
                    continue;
                };
                let message = Message::of(&text);
                // Without a session, a request is called off by leaving it; nobody would know what is meant otherwise.
                if let Some(request) = message.cancels.as_ref().and_then(|id| open.remove(id)) {
                    request.cancel();
                    continue;
                }
                // A session begins with its first answer, and what only tells something is to arrive in order.
                turn = message.id.is_none() || message.method == "initialize";
                let end = if turn { Ended::Turn } else { Ended::Request { id: message.id.clone(), lasts: message.lasts() } };
                requests += usize::from(matches!(end, Ended::Request { lasts: false, .. }));
                let left = CancellationToken::new();
                if let Some(id) = message.id.clone().filter(|_| message.version.is_some()) {
                    open.insert(id, left.clone());
                }
                let work = passed(link.clone(), text, message);
                running.push(left.run_until_cancelled_owned(work).map(|_| end).boxed_local());
            }
            Some(end) = running.next(), if !running.is_empty() => {
                match end {
                    Ended::Request { id, lasts } => {
                        requests -= usize::from(!lasts);
                        open.remove(&id.unwrap_or_default());
                    }
                    Ended::Turn => turn = false,
                    Ended::Listening => listening = false,
                }
                let session = link.session();
                if !listening && session != listened {
                    listening = true;
                    listened = session;
                    running.push(listen(link.clone()).boxed_local());
                }
            }
        }
    }
}

/// The tools that the endpoint has, as it describes them.
pub async fn tools(common: &Common, url: &str) -> Outcome<Vec<Value>> {
    let asked = async {
        let link = Link::to(common, url)?;
        let client = json!({"name": "mcp-manager", "version": env!("CARGO_PKG_VERSION")});
        let params = json!({"protocolVersion": VERSION, "capabilities": {}, "clientInfo": client});
        link.ask("initialize", params).await?;
        let initialized = rpc::notification("notifications/initialized", None);
        link.post(&String::from_utf8_lossy(&initialized), &Message::default(), |_| Ok(())).await?;
        let mut tools = Vec::new();
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let params = cursor.as_ref().map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
            let page = link.ask("tools/list", params).await?;
            tools.extend(page["tools"].as_array().cloned().unwrap_or_default());
            match page.get("nextCursor").filter(|next| next.is_string()) {
                Some(next) => cursor = Some(next.clone()),
                None => break,
            }
        }
        link.leave().await;
        Ok(tools)
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        let detail = format!("{url} did not say which tools it has within {} seconds", PATIENCE.as_secs());
        Err(Trouble::unreachable(Error::new(Kind::Timeout, detail)))
    })
}

/// What of a message has to be known to pass it on.
#[derive(Debug, Default)]
struct Message {
    /// As it is written.
    id: Option<String>,
    method: String,
    /// The tool, prompt or resource that is meant.
    name: Option<String>,
    /// The revision that the message itself is of; later ones say it in each.
    version: Option<String>,
    /// The request that is called off, as its id is written.
    cancels: Option<String>,
}

impl Message {
    fn of(text: &str) -> Self {
        let message = Members::of(text);
        let params = Members::of(message.member("params"));
        let meta = Members::of(params.member("_meta"));
        let id = |id: &str| Some(id.to_owned()).filter(|id| !matches!(id.as_str(), "" | "null"));
        let method = message.text("method").unwrap_or_default();
        Self {
            id: id(message.member("id")),
            cancels: id(params.member("requestId")).filter(|_| method == "notifications/cancelled"),
            method,
            name: params.text("name").or_else(|| params.text("uri")),
            version: meta.text("io.modelcontextprotocol/protocolVersion"),
        }
    }

    /// Whether it is answered only when the client leaves.
    fn lasts(&self) -> bool {
        self.method == "subscriptions/listen"
    }
}

/// The members of an object, each as it is written: numbers and texts that no type here holds are others' business.
struct Members<'t>(BTreeMap<String, &'t RawValue>);

impl<'t> Members<'t> {
    /// None, if the text is no object.
    fn of(text: &'t str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_default())
    }

    /// The text of a member; empty when there is none.
    fn member(&self, name: &str) -> &'t str {
        self.0.get(name).map_or("", |value| value.get())
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.member(name)).ok()
    }
}

/// The way to the endpoint, and the session on it.
struct Link {
    client: Client,
    session: RefCell<Option<String>>,
    version: RefCell<Option<String>>,
    /// What the client began its session with.
    beginning: RefCell<String>,
    /// The arguments that headers repeat, by tool, as far as the client has asked for tools.
    annotated: RefCell<BTreeMap<String, Vec<Annotated>>>,
    /// Held while a session is begun again, which several requests may find necessary at once, and no other may be sent.
    again: Mutex<()>,
}

impl Link {
    fn to(common: &Common, url: &str) -> Outcome<Self> {
        let client = Client::new(&Common { server: Some(url.to_owned()), ..common.clone() })?;
        Ok(Self {
            client,
            session: RefCell::default(),
            version: RefCell::default(),
            beginning: RefCell::default(),
            annotated: RefCell::default(),
            again: Mutex::default(),
        })
    }

    fn session(&self) -> Option<String> {
        self.session.borrow().clone()
    }

    fn request(&self, method: Method, accept: &str) -> RequestBuilder {
        let mut request = self.client.request(method, "").header("accept", accept);
        if let Some(session) = self.session.borrow().as_ref() {
            request = request.header(SESSION, session);
        }
        request
    }

    /// Sends a message and gives each message that comes back for it to `each`.
    async fn post(&self, text: &str, message: &Message, mut each: impl FnMut(&str) -> Outcome) -> Outcome {
        drop(self.again.lock().await);
        let session = self.session().filter(|_| message.version.is_none());
        let mut response = self.send(text, message).await?;
        if message.method == "initialize" {
            text.clone_into(&mut self.beginning.borrow_mut());
        } else if let Some(lost) = session.filter(|_| response.status() == StatusCode::NOT_FOUND) {
            self.begin_again(&lost).await?;
            response = self.send(text, message).await?;
        }
        let each = |text: &str| {
            if message.method == "initialize" {
                self.note_version(text);
            } else if message.method == "tools/list" {
                self.note_tools(text);
            }
            each(text)
        };
        self.read(response, each).await
    }

    /// Begins a session as the client did, in the place of one that the endpoint does not know any more.
    async fn begin_again(&self, lost: &str) -> Outcome {
        let _one_at_a_time = self.again.lock().await;
        if self.session().as_deref() != Some(lost) {
            return Ok(());
        }
        let (session, version) = (self.session.take(), self.version.take());
        let begun = self.begin().await;
        if begun.is_err() {
            // The next message tries it again.
            *self.session.borrow_mut() = session;
            *self.version.borrow_mut() = version;
        }
        begun
    }

    async fn begin(&self) -> Outcome {
        let hello = self.beginning.borrow().clone();
        let response = self.send(&hello, &Message::of(&hello)).await?;
        self.read(response, |text| {
            self.note_version(text);
            Ok(())
        })
        .await?;
        let initialized = rpc::notification("notifications/initialized", None);
        let response = self.send(&String::from_utf8_lossy(&initialized), &Message::default()).await?;
        self.read(response, |_| Ok(())).await
    }

    async fn send(&self, text: &str, message: &Message) -> Outcome<Response> {
        let mut request = self.request(Method::POST, "application/json, text/event-stream");
        request = request.header("content-type", "application/json").body(text.to_owned());
        let version = message.version.clone().or_else(|| self.version.borrow().clone());
        if let Some(version) = version {
            request = request.header(PROTOCOL, version);
        }
        if message.version.is_some() {
            request = request.header("mcp-method", &message.method);
            if let Some(name) = &message.name {
                request = request.header("mcp-name", encoded(name));
            }
            if message.method == "tools/call" {
                request = request.headers(self.repeated(text, message.name.as_deref().unwrap_or_default()));
            }
        }
        let response = request.send().await.map_err(|error| self.client.no_answer(error))?;
        if message.method == "initialize"
            && let Some(session) = response.headers().get(SESSION).and_then(|session| session.to_str().ok())
        {
            *self.session.borrow_mut() = Some(session.to_owned());
        }
        Ok(response)
    }

    async fn read(&self, response: Response, mut each: impl FnMut(&str) -> Outcome) -> Outcome {
        let status = response.status();
        if sse::is_stream(&response) && status.is_success() {
            return sse::follow(&self.client, response, |event| each(&event.data)).await;
        }
        let body = response.bytes().await.map_err(|error| self.client.no_answer(error))?;
        let text = String::from_utf8_lossy(&body);
        if status.is_success() || Members::of(&text).text("jsonrpc").as_deref() == Some("2.0") {
            return if text.trim().is_empty() { Ok(()) } else { each(&text) };
        }
        let says = Members::of(&text).text("detail");
        let detail = format!("the endpoint answers {status}{}", says.map(|says| format!(": {says}")).unwrap_or_default());
        Err(Trouble::unreachable(Error::new(Kind::BackendUnavailable, detail)))
    }

    /// The revision that was agreed on goes with every further message.
    fn note_version(&self, text: &str) {
        let version = serde_json::from_str::<Value>(text)
            .ok()
            .and_then(|value| Some(value["result"]["protocolVersion"].as_str()?.to_owned()));
        if version.is_some() {
            *self.version.borrow_mut() = version;
        }
    }

    fn note_tools(&self, text: &str) {
        let answer: Value = serde_json::from_str(text).unwrap_or_default();
        for tool in answer["result"]["tools"].as_array().into_iter().flatten() {
            let name = tool["name"].as_str().unwrap_or_default().to_owned();
            self.annotated.borrow_mut().insert(name, annotated(&tool["inputSchema"]));
        }
    }

    /// The headers that repeat arguments of a call.
    fn repeated(&self, text: &str, tool: &str) -> HeaderMap {
        let arguments = Members::of(Members::of(text).member("params")).member("arguments").to_owned();
        let arguments: Value = serde_json::from_str(&arguments).unwrap_or_default();
        let header = |(name, path): &Annotated| {
            let said = match argument(&arguments, path)? {
                Value::String(text) => encoded(text),
                plain @ (Value::Bool(_) | Value::Number(_)) => encoded(&plain.to_string()),
                _ => return None,
            };
            Some((name.parse::<HeaderName>().ok()?, said))
        };
        self.annotated.borrow().get(tool).into_iter().flatten().filter_map(header).collect()
    }

    /// Asks for something and reads the result.
    async fn ask(&self, method: &str, params: Value) -> Outcome<Value> {
        let request = rpc::request(b"1", method, params.to_string().as_bytes());
        let text = String::from_utf8_lossy(&request);
        let mut answer = Value::Null;
        self.post(&text, &Message::of(&text), |text| {
            let value: Value = serde_json::from_str(text).unwrap_or_default();
            if value["id"] == 1 {
                answer = value;
            }
            Ok(())
        })
        .await?;
        if let Some(result) = answer.get_mut("result") {
            return Ok(result.take());
        }
        let says = answer["error"]["message"].as_str().unwrap_or("no answer");
        Err(Trouble::unreachable(Error::new(Kind::BackendUnavailable, format!("the endpoint refuses '{method}': {says}"))))
    }

    /// Ends the session, if there is one; the server would end it sooner or later anyway.
    async fn leave(&self) {
        if self.session().is_some() {
            let _ = tokio::time::timeout(Duration::from_secs(2), self.request(Method::DELETE, "*/*").send()).await;
        }
    }
}

/// Sends a message and writes what comes back. What cannot be sent is answered with an error, so that no request hangs.
async fn passed(link: Rc<Link>, text: String, message: Message) {
    let Err(Trouble::Error(_, error)) = link.post(&text, &message, write_line).await else { return };
    match message.id {
        Some(id) => {
            let error = rpc::error(Some(id.as_bytes()), rpc::INTERNAL_ERROR, &error.to_string(), None);
            // Who does not read any more needs no error.
            let _ = write_line(&String::from_utf8_lossy(&error));
        }
        None => {
            let _ = writeln!(std::io::stderr(), "mcp-manager: {error}");
        }
    }
}

/// Writes what the server says by itself.
async fn listen(link: Rc<Link>) -> Ended {
    let mut request = link.request(Method::GET, "text/event-stream");
    if let Some(version) = link.version.borrow().as_ref() {
        request = request.header(PROTOCOL, version);
    }
    // A server that offers no such stream says so; then there is nothing to listen to.
    if let Ok(response) = request.send().await
        && response.status().is_success()
        && sse::is_stream(&response)
    {
        let _ = sse::follow(&link.client, response, |event| write_line(&event.data)).await;
    }
    Ended::Listening
}

/// One message a line. Line ends can only stand between tokens, where they are as good as a space.
fn write_line(text: &str) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    if text.contains(['\n', '\r']) {
        writeln!(stdout, "{}", text.replace(['\n', '\r'], " "))?;
    } else {
        writeln!(stdout, "{text}")?;
    }
    Ok(stdout.flush()?)
}

/// The lines of standard input, read on a thread of its own: reading it cannot be given up, and must not hold anything up.
fn lines_of_standard_input() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if !line.trim().is_empty() && sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

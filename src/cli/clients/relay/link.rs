//! The way to the endpoint, and the session on it: what HTTP wants beside a message, and beginning a session again that the
//! endpoint does not know any more. Leaves out whom the answers go to, and streams.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, watch};

use super::super::super::arguments::Common;
use super::super::super::client::Client;
use super::super::super::exit::{Outcome, Trouble};
use super::super::super::sse;
use super::message::{Members, Message, Waiting};
use super::stream::Each;
use crate::error::{Error, Kind};
use crate::rpc;
use crate::rpc::headers::{Annotated, annotated, argument, encoded};

const SESSION: &str = "mcp-session-id";
const PROTOCOL: &str = "mcp-protocol-version";

/// A session is begun again within this time, in which everything else waits for it.
const BEGINNING: Duration = Duration::from_mins(2);

/// The way to the endpoint, and the session on it.
pub struct Link {
    /// Who is asked.
    pub client: Client,
    session: watch::Sender<Option<String>>,
    version: RefCell<Option<String>>,
    /// What the client began its session with.
    beginning: RefCell<String>,
    /// What else it said that holds for as long as the session: the log level and its subscriptions, by what they are to.
    wishes: RefCell<BTreeMap<Option<String>, String>>,
    /// The arguments that headers repeat, by tool, as far as the client has asked for tools.
    annotated: RefCell<BTreeMap<String, Vec<Annotated>>>,
    /// Held while a session is begun again, which several requests may find necessary at once, and no other may be sent.
    again: Mutex<()>,
}

impl Link {
    /// The way to `url`.
    pub fn to(common: &Common, url: &str) -> Outcome<Self> {
        let client = Client::new(&Common { server: Some(url.to_owned()), ..common.clone() })?;
        Ok(Self {
            client,
            session: watch::Sender::default(),
            version: RefCell::default(),
            beginning: RefCell::default(),
            wishes: RefCell::default(),
            annotated: RefCell::default(),
            again: Mutex::default(),
        })
    }

    /// The session, as the endpoint names it.
    pub fn session(&self) -> Option<String> {
        self.session.borrow().clone()
    }

    /// One session after the other.
    pub fn sessions(&self) -> watch::Receiver<Option<String>> {
        self.session.subscribe()
    }

    /// Waits until no session is being begun again.
    pub async fn settled(&self) {
        drop(self.again.lock().await);
    }

    /// A request in the session.
    pub fn request(&self, method: Method, accept: &str) -> RequestBuilder {
        let mut request = self.client.request(method, "").header("accept", accept);
        if let Some(session) = self.session.borrow().as_ref() {
            request = request.header(SESSION, session);
        }
        if let Some(version) = self.version.borrow().as_ref() {
            request = request.header(PROTOCOL, version);
        }
        request
    }

    /// Sends a message and gives each message that comes back for it to `each`.
    pub async fn post(&self, text: &str, message: &Message, each: Each<'_>) -> Outcome {
        self.settled().await;
        let session = self.session().filter(|_| message.version.is_none());
        let mut response = self.send(text, message).await?;
        if message.begins() {
            text.clone_into(&mut self.beginning.borrow_mut());
            self.wishes.borrow_mut().clear();
        } else if let Some(lost) = session.filter(|_| response.status() == StatusCode::NOT_FOUND) {
            self.begin_again(&lost).await?;
            response = self.send(text, message).await?;
        }
        let mut each = |answer: &str| {
            match message.method.as_str() {
                "initialize" => self.note_version(answer),
                "tools/list" => self.note_tools(answer),
                "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" => self.note_wish(text, message, answer),
                _ => {}
            }
            each(answer)
        };
        self.read(response, message, &mut each).await
    }

    /// Begins a session as the client did, in the place of one that the endpoint does not know any more.
    pub async fn begin_again(&self, lost: &str) -> Outcome {
        let _one_at_a_time = self.again.lock().await;
        if self.session().as_deref() != Some(lost) {
            return Ok(());
        }
        let (session, version) = (self.session(), self.version.borrow().clone());
        let begun = tokio::time::timeout(BEGINNING, self.begin()).await.unwrap_or_else(|_| {
            let detail = format!("the endpoint did not begin the session anew within {} seconds", BEGINNING.as_secs());
            Err(Trouble::unreachable(Error::new(Kind::Timeout, detail)))
        });
        if begun.is_err() {
            // The next message tries it again.
            self.session.send_replace(session);
            *self.version.borrow_mut() = version;
        }
        begun
    }

    async fn begin(&self) -> Outcome {
        let hello = self.beginning.borrow().clone();
        let message = Message::of(&hello);
        let response = self.send(&hello, &message).await?;
        let (mut waiting, mut answer) = (Waiting::of(&message), String::new());
        self.read(response, &message, &mut |text| {
            // What is no answer belongs to a beginning that the client knows nothing of.
            if waiting.hears(text) && !waiting.is_over() {
                return Ok(false);
            }
            text.clone_into(&mut answer);
            Ok(true)
        })
        .await?;
        if Members::of(&answer).member("result").is_empty() {
            let says = Members::of(Members::of(&answer).member("error")).text("message").unwrap_or_default();
            let detail = format!("the endpoint does not begin the session anew: {says}");
            return Err(Trouble::unreachable(Error::new(Kind::BackendUnavailable, detail).remedy("try again later")));
        }
        self.note_version(&answer);
        let initialized = rpc::notification("notifications/initialized", None);
        self.say(&String::from_utf8_lossy(&initialized)).await?;
        let wishes: Vec<String> = self.wishes.borrow().values().cloned().collect();
        for wish in wishes {
            // What is refused now is no reason to do without the session.
            let _ = self.say(&wish).await;
        }
        Ok(())
    }

    /// Sends a message whose answer is nobody's.
    async fn say(&self, text: &str) -> Outcome {
        let message = Message::of(text);
        let mut waiting = Waiting::of(&message);
        let response = self.send(text, &message).await?;
        self.read(response, &message, &mut |text| Ok(!waiting.hears(text) || waiting.is_over())).await
    }

    async fn send(&self, text: &str, message: &Message) -> Outcome<Response> {
        let accept = "application/json, text/event-stream";
        let mut request = match &message.version {
            // What begins a session is in none yet.
            _ if message.begins() => self.client.request(Method::POST, "").header("accept", accept),
            Some(version) => self.client.request(Method::POST, "").header("accept", accept).header(PROTOCOL, version),
            None => self.request(Method::POST, accept),
        };
        request = request.header("content-type", "application/json").body(text.to_owned());
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
        if message.begins() && response.status().is_success() {
            let session = response.headers().get(SESSION).and_then(|session| session.to_str().ok());
            self.session.send_replace(session.map(str::to_owned));
        }
        Ok(response)
    }

    async fn read(&self, response: Response, message: &Message, each: Each<'_>) -> Outcome {
        let status = response.status();
        if sse::is_stream(&response) && status.is_success() {
            return self.follow(response, message, each).await;
        }
        let body = response.bytes().await.map_err(|error| self.client.no_answer(error))?;
        let text = String::from_utf8_lossy(&body);
        if status.is_success() && text.trim().is_empty() {
            return Ok(());
        }
        let is_json = || serde_json::from_str::<&RawValue>(&text).is_ok();
        if (status.is_success() && is_json()) || Members::of(&text).text("jsonrpc").as_deref() == Some("2.0") {
            return each(&text).map(|_| ());
        }
        let says = Members::of(&text).text("detail");
        let says = says.map(|says| format!(": {says}")).unwrap_or_default();
        let says = if status.is_success() { " and no message".to_owned() } else { says };
        let detail = format!("the endpoint answers {status}{says}");
        Err(Trouble::unreachable(Error::new(Kind::BackendUnavailable, detail)))
    }

    /// The revision that was agreed on goes with every further message.
    fn note_version(&self, answer: &str) {
        let version = serde_json::from_str::<Value>(answer)
            .ok()
            .and_then(|value| Some(value["result"]["protocolVersion"].as_str()?.to_owned()));
        if version.is_some() {
            *self.version.borrow_mut() = version;
        }
    }

    fn note_tools(&self, answer: &str) {
        let answer: Value = serde_json::from_str(answer).unwrap_or_default();
        for tool in answer["result"]["tools"].as_array().into_iter().flatten() {
            let name = tool["name"].as_str().unwrap_or_default().to_owned();
            self.annotated.borrow_mut().insert(name, annotated(&tool["inputSchema"]));
        }
    }

    /// What was granted has to be said again in another session. Its id is not used up there.
    fn note_wish(&self, text: &str, message: &Message, answer: &str) {
        if Members::of(answer).member("result").is_empty() {
            return;
        }
        let mut wishes = self.wishes.borrow_mut();
        if message.method == "resources/unsubscribe" {
            wishes.remove(&message.name);
        } else {
            wishes.insert(message.name.clone(), text.to_owned());
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
    pub async fn ask(&self, method: &str, params: Value) -> Outcome<Value> {
        let request = rpc::request(b"1", method, params.to_string().as_bytes());
        let text = String::from_utf8_lossy(&request);
        let mut answer = Value::Null;
        self.post(&text, &Message::of(&text), &mut |text| {
            let value: Value = serde_json::from_str(text).unwrap_or_default();
            // An error may not say what it answers.
            let answers = value["id"] == 1 || (value["id"].is_null() && value["error"].is_object());
            if answers {
                answer = value;
            }
            Ok(answers)
        })
        .await?;
        if let Some(result) = answer.get_mut("result") {
            return Ok(result.take());
        }
        let says = answer["error"]["message"].as_str().unwrap_or("no answer");
        Err(Trouble::unreachable(Error::new(Kind::BackendUnavailable, format!("the endpoint refuses '{method}': {says}"))))
    }

    /// Ends the session, if there is one; the server would end it sooner or later anyway.
    pub async fn leave(&self) {
        if self.session().is_some() {
            let _ = tokio::time::timeout(Duration::from_secs(2), self.request(Method::DELETE, "*/*").send()).await;
        }
    }
}

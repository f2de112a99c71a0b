//! Clients of the revision without sessions. A request for a service of the same era is passed on with nothing but its
//! name changed, and its answer with nothing changed at all; for a service of the earlier eras the manager keeps a
//! session for each caller, without any capability of a client, so that nobody is asked anything.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::changes::Version;
use super::look::{Line, ListOf, SESSIONS, STATELESS, client_info};
use super::raw::{Message, Object, PROGRESS_TOKEN, Raw};
use super::relay::{Relay, failure};
use super::target::Target;
use super::upstream::{self, Unanswered};
use super::{Caller, Hub, KEEP_ALIVE, headers, json as json_answer, merge, refusal};
use crate::domain::aggregate::Scope;
use crate::lifecycle::Tasks;
use crate::rpc;
use crate::rpc::events::{KEEP_ALIVE as COMMENT, event};
use crate::rpc::headers::encoded;
use crate::rpc::keys;

/// Lists change without notice when a service comes; clients may keep them for a moment only.
const TTL_MILLISECONDS: u64 = 0;

impl Hub {
    pub(super) async fn take_stateless(self: &Arc<Self>, caller: Caller, message: Message) -> Response<Body> {
        if let Some(refused) = check(&caller.headers, &message) {
            return refused;
        }
        let Some(id) = message.id.clone() else { return super::accepted() };
        let method = message.method.clone().unwrap_or_default();
        if let Some(list) = ListOf::of_method(&method) {
            if message.params().get("cursor").is_some_and(|cursor| cursor.get() != "null") {
                return refusal(StatusCode::BAD_REQUEST, Some(&id), rpc::INVALID_PARAMS, "there is one page only");
            }
            let offers = self.catalog.offers(|service| self.settings.names.includes(&caller.scope, service)).await;
            let mut result = complete();
            result.put(list.member(), &merge::items(&offers, &self.settings.names, list));
            return json_answer(StatusCode::OK, super::raw::answer(&id, &result));
        }
        match method.as_str() {
            "server/discover" => {
                let offers = self.catalog.offers(|service| self.settings.names.includes(&caller.scope, service)).await;
                let mut result = complete();
                result.put("supportedVersions", &versions());
                result.put("capabilities", &merge::capabilities(&offers, false));
                result.put("instructions", &merge::instructions(&offers));
                json_answer(StatusCode::OK, super::raw::answer(&id, &result))
            }
            "subscriptions/listen" => self.subscribe(&caller.scope, id, &message),
            // Of what services answer this revision has no subscriptions to single resources.
            _ => match self.target(&caller.scope, &message).filter(|_| !method.ends_with("subscribe")) {
                Some(Ok(target)) => self.call_stateless(&caller, id, target).await,
                Some(Err(none)) => json_answer(StatusCode::OK, none.to_text(Some(&id))),
                None => {
                    let text = format!("there is no method '{}' here", crate::domain::shown(&method));
                    refusal(StatusCode::NOT_FOUND, Some(&id), rpc::METHOD_NOT_FOUND, &text)
                }
            },
        }
    }

    async fn call_stateless(self: &Arc<Self>, caller: &Caller, id: Raw, target: Target) -> Response<Body> {
        match self.catalog.is_stateless(target.service.as_str()).await {
            Ok(true) => {}
            Ok(false) => return self.call_earlier(caller, id, target).await,
            Err(error) => return json_answer(StatusCode::OK, failure(&id, &target.service, &error)),
        }
        let mut headers = passed(&caller.headers);
        if headers.contains_key(upstream::NAME) {
            headers.insert(upstream::NAME, encoded(&target.name));
        }
        let body = target.message.whole.to_text();
        match self.upstream.send(&target.service, Method::POST, headers, body).await {
            Ok(response) => response.map(Body::new),
            Err(error) => json_answer(StatusCode::OK, failure(&id, &target.service, &error)),
        }
    }

    /// A call of a service of the earlier eras, in a session that the caller's other requests are in too: each has an id,
    /// and a progress token, of the manager's, since clients without a session count each for itself.
    async fn call_earlier(self: &Arc<Self>, caller: &Caller, id: Raw, target: Target) -> Response<Body> {
        let Target { service, mut message, .. } = target;
        let own = super::raw::raw(&format!("mcp-manager-{}", self.shared.number()));
        let mut params = message.params();
        let mut meta = params.object("_meta").unwrap_or_default();
        let wants_log = meta.has(keys::LOG_LEVEL);
        let token = meta.get(PROGRESS_TOKEN).map(ToOwned::to_owned);
        if token.is_some() {
            meta.set(PROGRESS_TOKEN, own.clone());
        }
        meta.retain(|name| !name.starts_with(keys::RESERVED));
        params.retain(|name| name != "_meta" || !meta.is_empty());
        if !meta.is_empty() {
            params.put("_meta", &meta);
        }
        message.set_params(&params);
        message.whole.set("id", own.clone());
        let mut gone = None;
        let (mut under_way, answers) = loop {
            let opened = self.shared.line(&caller.actor, &service, gone.as_ref(), &self.upstream, &self.tasks).await;
            let line = match opened {
                Ok(line) => line,
                Err(error) => return json_answer(StatusCode::OK, failure(&id, &service, &error)),
            };
            let mut under_way = UnderWay { line, tasks: self.tasks.clone(), id: own.clone(), answered: false };
            match under_way.line.send_unbounded(&message.whole).await {
                Ok(answers) => break (under_way, answers),
                // Once more, in a new session.
                Err(Unanswered::NotTaken(_)) if gone.is_none() => {
                    under_way.answered = true;
                    gone = Some(under_way.line.clone());
                }
                Err(error) => {
                    use Unanswered::{Foreign, NotTaken, Refused};
                    under_way.answered = matches!(error, Foreign(_) | NotTaken(_) | Refused(_));
                    return json_answer(StatusCode::OK, failure(&id, &service, &error));
                }
            }
        };
        let cacheable = message.method.as_deref() == Some("resources/read");
        let client = id.clone();
        let convert = move |message: Message, text: Bytes| -> Option<Bytes> {
            match (message.method.as_deref(), &message.id) {
                (None, _) => {
                    under_way.answered = true;
                    Some(modern(message, &client, cacheable))
                }
                (Some("notifications/progress"), None) => progress(message, token.as_ref()?, &under_way.id),
                (Some("notifications/message"), None) => wants_log.then_some(text),
                (Some(_), None) => None,
                (Some(_), Some(asked)) => {
                    let text = "this client cannot be asked anything: it declared no such capability";
                    let refusal = super::raw::error(Some(asked), rpc::METHOD_NOT_FOUND, text, None);
                    under_way.line.say_later(&under_way.tasks, refusal);
                    None
                }
            }
        };
        Relay { answers, id, service, convert, cancelled: CancellationToken::new() }.run().await
    }

    /// A stream that tells of changes of the lists.
    fn subscribe(&self, scope: &Scope, id: Raw, message: &Message) -> Response<Body> {
        let asked = message.params().object("notifications").unwrap_or_default();
        let known = [("toolsListChanged", "tools"), ("promptsListChanged", "prompts"), ("resourcesListChanged", "resources")];
        let wanted = known.into_iter().filter(|(name, _)| asked.read(name).unwrap_or(false));
        let (agreed, kinds): (serde_json::Map<String, Value>, Vec<_>) =
            wanted.map(|(name, kind)| ((name.to_owned(), Value::Bool(true)), kind)).unzip();
        let first = subscription_event(&id, "notifications/subscriptions/acknowledged", Some(&Value::Object(agreed)));
        let mut version = self.catalog.changes.of(scope);
        let seen = *version.borrow_and_update();
        let listening = Listening { id, kinds, version, seen, stopping: self.tasks.stopping() };
        super::stream(stream::iter([Ok(first)]).chain(stream::unfold(Some(listening), Listening::next)))
    }
}

struct Listening {
    id: Raw,
    /// Which changes the client wants to hear of.
    kinds: Vec<&'static str>,
    version: watch::Receiver<Version>,
    seen: Version,
    stopping: CancellationToken,
}

impl Listening {
    async fn next(listening: Option<Self>) -> Option<(Result<Bytes, std::convert::Infallible>, Option<Self>)> {
        let mut own = listening?;
        tokio::select! {
            () = own.stopping.cancelled() => {
                let mut result = subscription(&own.id);
                result.put("resultType", &"complete");
                return Some((Ok(event(&super::raw::answer(&own.id, &result))), None));
            }
            () = tokio::time::sleep(KEEP_ALIVE) => return Some((Ok(COMMENT), Some(own))),
            changed = own.version.changed() => changed.ok()?,
        }
        let (now, before) = (*own.version.borrow_and_update(), own.seen);
        own.seen = now;
        let kinds = now.since(before).filter(|kind| own.kinds.contains(kind));
        let text = kinds.map(|kind| subscription_event(&own.id, &format!("notifications/{kind}/list_changed"), None));
        let text: Vec<u8> = text.flatten().collect();
        Some((Ok(text.into()), Some(own)))
    }
}

/// An object that says which subscription it belongs to; the id is as it came.
fn subscription(id: &RawValue) -> Object {
    let (mut whole, mut meta) = (Object::default(), Object::default());
    meta.set(keys::SUBSCRIPTION, id.to_owned());
    whole.put("_meta", &meta);
    whole
}

fn subscription_event(id: &RawValue, method: &str, notifications: Option<&Value>) -> Bytes {
    let mut params = subscription(id);
    if let Some(notifications) = notifications {
        params.put("notifications", notifications);
    }
    event(&rpc::notification(method, Some(params.to_text().as_bytes())))
}

/// The beginning of a result of the manager's own that clients may keep for a while.
fn complete() -> Object {
    let mut result = Object::default();
    result.put("resultType", &"complete");
    result.put("ttlMs", &TTL_MILLISECONDS);
    result.put("cacheScope", &"private");
    result.put("_meta", &json!({(keys::SERVER): client_info()}));
    result
}

fn versions() -> Vec<&'static str> {
    [&[STATELESS][..], &SESSIONS].concat()
}

/// A request in a session of the earlier eras, from its sending on. When the client is gone before the answer, the service
/// is told, which the client of this era has done by going.
struct UnderWay {
    line: Line,
    tasks: Tasks,
    id: Raw,
    answered: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.answered {
            let mut params = Object::default();
            params.set("requestId", self.id.clone());
            self.line.say_later(&self.tasks, rpc::notification("notifications/cancelled", Some(params.to_text().as_bytes())));
        }
    }
}

/// News of the request `own`, with the client's own token; `None` when it is of another one.
fn progress(mut message: Message, token: &Raw, own: &Raw) -> Option<Bytes> {
    let mut params = message.params();
    if params.get(PROGRESS_TOKEN)?.get() != own.get() {
        return None;
    }
    params.set(PROGRESS_TOKEN, token.clone());
    message.set_params(&params);
    Some(message.whole.to_text().into())
}

/// An answer of an earlier era in the words of this one, with the client's id.
fn modern(message: Message, id: &Raw, cacheable: bool) -> Bytes {
    let mut whole = message.whole;
    whole.set("id", id.clone());
    if let Some(mut result) = whole.object("result").filter(|result| !result.has("resultType")) {
        result.put("resultType", &"complete");
        if cacheable {
            result.put("ttlMs", &TTL_MILLISECONDS);
            result.put("cacheScope", &"private");
        }
        whole.put("result", &result);
    }
    whole.to_text().into()
}

/// What is wrong with a request of this era.
fn check(headers: &HeaderMap, message: &Message) -> Option<Response<Body>> {
    let refuse = |code, text: &str| Some(refusal(StatusCode::BAD_REQUEST, message.id.as_deref(), code, text));
    if message.is_answer() {
        return refuse(rpc::INVALID_REQUEST, "answers are not taken in this revision");
    }
    let meta = message.params().object("_meta").unwrap_or_default();
    let header = headers.get(upstream::PROTOCOL_VERSION).and_then(|version| version.to_str().ok());
    let said = meta.text(keys::VERSION);
    if said.as_deref().zip(header).is_some_and(|(body, header)| body != header) {
        return refuse(rpc::HEADER_MISMATCH, "the header MCP-Protocol-Version does not say what the body says");
    }
    let requested = said.or_else(|| header.map(str::to_owned)).unwrap_or_default();
    if requested != STATELESS {
        let data = json!({"supported": versions(), "requested": crate::domain::shown(&requested)});
        let text = super::raw::error(
            message.id.as_deref(),
            rpc::UNSUPPORTED_VERSION,
            "this protocol version is not supported; the earlier ones begin with initialize",
            Some(&data),
        );
        return Some(json_answer(StatusCode::BAD_REQUEST, text));
    }
    if message.id.is_some() {
        if !meta.has(keys::VERSION) {
            return refuse(rpc::INVALID_PARAMS, &format!("params._meta has no {}", keys::VERSION));
        }
        if meta.object(keys::CAPABILITIES).is_none() {
            return refuse(rpc::INVALID_PARAMS, &format!("params._meta has no {}", keys::CAPABILITIES));
        }
        if let Some(wrong) = headers::mismatch(headers, message) {
            return refuse(rpc::HEADER_MISMATCH, &wrong);
        }
    }
    None
}

/// The headers of the client that a service gets: those of MCP and of tracing, and none that say who the client is.
fn passed(headers: &HeaderMap) -> HeaderMap {
    let goes_on = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("mcp-") || ["accept", "traceparent", "tracestate", "baggage", "x-request-id"].contains(&name)
    };
    let mut kept: HeaderMap =
        headers.iter().filter(|(name, _)| goes_on(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    kept.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json, text/event-stream"));
    kept
}

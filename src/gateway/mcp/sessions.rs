//! Clients of the earlier eras: their sessions, and what each message of theirs does.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::look::{Line, ListOf, SESSIONS, client_info};
use super::raw::{Message, Object, PROGRESS_TOKEN, Raw, answer};
use super::relay::{self, Relay, failure};
use super::session::Session;
use super::target::Target;
use super::upstream::{self, Unanswered};
use super::{Caller, Hub, KEEP_ALIVE, accepted, json as json_answer, merge, meta, not_allowed, refusal};
use crate::error::Error;
use crate::lifecycle::Tasks;
use crate::problem::Problem;
use crate::rpc;
use crate::rpc::events::{KEEP_ALIVE as COMMENT, event};

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    by_id: Mutex<HashMap<String, Arc<Session>>>,
    /// So many at once.
    most: usize,
    /// One that nobody uses for so long ends.
    idle: Duration,
}

/// There are as many sessions as there may be, and all of them are in use.
#[derive(Debug)]
struct Full;

impl Sessions {
    pub(super) fn new(most: usize, idle: Duration) -> Self {
        Self { by_id: Mutex::default(), most, idle }
    }

    fn by_id(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a session. Where there is no room, those go that nobody has used for so long that they are due to end, and
    /// are given back; nobody's else does.
    fn keep(&self, session: &Arc<Session>) -> Result<Vec<Arc<Session>>, Full> {
        let mut sessions = self.by_id();
        let removed = if sessions.len() >= self.most { self.extract_idle(&mut sessions) } else { Vec::new() };
        if sessions.len() >= self.most {
            return Err(Full);
        }
        sessions.insert(session.id.clone(), Arc::clone(session));
        Ok(removed)
    }

    /// Takes out those that nobody has used for long.
    fn extract_idle(&self, sessions: &mut HashMap<String, Arc<Session>>) -> Vec<Arc<Session>> {
        let long_ago = |session: &Arc<Session>| session.idle_since().is_some_and(|since| since.elapsed() > self.idle);
        sessions.extract_if(|_, session| long_ago(session)).map(|(_, session)| session).collect()
    }
}

/// Ends sessions that nobody has used for long.
pub(super) async fn close_idle(hub: Weak<Hub>, idle: Duration, tasks: Tasks) {
    let mut ticks = tokio::time::interval(idle / 30);
    let stopping = tasks.stopping();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopping.cancelled() => return,
        }
        let Some(hub) = hub.upgrade() else { return };
        let idle = hub.sessions.extract_idle(&mut hub.sessions.by_id());
        for session in idle {
            hub.close(session);
        }
    }
}

impl Hub {
    pub(super) async fn take_in_session(self: &Arc<Self>, caller: Caller, message: Message) -> Response<Body> {
        if message.method.as_deref() == Some("initialize") {
            return self.initialize(caller, &message).await;
        }
        let session = match self.session(&caller) {
            Ok(session) => session,
            Err(refused) => return *refused,
        };
        session.touch();
        let Some(id) = message.id.clone() else {
            self.notified(&session, &message);
            return accepted();
        };
        let Some(method) = message.method.clone() else {
            if let Some((line, asked)) = session.answered(&id) {
                let mut whole = message.whole;
                whole.set("id", asked);
                line.say_later(&self.tasks, whole.to_text().into());
            }
            return accepted();
        };
        if let Some(list) = ListOf::of_method(&method) {
            if message.params().get("cursor").is_some_and(|cursor| cursor.get() != "null") {
                return refusal(StatusCode::OK, Some(&id), rpc::INVALID_PARAMS, "there is one page only");
            }
            let offers = self.catalog.offers(|service| self.settings.names.includes(&session.scope, service)).await;
            let mut result = Object::default();
            result.put(list.member(), &merge::items(&offers, &self.settings.names, list));
            return json_answer(StatusCode::OK, answer(&id, &result));
        }
        match method.as_str() {
            "ping" => json_answer(StatusCode::OK, answer(&id, &json!({}))),
            "logging/setLevel" => {
                let Some(level) = message.params().get("level").map(ToOwned::to_owned) else {
                    return refusal(StatusCode::OK, Some(&id), rpc::INVALID_PARAMS, "there is no level");
                };
                let text = session.set_log_level(level);
                for line in session.lines().into_iter().filter(|line| !line.stateless) {
                    line.say_later(&self.tasks, text.clone());
                }
                json_answer(StatusCode::OK, answer(&id, &json!({})))
            }
            _ => match self.target(&session.scope, &message) {
                Some(Ok(target)) => self.call_in_session(&session, id, target, &message).await,
                Some(Err(none)) => json_answer(StatusCode::OK, none.to_text(Some(&id))),
                None => {
                    let text = format!("there is no method '{}' here", crate::domain::shown(&method));
                    refusal(StatusCode::OK, Some(&id), rpc::METHOD_NOT_FOUND, &text)
                }
            },
        }
    }

    async fn initialize(&self, caller: Caller, message: &Message) -> Response<Body> {
        let Some(id) = &message.id else {
            return refusal(StatusCode::BAD_REQUEST, None, rpc::INVALID_REQUEST, "initialize needs an id");
        };
        let mut introduction = message.params();
        let wanted = introduction.text("protocolVersion");
        let version = wanted.filter(|wanted| SESSIONS.contains(&wanted.as_str())).unwrap_or_else(|| SESSIONS[0].to_owned());
        introduction.put("protocolVersion", &version);
        // What changes from here on is told to this client.
        let seen = *self.catalog.changes.of(&caller.scope).borrow();
        let offers = self.catalog.offers(|service| self.settings.names.includes(&caller.scope, service)).await;
        let result = json!({
            "protocolVersion": version,
            "capabilities": merge::capabilities(&offers, true),
            "serverInfo": client_info(),
            "instructions": merge::instructions(&offers),
        });
        let session = Arc::new(Session::new(caller.scope, caller.actor, introduction, seen));
        match self.sessions.keep(&session) {
            Ok(idle) => idle.into_iter().for_each(|idle| self.close(idle)),
            Err(Full) => return no_room(id, self.sessions.most),
        }
        let mut response = json_answer(StatusCode::OK, answer(id, &result));
        response.headers_mut().extend(HeaderValue::from_str(&session.id).ok().map(|id| (upstream::SESSION_ID, id)));
        response
    }

    /// The caller's session.
    pub(super) fn session(&self, caller: &Caller) -> Result<Arc<Session>, Box<Response<Body>>> {
        let refuse = |status, text: &str| Err(Box::new(refusal(status, None, rpc::INVALID_REQUEST, text)));
        let Some(id) = caller.headers.get(upstream::SESSION_ID) else {
            return refuse(StatusCode::BAD_REQUEST, "there is no Mcp-Session-Id; begin with initialize");
        };
        let session = id.to_str().ok().and_then(|id| self.sessions.by_id().get(id).cloned());
        // To a stranger a session of somebody else's does not exist.
        let Some(session) = session.filter(|session| session.actor == caller.actor && session.scope == caller.scope) else {
            return refuse(StatusCode::NOT_FOUND, "the session has ended; begin with initialize");
        };
        match caller.headers.get(upstream::PROTOCOL_VERSION).map(HeaderValue::to_str) {
            Some(Ok(version)) if !SESSIONS.contains(&version) => {
                refuse(StatusCode::BAD_REQUEST, "sessions have the protocol version that initialize agreed on")
            }
            _ => Ok(session),
        }
    }

    async fn call_in_session(
        self: &Arc<Self>,
        session: &Arc<Session>,
        id: Raw,
        target: Target,
        asked: &Message,
    ) -> Response<Body> {
        let Target { service, message, name } = target;
        let pending = session.pending(&id, &service);
        let cancelled = pending.cancelled.clone();
        let mut watch = None;
        if let Some("resources/subscribe") = message.method.as_deref() {
            watch = session.watch(&service, &name, &asked.params().text("uri").unwrap_or_default());
            if watch.is_none() {
                return refusal(StatusCode::OK, Some(&id), rpc::INVALID_PARAMS, rpc::TOO_MANY_SUBSCRIBED);
            }
        }
        let mut again = true;
        let answers = loop {
            let line = match session.line(&self.upstream, &service, &self.tasks).await {
                Ok(line) => line,
                Err(error) => return json_answer(StatusCode::OK, failure(&id, &service, &error)),
            };
            if cancelled.is_cancelled() {
                return relay::nothing();
            }
            let mut whole = message.whole.clone();
            if line.stateless {
                let mut params = message.params();
                meta::of_session(&session.introduction, &mut params);
                whole.put("params", &params);
            }
            match line.send_unbounded(&whole).await {
                Ok(answers) => break answers,
                // Once more, in a new session.
                Err(Unanswered::NotTaken(_)) if again => {
                    again = false;
                    session.forget(&line);
                }
                Err(_) if cancelled.is_cancelled() => return relay::nothing(),
                Err(error) => return json_answer(StatusCode::OK, failure(&id, &service, &error)),
            }
        };
        let (session, from) = (Arc::clone(session), service.clone());
        let ends = (message.method.as_deref() == Some("resources/unsubscribe")).then_some(name);
        let convert = move |message: Message, text: Bytes| -> Option<Bytes> {
            let _until_the_end = &pending;
            if !message.is_answer() {
                return session.told(&from, message, text);
            }
            if message.whole.has("result") {
                if let Some(watch) = &watch {
                    watch.agree();
                }
                if let Some(uri) = &ends {
                    session.unwatch(&from, uri);
                }
            }
            Some(text)
        };
        Relay { answers, id, service, convert, cancelled }.run().await
    }

    /// What a client says without wanting an answer.
    fn notified(&self, session: &Arc<Session>, message: &Message) {
        match message.method.as_deref() {
            Some("notifications/cancelled") => {
                let id = message.params().get("requestId").map(ToOwned::to_owned);
                if let Some(line) = id.and_then(|id| session.call_off(&id)) {
                    line.say_later(&self.tasks, message.whole.to_text().into());
                }
            }
            Some("notifications/progress") => {
                let mut params = message.params();
                let token = params.get(PROGRESS_TOKEN).map(ToOwned::to_owned);
                if let Some((line, token)) = token.and_then(|token| session.news_of(&token)) {
                    params.set(PROGRESS_TOKEN, token);
                    let mut message = message.clone();
                    message.set_params(&params);
                    line.say_later(&self.tasks, message.whole.to_text().into());
                }
            }
            // The manager has greeted each service by itself.
            Some("notifications/initialized") | None => {}
            Some(_) => {
                for line in session.lines().into_iter().filter(|line| !line.stateless) {
                    line.say_later(&self.tasks, message.whole.to_text().into());
                }
            }
        }
    }

    /// The stream of what is said outside of answers.
    pub(super) fn listen(self: &Arc<Self>, caller: &Caller) -> Response<Body> {
        if !caller.headers.contains_key(upstream::SESSION_ID) {
            return not_allowed();
        }
        let session = match self.session(caller) {
            Ok(session) => session,
            Err(refused) => return *refused,
        };
        let replaced = session.become_listener();
        let (version, stopping) = (self.catalog.changes.of(&session.scope), self.tasks.stopping());
        let open = Open::of(&session);
        let events = stream::unfold((open, version, true), move |(open, mut version, first)| {
            let (replaced, stopping) = (replaced.clone(), stopping.clone());
            async move {
                // At first what changed while nobody listened is told.
                let text = if first {
                    version.mark_changed();
                    COMMENT
                } else {
                    tokio::select! {
                        biased;
                        () = replaced.cancelled() => return None,
                        () = stopping.cancelled() => return None,
                        text = open.0.next_message() => event(&text),
                        changed = version.changed() => {
                            changed.ok()?;
                            let lists = open.0.changes(*version.borrow_and_update());
                            let methods = lists.iter().map(|kind| format!("notifications/{kind}/list_changed"));
                            let news: Vec<u8> =
                                methods.flat_map(|method| event(&rpc::notification(&method, None))).collect();
                            news.into()
                        }
                        () = tokio::time::sleep(KEEP_ALIVE) => COMMENT,
                    }
                };
                Some((Ok(text), (open, version, false)))
            }
        });
        super::stream(events)
    }

    /// The client says that it is done.
    pub(super) fn end(&self, caller: &Caller) -> Response<Body> {
        if !caller.headers.contains_key(upstream::SESSION_ID) {
            return not_allowed();
        }
        match self.session(caller) {
            Ok(session) => {
                self.sessions.by_id().remove(&session.id);
                self.close(session);
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Err(refused) => *refused,
        }
    }

    /// Ends a session, and with it its sessions with services, for none of which anybody waits.
    fn close(&self, session: Arc<Session>) {
        session.ended.cancel();
        self.tasks.spawn_for_request("mcp: end a session", async move {
            let lines = session.lines();
            futures_util::future::join_all(lines.iter().map(Line::close)).await;
        });
    }
}

/// The answer to who wants one session more than there may be.
fn no_room(id: &Raw, most: usize) -> Response<Body> {
    let error = Error::too_many_sessions(most);
    let text = error.to_string();
    let data = serde_json::to_value(Problem::from(error)).ok();
    let text = super::raw::error(Some(id), rpc::INTERNAL_ERROR, &text, data.as_ref());
    let mut response = json_answer(StatusCode::TOO_MANY_REQUESTS, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(rpc::COME_AGAIN));
    response
}

/// Counts a stream as open.
struct Open(Arc<Session>);

impl Open {
    fn of(session: &Arc<Session>) -> Self {
        session.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(session))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

#[cfg(test)]
mod tests {
    use super::super::changes::Version;
    use super::*;
    use crate::domain::aggregate::Scope;

    fn session() -> Arc<Session> {
        Arc::new(Session::new(Scope::All, "somebody".to_owned(), Object::default(), Version::default()))
    }

    #[test]
    fn where_there_is_no_room_nobody_who_is_there_makes_any() {
        let sessions = Sessions::new(2, Duration::from_mins(1));
        let first = session();
        assert!(sessions.keep(&first).unwrap().is_empty() && sessions.keep(&session()).unwrap().is_empty());
        assert!(sessions.keep(&session()).is_err());
        assert!(sessions.by_id().len() == 2 && sessions.by_id().contains_key(&first.id));
        sessions.by_id().remove(&first.id);
        assert!(sessions.keep(&session()).unwrap().is_empty());
    }

    #[test]
    fn a_session_knows_so_many_subscriptions_that_services_have_agreed_to() {
        let (session, service) = (session(), "echo".parse::<crate::domain::name::ServiceName>().unwrap());
        let watch = |uri: &str| {
            session.watch(&service, uri, uri)?.agree();
            Some(())
        };
        assert!((0..999).all(|number| watch(&format!("a:{number}")).is_some()));
        // What the service refuses is forgotten.
        drop(session.watch(&service, "a:refused", "a:refused").unwrap());
        assert!(watch("a:999").is_some() && watch("a:0").is_some() && watch("a:1000").is_none());
        session.unwatch(&service, "a:0");
        assert!(watch(&"x".repeat(256 << 10)).is_none(), "their URIs are too long together");
        assert!(watch("a:1000").is_some());
    }

    #[test]
    fn sessions_that_are_due_to_end_make_room_and_those_in_which_something_is_open_do_not() {
        let sessions = Sessions::new(2, Duration::ZERO);
        let (busy, idle) = (session(), session());
        let open = Open::of(&busy);
        sessions.keep(&busy).unwrap();
        sessions.keep(&idle).unwrap();
        // The clock goes on.
        let began = std::time::Instant::now();
        while began.elapsed().is_zero() {}
        let removed = sessions.keep(&session()).unwrap();
        assert_eq!(removed.iter().map(|session| &session.id).collect::<Vec<_>>(), [&idle.id]);
        assert!(sessions.by_id().contains_key(&busy.id));
        drop(open);
    }
}

//! A client of the stateless era at a server of the earlier eras: what the server said once at its start is said again
//! when asked, and a question of the server in the middle of a call becomes an `input_required` result, with the call held
//! until the client repeats it with its answers. Leaves out servers that speak the stateless era themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::Context;
use super::super::ask::{Ask, Reply};
use super::super::common::Common;
use super::super::json;
use super::super::link::Link;
use super::super::listeners::Wanted;
use super::super::owner::{Ids, Whose};
use super::super::repeat::tell_server;
use super::super::scan::{Message, scan};
use super::super::splice::{Edit, apply, apply_in_pieces};
use super::super::stateless::{Answering, Refused, Stateless};
use super::super::stream::{Limits, Stream};
use super::discover::{discovered, supported_versions};
use super::lease::{Lease, Leases};
use super::subscription::Listening;
use super::{Dress, MODERN, in_earlier_words, is_cacheable};
use crate::rpc;
use crate::rpc::keys::{CAPABILITIES, LOG_LEVEL, SUBSCRIPTION, VERSION};
use listing::Listings;

mod listing;

/// How long a held call waits for the client to come back.
const HELD: Duration = Duration::from_mins(10);
/// How long a server that does not answer a ping gets to ask further questions after the first.
const MORE: Duration = Duration::from_millis(100);

/// Translates for clients of the stateless era.
#[derive(Debug)]
pub struct Forward {
    context: Arc<Context>,
    common: Arc<Common>,
    ids: Ids,
    leases: Leases,
    held: Mutex<HashMap<String, (Call, Instant)>>,
    listings: Listings,
}

/// A call in progress at a leased server.
#[derive(Debug)]
struct Call {
    lease: Lease,
    key: Bytes,
    /// What the link brings: progress, and the answer at the end.
    inner: Arc<Stream>,
    method: String,
    server: Arc<[u8]>,
    /// Questions that the client has not answered: its name for each, the server's id, the question.
    questions: Vec<(String, Vec<u8>, Bytes)>,
    asked: usize,
}

impl Forward {
    /// Nothing is leased yet.
    #[must_use]
    pub fn new(context: &Arc<Context>, common: &Arc<Common>, ids: &Ids) -> Arc<Self> {
        Arc::new(Self {
            context: Arc::clone(context),
            common: Arc::clone(common),
            ids: ids.clone(),
            leases: Leases::new(context),
            held: Mutex::default(),
            listings: Listings::default(),
        })
    }

    /// Answers a request of the stateless era. `introduction` is the server's result of `initialize`.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn request(
        self: &Arc<Self>,
        link: &Arc<Link>,
        introduction: &Bytes,
        text: Bytes,
        message: &Message,
        stream: Arc<Stream>,
    ) -> Result<Answering, Refused> {
        let [version, capabilities, level] = message.meta(&text, [VERSION, CAPABILITIES, LOG_LEVEL]);
        if !json::is_string(&text, version, MODERN) {
            let requested = version.map(|version| String::from_utf8_lossy(version.of(&text)).into_owned()).unwrap_or_default();
            let supported = supported_versions();
            return Err(Refused::Answer {
                code: rpc::UNSUPPORTED_VERSION,
                says: "Unsupported protocol version".to_owned(),
                data: Some(format!("{{\"supported\":{supported},\"requested\":{requested}}}")),
            });
        }
        let method = message.method(&text).into_owned();
        let offers = json::find(&text, capabilities, ["sampling", "elicitation", "roots"]).iter().any(Option::is_some);
        let capabilities = capabilities.filter(|_| offers).map(|span| span.of(&text).to_vec()).unwrap_or_default();
        let mut listing = None;
        let id = message.id.map(|id| text.slice(id.start..id.end)).unwrap_or_default();
        let [server] = json::find(introduction, json::check(introduction).ok(), ["serverInfo"]);
        let server: Arc<[u8]> = server.map(|server| server.of(introduction)).unwrap_or_default().into();
        match &*method {
            "server/discover" => {
                stream.finish(rpc::result(&id, &discovered(introduction, &server)));
                return Ok(Answering { stream, guard: Box::new(()) });
            }
            "subscriptions/listen" => return self.listen(link, introduction, &text, message, stream),
            "initialize" | "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => {
                return Err(Refused::answer(rpc::METHOD_NOT_FOUND, format!("revision {MODERN} has no {method}")));
            }
            "tools/call" | "prompts/get" | "resources/read" => {
                let [state] = message.params(&text, ["requestState"]);
                if let Some(state) = state {
                    let state = json::string(&text, state).unwrap_or_default().into_owned();
                    return self.resume(&state, &text, message, stream);
                }
                if level.is_some() || offers {
                    return self.begin(text, message, stream, &method, server, capabilities).await;
                }
            }
            "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" if offers => {
                listing = self.listings.of(&self.leases, &capabilities, || self.let_go_oldest()).await;
            }
            _ => {}
        }
        let dress = Dress::Modern { cacheable: is_cacheable(&method), server };
        let ask = Ask { reply: Reply::Stream(Arc::clone(&stream)), dress, logs: false, endless: false };
        let (text, message) = in_earlier_words(&text, message);
        let link = listing.as_ref().map_or(link, |lease| &lease.link);
        let key = link.ask(&text, &message, ask)?;
        Ok(Answering { stream, guard: Box::new((Stateless::cancel_guard(link, key), listing)) })
    }

    /// Opens a subscription: the server of the earlier eras sends changes to everybody, so they are filtered here.
    fn listen(
        &self,
        link: &Arc<Link>,
        introduction: &Bytes,
        text: &Bytes,
        message: &Message,
        stream: Arc<Stream>,
    ) -> Result<Answering, Refused> {
        let id = message.id.map(|id| text.slice(id.start..id.end)).unwrap_or_default();
        let [filter] = message.params(text, ["notifications"]);
        let [capabilities] = json::find(introduction, json::check(introduction).ok(), ["capabilities"]);
        let [tools, prompts, resources] = json::find(introduction, capabilities, ["tools", "prompts", "resources"]);
        let names = ["toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions"];
        let [for_tools, for_prompts, for_resources, uris] = json::find(text, filter, names);
        let asked = |span: Option<json::Span>| span.is_some_and(|span| span.of(text) == b"true");
        let offered = |capability, name| {
            json::find(introduction, capability, [name])[0].is_some_and(|span| span.of(introduction) == b"true")
        };
        let uris = uris.filter(|_| offered(resources, "subscribe")).and_then(|uris| json::elements(text, uris).ok());
        let mut wanted = Wanted {
            tools: asked(for_tools) && offered(tools, "listChanged"),
            prompts: asked(for_prompts) && offered(prompts, "listChanged"),
            resources: asked(for_resources) && offered(resources, "listChanged"),
            uris: Vec::new(),
        };
        let mut uris = uris.into_iter().flatten().filter_map(|uri| json::string(text, uri));
        if !uris.all(|uri| wanted.add(&uri)) {
            return Err(Refused::answer(rpc::INVALID_PARAMS, rpc::TOO_MANY_SUBSCRIBED));
        }
        let mut agreed = serde_json::Map::new();
        for (name, is_wanted) in names.into_iter().zip([wanted.tools, wanted.prompts, wanted.resources]) {
            if is_wanted {
                agreed.insert(name.to_owned(), true.into());
            }
        }
        if !wanted.uris.is_empty() {
            agreed.insert(names[3].to_owned(), wanted.uris.clone().into());
        }
        let agreed = serde_json::Value::Object(agreed).to_string();
        let params =
            [b"{\"_meta\":{\"", SUBSCRIPTION.as_bytes(), b"\":", &id[..], b"},\"notifications\":", agreed.as_bytes(), b"}"]
                .concat();
        stream.push(rpc::notification("notifications/subscriptions/acknowledged", Some(&params)));
        let news: Vec<_> = wanted.uris.iter().filter(|uri| !self.common.listeners.any_wants(uri)).cloned().collect();
        let guard = Listening {
            context: Arc::clone(&self.context),
            common: Arc::clone(&self.common),
            uris: wanted.uris.clone(),
            stream: Arc::clone(&stream),
        };
        self.common.listeners.add(&stream, Arc::new(Mutex::new(wanted)), Some(id));
        let (common, link) = (Arc::clone(&self.common), Arc::clone(link));
        self.context.tasks.spawn("subscribe", async move {
            for uri in news {
                // The client may have gone meanwhile.
                if common.listeners.any_wants(&uri) {
                    tell_server(&link, "resources/subscribe", &uri).await;
                }
            }
        });
        Ok(Answering { stream, guard: Box::new(guard) })
    }

    /// Begins a call in which the server may ask the client.
    async fn begin(
        self: &Arc<Self>,
        text: Bytes,
        message: &Message,
        stream: Arc<Stream>,
        method: &str,
        server: Arc<[u8]>,
        capabilities: Vec<u8>,
    ) -> Result<Answering, Refused> {
        let lease = match self.listings.take(&capabilities) {
            Some(lease) => lease,
            None => self.leases.take(capabilities, || self.let_go_oldest()).await?,
        };
        let [level] = message.meta(&text, [LOG_LEVEL]);
        if let Some(level) = level {
            let params = [b"{\"level\":", level.of(&text), b"}"].concat();
            // A server without logging refuses, which leaves it as silent as it is.
            let _refused =
                lease.link.call(rpc::request(b"0", "logging/setLevel", &params), self.context.options.start_timeout).await?;
            *lock(&lease.logs) = Some(Arc::clone(&stream));
        }
        let limits = Limits { unread: self.context.options.max_queue, replay: 0, lossy: true, solo: false };
        let inner = Stream::new(0, limits);
        let ask = Ask { reply: Reply::Stream(Arc::clone(&inner)), dress: Dress::Plain, logs: false, endless: false };
        let (text, message) = in_earlier_words(&text, message);
        let key = lease.link.ask(&text, &message, ask)?;
        let call = Call { lease, key, inner, method: method.to_owned(), server, questions: Vec::new(), asked: 0 };
        Ok(self.drive(call, &text, &message, stream))
    }

    /// Goes on with a call that waits for the client's answers.
    fn resume(self: &Arc<Self>, state: &str, text: &Bytes, message: &Message, stream: Arc<Stream>) -> Result<Answering, Refused> {
        match self.ids.whose(state, "state") {
            Whose::Own => {}
            Whose::Other(owner) => return Err(Refused::Elsewhere(owner)),
            Whose::Nobody => return Err(Refused::answer(rpc::INVALID_PARAMS, "requestState is not one of this server's")),
        }
        let Some((mut call, _)) = lock(&self.held).remove(state) else {
            return Err(Refused::answer(rpc::INVALID_PARAMS, "the request that requestState belongs to is over"));
        };
        let [answers] = message.params(text, ["inputResponses"]);
        call.questions.retain(|(name, id, _)| {
            let [answer] = json::find(text, answers, [name.as_str()]);
            if let Some(answer) = answer {
                call.lease.link.tell(&rpc::result(id, answer.of(text)));
            }
            answer.is_none()
        });
        let [level] = message.meta(text, [LOG_LEVEL]);
        *lock(&call.lease.logs) = level.map(|_| Arc::clone(&stream));
        Ok(self.drive(call, text, message, stream))
    }

    /// Follows a call until its answer, or until the server has asked something.
    fn drive(self: &Arc<Self>, call: Call, text: &Bytes, message: &Message, stream: Arc<Stream>) -> Answering {
        let id = message.id.map(|id| text.slice(id.start..id.end)).unwrap_or_default();
        let [token] = message.meta(text, ["progressToken"]);
        let token = token.map(|token| text.slice(token.start..token.end));
        let (gone, went) = tokio::sync::oneshot::channel::<()>();
        let this = Arc::clone(self);
        let client = Arc::clone(&stream);
        self.context.tasks.spawn("call", async move {
            let mut call = call;
            tokio::select! {
                () = this.follow(&mut call, &client, &id, token.as_ref()) => {}
                _ = went => {
                    call.lease.link.cancel(&call.key, "the client has gone");
                    return call.lease.link.stop("the client has gone");
                }
            }
            if call.questions.is_empty() {
                this.leases.give_back(call.lease);
            } else {
                this.hold(call, &client, &id);
            }
        });
        Answering { stream, guard: Box::new(gone) }
    }

    async fn follow(&self, call: &mut Call, client: &Stream, id: &[u8], token: Option<&Bytes>) {
        // Questions that the client left out are asked again.
        if !call.questions.is_empty() {
            return;
        }
        loop {
            tokio::select! {
                biased;
                said = call.inner.next() => match said {
                    Some((answer, true)) => return finish(call, client, &answer, id),
                    Some((progress, false)) => {
                        if let (Some(token), Ok(message)) = (token, scan(&progress)) {
                            let [old] = message.params(&progress, ["progressToken"]);
                            let mut edits: Vec<_> = old.map(|old| Edit::replace(old, &token[..])).into_iter().collect();
                            client.push(apply(&progress, &mut edits));
                        }
                    }
                    None => return client.finish(rpc::error(Some(id), rpc::INTERNAL_ERROR, "the server gave no answer", None)),
                },
                Some(question) = call.lease.asked.recv() => {
                    call.note(question);
                    return call.hear_the_rest().await;
                }
            }
        }
    }

    /// Holds a call and tells the client what the server wants to know.
    fn hold(&self, call: Call, client: &Stream, id: &[u8]) {
        let state = self.ids.make("state");
        let mut requests = Vec::new();
        for (name, _, question) in &call.questions {
            let message = scan(question).unwrap_or_default();
            requests.extend_from_slice(if requests.is_empty() { b"" } else { b"," });
            requests.extend_from_slice(rpc::quoted(name).as_bytes());
            requests.extend_from_slice(b":{\"method\":");
            requests.extend_from_slice(message.method.map(|method| method.of(question)).unwrap_or_default());
            if let Some(params) = message.params {
                requests.extend_from_slice(b",\"params\":");
                requests.extend_from_slice(params.of(question));
            }
            requests.push(b'}');
        }
        let result = [
            b"{\"resultType\":\"input_required\",\"inputRequests\":{",
            &requests[..],
            b"},\"requestState\":",
            rpc::quoted(&state).as_bytes(),
            b"}",
        ]
        .concat();
        *lock(&call.lease.logs) = None;
        lock(&self.held).insert(state, (call, Instant::now()));
        client.finish(rpc::result(id, &result));
    }

    /// Gives up the server that nobody lists, and the call that has waited longest for its client.
    fn let_go_oldest(&self) {
        self.listings.let_go();
        let call = {
            let mut held = lock(&self.held);
            let oldest = held.iter().min_by_key(|(_, (_, since))| *since).map(|(state, _)| state.clone());
            oldest.and_then(|state| held.remove(&state))
        };
        if let Some((call, _)) = call {
            tracing::info!("a call whose client has not come back makes room for another one");
            call.lease.link.cancel(&call.key, "the client did not come back");
        }
    }

    /// Ends servers that nobody uses and calls that nobody comes back to.
    pub fn sweep(&self) {
        let limit = self.context.options.idle_timeout;
        self.leases.sweep(limit.min(HELD));
        self.listings.sweep(&self.leases);
        let late: Vec<_> = lock(&self.held).extract_if(|_, (_, since)| since.elapsed() >= HELD).collect();
        for (_, (call, _)) in late {
            call.lease.link.cancel(&call.key, "the client did not come back");
        }
    }

    /// Ends everything.
    pub fn close_all(&self) {
        self.leases.close();
        self.listings.let_go();
        lock(&self.held).clear();
    }
}

impl Call {
    /// Hears what the server asks together with its first question. Nothing says how much that is; but it wrote, or has
    /// queued, all of it before it answers a ping, and most servers answer one at once while they wait for an answer.
    async fn hear_the_rest(&mut self) {
        let link = Arc::clone(&self.lease.link);
        let mut answered = std::pin::pin!(link.call(rpc::request(b"0", "ping", b"{}"), MORE));
        loop {
            tokio::select! {
                biased;
                Some(question) = self.lease.asked.recv() => self.note(question),
                _ = &mut answered => return,
            }
        }
    }

    fn note(&mut self, question: Bytes) {
        let id = scan(&question).ok().and_then(|message| message.id).map(|id| id.of(&question).to_vec());
        self.asked += 1;
        self.questions.push((format!("q{}", self.asked), id.unwrap_or_default(), question));
    }
}

/// Brings the answer of a leased server to the client that waits now.
fn finish(call: &Call, client: &Stream, answer: &Bytes, id: &[u8]) {
    let Ok(message) = scan(answer) else { return client.finish(answer.clone()) };
    let mut edits: Vec<_> = message.id.map(|old| Edit::replace(old, id)).into_iter().collect();
    let dress = Dress::Modern { cacheable: is_cacheable(&call.method), server: Arc::clone(&call.server) };
    dress.answer(answer, &message, &mut edits);
    client.note_error(call.inner.error_code().unwrap_or(0));
    client.finish(apply_in_pieces(answer, &mut edits));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

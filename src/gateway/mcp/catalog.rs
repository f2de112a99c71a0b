//! What all services offer, kept up to date: one task a ready service looks at what it offers and listens for changes.
//! Services never wait for each other, and readers wait for none but those that have just appeared.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::changes::Changes;
use super::listening::{FIRST_PAUSE, NoStream, open};
use super::look::{Line, Lists, Offer, Unknown};
use super::raw::{Message, Object};
use super::session::OPEN_LIMIT;
use super::upstream::{Answers, Unanswered, Upstream};
use crate::domain::aggregate::Names;
use crate::domain::mcp_path::mcp_path;
use crate::domain::name::ServiceName;
use crate::domain::status::{ServiceState, Snapshot};
use crate::lifecycle::Tasks;
use crate::routing::routed_addresses;
use crate::rpc::pauses::{Pauses, WORKS};

/// So long after a service has appeared readers wait for the first look at it.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// What a service offers is looked at again after so long, even when it tells of no change.
const LOOK_AGAIN: Duration = Duration::from_mins(5);

/// What is known of one service.
#[derive(Debug, Clone)]
struct Entry {
    /// Which containers it was learned from.
    identity: Vec<String>,
    appeared: Instant,
    /// The first look has ended, one way or another.
    looked: bool,
    /// Whether it speaks the revision without sessions, once these containers have said so.
    stateless: Option<bool>,
    /// How many looks at these containers have failed, and why the last one did.
    failed: (u64, Option<Unknown>),
    offer: Option<Arc<Offer>>,
    /// Somebody waits for the next look.
    wanted: Arc<Notify>,
    follower: CancellationToken,
}

/// What all services offer.
#[derive(Debug)]
pub(super) struct Catalog {
    upstream: Upstream,
    view: watch::Receiver<Arc<Snapshot>>,
    entries: RwLock<BTreeMap<ServiceName, Entry>>,
    comparing: Mutex<()>,
    /// Tells that something has been found out, for those who wait for a look.
    news: watch::Sender<()>,
    /// Tells clients that what they are shown has changed.
    pub(super) changes: Changes,
    tasks: Tasks,
}

impl Catalog {
    pub(super) fn new(upstream: Upstream, view: watch::Receiver<Arc<Snapshot>>, names: Names, tasks: &Tasks) -> Arc<Self> {
        let (entries, comparing, news) = (RwLock::default(), Mutex::default(), watch::Sender::default());
        Arc::new(Self { upstream, view, entries, comparing, news, changes: Changes::new(names), tasks: tasks.clone() })
    }

    /// Follows the view until the manager stops.
    pub(super) async fn follow(self: Arc<Self>) {
        let (stopping, mut view) = (self.tasks.stopping(), self.view.clone());
        loop {
            view.mark_unchanged();
            self.compare();
            tokio::select! {
                () = stopping.cancelled() => break,
                changed = view.changed() => if changed.is_err() { break },
            }
        }
    }

    /// Has one follower for each service of the present view. One compares at a time, and takes the view when it is its
    /// turn, so that nobody compares with an older one than somebody did before.
    fn compare(self: &Arc<Self>) {
        let _turn = self.comparing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = Arc::clone(&self.view.borrow());
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let (mut gone, before) = (Vec::new(), entries.len());
        entries.retain(|name, entry| {
            let stays = snapshot.services.get(name).is_some_and(|state| identity(state).is_some());
            if !stays {
                entry.follower.cancel();
                gone.extend(entry.offer.take().map(|offer| (name.clone(), offer)));
            }
            stays
        });
        let is_less = entries.len() < before;
        for (name, state) in &snapshot.services {
            let Some(identity) = identity(state) else { continue };
            let before = entries.get(name);
            if before.is_some_and(|entry| entry.identity == identity) {
                continue;
            }
            // Other containers of a service that is there all the time offer what the former ones did, until they are
            // found to offer something else.
            let (looked, offer) = before.map_or((false, None), |entry| (entry.looked, entry.offer.clone()));
            // In which words they want to be called is not guessed, unless one of them is there still.
            let stays = before.filter(|entry| entry.identity.iter().any(|replica| identity.contains(replica)));
            let stateless = stays.and_then(|entry| entry.stateless);
            if let Some(before) = before {
                before.follower.cancel();
            }
            let (follower, wanted) = (self.tasks.stopping().child_token(), Arc::new(Notify::new()));
            let (catalog, service, end, look) = (Arc::clone(self), name.clone(), follower.clone(), Arc::clone(&wanted));
            self.tasks.spawn("mcp: follow a service", async move {
                tokio::select! {
                    () = end.cancelled() => {}
                    () = catalog.follow_service(&service, &look, &end) => {}
                }
            });
            let (appeared, failed) = (Instant::now(), (0, None));
            entries.insert(name.clone(), Entry { identity, appeared, looked, stateless, failed, offer, wanted, follower });
        }
        drop(entries);
        if is_less {
            // Who waits for a look at a service that is gone waits no more.
            self.news.send_replace(());
        }
        for (service, offer) in gone {
            self.changes.count(service.as_str(), &offer.lists, &Lists::default());
        }
    }

    /// Looks, listens, and looks again, until it is cancelled; sooner when a look is wanted.
    async fn follow_service(&self, service: &ServiceName, wanted: &Notify, follower: &CancellationToken) {
        let mut pauses = Pauses::beginning_with(FIRST_PAUSE);
        loop {
            let opened = Line::open(&self.upstream, service).await;
            let looked = match opened {
                Ok((line, about)) => {
                    self.note(service, follower, |entry| entry.stateless = Some(line.stateless));
                    let ended = self.follow_line(&line, &about, follower).await;
                    line.close().await;
                    ended
                }
                Err(unknown) => Err(unknown),
            };
            let pause = match &looked {
                Ok(()) => {
                    pauses.reset();
                    FIRST_PAUSE
                }
                Err(why @ (Unknown::NoSessions(_) | Unknown::NotMcp(_))) => {
                    tracing::debug!(service = service.as_str(), %why, "a service does not speak MCP");
                    LOOK_AGAIN
                }
                Err(Unknown::Failed(error)) => {
                    tracing::debug!(service = service.as_str(), %error, "what a service offers cannot be found out");
                    pauses.pause()
                }
            };
            self.note(service, follower, |entry| {
                entry.looked = true;
                entry.failed = (entry.failed.0 + 1, looked.err());
            });
            let _ = tokio::time::timeout(pause, wanted.notified()).await;
        }
    }

    /// Keeps what a service offers up to date over one line to it. Returns when the line broke.
    async fn follow_line(&self, line: &Line, about: &Object, follower: &CancellationToken) -> Result<(), Unknown> {
        let mut pauses = Pauses::beginning_with(FIRST_PAUSE);
        if line.stateless && self.offer(line.service.as_str()).is_none() {
            // What everybody is shown is known at once; for what only some clients can use a process may have to start.
            let plain = Line { capabilities: json!({}), ..line.clone() };
            self.look(&plain, about, follower).await?;
        }
        loop {
            // Listening begins before looking, so that no change falls between the two.
            let (mut listening, began) = (listen(line, about).await, Instant::now());
            loop {
                let looked = self.look(line, about, follower).await;
                self.note(&line.service, follower, |entry| entry.looked = true);
                looked?;
                let goes_on = match &mut listening {
                    Ok(answers) => tokio::time::timeout(LOOK_AGAIN, self.hears_of_lists(line, answers)).await.unwrap_or(true),
                    Err(NoStream::NotNow(_)) => false,
                    Err(NoStream::Never | NoStream::Unknown) => {
                        tokio::time::sleep(LOOK_AGAIN).await;
                        false
                    }
                };
                if !goes_on {
                    break;
                }
            }
            // A stream that ends is opened anew; where the service itself ended, that fails.
            if began.elapsed() >= WORKS {
                pauses.reset();
            }
            let wanted = listening.ok().and_then(|answers| answers.retry()).unwrap_or_default();
            tokio::time::sleep(pauses.pause().max(wanted)).await;
        }
    }

    /// Waits until a change of a list is told; false when the stream ends before. Who asks the manager is refused.
    async fn hears_of_lists(&self, line: &Line, answers: &mut Answers) -> bool {
        loop {
            match answers.next().await {
                Ok(Some((message, _))) if tells_of_lists(&message) => return true,
                Ok(Some((message, _))) => {
                    if let Some(refusal) = line.refusal(&message) {
                        line.say_later(&self.tasks, refusal);
                    }
                }
                Ok(None) | Err(_) => return false,
            }
        }
    }

    /// Looks at all lists, and notes each as it comes. The first failure is told when all have ended: what has been found is
    /// known then, and what was known of the others stays, since a server that is slow for a while has not lost its tools.
    async fn look(&self, line: &Line, about: &Object, follower: &CancellationToken) -> Result<(), Unknown> {
        let (service, capabilities) = (&line.service, about.object("capabilities").unwrap_or_default());
        let lists = self.offer(service.as_str()).map(|before| before.lists.only_of(&capabilities)).unwrap_or_default();
        let mut offer = Offer { capabilities, instructions: about.text("instructions"), lists };
        self.put(service, offer.clone(), follower);
        let (mut found, mut failed) = (line.lists(about), None);
        while let Some(list) = found.next().await {
            match list {
                Ok((list, items)) => {
                    offer.lists.put(list, items);
                    self.put(service, offer.clone(), follower);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Notes something about a service, for all who wait for news of it.
    fn note(&self, service: &ServiceName, follower: &CancellationToken, change: impl FnOnce(&mut Entry)) {
        if follower.is_cancelled() {
            return;
        }
        if let Some(entry) = self.entries.write().unwrap_or_else(PoisonError::into_inner).get_mut(service) {
            change(entry);
        }
        self.news.send_replace(());
    }

    /// Notes what a look has found so far.
    fn put(&self, service: &ServiceName, offer: Offer, follower: &CancellationToken) {
        let (now, mut before) = (offer.lists.clone(), None);
        self.note(service, follower, |entry| before = Some(entry.offer.replace(Arc::new(offer))));
        if let Some(before) = before {
            let before = before.map(|before| before.lists.clone()).unwrap_or_default();
            self.changes.count(service.as_str(), &before, &now);
        }
    }

    /// What the services offer that `of` says yes to, by name. Waits a moment for those that have just appeared.
    pub(super) async fn offers(&self, of: impl Fn(&str) -> bool) -> Vec<(ServiceName, Arc<Offer>)> {
        let mut news = self.news.subscribe();
        loop {
            news.borrow_and_update();
            let wait = {
                let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
                let looking = entries.iter().filter(|(name, entry)| !entry.looked && of(name.as_str()));
                looking.map(|(_, entry)| entry.appeared + FIRST_LOOK).max().filter(|until| *until > Instant::now())
            };
            let Some(until) = wait else { break };
            let _ = tokio::time::timeout_at(until, news.changed()).await;
        }
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let known = entries.iter().filter(|(name, _)| of(name.as_str()));
        known.filter_map(|(name, entry)| Some((name.clone(), Arc::clone(entry.offer.as_ref()?)))).collect()
    }

    /// The service that lists a resource of this URI, if just one of those does that `of` says yes to; else the one that
    /// lists a template of it.
    pub(super) fn owner_of(&self, uri: &str, of: impl Fn(&ServiceName) -> bool) -> Option<ServiceName> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let only = |has: fn(&Lists, &str) -> bool| {
            let mut owners = entries
                .iter()
                .filter(|(name, entry)| entry.offer.as_ref().is_some_and(|offer| has(&offer.lists, uri)) && of(name));
            let (owner, others) = (owners.next(), owners.next());
            others.is_none().then(|| owner.map(|(name, _)| name.clone())).flatten()
        };
        only(|lists, uri| lists.resource(uri).is_some()).or_else(|| only(|lists, uri| lists.template_of(uri).is_some()))
    }

    /// What the service calls the resource of this URI, or the template that it is of.
    pub(super) fn resource(&self, service: &str, uri: &str) -> Option<String> {
        let offer = self.offer(service)?;
        let item = offer.lists.resource(uri).or_else(|| offer.lists.template_of(uri))?;
        Some(item.name.clone())
    }

    /// Whether a service speaks the revision without sessions. One that nobody has looked at yet is looked at first, once
    /// for all who ask meanwhile; why that failed, if it did. Of what is not followed nothing is known, and the gateway
    /// says why it cannot be reached.
    pub(super) async fn is_stateless(self: &Arc<Self>, service: &str) -> Result<bool, Unanswered> {
        let known = self.entries.read().unwrap_or_else(PoisonError::into_inner).get(service).map(|entry| entry.stateless);
        match known {
            Some(Some(stateless)) => return Ok(stateless),
            Some(None) => {}
            // It may have become ready a moment ago.
            None if self.view.borrow().services.get(service).is_some_and(|state| identity(state).is_some()) => self.compare(),
            None => return Ok(true),
        }
        super::look::within(OPEN_LIMIT, self.first_look(service)).await
    }

    async fn first_look(&self, service: &str) -> Result<bool, Unanswered> {
        let (mut news, mut failures) = (self.news.subscribe(), None);
        loop {
            news.borrow_and_update();
            {
                let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
                let Some(entry) = entries.get(service) else { return Ok(true) };
                if let Some(stateless) = entry.stateless {
                    return Ok(stateless);
                }
                let (now, why) = &entry.failed;
                let before = failures.replace(*now);
                if before != Some(*now) {
                    match why.clone().filter(|_| before.is_some()) {
                        // Some take their time to start; who asks has more patience than one look has.
                        None | Some(Unknown::Failed(Unanswered::Late(_))) => entry.wanted.notify_one(),
                        Some(why) => return Err(why.into()),
                    }
                }
            }
            let _ = news.changed().await;
        }
    }

    /// What one service offers, if that is known.
    pub(super) fn offer(&self, service: &str) -> Option<Arc<Offer>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(service)?.offer.clone()
    }
}

/// Which containers of the service requests go to; `None` when there is none, or when it is said not to speak MCP.
fn identity(state: &ServiceState) -> Option<Vec<String>> {
    let spec = &state.record.spec;
    if mcp_path(&spec.labels).is_none() || routed_addresses(state).next().is_none() {
        return None;
    }
    Some(state.ready().map(|replica| format!("{}@{:?}", replica.id, replica.started_at)).collect())
}

fn tells_of_lists(message: &Message) -> bool {
    message.method.as_deref().is_some_and(|method| method.starts_with("notifications/") && method.ends_with("/list_changed"))
}

/// Asks to be told of changes, if the service says that it tells of them.
async fn listen(line: &Line, about: &Object) -> Result<Answers, NoStream> {
    let capabilities = about.object("capabilities").unwrap_or_default();
    let tells = |of: &str| capabilities.object(of).and_then(|of| of.read("listChanged")).unwrap_or(false);
    let (tools, prompts, resources) = (tells("tools"), tells("prompts"), tells("resources"));
    if !(tools || prompts || resources) {
        return Err(NoStream::Never);
    }
    if line.stateless {
        let filter = json!({"toolsListChanged": tools, "promptsListChanged": prompts, "resourcesListChanged": resources});
        let params = json!({"_meta": super::meta::own(&line.capabilities), "notifications": filter});
        let answers = line.request("subscriptions/listen", &params).await?;
        return if answers.is_stream() { Ok(answers) } else { Err(NoStream::Never) };
    }
    if line.session.is_none() {
        return Err(NoStream::Never);
    }
    open(line, None).await
}

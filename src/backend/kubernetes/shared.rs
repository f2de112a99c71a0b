//! What the parts of the backend share: the client, what is known, the view, and who has to look again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use kube::api::{Api, DynamicObject, PatchParams};
use kube::core::{ApiResource, DynamicResourceScope};
use kube::{Client, Config, Resource};
use tokio::sync::{Notify, watch};

use super::connect;
use super::names::Names;
use super::settings::Settings;
use super::state;
use super::unrouted::Offer;
use super::world::{News, Objects, Source, World};
use crate::backend::view::View;
use crate::domain::name::ServiceName;
use crate::error::Result;
use crate::lifecycle::Tasks;

/// Our name among those who write fields of objects.
pub(super) const FIELD_MANAGER: &str = "mcp-manager";

/// Parameters of a change that is written as ours.
pub(super) fn patching() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// For so long after its return the API server puts much off, whose caches come back one by one.
const SOON: Duration = Duration::from_secs(10);

/// Tells of each return of the API server, and when the last one was.
pub(super) type Returns = watch::Receiver<Option<Instant>>;

/// The ways to ask the API server.
struct Clients {
    /// Calls that it puts off are made again, as it asks for.
    patient: Client,
    /// They fail at once.
    plain: Client,
}

impl Clients {
    fn new(config: &Config) -> Result<Self> {
        Ok(Self { patient: connect::client(config)?, plain: connect::plain(config)? })
    }
}

/// What the parts share.
pub(super) struct Shared {
    config: Config,
    clients: RwLock<Clients>,
    pub(super) names: Names,
    pub(super) settings: Settings,
    pub(super) tasks: Tasks,
    pub(super) view: View,
    // Held between two statements only, never over a call.
    world: Mutex<World>,
    dirty: Mutex<BTreeSet<ServiceName>>,
    /// Counts pieces of news.
    changed: watch::Sender<u64>,
    /// Rings when a service may need something written.
    pub(super) wake: Notify,
    /// Whether this manager is the one that writes.
    leading: AtomicBool,
    /// Whether the API server answers, as far as calls tell.
    answering: AtomicBool,
    /// When it was back last: watches begin anew with each return.
    returns: watch::Sender<Option<Instant>>,
}

impl Shared {
    pub(super) fn new(config: Config, names: Names, settings: Settings, tasks: Tasks) -> Result<Self> {
        let mut world = World::default();
        if settings.extension().is_some() {
            world.offer(Offer::Unknown);
        }
        Ok(Self {
            clients: RwLock::new(Clients::new(&config)?),
            config,
            names,
            settings,
            tasks,
            view: View::new(),
            world: Mutex::new(world),
            dirty: Mutex::default(),
            changed: watch::Sender::new(0),
            wake: Notify::new(),
            leading: AtomicBool::new(false),
            answering: AtomicBool::new(true),
            returns: watch::Sender::new(None),
        })
    }

    /// The client of this moment.
    pub(super) fn client(&self) -> Client {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).patient.clone()
    }

    /// The same for what is asked again and again anyway: a call that the server puts off fails at once.
    pub(super) fn plain_client(&self) -> Client {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).plain.clone()
    }

    /// The one with which a watch is begun.
    pub(super) fn client_to_watch(&self) -> Client {
        if self.is_just_back() { self.plain_client() } else { self.client() }
    }

    /// Calls from now on have connections of their own: those there are may lead nowhere.
    pub(super) fn reconnect(&self) {
        match Clients::new(&self.config) {
            Ok(clients) => *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients,
            Err(error) => tracing::warn!(%error, "the old connections to the API server are kept"),
        }
    }

    /// Objects of a kind, whatever they look like.
    pub(super) fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        self.api_of(resource)
    }

    /// Objects of a kind as `K`.
    pub(super) fn api_of<K>(&self, resource: &ApiResource) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        Api::namespaced_with(self.client(), &self.names.namespace, resource)
    }

    /// Takes in a piece of news and shows what follows from it.
    pub(super) fn hear(&self, source: Source, news: News) {
        let cut = matches!(news, News::Cut);
        let mut world = self.world();
        let was_known = world.is_known();
        world.follow(source, &news);
        let affected = world.hear(source, news);
        let is_known = world.is_known();
        for service in &affected {
            self.show(&world, service);
        }
        let live = world.is_live() && self.answering.load(Ordering::Relaxed);
        if live && !self.view.snapshot().connected {
            self.view.connected(true);
            self.view.synced();
        } else if cut && self.view.snapshot().connected {
            self.view.connected(false);
        } else if live {
            self.view.heard();
        }
        drop(world);
        self.changed.send_modify(|count| *count += 1);
        self.mark(affected);
        if is_known && !was_known {
            // Who writes has waited for it.
            self.wake.notify_one();
        }
    }

    /// Takes in what a call of ours was answered with, before a watch tells of it.
    pub(super) fn hear_back(&self, source: Source, news: News) {
        let mut world = self.world();
        for service in world.hear(source, news) {
            self.show(&world, &service);
        }
        drop(world);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Waits until `holds` is true of what is known of a service (nothing, when it is gone), or `limit` is over.
    pub(super) async fn until(&self, service: &ServiceName, limit: Duration, holds: impl Fn(Option<&Objects>) -> bool) -> bool {
        self.until_known(limit, |world| holds(world.get(service))).await
    }

    /// Waits until `holds` is true of all that is known, or `limit` is over.
    pub(super) async fn until_known(&self, limit: Duration, holds: impl Fn(&World) -> bool) -> bool {
        let mut changed = self.changed.subscribe();
        let watch = async {
            loop {
                changed.borrow_and_update();
                if self.look(&holds) || changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, watch).await.is_ok()
    }

    /// Changes what is known of a service beside what watches tell, and shows what follows from it.
    pub(super) fn amend(&self, service: &ServiceName, change: impl FnOnce(&mut Objects)) {
        let mut world = self.world();
        if let Some(objects) = world.get_mut(service) {
            change(objects);
            self.show(&world, service);
        }
        drop(world);
        self.changed.send_modify(|count| *count += 1);
    }

    /// From now on routes can be written, or cannot: services are shown anew, and who writes looks at them.
    pub(super) fn offer(&self, offer: Offer) {
        let mut world = self.world();
        if !world.offer(offer) {
            return;
        }
        if let Some(lack) = world.lack() {
            tracing::warn!(remedy = lack.remedy, "services get no routes from outside: {}", lack.what);
        } else {
            tracing::info!("services get routes from outside");
        }
        let all: Vec<ServiceName> = world.services().map(|(name, _)| name.clone()).collect();
        for service in &all {
            self.show(&world, service);
        }
        drop(world);
        self.changed.send_modify(|count| *count += 1);
        self.mark(all);
    }

    /// What is known of a service at this moment.
    pub(super) fn objects(&self, service: &ServiceName) -> Option<Objects> {
        self.world().get(service).cloned()
    }

    /// Runs `look` over all that is known.
    pub(super) fn look<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.world())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // What is known is consistent between any two statements, so a panic of another holder does not spoil it.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, world: &World, service: &ServiceName) {
        match world.get(service).and_then(|objects| state::service(objects, world.lack())) {
            Some(state) => self.view.put(state),
            None => self.view.remove(service),
        }
    }

    /// Has these services looked at by who writes.
    pub(super) fn mark(&self, services: impl IntoIterator<Item = ServiceName>) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        let before = dirty.len();
        dirty.extend(services);
        if dirty.len() > before {
            self.wake.notify_one();
        }
    }

    /// The services to look at.
    pub(super) fn take_dirty(&self) -> BTreeSet<ServiceName> {
        std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_leading(&self) -> bool {
        self.leading.load(Ordering::Relaxed)
    }

    /// Whether the API server has just answered. A watch hears nothing while its server is out of reach, or has lost its
    /// own store, and may go on hearing nothing long after: so all of them begin anew when it is back.
    pub(super) fn answered(&self, answered: bool) {
        let mut world = self.world();
        let before = self.answering.load(Ordering::Relaxed);
        if answered && !before {
            tracing::info!("the API server answers again");
            // What is known counts only when it has been told anew.
            world.doubt();
            self.answering.store(true, Ordering::Relaxed);
            self.returns.send_replace(Some(Instant::now()));
        } else if !answered && before {
            tracing::warn!("the API server does not answer");
            self.answering.store(false, Ordering::Relaxed);
            self.view.connected(false);
        } else if answered && self.view.snapshot().connected {
            self.view.heard();
        }
    }

    /// Tells of each return of the API server.
    pub(super) fn returns(&self) -> Returns {
        self.returns.subscribe()
    }

    /// Whether the API server was away until a moment ago.
    pub(super) fn is_just_back(&self) -> bool {
        self.returns.borrow().is_some_and(|at| at.elapsed() < SOON)
    }

    /// From now on this manager writes, or does no longer.
    pub(super) fn lead(&self, leading: bool) {
        if self.leading.swap(leading, Ordering::Relaxed) == leading {
            return;
        }
        tracing::info!(leading, "who writes the cluster's objects has changed");
        let all: Vec<ServiceName> = self.look(|world| world.services().map(|(name, _)| name.clone()).collect());
        self.mark(all);
        self.wake.notify_one();
    }
}

//! What the parts of the backend have in common: the engine, the view, the limits on what runs at the same time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use podman_api::models::ListContainer;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::abilities::Abilities;
use super::client::{Engine, EngineError};
use super::images::{Fetched, Images, OnProgress, Wanted};
use super::logs;
use super::name_server;
use super::names::{self, Names};
use super::observed::Observed;
use super::pasts::Pasts;
use super::records::Stored;
use super::secrets::Secrets;
use super::service::{Message, Service};
use super::settings::Settings;
use super::turns::Turns;
use crate::backend::RegistryCredentials;
use crate::backend::view::View;
use crate::domain::name::ServiceName;
use crate::domain::spec::{PullPolicy, ServiceSpec};
use crate::domain::status::ReplicaState;
use crate::error::Result;
use crate::lifecycle::Tasks;
use crate::telemetry::Metrics;

/// The common parts.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) names: Names,
    pub(super) engine: Engine,
    pub(super) view: View,
    pub(super) metrics: Metrics,
    pub(super) images: Images,
    pub(super) secrets: Secrets,
    pub(super) turns: Turns,
    pub(super) pasts: Pasts,
    /// Work on containers, bounded: the engine does not get faster by more of it.
    pub(super) operations: Semaphore,
    /// Health checks, bounded.
    pub(super) checks: Semaphore,
    /// The network of the services, which should be internal, is not.
    open_network: AtomicBool,
    /// The engine's processes are in the machine's process table as seen from here.
    local: AtomicBool,
    /// It is of the same user besides.
    of_this_user: AtomicBool,
    /// Where published ports are reached; looked up with each connection to the engine.
    services_address: RwLock<IpAddr>,
    /// The engine has no init process to put into containers.
    pub(super) no_init: AtomicBool,
    /// When this machine was started.
    pub(super) boot: Timestamp,
    pub(super) cancelled: CancellationToken,
    tasks: Tasks,
    abilities: RwLock<Arc<Abilities>>,
    services: Mutex<HashMap<ServiceName, mpsc::UnboundedSender<Message>>>,
    /// Services that have not been looked at since the start, plus one for the list of them.
    unseen: AtomicUsize,
    listed: AtomicBool,
}

impl Shared {
    pub(super) fn new(settings: Settings, names: Names, engine: Engine, tasks: Tasks, metrics: Metrics, boot: Timestamp) -> Self {
        let folder = engine.socket().parent().unwrap_or("/".as_ref());
        Self {
            operations: Semaphore::new(settings.concurrent_operations.max(1)),
            checks: Semaphore::new(settings.concurrent_checks.max(1)),
            turns: Turns::new(folder, &settings.instance),
            pasts: Pasts::new(folder, &settings.instance),
            services_address: RwLock::new(settings.publish_address),
            settings,
            names,
            engine,
            view: View::new(),
            metrics,
            images: Images::default(),
            secrets: Secrets::default(),
            open_network: AtomicBool::new(false),
            local: AtomicBool::new(false),
            of_this_user: AtomicBool::new(false),
            no_init: AtomicBool::new(false),
            boot,
            cancelled: CancellationToken::new(),
            tasks,
            abilities: RwLock::default(),
            services: Mutex::default(),
            unseen: AtomicUsize::new(1),
            listed: AtomicBool::new(false),
        }
    }

    /// What the engine can do; empty until it has answered for the first time.
    pub(super) fn abilities(&self) -> Arc<Abilities> {
        self.abilities.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches an image, with the credentials of the settings unless there are others. Dropping the future calls it off.
    pub(super) async fn fetch(
        &self,
        image: &str,
        policy: PullPolicy,
        credentials: Option<RegistryCredentials>,
        progress: OnProgress,
    ) -> Result<Fetched> {
        let abilities = self.abilities();
        let credentials = match credentials {
            Some(credentials) => Some(credentials),
            None => self.settings.credentials_for(image).await?,
        };
        let timeout = self.settings.pull_timeout;
        let wanted = Wanted { image, policy, credentials, timeout, architecture: &abilities.architecture, progress };
        self.images.fetch(&self.engine, &self.metrics, wanted).await
    }

    pub(super) fn set_abilities(&self, abilities: Abilities) {
        *self.abilities.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(abilities);
    }

    /// Whether process ids that the engine names mean the same processes here.
    pub(super) fn is_local(&self) -> bool {
        self.local.load(Ordering::Relaxed)
    }

    /// Finds out whether they do: a peer in another process namespace has no process id here.
    pub(super) async fn look_where_it_is(&self) {
        let stream = tokio::net::UnixStream::connect(self.engine.socket()).await;
        let peer = stream.ok().and_then(|stream| stream.peer_cred().ok());
        let local = peer.and_then(|peer| peer.pid()).is_some_and(|pid| pid > 0);
        self.local.store(local, Ordering::Relaxed);
        let own = rustix::process::geteuid().as_raw();
        self.of_this_user.store(local && peer.is_some_and(|peer| peer.uid() == own), Ordering::Relaxed);
    }

    /// Whether the folders in which an engine of this user keeps its state are those of this engine.
    fn is_of_this_user(&self) -> bool {
        self.of_this_user.load(Ordering::Relaxed)
    }

    /// Where ports that are published on all addresses are reached.
    pub(super) fn services_address(&self) -> IpAddr {
        *self.services_address.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up where services are reached. An engine that was started anew may have another address, and so have all its
    /// containers then.
    pub(super) async fn look_where_services_are(&self) -> Result<(), EngineError> {
        let Some(host) = &self.settings.services_host else { return Ok(()) };
        let found = tokio::net::lookup_host((host.as_str(), 0)).await.map(|mut addresses| addresses.next());
        let found = found.map_err(|error| EngineError::Away(format!("'{host}' cannot be looked up: {error}")))?;
        let found = found.ok_or_else(|| EngineError::Away(format!("'{host}' has no address")))?;
        *self.services_address.write().unwrap_or_else(PoisonError::into_inner) = found.ip();
        Ok(())
    }

    /// Makes the two networks of the installation, unless they exist.
    pub(super) async fn ensure_networks(&self) -> Result<(), EngineError> {
        // One after the other, so that they get the same addresses when they are made anew.
        let open = !self.ensure_network(&self.settings.network, true).await?;
        self.ensure_network(&self.settings.egress_network(), false).await?;
        if open && !self.open_network.swap(open, Ordering::Relaxed) {
            let network = &self.settings.network;
            tracing::warn!(network, "the network of the services was made by somebody else and leads to the outside");
        }
        self.open_network.store(open, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a network unless it exists; whether it is an internal one.
    async fn ensure_network(&self, name: &str, internal: bool) -> Result<bool, EngineError> {
        if let Some(internal) = self.engine.network(name).await? {
            return Ok(internal);
        }
        // Of an earlier network of that name, which would give this one its address. Another manager may have made it
        // meanwhile and started a container in it, so only what does not exist is forgotten.
        self.tidy_name_server(&[]).await?;
        self.engine.create_network(name, internal, (names::OWNER, self.names.owner())).await?;
        // Another manager may have been quicker, and have meant something else.
        Ok(self.engine.network(name).await?.unwrap_or(internal))
    }

    fn name_server_dir(&self) -> Option<&Path> {
        self.settings.name_server_dir.as_deref().filter(|_| self.is_of_this_user())
    }

    /// Where an engine that gives the namespace of its networks up too early keeps what it knows of it.
    pub(super) fn network_namespace_dir(&self) -> Option<&Path> {
        self.settings.temporary_dir.as_deref().filter(|_| self.is_of_this_user() && self.abilities().major() == Some(4))
    }

    /// To be called before a container is started: what the engine knows of a name server that has ended is taken away,
    /// and one that nobody finds who is started now is ended, unless somebody else's containers run: they may be reached
    /// only as long as it does.
    pub(super) async fn ready_name_server(&self) -> Result<(), EngineError> {
        let Some(folder) = self.name_server_dir() else { return Ok(()) };
        name_server::forget_ended(folder);
        let Some(namespace) = self.network_namespace_dir() else { return Ok(()) };
        if !name_server::is_left_behind(folder, namespace) {
            return Ok(());
        }
        let theirs = |container: &ListContainer| {
            let owner = container.labels.as_ref().and_then(|labels| labels.get(names::OWNER));
            container.state.as_deref() == Some("running") && owner.is_none_or(|owner| owner != self.names.owner())
        };
        if !self.engine.all_containers().await?.iter().any(theirs) {
            name_server::end_left_behind(folder, namespace).await;
        }
        Ok(())
    }

    /// Has the name server of the services' networks forget containers that do not exist; `listed` are some that do.
    pub(super) async fn tidy_name_server(&self, listed: &[ListContainer]) -> Result<(), EngineError> {
        let Some(folder) = self.name_server_dir() else { return Ok(()) };
        let networks = [self.settings.network.as_str(), &self.settings.egress_network()];
        let mut suspects = name_server::known(folder, &networks);
        let mut exist = |containers: &[ListContainer]| {
            for id in containers.iter().filter_map(|container| container.id.as_ref()) {
                suspects.remove(id);
            }
            suspects.is_empty()
        };
        // What this installation does not own may be in its networks all the same.
        if !exist(listed) && !exist(&self.engine.all_containers().await?) {
            name_server::forget(folder, &networks, suspects).await;
        }
        Ok(())
    }

    /// What the engine cannot or does not enforce of a spec.
    pub(super) fn warnings_for(&self, spec: &ServiceSpec) -> Vec<String> {
        let mut warnings = self.abilities().warnings_for(spec);
        if spec.autoscaling.is_some() {
            warnings.push(format!("autoscaling is a cluster's: here {} replicas run until somebody scales", spec.replicas));
        }
        if !spec.egress && self.open_network.load(Ordering::Relaxed) {
            let network = &self.settings.network;
            warnings.push(format!(
                "egress not enforced: the network '{network}' was made by somebody else and leads to the outside; remove it while \
                 no service runs and it is made anew, or use another network"
            ));
        }
        warnings
    }

    /// What the engine says of a container; `None` when it is gone.
    pub(super) async fn look(&self, id: &str, port: Option<u16>) -> Result<Option<Observed>, EngineError> {
        let mut observed = match self.engine.inspect(id).await {
            Ok(inspected) => Observed::of_inspected(inspected, port, self.services_address()),
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        if observed.state == ReplicaState::Exited {
            observed.last_words = logs::last_lines(&self.engine, id).await;
        }
        Ok(Some(observed))
    }

    /// Does work that goes on when nobody waits for it any more; nothing when it panicked.
    pub(super) async fn do_whole<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.tasks.spawn_for_request(name, work).await.ok().flatten()
    }

    // ---- the services' tasks

    /// Tells a service's task something; whether there is one.
    pub(super) fn tell(&self, service: &str, message: Message) -> bool {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.get(service).is_some_and(|inbox| inbox.send(message).is_ok())
    }

    /// Whether a task works for the service.
    pub(super) fn has(&self, service: &str) -> bool {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.get(service).is_some_and(|inbox| !inbox.is_closed())
    }

    /// The services that tasks work for.
    pub(super) fn service_names(&self) -> Vec<ServiceName> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Starts the task of a service and gives it its first message; when there is a task already, it gets the message.
    pub(super) fn adopt(self: &Arc<Self>, stored: &Stored, first: Message, established: bool, first_look: bool) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let name = stored.record.name.clone();
        if let Some(inbox) = services.get(&name).filter(|inbox| !inbox.is_closed()) {
            let _ = inbox.send(Message::Record(stored.clone()));
            let _ = inbox.send(first);
            return;
        }
        let (inbox, messages) = mpsc::unbounded_channel();
        services.insert(name, inbox.clone());
        if first_look {
            self.unseen.fetch_add(1, Ordering::Relaxed);
        }
        let mut service = Service::new(self.clone(), stored, inbox, messages, established, first_look);
        service.hear(first);
        // In the view from here on, not only when its task gets its first turn.
        service.publish();
        drop(services);
        self.tasks.spawn("service", service.run());
    }

    /// Forgets the task of a service, which calls this when nothing is left of the service.
    pub(super) fn forget(&self, service: &ServiceName) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.remove(service);
        // Before the next service of this name can be published.
        self.view.remove(service);
    }

    /// Whether the list of everything has never been taken in as a whole.
    pub(super) fn is_first_list(&self) -> bool {
        !self.listed.load(Ordering::Acquire)
    }

    /// The list of everything has been taken in.
    pub(super) fn listed(&self) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            self.seen();
        }
    }

    /// One of the things that the first look consists of is done; the last one makes the view complete.
    pub(super) fn seen(&self) {
        if self.unseen.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.view.synced();
        }
    }
}

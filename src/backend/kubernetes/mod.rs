//! Services in a Kubernetes cluster.
//!
//! | file | what it is for |
//! |---|---|
//! | `settings`, `connect` | what the backend is told, and the way to the cluster |
//! | `names`, `kinds`, `collisions` | what objects are called, of which kinds they are, and names that two services would share |
//! | `root` | records: a service's root object, which owns all others |
//! | `objects/` | pure: from a record to the objects of a service |
//! | `observed`, `world`, `watch` | what there is, as watches tell it |
//! | `state`, `reasons`, `containers`, `unplaced`, `warned` | pure: where a service stands, and why it is not as it should be |
//! | `extension`, `unrouted` | kinds of routes that a cluster may lack, and why a service has no route |
//! | `plan`, `reconcile`, `secrets` | what to write, and writing it |
//! | `dry_run` | what writing it would do, as the API server says |
//! | `trouble` | what the cluster warns of, asked while something is wrong |
//! | `lease`, `leader`, `turns`, `key` | which of several managers writes, whose turn it is to record, and the key of their sessions |
//! | `logs`, `followed`, `stats` | looking into pods |
//! | `examine` | what `mcp-manager doctor` looks at |
//! | `errors` | from the API server's words to errors of the product |
//! | `shared` | what the parts share |
//!
//! Pods are made, started again and moved by the cluster; nothing here drives them.

mod collisions;
mod connect;
mod containers;
mod dry_run;
mod errors;
mod examine;
mod extension;
mod followed;
mod key;
mod kinds;
mod leader;
mod lease;
mod logs;
mod names;
mod objects;
mod observed;
mod plan;
mod reasons;
mod reconcile;
mod root;
mod secrets;
mod settings;
mod shared;
mod state;
mod stats;
mod trouble;
mod turns;
mod unplaced;
mod unrouted;
mod warned;
mod watch;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch as watch_channel};
use tokio_util::sync::CancellationToken;

pub use examine::{Look, examine};
pub use key::session_key;
pub use reasons::CODES as REASONS;
pub use settings::{Access, Gateway, Route, SecretSource, Settings};

use self::collisions::{Claim, Claims};
use self::names::Names;
use self::observed::WorkloadObject;
use self::reconcile::in_time;
use self::root::Root;
use self::shared::Shared;
use self::turns::{Turn, Turns};
use self::world::World;
use super::{
    Backend, BackendInfo, Build, Built, Change, ImageDetail, ImageInfo, LogStream, Places, Plan, RegistryCredentials, overtaken,
    taken,
};
use crate::domain::name::ServiceName;
use crate::domain::spec::{MountSource, PullPolicy, ServiceSpec};
use crate::domain::status::{Desired, LogQuery, Progress, Record, ReplicaStats, ServiceEvent, ServiceState, Snapshot};
use crate::error::{Error, FieldError, Kind, Result};
use crate::lifecycle::Tasks;

/// How long a change waits for the first look at the cluster, and for an API server that is away.
const FIRST_LOOK: Duration = Duration::from_secs(15);
const RETURN: Duration = Duration::from_secs(5);
/// How much longer than the service itself may take the cluster may need for a deletion or a restart.
const GRACE: Duration = Duration::from_mins(1);
/// How often a deletion is tried that others overtake.
const ATTEMPTS: u32 = 5;
/// Our name as the writer of what asks for a restart. It is kept apart, so that writing a workload keeps it.
const RESTARTER: &str = "mcp-manager-restart";

/// The backend over one namespace of a cluster.
pub struct Kubernetes {
    shared: Arc<Shared>,
    turns: Arc<Turns>,
    claims: Claims,
}

impl Kubernetes {
    /// Finds the cluster. Its API server need not answer yet: it is waited for by [`Backend::run`].
    pub async fn connect(mut settings: Settings, tasks: Tasks) -> Result<Arc<Self>> {
        let (config, namespace) = connect::way(&mut settings).await?;
        let names = Names { instance: settings.instance.clone(), namespace };
        let shared = Arc::new(Shared::new(config, names, settings, tasks)?);
        Ok(Arc::new(Self { turns: Turns::new(shared.clone()), shared, claims: Claims::default() }))
    }

    /// Waits until it is known what there is.
    async fn ready(&self) -> Result<()> {
        let known = self.shared.view.is_known_within(FIRST_LOOK, RETURN).await;
        if known { Ok(()) } else { Err(errors::away()) }
    }

    fn state(&self, name: &ServiceName) -> Result<Arc<ServiceState>> {
        self.shared.view.find(name)
    }

    fn root(&self, name: &ServiceName) -> Result<Root> {
        self.state(name)?;
        let root = self.shared.objects(name).and_then(|objects| objects.root);
        root.ok_or_else(|| Error::not_found("service", name.as_str(), []))
    }

    /// Refuses what would take objects of another service. Keep the claim until the change is recorded.
    fn claim(&self, name: &ServiceName, before: Option<&ServiceSpec>, spec: &ServiceSpec) -> Result<Arc<Claim>> {
        self.shared.look(|world| self.claims.claim(&self.shared.names, world, name, before, spec))
    }

    /// Whether a change takes what another manager may be about to take.
    fn takes(&self, name: &ServiceName, before: &ServiceSpec, spec: &ServiceSpec) -> bool {
        let names = collisions::added(&self.shared.names, name, Some(before), spec);
        spec.most_replicas() > before.most_replicas() || !names.is_empty()
    }

    /// Takes in a root object that was just written.
    fn heard(&self, name: &ServiceName, object: &DynamicObject) -> Result<Arc<Record>> {
        let record = reconcile::told_root(&self.shared, name, object)
            .ok_or_else(|| Error::new(Kind::Internal, "the cluster has changed the record that was written"))?;
        self.shared.mark([name.clone()]);
        Ok(record)
    }
}

/// What a spec asks for that a cluster does not do.
fn check(spec: &ServiceSpec, settings: &Settings) -> Result<()> {
    let mut wrong = Vec::new();
    if !spec.ports.is_empty() {
        wrong.push(FieldError::new("ports", "a cluster has no loopback ports of a host", "use 'port' and the service's URL"));
    }
    if !spec.networks.is_empty() {
        wrong.push(FieldError::new("networks", "a cluster has no networks to attach to", "leave it out; use 'egress'"));
    }
    for (index, mount) in spec.volumes.iter().enumerate() {
        if matches!(mount.source, MountSource::Host(_)) {
            let field = format!("volumes[{index}]");
            wrong.push(FieldError::new(field, "a cluster's nodes share no directories with services", "use a named volume"));
        }
    }
    if !wrong.is_empty() {
        return Err(Error::invalid("the service cannot run on a cluster", wrong));
    }
    if super::bridge::is_needed(spec) {
        objects::check_bridge(spec, settings)?;
    }
    Ok(())
}

/// What a change of a service asks for that a cluster does not do.
fn check_change(before: &Record, spec: &ServiceSpec, settings: &Settings) -> Result<()> {
    check(spec, settings)?;
    if plan::changes_kind(before, spec) {
        let message = "several replicas that write to volumes have one each, and a single one shares its volumes by name";
        return Err(Error::invalid_field("replicas", message, "delete the service and create it anew"));
    }
    Ok(())
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(shared::FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

#[async_trait]
impl Backend for Kubernetes {
    fn view(&self) -> watch_channel::Receiver<Arc<Snapshot>> {
        self.shared.view.subscribe()
    }

    fn events(&self) -> broadcast::Receiver<ServiceEvent> {
        self.shared.view.events()
    }

    async fn info(&self) -> Result<BackendInfo> {
        let version = in_time(self.shared.client().apiserver_version(), "ask the cluster for its version").await?;
        let pids = "a cluster limits processes by node, not by service".to_owned();
        Ok(BackendInfo {
            kind: "kubernetes",
            version: version.git_version,
            architecture: version.platform.rsplit('/').next().unwrap_or_default().to_owned(),
            rootless: true,
            unenforced_limits: [("pids_limit".to_owned(), pids)].into(),
            details: BTreeMap::from([
                ("namespace".to_owned(), self.shared.names.namespace.clone()),
                ("writes".to_owned(), self.shared.is_leading().to_string()),
            ]),
        })
    }

    async fn places(&self) -> Result<Places> {
        self.ready().await?;
        let turn = self.turns.take().await?;
        Ok(Places::shared(&self.shared.view.snapshot(), turn))
    }

    async fn create(&self, name: &ServiceName, change: Change) -> Result<Arc<Record>> {
        self.ready().await?;
        check(&change.spec, &self.shared.settings)?;
        let turn = self.turns.join().await?;
        if self.shared.view.get(name).is_some() {
            return Err(taken(name));
        }
        let _claim = self.claim(name, None, &change.spec)?;
        let record = change.first(name);
        let object: DynamicObject = serde_json::from_value(root::new(&self.shared.names, &record)?)
            .map_err(|error| Error::internal("the record is not well made", error))?;
        let created = turn.write(self.shared.api(&kinds::root()).create(&parameters(), &object)).await;
        let created = created.map_err(|error| if error.kind == Kind::AlreadyExists { taken(name) } else { error })?;
        self.heard(name, &created)
    }

    async fn update(&self, name: &ServiceName, expected: u64, change: Change) -> Result<Arc<Record>> {
        self.ready().await?;
        let root = self.root(name)?;
        if root.record.generation != expected {
            return Err(overtaken(name));
        }
        if root.is_removed() {
            return Err(Error::new(Kind::Conflict, format!("the service '{name}' is being deleted")));
        }
        let before = &root.record;
        check_change(before, &change.spec, &self.shared.settings)?;
        let takes = self.takes(name, &before.spec, &change.spec);
        let turn = if takes { Some(self.turns.join().await?) } else { None };
        let _claim = self.claim(name, Some(&before.spec), &change.spec)?;
        if change.desired == Desired::Running && change.spec == before.spec && change.template == before.template {
            // It has failed and is tried again: the cluster tries what is there later and later.
            match self.renew(name, before).await {
                Err(error) if error.kind != Kind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.write_next(name, &root, change, turn.as_deref()).await
    }

    async fn plan(&self, name: &ServiceName, change: Change) -> Result<Plan> {
        self.ready().await?;
        let root = self.shared.objects(name).and_then(|objects| objects.root);
        match &root {
            Some(root) => check_change(&root.record, &change.spec, &self.shared.settings)?,
            None => check(&change.spec, &self.shared.settings)?,
        }
        self.claim(name, root.as_ref().map(|root| root.record.spec.as_ref()), &change.spec)?;
        dry_run::plan(&self.shared, name, change).await
    }

    async fn restart(&self, name: &ServiceName) -> Result<()> {
        self.ready().await?;
        let root = self.root(name)?;
        if root.record.desired != Desired::Running {
            return Ok(());
        }
        let now = self.renew(name, &root.record).await?;
        let spec = &root.record.spec;
        let each = spec.start_timeout.duration() + spec.stop_timeout.duration();
        let limit = each.saturating_mul(spec.replicas.max(1)) + GRACE;
        let ended = |objects: Option<&world::Objects>| {
            objects.is_none_or(|objects| state::is_restarted(objects, &now) || state::failure(objects).is_some())
        };
        if !self.shared.until(name, limit, ended).await {
            return Err(Error::new(Kind::Timeout, format!("'{name}' did not get ready again in time")));
        }
        let objects = self.shared.objects(name).ok_or_else(|| Error::not_found("service", name.as_str(), []))?;
        state::failure(&objects).map_or(Ok(()), Err)
    }

    async fn remove(&self, name: &ServiceName, volumes: bool) -> Result<()> {
        self.ready().await?;
        let root = self.root(name)?;
        if volumes {
            self.remove_volumes(&root.record).await?;
        }
        self.mark_removed(name).await?;
        let limit = root.record.spec.stop_timeout.duration() + GRACE;
        let gone = |objects: Option<&world::Objects>| {
            objects.is_none_or(|objects| objects.root.as_ref().is_some_and(|other| other.uid != root.uid))
        };
        if self.shared.until(name, limit, gone).await {
            return Ok(());
        }
        Err(Error::new(Kind::Timeout, format!("'{name}' is still being deleted by the cluster"))
            .remedy("the deletion goes on; look at what its pods wait for"))
    }

    async fn logs(&self, name: &ServiceName, query: LogQuery) -> Result<LogStream> {
        self.ready().await?;
        let state = self.state(name)?;
        logs::stream(self.shared.clone(), &state, query).await
    }

    async fn stats(&self, name: &ServiceName) -> Result<Vec<ReplicaStats>> {
        let state = self.state(name)?;
        stats::of(&self.shared, &state).await
    }

    async fn inspect(&self, name: &ServiceName) -> Result<Vec<Value>> {
        self.state(name)?;
        let selection = ListParams::default().labels(&self.shared.names.service_selector(name));
        let pods = in_time(self.shared.api(&kinds::pods()).list(&selection), "look at its pods").await?;
        let described = pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(|mut pod| {
            pod.metadata.managed_fields = None;
            serde_json::to_value(pod)
        });
        described.collect::<Result<_, _>>().map_err(|error| Error::internal("a pod cannot be shown", error))
    }

    async fn pull(
        &self,
        _image: &str,
        _policy: PullPolicy,
        _credentials: Option<RegistryCredentials>,
        _progress: Arc<dyn Fn(Progress) + Send + Sync>,
    ) -> Result<ImageInfo> {
        Err(Error::new(Kind::NotSupported, "a cluster's nodes pull images themselves, when a service needs them")
            .remedy("create the service; how its image fares is shown there"))
    }

    async fn images(&self) -> Result<Vec<ImageInfo>> {
        Err(Error::new(Kind::NotSupported, "which images a cluster's nodes have is not for the manager to see")
            .remedy("look with: kubectl get nodes -o yaml"))
    }

    async fn image(&self, _reference: &str) -> Result<Option<ImageDetail>> {
        Err(Error::new(Kind::NotSupported, "a cluster does not tell what is in an image")
            .remedy("say in the template what the image listens on and runs"))
    }

    async fn build(&self, _build: Build, _progress: Arc<dyn Fn(Progress) + Send + Sync>) -> Result<Built> {
        Err(Error::new(Kind::NotSupported, "a cluster makes no images")
            .remedy("make it with a manager on Podman or in your pipeline, push it to a registry, and name it in the template"))
    }

    async fn run(&self, cancelled: CancellationToken) {
        let work = async {
            let shared = &self.shared;
            tokio::join!(watch::follow(shared.clone()), reconcile::run(shared.clone()), trouble::follow(shared.clone()));
        };
        let follow = async {
            tokio::select! {
                () = work => {}
                () = cancelled.cancelled() => {}
            }
        };
        tokio::join!(follow, leader::take_part(self.shared.clone(), cancelled.clone()));
    }
}

impl Kubernetes {
    /// Has the cluster replace all pods of a service, and make those that somebody has scaled away; when it was asked.
    async fn renew(&self, name: &ServiceName, record: &Record) -> Result<String> {
        let (kind, object) = (objects::workload_kind(&record.spec), self.shared.names.object(name.as_str()));
        let now = Timestamp::now().to_string();
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {names::RESTARTED: now}}}}});
        let parameters = PatchParams { field_manager: Some(RESTARTER.to_owned()), ..PatchParams::default() };
        let api = self.shared.api_of::<WorkloadObject>(&kind.resource());
        let written = in_time(api.patch(&object, &parameters, &Patch::Merge(patch)), "restart the workload").await?;
        reconcile::told(&self.shared, name, kind, &object, written);
        let replicas = |world: &World| world.get(name)?.workload.as_ref().map(|workload| workload.replicas);
        if self.shared.look(replicas) == Some(0) {
            reconcile::scale(&self.shared, name, kind, &object, record.spec.replicas).await?;
        }
        Ok(now)
    }

    /// Writes the record that follows that of `root`.
    async fn write_next(&self, name: &ServiceName, root: &Root, change: Change, turn: Option<&Turn>) -> Result<Arc<Record>> {
        let record = change.after(&root.record);
        let patch = Patch::Merge(root::change(&root.version, &record)?);
        let object = self.shared.names.object(name.as_str());
        let (api, parameters) = (self.shared.api(&kinds::root()), shared::patching());
        let write = api.patch(&object, &parameters, &patch);
        let written = if let Some(turn) = turn { turn.write(write).await } else { in_time(write, "write the record").await };
        let written = written.map_err(|error| match error.kind {
            Kind::Conflict => overtaken(name),
            Kind::NotFound => Error::not_found("service", name.as_str(), []),
            _ => error,
        })?;
        self.heard(name, &written)
    }

    /// Records that a service is to be deleted. Who writes its objects deletes them, so that none is made meanwhile.
    async fn mark_removed(&self, name: &ServiceName) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Ok(root) = self.root(name) else { return Ok(()) };
            if root.is_removed() {
                return Ok(());
            }
            let before = &root.record;
            let change = Change { spec: before.spec.clone(), template: before.template.clone(), desired: Desired::Removed };
            match self.write_next(name, &root, change, None).await {
                // Somebody else has just changed or deleted it; the watch will tell.
                Err(error) if matches!(error.kind, Kind::Conflict | Kind::NotFound) => {
                    let changed = |objects: Option<&world::Objects>| {
                        objects.and_then(|objects| objects.root.as_ref()).is_none_or(|other| other.version != root.version)
                    };
                    self.shared.until(name, RETURN, changed).await;
                }
                other => return other.map(|_| ()),
            }
        }
        Err(overtaken(name))
    }

    /// Deletes the volumes that no other service uses. They go when the last pod that has them has gone.
    async fn remove_volumes(&self, record: &Record) -> Result<()> {
        let (shared, api) = (&self.shared, self.shared.api(&kinds::claims()));
        let selection = ListParams::default().labels(&shared.names.service_selector(&record.name));
        let own = in_time(api.list(&selection), "list the service's volumes").await?;
        let own = own.items.into_iter().filter_map(|claim| claim.metadata.name);
        let used: Vec<String> = shared.look(|world| {
            let others = world.services().filter(|(other, _)| **other != record.name);
            let specs = others.filter_map(|(_, objects)| objects.root.as_ref()).map(|root| root.record.spec.clone());
            specs.flat_map(|spec| objects::shared_claims(&shared.names, &spec)).collect()
        });
        let shared_ones = objects::shared_claims(&shared.names, &record.spec).into_iter().filter(|claim| !used.contains(claim));
        for claim in own.chain(shared_ones) {
            match in_time(api.delete(&claim, &DeleteParams::background()), "delete a volume").await {
                Err(error) if error.kind == Kind::NotFound => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}

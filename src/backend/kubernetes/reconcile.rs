//! Writes what services' records ask for, while this manager is the one that writes: services beside each other, each by
//! one task at a time, again with a growing pause when it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, ValidationDirective};
use kube::core::ApiResource;
use serde_json::json;
use tokio::time::Instant;

use super::errors;
use super::kinds::{self, Owned};
use super::names;
use super::objects::{self, Context, Object};
use super::observed::{Workload, WorkloadObject, Written};
use super::plan::{self, Action};
use super::root::{self, Refusal, Root};
use super::secrets;
use super::shared::{Shared, patching};
use super::world::{Item, News, Objects, Source, World};
use crate::domain::name::ServiceName;
use crate::domain::status::Record;
use crate::error::{Error, Kind, Result};

/// So many services are written at the same time.
const CONCURRENT: usize = 8;
/// Pauses after a failure: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest time for one call.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes until it is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut waiting = BTreeSet::new();
    let mut busy = BTreeSet::new();
    let mut failed: BTreeMap<ServiceName, (Duration, Instant)> = BTreeMap::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        waiting.extend(shared.take_dirty());
        let now = Instant::now();
        // What has not been told of yet would be taken for missing.
        let is_known = shared.look(World::is_known);
        let ready: Vec<ServiceName> = waiting
            .iter()
            .filter(|name| is_known && !busy.contains(*name) && failed.get(*name).is_none_or(|(_, at)| *at <= now))
            .take(CONCURRENT.saturating_sub(under_way.len()))
            .cloned()
            .collect();
        for name in ready {
            waiting.remove(&name);
            if shared.is_leading() {
                busy.insert(name.clone());
                let shared = shared.clone();
                under_way.push(async move {
                    let result = service(&shared, &name).await;
                    tell_refusal(&shared, &name, result.as_ref().err()).await;
                    (name, result)
                });
            }
        }
        let next =
            waiting.iter().filter(|name| !busy.contains(*name)).filter_map(|name| failed.get(name)).map(|(_, at)| *at).min();
        tokio::select! {
            () = shared.wake.notified() => {}
            Some((name, result)) = under_way.next(), if !under_way.is_empty() => {
                busy.remove(&name);
                match result {
                    Ok(()) => {
                        failed.remove(&name);
                    }
                    Err(error) => {
                        let pause = failed.get(&name).map_or(FIRST_PAUSE, |(pause, _)| (*pause * 2).min(LONGEST_PAUSE));
                        tracing::warn!(service = %name, %error, "its objects could not be written");
                        failed.insert(name.clone(), (pause, Instant::now() + pause));
                        waiting.insert(name);
                    }
                }
            }
            () = async { match next { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {}
        }
    }
}

/// Has all managers know why a service's objects could not be written, or that they were.
async fn tell_refusal(shared: &Shared, name: &ServiceName, error: Option<&Error>) {
    let root = shared.look(|world| world.get(name)?.root.clone());
    let Some(root) = root.filter(|root| !root.is_removed()) else { return };
    let refusal = match error {
        None => None,
        // That the server is away is no fault of the service.
        Some(error) if error.kind == Kind::BackendUnavailable => return,
        Some(error) => Some(Refusal {
            generation: root.record.generation,
            kind: error.kind,
            detail: error.detail.clone(),
            remedy: error.remedy.clone().unwrap_or_default(),
        }),
    };
    if root.refusal == refusal {
        return;
    }
    let written = async {
        let patch = Patch::Merge(root::refused(refusal.as_ref())?);
        let api = shared.api(&kinds::root());
        in_time(api.patch(&shared.names.object(name.as_str()), &patching(), &patch), "write why it is refused").await
    };
    match written.await {
        Ok(object) => drop(told_root(shared, name, &object)),
        Err(error) => tracing::warn!(service = %name, %error, "the other managers could not be told of it"),
    }
}

/// What a service lacks.
pub(super) struct Lacking {
    /// What to do with the objects that the service owns.
    pub(super) actions: Vec<Action>,
    /// Claims of volumes, name and object, that have to be there before its workload is written; empty when it is not.
    pub(super) claims: Vec<(String, serde_json::Value)>,
}

/// What a service with this root object and these others lacks.
pub(super) async fn lacking(shared: &Shared, root: &Root, objects: &Objects) -> Result<Lacking> {
    let held = secrets::of(shared, root, objects).await?;
    let context = Context {
        settings: &shared.settings,
        names: &shared.names,
        record: &root.record,
        root: &root.uid,
        secrets_digest: held.as_ref().map_or("", |held| held.digest.as_str()),
        replicas: plan::replicas(&root.record, objects),
    };
    let mut desired = objects::objects(&context)?;
    if !shared.look(World::offers_routes) {
        desired.retain(|object| !object.kind.is_extension());
    }
    if let Some(held) = &held {
        desired.insert(0, objects::secret(&context, &held.data));
    }
    let actions = plan::actions(objects, desired);
    let writes = actions.iter().any(|action| matches!(action, Action::Apply(object) if object.kind.is_workload()));
    Ok(Lacking { actions, claims: if writes { objects::claims(&context) } else { Vec::new() } })
}

/// Writes what one service lacks.
async fn service(shared: &Shared, name: &ServiceName) -> Result<()> {
    let Some(objects) = shared.objects(name) else { return Ok(()) };
    let Some(root) = objects.root.clone().filter(|root| !root.deleting) else { return Ok(()) };
    if root.is_removed() {
        return delete(shared, name, root.uid).await;
    }
    let Lacking { actions, claims } = lacking(shared, &root, &objects).await?;
    if actions.is_empty() {
        return Ok(());
    }
    report_recreation(shared, name, &objects, &actions);
    for (claim, json) in claims {
        create_missing(shared, &kinds::claims(), &claim, json).await?;
    }
    // What pods need is there before them.
    let (workload, others): (Vec<_>, Vec<_>) =
        actions.into_iter().partition(|action| matches!(action, Action::Apply(object) if object.kind.is_workload()));
    for batch in [others, workload] {
        let results = futures_util::future::join_all(batch.into_iter().map(|action| act(shared, name, action))).await;
        results.into_iter().collect::<Result<()>>()?;
    }
    Ok(())
}

/// Deletes a service: its root object, and before that everything which it owns.
async fn delete(shared: &Shared, name: &ServiceName, uid: String) -> Result<()> {
    let conditions = Preconditions { uid: Some(uid), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(conditions), ..DeleteParams::foreground() };
    let object = shared.names.object(name.as_str());
    match in_time(shared.api(&kinds::root()).delete(&object, &parameters), "delete the service").await {
        // Somebody else has deleted it, or made another one of this name since.
        Err(error) if matches!(error.kind, Kind::NotFound | Kind::Conflict) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// A workload that was there and is not any more has been deleted by somebody; that is said before it is made again.
fn report_recreation(shared: &Shared, name: &ServiceName, objects: &Objects, actions: &[Action]) {
    let again = actions.iter().any(|action| matches!(action, Action::Apply(object) if object.kind.is_workload()));
    let others_there = objects.written.keys().any(|(kind, _)| *kind == Owned::NetworkPolicy);
    if again && others_there && objects.workload.is_none() {
        tracing::warn!(service = %name, "its workload was deleted by somebody else and is made again");
        shared.view.say(name, "changed", "its workload was deleted by somebody else and is made again".to_owned());
    }
}

async fn act(shared: &Shared, name: &ServiceName, action: Action) -> Result<()> {
    match action {
        Action::Apply(object) => apply(shared, name, object).await,
        Action::Scale(kind, object, replicas) => scale(shared, name, kind, &object, replicas).await,
        Action::Delete(kind, object) => {
            let api = shared.api(&kind.resource());
            let parameters = DeleteParams::background();
            match in_time(api.delete(&object, &parameters), "delete what is not needed any more").await {
                Err(error) if error.kind != Kind::NotFound => return Err(error),
                _ => {}
            }
            // No watch tells of kinds that are not asked for.
            if kind.is_extension() {
                shared.hear_back(Source::Owned(kind), News::Gone { service: name.clone(), name: object });
            }
            Ok(())
        }
    }
}

/// Lets a workload have so many replicas.
pub(super) async fn scale(shared: &Shared, name: &ServiceName, kind: Owned, object: &str, replicas: u32) -> Result<()> {
    let change = json!({
        "metadata": {"annotations": {names::REPLICAS: replicas.to_string()}}, "spec": {"replicas": replicas},
    });
    let api = shared.api_of::<WorkloadObject>(&kind.resource());
    let patched = in_time(api.patch(object, &patching(), &Patch::Merge(change)), "scale the workload").await?;
    told(shared, name, kind, object, patched);
    Ok(())
}

async fn apply(shared: &Shared, name: &ServiceName, object: Object) -> Result<()> {
    let parameters = PatchParams { force: true, field_validation: Some(ValidationDirective::Strict), ..patching() };
    let doing = format!("write the {}", object.kind.resource().kind);
    if object.kind.is_workload() {
        let api = shared.api_of::<WorkloadObject>(&object.kind.resource());
        let written = in_time(api.patch(&object.name, &parameters, &Patch::Apply(&object.json)), &doing).await?;
        told(shared, name, object.kind, &object.name, written);
    } else {
        let api = shared.api(&object.kind.resource());
        let written = in_time(api.patch(&object.name, &parameters, &Patch::Apply(&object.json)), &doing).await?;
        let item = Item::Other(Written::read(&written.metadata));
        let news = News::Is { service: name.clone(), name: object.name, item: Box::new(item) };
        shared.hear_back(Source::Owned(object.kind), news);
    }
    Ok(())
}

/// Takes in a root object that was just written; its record, unless somebody else has spoiled that.
pub(super) fn told_root(shared: &Shared, service: &ServiceName, object: &DynamicObject) -> Option<Arc<Record>> {
    let root = Root::read(&object.metadata)?;
    let record = root.record.clone();
    let item = Box::new(Item::Root(root));
    shared.hear_back(Source::Roots, News::Is { service: service.clone(), name: String::new(), item });
    Some(record)
}

/// Takes in a workload that was just written.
pub(super) fn told(shared: &Shared, service: &ServiceName, kind: Owned, name: &str, object: WorkloadObject) {
    let written = Written::read(&object.metadata);
    let item = Item::Workload(Box::new(Workload::read(kind, object)), written);
    shared.hear_back(Source::Owned(kind), News::Is { service: service.clone(), name: name.to_owned(), item: Box::new(item) });
}

async fn create_missing(shared: &Shared, resource: &ApiResource, name: &str, json: serde_json::Value) -> Result<()> {
    let object: DynamicObject =
        serde_json::from_value(json).map_err(|error| Error::internal("an object is not well made", error))?;
    let api = shared.api(resource);
    match in_time(api.create(&PostParams::default(), &object), &format!("create the {} {name}", resource.kind)).await {
        Err(error) if error.kind == Kind::AlreadyExists => Ok(()),
        other => other.map(|_| ()),
    }
}

/// A call that is given up after some time; `doing` completes "cannot …".
pub(super) async fn in_time<T>(call: impl Future<Output = Result<T, kube::Error>>, doing: &str) -> Result<T> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|error| errors::api(error, doing)),
        Err(_) => Err(errors::away()),
    }
}

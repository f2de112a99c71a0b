//! The Role of `k8s/`: a manager with it and nothing else uses each of its verbs and is refused nothing, and without any one
//! of them something fails. So none is spare, and none is missing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};
use kube::api::{DeleteParams, PostParams};
use mcp_manager::backend::Backend as _;
use mcp_manager::backend::kubernetes::{Access, Kubernetes, Settings, session_key};
use mcp_manager::domain::spec::{Autoscaling, HealthCheck, Mount, MountSource, Probe, ServiceSpec};
use mcp_manager::domain::status::{LogQuery, Phase, ReplicaState, ServiceState};
use mcp_manager::lifecycle::Tasks;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Kind;
use crate::contract::{name, running, spec};
use crate::support::kubernetes::Namespace;
use crate::support::kubernetes_door::{Door, Heard, Right};

/// How long one thing may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long something is waited for after what it needs was refused.
const GLANCE: Duration = Duration::from_secs(1);
/// So many rights are tried beside each other.
const AT_ONCE: usize = 6;

pub(super) const ROLE: Kind = ("rbac.authorization.k8s.io", "v1", "Role", "roles");
const BINDING: Kind = ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings");
const LEASE: Kind = ("coordination.k8s.io", "v1", "Lease", "leases");
const REVIEW: Kind = ("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews");
/// What a service has only while its spec says so.
const OPTIONAL: [Kind; 5] = [
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "Service", "services"),
    ("networking.k8s.io", "v1", "Ingress", "ingresses"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
];

/// What a manager does, one after the other.
const SESSIONS: &str = "make or read the key of sessions";
const SEES: &str = "see what there is";
const HEARS: &str = "hear of changes";
const LEADS: &str = "be the one that writes";
const CREATES: &str = "create services";
const LOGS: &str = "read logs";
const STATS: &str = "tell what replicas use";
const CHANGES: &str = "change a service";
const TAKES: &str = "take away what a changed service has no more";
const REASONS: &str = "say why there are no pods";
const DELETES: &str = "delete services and their volumes";

/// The first of these that fails without a right.
fn needed_for(right: &Right) -> &'static str {
    match (right.resource.as_str(), right.verb.as_str()) {
        ("secrets", "get" | "create") => SESSIONS,
        ("leases", _) => LEADS,
        ("pods/log", _) => LOGS,
        ("pods", _) if right.group == "metrics.k8s.io" => STATS,
        ("configmaps", "patch") => CHANGES,
        ("events", _) => REASONS,
        ("persistentvolumeclaims", "list" | "delete") | ("configmaps", "delete") => DELETES,
        (_, "list") => SEES,
        (_, "watch") => HEARS,
        (_, "delete") => TAKES,
        _ => CREATES,
    }
}

/// The rights of the Role as the manifests have it.
fn rights() -> Vec<Right> {
    let text = include_str!("../../../k8s/base/rbac.yaml");
    let role = text.split("rules:").nth(1).unwrap().split("---").next().unwrap();
    let lists = |key: &str| -> Vec<Vec<String>> {
        let lines = role.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key));
        let words = |list: &str| -> Vec<String> {
            let list = list.trim().trim_matches(['[', ']']);
            list.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect()
        };
        lines.map(words).collect()
    };
    let (groups, resources, verbs) = (lists("apiGroups:"), lists("resources:"), lists("verbs:"));
    assert!(groups.len() == resources.len() && groups.len() == verbs.len() && groups.len() > 10, "{role}");
    let mut rights = Vec::new();
    for ((groups, resources), verbs) in groups.iter().zip(&resources).zip(&verbs) {
        for (resource, verb) in resources.iter().flat_map(|resource| verbs.iter().map(move |verb| (resource, verb))) {
            rights.push(Right { group: groups[0].clone(), resource: resource.clone(), verb: verb.clone() });
        }
    }
    rights
}

/// A manager that is about to start, with the Role but perhaps one right of it, in a namespace of its own.
pub(super) struct Scene {
    pub(super) namespace: Namespace,
    pub(super) door: Door,
    pub(super) settings: Settings,
    lacks: Option<Right>,
}

impl Scene {
    pub(super) async fn set(lacks: Option<Right>) -> Option<Self> {
        let namespace = Namespace::new().await?;
        let granted: Vec<Right> = rights().into_iter().filter(|right| lacks.as_ref() != Some(right)).collect();
        let allowed = |right: &Right| json!({"apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb]});
        let metadata = json!({"name": "manager"});
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": granted.iter().map(allowed).collect::<Vec<_>>()});
        namespace.create(ROLE, role).await;
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "manager"},
            "subjects": [{"kind": "ServiceAccount", "name": "manager", "namespace": namespace.name}]});
        namespace.create(BINDING, binding).await;
        let door = Door::open(&namespace, "manager").await;
        let access = Access::File { path: door.kubeconfig.clone(), context: None };
        let secrets = Arc::new(|_: &str| Ok(Some("value".to_owned())));
        let settings = Settings { access, secrets, ..namespace.settings() };
        let scene = Self { namespace, door, settings, lacks };
        scene.until_it_counts(&granted[0]).await;
        Some(scene)
    }

    /// Waits until the account has what it was granted.
    async fn until_it_counts(&self, right: &Right) {
        let reviews = self.namespace.cluster_api(REVIEW);
        let asked = json!({"namespace": self.namespace.name, "group": right.group, "resource": right.resource,
            "verb": right.verb});
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {"user": format!("system:serviceaccount:{}:manager", self.namespace.name), "resourceAttributes": asked}});
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = reviews.create(&PostParams::default(), &serde_json::from_value(review.clone()).unwrap()).await.unwrap();
            if answer.data["status"]["allowed"] == Value::Bool(true) {
                return;
            }
            assert!(Instant::now() < deadline, "the Role never counted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the right that is lacking has been refused, with the server's words; for ever when nothing is lacking
    /// for what is done.
    async fn refusal(&self, what: &str) -> String {
        let Some(right) = self.lacks.as_ref().filter(|right| needed_for(right) == what) else {
            return std::future::pending().await;
        };
        let mut heard = self.door.heard.clone();
        let refused = heard.wait_for(|heard| heard.refused.contains_key(right)).await.unwrap();
        refused.refused[right].clone()
    }

    /// Does one thing; an error with its name when it fails or does not come about.
    async fn step(&self, what: &str, doing: impl Future<Output = Result<(), String>>) -> Result<(), Failure> {
        let stuck = async {
            let said = self.refusal(what).await;
            tokio::time::sleep(GLANCE).await;
            said
        };
        let done = tokio::select! {
            done = tokio::time::timeout(PATIENCE, doing) => done.unwrap_or_else(|_| Err("it hangs".to_owned())),
            said = stuck => Err(said),
        };
        done.map_err(|said| Failure { what: what.to_owned(), said })
    }
}

/// What failed, and in which words.
struct Failure {
    what: String,
    said: String,
}

/// A manager's backend; it ends with this.
pub(super) struct Running {
    pub(super) backend: Arc<Kubernetes>,
    cancelled: CancellationToken,
    run: JoinHandle<()>,
}

impl Running {
    pub(super) async fn start(settings: &Settings) -> Self {
        let backend = Kubernetes::connect(settings.clone(), Tasks::default()).await.unwrap();
        let (running, cancelled) = (backend.clone(), CancellationToken::new());
        let stopping = cancelled.clone();
        let run = tokio::spawn(async move { running.run(stopping).await });
        Self { backend, cancelled, run }
    }

    /// Ends it as a shutdown does.
    pub(super) async fn end(mut self) {
        self.cancelled.cancel();
        (&mut self.run).await.unwrap();
    }

    /// Waits until `holds` of the service; an error when the cluster has refused something for it.
    async fn service(&self, service: &str, holds: impl Fn(&ServiceState) -> bool) -> Result<(), String> {
        let service = name(service);
        let refused = |state: &ServiceState| {
            let words = state.failure.as_ref().map(|error| error.detail.clone());
            words.filter(|words| words.contains(" cannot ") && words.contains(" is forbidden: User "))
        };
        let mut view = self.backend.view();
        let seen = view
            .wait_for(|snapshot| snapshot.services.get(&service).is_some_and(|state| holds(state) || refused(state).is_some()));
        let state = seen.await.unwrap().services[&service].clone();
        refused(&state).map_or(Ok(()), Err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.run.abort();
    }
}

fn with_volume(spec: ServiceSpec, read_only: bool) -> ServiceSpec {
    let files = Mount { source: MountSource::Volume("files".to_owned()), target: "/files".to_owned(), read_only };
    ServiceSpec { volumes: vec![files], ..spec }
}

/// A service with everything that one can consist of.
fn full(scene: &Scene) -> ServiceSpec {
    let full = ServiceSpec {
        autoscaling: Some(Autoscaling { min: 1, max: 2, cpu_percent: 80, scale_down_after: "5m".parse().unwrap() }),
        secrets: [("TOKEN".to_owned(), "token".to_owned())].into(),
        ..spec(&scene.namespace)
    };
    with_volume(full, true)
}

/// The same with nothing but its pods and their volume.
fn bare(scene: &Scene) -> ServiceSpec {
    let health_check = HealthCheck { probe: Probe::Process, ..HealthCheck::default() };
    ServiceSpec { port: None, autoscaling: None, secrets: std::collections::BTreeMap::new(), health_check, ..full(scene) }
}

/// One whose replicas have volumes of their own, and whose pods the namespace refuses.
fn stateful(scene: &Scene) -> ServiceSpec {
    with_volume(ServiceSpec { replicas: 2, cap_add: vec!["CHOWN".to_owned()], ..spec(&scene.namespace) }, false)
}

/// What the manager that had the lease before has done with it.
#[derive(PartialEq)]
enum Holder {
    /// It holds the lease, which goes when this manager watches it: so that one has to be made.
    Writes,
    /// It has given the lease back, to be taken.
    HasEnded,
}

/// Makes the lease as another manager has it.
async fn lease_of_another(scene: &Scene) -> Holder {
    let taken = scene.lacks.as_ref().is_some_and(|right| right.resource == "leases" && right.verb == "patch");
    let (holder, identity) = if taken { (Holder::HasEnded, "") } else { (Holder::Writes, "another") };
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "mcp-manager"},
        "spec": {"holderIdentity": identity}});
    scene.namespace.create(LEASE, lease).await;
    holder
}

/// Does everything that takes rights; what fails first.
async fn play(scene: &Scene) -> Result<Running, Failure> {
    let said = |error: mcp_manager::error::Error| error.to_string();
    let first = lease_of_another(scene).await;
    scene.step(SESSIONS, async { session_key(scene.settings.clone()).await.map(|_| ()).map_err(said) }).await?;
    let manager = Running::start(&scene.settings).await;
    let (backend, web, store) = (&manager.backend, name("web"), name("store"));
    let seen = async { backend.view().wait_for(|snapshot| snapshot.synced).await.map(|_| ()).map_err(|error| error.to_string()) };
    scene.step(SEES, seen).await?;
    scene.step(HEARS, hears(scene, backend)).await?;
    let leads = async {
        if first == Holder::Writes {
            let mut heard = scene.door.heard.clone();
            let watches = |right: &Right| right.resource == "leases" && right.verb == "watch";
            let answered = |heard: &Heard| heard.used.iter().chain(heard.refused.keys()).any(watches);
            heard.wait_for(answered).await.map_err(|error| error.to_string())?;
            let deleted = scene.namespace.api(LEASE).delete("mcp-manager", &DeleteParams::default()).await;
            deleted.map_err(|error| error.to_string())?;
        }
        while backend.info().await.map_err(said)?.details["writes"] != "true" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    scene.step(LEADS, leads).await?;
    let create = async {
        backend.create(&web, running(full(scene))).await.map_err(said)?;
        backend.create(&store, running(stateful(scene))).await.map_err(said)?;
        let written = |state: &ServiceState| state.phase != Phase::Pending;
        manager.service("web", written).await?;
        manager.service("store", written).await
    };
    scene.step(CREATES, create).await?;
    let runs = |state: &ServiceState| state.replicas.iter().any(|replica| replica.state == ReplicaState::Running);
    let logs = async {
        manager.service("web", runs).await?;
        let query = LogQuery { tail: Some(10), ..LogQuery::default() };
        let lines = backend.logs(&web, query).await.map_err(said)?;
        lines.try_collect::<Vec<_>>().await.map(|_| ()).map_err(said)
    };
    scene.step(LOGS, logs).await?;
    scene.step(STATS, async { backend.stats(&web).await.map(|_| ()).map_err(said) }).await?;
    let change = async {
        let changed = ServiceSpec { environment: [("A".to_owned(), "1".to_owned())].into(), ..full(scene) };
        backend.update(&web, 1, running(changed)).await.map(|_| ()).map_err(said)
    };
    scene.step(CHANGES, change).await?;
    let take = async {
        backend.update(&web, 2, running(bare(scene))).await.map_err(said)?;
        tokio::select! {
            () = gone(scene) => Ok(()),
            refused = manager.service("web", |_| false) => refused,
        }
    };
    scene.step(TAKES, take).await?;
    let refused = |state: &ServiceState| state.reasons.iter().any(|reason| reason.code == "pods_refused");
    scene.step(REASONS, manager.service("store", refused)).await?;
    let delete = async {
        backend.remove(&web, true).await.map_err(said)?;
        backend.remove(&store, true).await.map_err(said)
    };
    scene.step(DELETES, delete).await?;
    Ok(manager)
}

/// Waits until every watch has been answered, and fails when one is refused: what it would tell is asked for again and again.
async fn hears(scene: &Scene, backend: &Kubernetes) -> Result<(), String> {
    // The lease is watched by who does not hold it.
    let watched: Vec<Right> = rights().into_iter().filter(|right| right.verb == "watch" && right.resource != "leases").collect();
    let mut heard = scene.door.heard.clone();
    let answered =
        heard.wait_for(|heard| watched.iter().all(|right| heard.used.contains(right) || heard.refused.contains_key(right)));
    let answered = answered.await.unwrap().clone();
    let Some(words) = watched.iter().find_map(|right| answered.refused.get(right)) else { return Ok(()) };
    backend.view().wait_for(|snapshot| !snapshot.connected).await.map_err(|error| error.to_string())?;
    Err(words.clone())
}

/// Waits until what is optional of `web` has gone.
async fn gone(scene: &Scene) {
    for kind in OPTIONAL {
        while scene.namespace.api(kind).get_opt("mcp-web").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_uses_every_right_of_its_role_and_is_refused_nothing() {
    let Some(scene) = Scene::set(None).await else { return };
    let manager = play(&scene).await.unwrap_or_else(|failure| panic!("{}: {}", failure.what, failure.said));
    // Who ends gives the lease back.
    manager.cancelled.cancel();
    let mut heard = scene.door.heard.clone();
    let all: BTreeSet<Right> = rights().into_iter().collect();
    let used = tokio::time::timeout(PATIENCE, heard.wait_for(|heard| heard.used == all)).await.is_ok();
    let heard = scene.door.heard.borrow().clone();
    let show = |rights: Vec<&Right>| rights.into_iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(
        used,
        "spare: {:?}, missing: {:?}",
        show(all.difference(&heard.used).collect()),
        show(heard.used.difference(&all).collect())
    );
    assert!(heard.refused.is_empty(), "{:#?}", heard.refused);
    assert_eq!(scene.namespace.owned().await, Vec::<String>::new());
}

/// What fails without this right: its line of the table, or what is wrong with it.
async fn without(right: Right) -> Result<String, String> {
    let scene = Scene::set(Some(right.clone())).await.ok_or("there is no cluster")?;
    let expected = needed_for(&right);
    match play(&scene).await {
        Ok(_) => Err(format!("{right} is spare: everything works without it")),
        Err(failure) if failure.what != expected => {
            Err(format!("{right}: it should be needed to {expected}, but fails is to {}: {}", failure.what, failure.said))
        }
        Err(failure) if !scene.door.heard.borrow().refused.contains_key(&right) => {
            Err(format!("{right}: to {expected} fails for another reason: {}", failure.said))
        }
        Err(failure) => Ok(format!("without {right}: cannot {expected}: {}", failure.said)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_one_right_of_its_role_something_fails_that_the_manager_is_for() {
    if Namespace::new().await.is_none() {
        return;
    }
    let tried = futures_util::stream::iter(rights()).map(without).buffer_unordered(AT_ONCE);
    let (table, wrong): (Vec<_>, Vec<_>) = tried.collect::<Vec<_>>().await.into_iter().partition(Result::is_ok);
    let mut table: Vec<String> = table.into_iter().filter_map(Result::ok).collect();
    table.sort();
    println!("{}", table.join("\n"));
    let wrong: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

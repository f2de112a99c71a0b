//! What watches tell, cut down to what is used before it is kept. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::core::{Object, ObjectMeta};
use serde::Deserialize;

use super::kinds::Owned;
use super::names;

/// Conditions of a route that say, when they are false, that nothing leads to its service.
const LEADS: [&str; 2] = ["Accepted", "ResolvedRefs"];

/// Name of the service's own container in its pods.
const CONTAINER: &str = "service";

pub(super) type PodObject = Object<PodSpec, PodStatus>;
pub(super) type RouteObject = Object<RouteSpec, RouteStatus>;
pub(super) type WorkloadObject = Object<WorkloadSpec, WorkloadStatus>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    node_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    phase: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    conditions: Vec<Condition>,
    init_container_statuses: Vec<ContainerStatus>,
    container_statuses: Vec<ContainerStatus>,
}

/// A condition of a pod or workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    pub(super) last_transition_time: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    image: String,
    state: State,
    last_state: State,
    restart_count: u32,
    started: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
    running: Option<Running>,
    terminated: Option<Terminated>,
}

/// Why a container does not run yet or any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Waiting {
    pub(super) reason: String,
    pub(super) message: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Running {
    started_at: Option<Timestamp>,
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Terminated {
    pub(super) exit_code: i64,
    pub(super) reason: String,
    /// The last it said, where it failed.
    pub(super) message: String,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
}

/// A container of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) waiting: Option<Waiting>,
    pub(super) image: String,
    /// Since when it runs, while it does.
    pub(super) running: Option<Timestamp>,
    /// How it ended, while it does not run; or how it ended last.
    pub(super) ended: Option<Terminated>,
    pub(super) restarts: u32,
    /// Its startup probe has succeeded.
    pub(super) started: bool,
}

/// A pod of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) created: Option<Timestamp>,
    /// It has been told to end.
    pub(super) deleting: bool,
    /// What it was made from.
    pub(super) made_from: MadeFrom,
    /// Its number, where its workload numbers its pods, from 0.
    pub(super) index: Option<u32>,
    pub(super) node: Option<String>,
    pub(super) address: Option<String>,
    pub(super) phase: String,
    /// Why the whole pod ended (`Evicted`), with the cluster's words.
    pub(super) reason: Option<(String, String)>,
    /// Why it has no node yet.
    pub(super) unscheduled: Option<Condition>,
    /// Since when it has its network and its volumes: its containers can be made.
    pub(super) set_up_since: Option<Timestamp>,
    pub(super) ready: bool,
    /// Its containers were ready when its node was heard of last.
    pub(super) containers_ready: bool,
    /// When `ready` changed last.
    pub(super) ready_since: Option<Timestamp>,
    pub(super) init: Vec<Container>,
    pub(super) service: Container,
}

/// What tells pods of one revision from those of another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MadeFrom {
    pub(super) spec: String,
    pub(super) secrets: String,
    pub(super) restarted: String,
}

impl MadeFrom {
    fn read(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let read = |key| annotations.and_then(|annotations| annotations.get(key)).cloned().unwrap_or_default();
        Self { spec: read(names::DIGEST), secrets: read(names::SECRETS), restarted: read(names::RESTARTED) }
    }
}

impl Pod {
    pub(super) fn read(object: PodObject) -> Self {
        let (metadata, status) = (object.metadata, object.status.unwrap_or_default());
        let condition = |kind: &str| status.conditions.iter().find(|condition| condition.kind == kind);
        let (ready, set_up) = (condition("Ready"), condition("PodReadyToStartContainers"));
        let service = status.container_statuses.iter().find(|container| container.name == CONTAINER);
        let index = metadata.labels.as_ref().and_then(|labels| labels.get("apps.kubernetes.io/pod-index"));
        Self {
            created: metadata.creation_timestamp.map(|time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            made_from: MadeFrom::read(metadata.annotations.as_ref()),
            index: index.and_then(|index| index.parse().ok()),
            name: metadata.name.unwrap_or_default(),
            node: object.spec.node_name,
            address: status.pod_ip.filter(|address| !address.is_empty()),
            reason: status.reason.map(|reason| (reason, status.message.unwrap_or_default())),
            phase: status.phase.unwrap_or_default(),
            unscheduled: condition("PodScheduled").filter(|condition| condition.status == "False").cloned(),
            set_up_since: set_up.filter(|set_up| set_up.status == "True").and_then(|set_up| set_up.last_transition_time),
            ready: ready.is_some_and(|ready| ready.status == "True"),
            containers_ready: condition("ContainersReady").is_some_and(|ready| ready.status == "True"),
            ready_since: ready.and_then(|ready| ready.last_transition_time),
            init: status.init_container_statuses.iter().map(container).collect(),
            service: service.map(container).unwrap_or_default(),
        }
    }

    /// Whether it has ended for good; others take its place. A Deployment leaves such pods for a long time, also when it is
    /// to have none.
    pub(super) fn is_over(&self) -> bool {
        self.reason.is_some() || matches!(self.phase.as_str(), "Failed" | "Succeeded")
    }

    /// Which of its containers has never begun only because its node has yet to get the image. That is what is left once
    /// those before it have ended well and the pod is set up, but for the moment in which it is made. Nodes before
    /// Kubernetes 1.36 say late that a pod is set up; then `is_told` counts: an event has said that an image is pulled.
    pub(super) fn awaits_image(&self, is_told: bool) -> Option<&Container> {
        let next = self.init.iter().chain([&self.service]).find(|container| !container.is_done())?;
        let is_unmade = |waiting: &Waiting| matches!(waiting.reason.as_str(), "ContainerCreating" | "PodInitializing");
        let waits = next.ended.is_none() && next.waiting.as_ref().is_some_and(is_unmade);
        (waits && (is_told || self.set_up_since.is_some())).then_some(next)
    }

    /// Whether it serves no more requests though it runs: it was ready since its container started, and is not now.
    pub(super) fn is_unhealthy(&self) -> bool {
        let since_start = |since| self.service.running.is_some_and(|started| since > started);
        self.service.started && !self.ready && self.ready_since.is_some_and(since_start)
    }
}

impl Container {
    /// Whether it has ended as one that others wait for is to end.
    pub(super) fn is_done(&self) -> bool {
        let ended_well = self.ended.as_ref().is_some_and(|ended| ended.exit_code == 0);
        self.waiting.is_none() && self.running.is_none() && ended_well
    }
}

fn container(status: &ContainerStatus) -> Container {
    let ended = status.state.terminated.as_ref().or(status.last_state.terminated.as_ref());
    Container {
        waiting: status.state.waiting.clone(),
        image: status.image.clone(),
        running: status.state.running.as_ref().and_then(|running| running.started_at),
        ended: ended.cloned(),
        restarts: status.restart_count,
        started: status.started.unwrap_or_default(),
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct WorkloadSpec {
    replicas: Option<u32>,
    template: Template,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: TemplateMetadata,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct TemplateMetadata {
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WorkloadStatus {
    observed_generation: i64,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RouteSpec {}

/// What the controllers of its Gateways say of an HTTPRoute; other routes have no such status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RouteStatus {
    parents: Vec<RouteParent>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RouteParent {
    conditions: Vec<Condition>,
}

/// Why a route is not followed, where its controller says so.
pub(super) fn unfollowed(route: &RouteObject) -> Option<Condition> {
    let conditions = route.status.iter().flat_map(|status| &status.parents).flat_map(|parent| &parent.conditions);
    let is_against = |condition: &&Condition| condition.status == "False" && LEADS.contains(&condition.kind.as_str());
    conditions.into_iter().find(is_against).cloned()
}

/// What makes a service's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) kind: Owned,
    /// Replicas that its record asked for when it was written last.
    pub(super) asked: Option<u32>,
    /// Replicas that there are to be, whoever said so last.
    pub(super) replicas: u32,
    /// What its pods are to be made from.
    pub(super) makes: MadeFrom,
    /// Its controller has seen its present text.
    pub(super) observed: bool,
    /// Why it cannot make pods.
    pub(super) refusal: Option<Condition>,
}

impl Workload {
    pub(super) fn read(kind: Owned, object: WorkloadObject) -> Self {
        let status = object.status.unwrap_or_default();
        let annotations = object.metadata.annotations.unwrap_or_default();
        let failing = |condition: &&Condition| condition.kind == "ReplicaFailure" && condition.status == "True";
        Self {
            kind,
            asked: annotations.get(names::REPLICAS).and_then(|asked| asked.parse().ok()),
            replicas: object.spec.replicas.unwrap_or(1),
            makes: MadeFrom::read(Some(&object.spec.template.metadata.annotations)),
            observed: status.observed_generation >= object.metadata.generation.unwrap_or_default(),
            refusal: status.conditions.iter().find(failing).cloned(),
        }
    }
}

/// An object of a service of which only this is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// What it was written from.
    pub(super) digest: String,
    pub(super) uid: String,
    /// The root object that owns it.
    pub(super) root: String,
    pub(super) deleting: bool,
}

impl Written {
    pub(super) fn read(metadata: &ObjectMeta) -> Self {
        let digest = metadata.annotations.as_ref().and_then(|annotations| annotations.get(names::APPLIED));
        let owners = metadata.owner_references.as_deref().unwrap_or_default();
        Self {
            digest: digest.cloned().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            root: owners.first().map(|owner| owner.uid.clone()).unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: &serde_json::Value) -> Pod {
        let object = json!({"metadata": {"name": "mcp-echo-1"}, "spec": {}, "status": status});
        Pod::read(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_pod_that_has_not_been_ready_yet_is_not_unhealthy() {
        let status = |ready_since: &str| {
            json!({
                "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": ready_since}],
                "containerStatuses": [{"name": "service", "started": true,
                                       "state": {"running": {"startedAt": "2026-11-21T10:00:05Z"}}}],
            })
        };
        assert!(!pod(&status("2026-11-21T10:00:00Z")).is_unhealthy(), "it has just been started");
        assert!(pod(&status("2026-11-21T10:00:09Z")).is_unhealthy(), "it was ready once");
    }

    #[test]
    fn a_pod_awaits_an_image_once_all_else_is_there() {
        let bridge = |state: &serde_json::Value| json!([{"name": "bridge", "state": state}]);
        let (waits, done) = (json!({"waiting": {"reason": "PodInitializing"}}), json!({"terminated": {"exitCode": 0}}));
        let told = |is_told: bool, set_up: &str, init: &serde_json::Value, state: &serde_json::Value| {
            let pod = pod(&json!({
                "conditions": [{"type": "PodReadyToStartContainers", "status": set_up,
                                "lastTransitionTime": "2026-11-21T10:00:00Z"}],
                "initContainerStatuses": init, "containerStatuses": [{"name": "service", "state": state}],
            }));
            pod.awaits_image(is_told).map(|awaited| *awaited == pod.service)
        };
        let of = |set_up: &str, init: &serde_json::Value, state: &serde_json::Value| told(false, set_up, init, state);
        let creating = json!({"waiting": {"reason": "ContainerCreating"}});
        assert_eq!(of("True", &json!([]), &creating), Some(true));
        assert_eq!(of("False", &json!([]), &creating), None, "its network or a volume is not there");
        assert_eq!(told(true, "False", &json!([]), &creating), Some(true), "an older node is late");
        assert_eq!(of("True", &bridge(&done), &waits), Some(true));
        assert!(of("True", &bridge(&waits), &waits).is_some(), "the image with the bridge");
        for state in
            [json!({"running": {}}), json!({"terminated": {"exitCode": 1}}), json!({"waiting": {"reason": "ErrImagePull"}})]
        {
            assert_eq!(of("True", &bridge(&state), &waits), None, "{state}");
        }
        for state in [json!({"running": {"startedAt": "2026-11-21T10:00:05Z"}}), json!({"waiting": {"reason": "ErrImagePull"}})] {
            assert_eq!(of("True", &json!([]), &state), None, "{state}");
        }
    }

    #[test]
    fn unknown_fields_and_missing_ones_are_no_errors() {
        let pod = pod(&json!({"news": {"x": 1}, "containerStatuses": [{"name": "other", "restartCount": 3}]}));
        assert_eq!((pod.service, pod.ready, pod.deleting), (Container::default(), false, false));
    }
}

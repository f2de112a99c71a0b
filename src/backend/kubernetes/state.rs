//! Where a service stands, from what is known of it. Pure, and computed anew each time: no reason outlives its cause.

use jiff::Timestamp;

use super::kinds::Owned;
use super::observed::Pod;
use super::unrouted::Lack;
use super::world::Objects;
use super::{containers, reasons, trouble};
use crate::domain::spec::{PullPolicy, RestartPolicy, ServiceSpec};
use crate::domain::status::{Desired, Exit, Health, Phase, Progress, Record, Replica, ReplicaState, ServiceState};
use crate::error::Error;

/// The service as readers see it; `None` while there is no record of it. `lack` is what keeps all services from having
/// routes.
pub(super) fn service(objects: &Objects, lack: Option<&Lack>) -> Option<ServiceState> {
    let root = objects.root.as_ref()?;
    let record = root.record.clone();
    let mut reasons = reasons::reasons(objects);
    reasons.extend(lack.filter(|_| record.spec.port.is_some()).map(Lack::reason));
    let failure = reasons.iter().find(|reason| reason.fails()).map(reasons::Reason::to_error);
    let phase = if root.is_removed() { Phase::Deleting } else { phase(objects, &record, failure.is_some()) };
    let running = record.desired == Desired::Running;
    Some(ServiceState {
        phase,
        replicas: replicas(objects),
        failure: failure.filter(|_| running),
        progress: progress(objects, &record).filter(|_| running),
        warnings: warnings(&record),
        reasons: reasons.iter().filter(|_| running).map(reasons::Reason::shown).collect(),
        record,
    })
}

/// What a cluster does in another way than the record asks.
pub(super) fn warnings(record: &Record) -> Vec<String> {
    let policy = record.spec.restart_policy;
    let followed = matches!(policy, RestartPolicy::Always | RestartPolicy::UnlessStopped);
    let policy =
        (!followed).then(|| format!("the restart policy '{policy}' is not followed: a cluster starts again whatever ends"));
    let own = super::objects::workload_kind(&record.spec) == Owned::StatefulSet;
    let volumes = own.then(|| "each replica has volumes of its own: several cannot write to one".to_owned());
    policy.into_iter().chain(volumes).chain(super::objects::user_warning(&record.spec)).collect()
}

/// The pods that have not been told to end, oldest first, or as they are numbered.
pub(super) fn live(objects: &Objects) -> Vec<&Pod> {
    let mut live: Vec<&Pod> = objects.present().filter(|pod| !pod.deleting).collect();
    live.sort_by_key(|pod| (pod.index, pod.created, &pod.name));
    live
}

/// Whether the workload makes what the record asks for.
pub(super) fn reflects(objects: &Objects, record: &Record) -> bool {
    objects.workload.as_ref().is_some_and(|workload| {
        workload.makes.spec == record.spec.container_digest() && workload.asked == Some(super::objects::asked_for(record))
    })
}

/// Whether a pod is of the present revision.
pub(super) fn is_current(objects: &Objects, pod: &Pod) -> bool {
    objects.workload.as_ref().is_some_and(|workload| pod.made_from == workload.makes)
}

fn phase(objects: &Objects, record: &Record, failed: bool) -> Phase {
    if record.desired == Desired::Stopped {
        return if objects.present().next().is_none() { Phase::Stopped } else { Phase::Stopping };
    }
    let live = live(objects);
    let wanted = objects.workload.as_ref().map_or(record.spec.replicas, |workload| workload.replicas);
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let reflects = reflects(objects, record);
    let (current, old): (Vec<&Pod>, Vec<&Pod>) = live.iter().partition(|pod| reflects && is_current(objects, pod));
    let ready = current.iter().filter(|pod| pod.ready).count();
    let serving = live.iter().filter(|pod| pod.ready).count();
    let seen = objects.workload.as_ref().is_some_and(|workload| workload.observed);
    if reflects && seen && ready >= wanted && live.len() == wanted {
        // Somebody has scaled it to nothing by hand.
        return if wanted == 0 { Phase::Stopped } else { Phase::Running };
    }
    if failed {
        // An old revision that serves while the new one fails is what is running.
        return match serving {
            0 => Phase::Failed,
            serving if serving >= wanted => Phase::Running,
            _ => Phase::Degraded,
        };
    }
    if objects.workload.is_none() {
        return Phase::Pending;
    }
    if ready == 0 && current.iter().any(|pod| pulls(objects, pod, &record.spec).is_some()) {
        return Phase::Pulling;
    }
    if !reflects || !old.is_empty() || live.len() > wanted {
        return Phase::Starting;
    }
    if ready > 0 {
        return Phase::Degraded;
    }
    let any = |holds: fn(&Pod) -> bool| current.iter().any(|pod| holds(pod));
    if any(|pod| pod.service.waiting.as_ref().is_some_and(|waiting| waiting.reason == "CrashLoopBackOff")) {
        return Phase::CrashLoop;
    }
    if any(Pod::is_unhealthy) {
        return Phase::Unhealthy;
    }
    if any(|pod| pod.service.running.is_some() || pod.service.ended.is_some()) { Phase::Starting } else { Phase::Creating }
}

/// Which image the pod's node gets at present, in words.
fn pulls(objects: &Objects, pod: &Pod, spec: &ServiceSpec) -> Option<String> {
    let awaited = pod.awaits_image(objects.warnings.get(&pod.name).is_some_and(|said| trouble::is_pulling(said)))?;
    if !std::ptr::eq(awaited, &raw const pod.service) {
        return Some("getting the image with the bridge".to_owned());
    }
    (spec.pull_policy != PullPolicy::Never).then(|| format!("getting the image '{}'", spec.image))
}

/// What the first of the present revision's pods is given that waits for an image, and where. How much of it has come no
/// node says.
fn progress(objects: &Objects, record: &Record) -> Option<Progress> {
    let of_pod = |pod: &Pod| {
        let node = pod.node.as_deref().map(|node| format!("node {node} is ")).unwrap_or_default();
        pulls(objects, pod, &record.spec).map(|image| format!("{node}{image}"))
    };
    let message = live(objects).into_iter().filter(|pod| is_current(objects, pod)).find_map(of_pod)?;
    reflects(objects, record).then(|| Progress { message, ..Progress::default() })
}

fn replicas(objects: &Objects) -> Vec<Replica> {
    let shown = live(objects).into_iter().filter(|pod| !containers::has_no_image(pod));
    shown
        .enumerate()
        .map(|(index, pod)| {
            let rank = u32::try_from(index).unwrap_or(u32::MAX);
            replica(pod, pod.index.unwrap_or(rank).saturating_add(1), objects)
        })
        .collect()
}

fn replica(pod: &Pod, ordinal: u32, objects: &Objects) -> Replica {
    let container = &pod.service;
    let state = match (container.running, &container.ended) {
        (Some(_), _) => ReplicaState::Running,
        (None, Some(_)) => ReplicaState::Exited,
        (None, None) => ReplicaState::Created,
    };
    let health = match (pod.ready, pod.is_unhealthy()) {
        (true, _) => Health::Healthy,
        (false, true) => Health::Unhealthy,
        (false, false) => Health::Starting,
    };
    let port = objects.root.as_ref().and_then(|root| root.record.spec.front_port());
    let address = pod.address.as_ref().and_then(|address| address.parse().ok()).zip(port);
    let last_exit = container.ended.as_ref().map(|ended| Exit {
        code: ended.exit_code,
        oom_killed: ended.reason == "OOMKilled",
        at: ended.finished_at.unwrap_or_default(),
        last_log_lines: containers::last_words(ended),
    });
    Replica {
        ordinal,
        id: pod.name.clone(),
        name: pod.name.clone(),
        state,
        health,
        health_detail: None,
        address: address.map(|(address, port): (std::net::IpAddr, u16)| (address, port).into()),
        spec_digest: pod.made_from.spec.clone(),
        started_at: container.running.or(container.ended.as_ref().and_then(|ended| ended.started_at)),
        restarts: container.restarts,
        last_exit,
        next_start: None,
    }
}

/// Whether every replica was started after a restart was asked for at this moment, and is ready.
pub(super) fn is_restarted(objects: &Objects, asked: &str) -> bool {
    let (live, asked) = (live(objects), asked.parse::<Timestamp>().ok());
    let wanted = objects.workload.as_ref().map_or(0, |workload| workload.replicas);
    let later = |pod: &Pod| pod.made_from.restarted.parse::<Timestamp>().ok() >= asked;
    u32::try_from(live.len()).is_ok_and(|count| count == wanted) && live.iter().all(|pod| pod.ready && later(pod))
}

/// Why what its record says cannot be carried out.
pub(super) fn failure(objects: &Objects) -> Option<Error> {
    reasons::reasons(objects).iter().find(|reason| reason.fails()).map(reasons::Reason::to_error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::observed::{Container, MadeFrom, Waiting, Workload};
    use super::super::root::{Refusal, Root};
    use super::*;
    use crate::domain::spec::ServiceSpec;
    use crate::error::Kind;

    /// A service of one replica whose present record is its second, with these pods.
    fn objects(desired: Desired, pods: impl IntoIterator<Item = Pod>) -> Objects {
        let spec = Arc::new(ServiceSpec { image: "example.org/x:2".into(), ..ServiceSpec::default() });
        let (created_at, updated_at) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let makes = MadeFrom { spec: spec.container_digest(), ..MadeFrom::default() };
        let name = "echo".parse().unwrap();
        let record = Arc::new(Record { name, generation: 2, desired, spec, template: None, created_at, updated_at });
        let asked = super::super::objects::asked_for(&record);
        Objects {
            root: Some(Root { uid: "u".into(), version: "1".into(), deleting: false, record, refusal: None }),
            workload: Some(Workload {
                kind: Owned::Deployment,
                asked: Some(asked),
                replicas: asked,
                makes,
                observed: true,
                refusal: None,
            }),
            pods: pods.into_iter().map(|pod| (pod.name.clone(), pod)).collect(),
            ..Objects::default()
        }
    }

    fn shown(objects: &Objects) -> (Phase, Vec<String>, bool) {
        let state = service(objects, None).unwrap();
        (state.phase, state.reasons.into_iter().map(|reason| reason.code).collect(), state.failure.is_some())
    }

    fn without_image(spec: &str) -> Pod {
        let waiting = Waiting { reason: "ErrImagePull".into(), message: "not found".into() };
        let made_from = MadeFrom { spec: spec.into(), ..MadeFrom::default() };
        let service = Container { waiting: Some(waiting), ..Container::default() };
        Pod { name: "one".into(), made_from, service, ..Pod::default() }
    }

    #[test]
    fn what_the_former_spec_fails_of_is_told_and_does_not_fail_the_present_one() {
        let present = objects(Desired::Running, []).workload.unwrap().makes.spec;
        let reasons = vec!["image_not_found".to_owned()];
        assert_eq!(shown(&objects(Desired::Running, [without_image("former")])), (Phase::Starting, reasons.clone(), false));
        let failing = objects(Desired::Running, [without_image(&present)]);
        assert_eq!(shown(&failing), (Phase::Failed, reasons.clone(), true));
        // The next record has not come to the workload yet.
        let mut changed = failing;
        let root = changed.root.as_mut().unwrap();
        let spec = Arc::new(ServiceSpec { image: "example.org/x:3".into(), ..ServiceSpec::default() });
        root.record = Arc::new(Record { generation: 3, spec, ..(*root.record).clone() });
        assert_eq!(shown(&changed), (Phase::Starting, reasons, false));
    }

    #[test]
    fn what_waits_for_its_image_alone_is_being_pulled() {
        let makes = objects(Desired::Running, []).workload.unwrap().makes;
        let waiting = Waiting { reason: "ContainerCreating".into(), message: String::new() };
        let awaiting = Container { waiting: Some(waiting), ..Container::default() };
        let new = |set_up: bool| Pod {
            name: "new".into(),
            node: Some("n1".into()),
            made_from: makes.clone(),
            set_up_since: set_up.then_some(Timestamp::UNIX_EPOCH),
            service: awaiting.clone(),
            ..Pod::default()
        };
        let old = || Pod { name: "old".into(), ready: true, ..Pod::default() };
        let seen = |objects: &Objects| {
            let state = service(objects, None).unwrap();
            (state.phase, state.progress.map(|progress| progress.message))
        };
        assert_eq!(seen(&objects(Desired::Running, [new(false)])), (Phase::Creating, None));
        let message = Some("node n1 is getting the image 'example.org/x:2'".to_owned());
        assert_eq!(seen(&objects(Desired::Running, [new(true)])), (Phase::Pulling, message.clone()));
        assert_eq!(seen(&objects(Desired::Running, [new(true), old()])), (Phase::Pulling, message.clone()));
        let mut two = objects(Desired::Running, [new(true), Pod { name: "other".into(), ready: true, ..new(true) }]);
        two.workload.as_mut().unwrap().replicas = 2;
        assert_eq!(seen(&two), (Phase::Degraded, message), "what serves is what counts, and a pull is told all the same");
        let none = Objects::default();
        assert!(pulls(&none, &new(true), &ServiceSpec::default()).is_some());
        let local = ServiceSpec { pull_policy: PullPolicy::Never, ..ServiceSpec::default() };
        assert_eq!(pulls(&none, &new(true), &local), None);
    }

    #[test]
    fn what_is_refused_for_good_fails_and_what_was_overtaken_does_not() {
        let refused = |kind| {
            let mut objects = objects(Desired::Running, []);
            let refusal = Refusal { generation: 2, kind, detail: "no".into(), remedy: String::new() };
            objects.root.as_mut().unwrap().refusal = Some(refusal);
            shown(&objects).2
        };
        assert!(refused(Kind::Invalid) && refused(Kind::LimitReached) && refused(Kind::NotSupported));
        assert!(!refused(Kind::Conflict) && !refused(Kind::NotFound));
    }

    #[test]
    fn pods_that_have_ended_count_until_another_is_ready_in_their_place() {
        let makes = objects(Desired::Running, []).workload.unwrap().makes;
        let evicted = || Pod {
            name: "old".into(),
            phase: "Failed".into(),
            reason: Some(("Evicted".into(), "low on disk".into())),
            made_from: makes.clone(),
            ..Pod::default()
        };
        let new = |ready| Pod { name: "new".into(), made_from: makes.clone(), ready, ..Pod::default() };
        let codes = |objects: &Objects| shown(objects).1;
        assert_eq!(codes(&objects(Desired::Running, [evicted(), new(false)])), ["evicted"]);
        assert_eq!(shown(&objects(Desired::Running, [evicted(), new(true)])), (Phase::Running, Vec::new(), false));
        assert_eq!(shown(&objects(Desired::Stopped, [evicted()])).0, Phase::Stopped);
        assert_eq!(shown(&objects(Desired::Stopped, [evicted(), new(true)])).0, Phase::Stopping);
    }
}

//! Why a service is not as it should be: from what the cluster says of its pods and its workload to a code, a sentence
//! and a remedy. Pure; nothing is remembered from one look to the next. "Waiting" is no reason.

use std::cell::LazyCell;

use super::containers::{of_bridge, of_container};
use super::observed::Pod;
use super::trouble::{CLOCKS, REFUSED, Warning};
use super::world::Objects;
use super::{state, unplaced, unrouted, warned};
use crate::domain::reason::Reason as Shown;
use crate::domain::spec::ServiceSpec;
use crate::error::{Error, Kind};

/// The code of every reason that a service of a cluster may have.
pub const CODES: [&str; 26] = [
    "cannot_run",
    "crash_loop",
    "evicted",
    "exited",
    "image_architecture",
    "image_no_space",
    "image_not_found",
    "image_rate_limited",
    "image_refused",
    "image_unavailable",
    "image_untrusted",
    "node_gone",
    "not_configured",
    "out_of_memory",
    "pod_ended",
    "pod_not_set_up",
    "pods_refused",
    "probe_failing",
    "quota_exceeded",
    "refused",
    "route_missing",
    "route_refused",
    "unschedulable",
    "volume_not_attached",
    "volume_not_mounted",
    "volume_pending",
];

/// Why a service is not as it should be.
#[derive(Debug, Clone)]
pub(super) struct Reason {
    /// Stable name, for tests and programs.
    pub(super) code: &'static str,
    pub(super) kind: Kind,
    /// It does not pass by itself.
    pub(super) hard: bool,
    /// It is of what the record asked for before, and may pass with what it asks for now.
    pub(super) former: bool,
    pub(super) detail: String,
    pub(super) remedy: String,
    pub(super) pod: Option<String>,
    /// Exit code and number of restarts, where a process has ended, and what it said last.
    pub(super) ended: Option<(i64, u32)>,
    pub(super) words: Vec<String>,
}

impl Reason {
    pub(super) fn to_error(&self) -> Error {
        Error::new(self.kind, self.detail.clone()).remedy(self.remedy.clone())
    }

    /// Whether what the record asks for cannot be carried out.
    pub(super) fn fails(&self) -> bool {
        self.hard && !self.former
    }

    /// As readers see it.
    pub(super) fn shown(&self) -> Shown {
        Shown {
            code: self.code.to_owned(),
            cause: self.detail.clone(),
            remedy: self.remedy.clone(),
            permanent: self.hard,
            instance: self.pod.clone(),
            exit_code: self.ended.map(|(code, _)| code),
            restarts: self.ended.map(|(_, restarts)| restarts),
            last_log_lines: self.words.clone(),
        }
    }
}

/// Every reason there is at present, those that do not pass by themselves first, each code once.
pub(super) fn reasons(objects: &Objects) -> Vec<Reason> {
    let Some(root) = &objects.root else { return Vec::new() };
    let (spec, mut found) = (&root.record.spec, Vec::new());
    // Most services have no reason, and a record's digest takes a while.
    let reflects = LazyCell::new(|| state::reflects(objects, &root.record));
    if let Some(refusal) = &root.refusal {
        let hard = refusal.is_permanent();
        found.push(reason("refused", refusal.kind, hard, refusal.detail.as_str(), refusal.remedy.as_str()));
    }
    if let Some(workload) = &objects.workload
        && let Some(condition) = &workload.refusal
    {
        let said = condition.message.as_deref().unwrap_or("its pods cannot be made");
        found.push(Reason { former: !*reflects || !workload.observed, ..unplaced::refusal(said) });
    }
    let ready = objects.present().filter(|pod| !pod.deleting && pod.ready).count();
    let lacks =
        objects.workload.as_ref().is_none_or(|workload| u32::try_from(ready).is_ok_and(|ready| ready < workload.replicas));
    // Pods that have ended stay long after others have taken their places.
    for pod in objects.pods.values().filter(|pod| !pod.deleting && (lacks || !pod.is_over())) {
        let warnings = objects.warnings.get(&pod.name).map(Vec::as_slice).unwrap_or_default();
        let reason = warned::of_claims(pod, objects.warnings.values().flatten(), of_pod(pod, spec, warnings));
        found.extend(reason.map(|reason| {
            let former = !*reflects || !state::is_current(objects, pod);
            Reason { pod: Some(pod.name.clone()), former, ..reason }
        }));
    }
    if objects.present().next().is_none() {
        // A StatefulSet has no condition for pods that it cannot make, and that of a Deployment may come late.
        let mut warnings = objects.warnings.values().flatten().filter(|warning| warning.reason == REFUSED);
        found.extend(warnings.next_back().map(|warning| unplaced::refusal(&warning.message)));
    }
    found.extend(objects.unfollowed.as_ref().map(unrouted::unfollowed));
    found.sort_by_key(|reason| (!reason.hard, reason.code, reason.former));
    found.dedup_by_key(|reason| reason.code);
    found
}

/// One of [`CODES`].
pub(super) fn reason(code: &'static str, kind: Kind, hard: bool, detail: impl Into<String>, remedy: impl Into<String>) -> Reason {
    debug_assert!(CODES.contains(&code), "{code}");
    let (detail, remedy) = (detail.into(), remedy.into());
    Reason { code, kind, hard, former: false, detail, remedy, pod: None, ended: None, words: Vec::new() }
}

fn of_pod(pod: &Pod, spec: &ServiceSpec, warnings: &[Warning]) -> Option<Reason> {
    if let Some((word, said)) = &pod.reason {
        let detail = format!("the pod ended: {word}{}", if said.is_empty() { String::new() } else { format!(", {said}") });
        let code = if word == "Evicted" { "evicted" } else { "pod_ended" };
        let remedy = if said.contains("ephemeral") && said.contains("exceed") {
            "another one takes its place; raise storage_limit, or find out what it writes"
        } else if word == "Evicted" {
            "another one takes its place; look at what the node lacks"
        } else {
            "another one takes its place; the words say why"
        };
        return Some(reason(code, Kind::StartFailed, false, detail, remedy));
    }
    if let Some(condition) = &pod.unscheduled {
        return Some(unplaced::unscheduled(condition));
    }
    // Nobody but its node says how a container is: when the cluster has taken the pod's word back and not the
    // containers', the node is not heard of.
    if pod.containers_ready && !pod.ready {
        return Some(node_gone(pod));
    }
    if let Some(reason) = warned::of_pod(pod, warnings) {
        return Some(reason);
    }
    let init = pod.init.iter().find_map(of_bridge);
    let found = init.or_else(|| of_container(&pod.service, &spec.image));
    let unhealthy = || warnings.iter().filter(|warning| warning.reason == "Unhealthy" && !pod.ready);
    // Other checks fail of what is being ended, and say so later.
    let why = unhealthy().filter(|warning| is_why(warning, pod, spec)).max_by_key(|warning| (is_of_life(warning), warning.at));
    let unhealthy = unhealthy().max_by_key(|warning| warning.at);
    match (found, why) {
        (None, _) => match unhealthy {
            Some(warning) => Some(probe_failing(&warning.message)),
            None => pod.is_unhealthy().then(|| probe_failing("its health check fails")),
        },
        (Some(found), Some(warning)) if matches!(found.code, "exited" | "crash_loop") => {
            Some(Reason { ended: found.ended, words: found.words, ..probe_failing(&warning.message) })
        }
        (found, _) => found,
    }
}

/// Whether a warning is of the check that ends a container for good whenever it fails.
fn is_of_life(warning: &Warning) -> bool {
    warning.message.starts_with("Liveness")
}

/// Whether a container was ended because this check failed, and not by itself: most starts are warned of, since the first
/// check comes before the port is open.
fn is_why(warning: &Warning, pod: &Pod, spec: &ServiceSpec) -> bool {
    let Some(ended) = &pod.service.ended else { return false };
    let (Some(started), Some(finished), Some(said)) = (ended.started_at, ended.finished_at, warning.at) else { return false };
    let just_before = said >= started - CLOCKS && said >= finished - CLOCKS - spec.stop_timeout.duration();
    // Who is told to end may end as it likes, but not before its check has had all its time.
    let had_its_time = finished.duration_since(started).unsigned_abs() + CLOCKS >= spec.start_timeout.duration();
    just_before && (matches!(ended.exit_code, 137 | 143) || had_its_time || is_of_life(warning))
}

fn node_gone(pod: &Pod) -> Reason {
    let node = pod.node.as_deref().unwrap_or("of the pod");
    let remedy = "bring the node back, or delete it from the cluster so that its pods are made anew on others at once";
    reason("node_gone", Kind::StartFailed, false, format!("its node {node} is not heard of any more"), remedy)
}

fn probe_failing(said: &str) -> Reason {
    let remedy = "look at its logs and at 'health_check'; it is out of the routes until the check succeeds";
    reason("probe_failing", Kind::StartFailed, false, said, remedy)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::observed::{Container, Terminated, Waiting};
    use super::*;

    fn waiting(word: &str, said: &str) -> Container {
        let waiting = Waiting { reason: word.into(), message: said.into() };
        Container { waiting: Some(waiting), ..Container::default() }
    }

    fn ended(word: &str, code: i64, then: &str) -> Container {
        let ended = Terminated { exit_code: code, reason: word.into(), message: "boom\n".into(), ..Terminated::default() };
        Container { ended: Some(ended), restarts: 4, ..waiting(then, "") }
    }

    fn found(service: Container) -> Option<(&'static str, bool)> {
        of_pod(&Pod { service, ..Pod::default() }, &ServiceSpec::default(), &[]).map(|reason| (reason.code, reason.hard))
    }

    #[test]
    fn each_state_of_a_container_has_its_reason() {
        let table = [
            (waiting("ErrImagePull", "failed to resolve reference: example.org/x:1: not found"), Some(("image_not_found", true))),
            (waiting("ImagePullBackOff", "Back-off pulling: 401 Unauthorized"), Some(("image_refused", true))),
            (waiting("ImagePullBackOff", "toomanyrequests: You have reached"), Some(("image_rate_limited", true))),
            (waiting("ErrImagePull", "status code [manifests 1]: 429 Too Many Requests"), Some(("image_rate_limited", true))),
            (waiting("ErrImagePull", "x@sha256:8429: not found"), Some(("image_not_found", true))),
            (waiting("ErrImagePull", "dial tcp: connect: network is unreachable"), Some(("image_unavailable", true))),
            (waiting("ErrImageNeverPull", ""), Some(("image_not_found", true))),
            (
                waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
                Some(("not_configured", true)),
            ),
            (waiting("RunContainerError", "exec: \"/x\": no such file or directory"), Some(("cannot_run", true))),
            (ended("Error", 3, "CrashLoopBackOff"), Some(("crash_loop", false))),
            (ended("OOMKilled", 137, "CrashLoopBackOff"), Some(("out_of_memory", false))),
            (ended("StartError", 128, "CrashLoopBackOff"), Some(("cannot_run", true))),
            (ended("Error", 3, ""), Some(("exited", false))),
            (waiting("ContainerCreating", ""), None),
            (Container::default(), None),
        ];
        for (container, expected) in table {
            let said = format!("{container:?}");
            assert_eq!(found(container), expected, "{said}");
        }
    }

    #[test]
    fn what_ended_once_and_is_well_again_has_no_reason() {
        let well = Container { waiting: None, running: Some(Timestamp::UNIX_EPOCH), started: true, ..ended("Error", 3, "") };
        assert_eq!(found(well), None);
    }

    #[test]
    fn a_pod_that_is_not_ready_though_its_containers_are_has_lost_its_node() {
        let lost = Pod { containers_ready: true, node: Some("n1".into()), ..Pod::default() };
        let reason = of_pod(&lost, &ServiceSpec::default(), &[]).unwrap();
        assert!(reason.code == "node_gone" && reason.detail.contains("n1") && !reason.hard, "{reason:?}");
        assert!(of_pod(&Pod { ready: true, ..lost }, &ServiceSpec::default(), &[]).is_none());
    }

    #[test]
    fn a_crash_loop_says_exit_code_restarts_and_last_words() {
        let pod = Pod { service: ended("Error", 3, "CrashLoopBackOff"), ..Pod::default() };
        let reason = of_pod(&pod, &ServiceSpec::default(), &[]).unwrap();
        for part in ["exit code 3", "4 restarts", "boom"] {
            assert!(reason.detail.contains(part), "{}", reason.detail);
        }
    }

    /// What is said of a container that began at 0 and ended with `code` at `end`, of whose check a warning came at `warned`.
    fn of_checked(word: &str, code: i64, end: i64, warned: i64) -> Reason {
        let at = |second| Timestamp::from_second(second).ok();
        let mut service = ended(word, code, "CrashLoopBackOff");
        let times = service.ended.as_mut().unwrap();
        (times.started_at, times.finished_at) = (at(0), at(end));
        let warning = Warning { reason: "Unhealthy".into(), message: "Startup probe failed".into(), at: at(warned) };
        of_pod(&Pod { service, ..Pod::default() }, &ServiceSpec::default(), &[warning]).unwrap()
    }

    #[test]
    fn what_is_killed_for_its_check_fails_for_its_check() {
        let budget = i64::try_from(ServiceSpec::default().start_timeout.duration().as_secs()).unwrap();
        let code = |word, code, end, warned| of_checked(word, code, end, warned).code;
        assert_eq!(code("Error", 143, 9, 8), "probe_failing");
        assert_eq!(code("Completed", 0, budget + 1, budget), "probe_failing", "it may end as it likes when it is told to");
        assert_eq!(code("OOMKilled", 137, 9, 8), "out_of_memory");
        let reason = of_checked("Error", 143, 9, 8);
        assert_eq!((reason.ended, reason.words), (Some((143, 4)), vec!["boom".to_owned()]), "how it ended is told, too");
    }

    #[test]
    fn what_is_ended_for_its_life_is_told_so_whatever_other_checks_say_of_its_end() {
        let at = |second| Timestamp::from_second(second).ok();
        let mut service = ended("Completed", 0, "CrashLoopBackOff");
        let times = service.ended.as_mut().unwrap();
        (times.started_at, times.finished_at) = (at(0), at(9));
        let warning = |said: &str, second| Warning { reason: "Unhealthy".into(), message: said.into(), at: at(second) };
        let warnings = [warning("Liveness probe failed", 8), warning("Readiness probe errored", 9)];
        let reason = of_pod(&Pod { service, ..Pod::default() }, &ServiceSpec::default(), &warnings).unwrap();
        assert_eq!((reason.code, reason.detail.as_str()), ("probe_failing", "Liveness probe failed"));
    }

    #[test]
    fn what_ends_by_itself_is_a_crash_though_its_first_checks_came_too_early() {
        let budget = i64::try_from(ServiceSpec::default().start_timeout.duration().as_secs()).unwrap();
        assert_eq!(of_checked("Error", 3, 4, 2).code, "crash_loop");
        assert_eq!(of_checked("Error", 3, 100 * budget, 2).code, "crash_loop", "that was long ago");
        assert_eq!(of_checked("Error", 143, 9, -20).code, "crash_loop", "that was said of another container");
    }
}

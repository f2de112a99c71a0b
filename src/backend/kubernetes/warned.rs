//! Why a pod's containers do not begin, as the cluster has warned: nothing of that stands in the pod itself. Pure.

use super::observed::{Container, Pod};
use super::reasons::{Reason, reason};
use super::trouble::Warning;
use crate::error::Kind;

/// Of what comes before a pod's containers; each is tried again.
const SANDBOX: &str = "FailedCreatePodSandBox";
const ATTACH: &str = "FailedAttachVolume";
const MOUNT: &str = "FailedMount";
/// Of a claim whose volume cannot be made.
const PROVISIONING: &str = "ProvisioningFailed";

/// Why none of a pod's containers has begun. What was warned of before one has is a matter of the past.
pub(super) fn of_pod(pod: &Pod, warnings: &[Warning]) -> Option<Reason> {
    if pod.ready || pod.init.iter().chain([&pod.service]).any(has_its_place) {
        return None;
    }
    let told = |word: &str| warnings.iter().filter(|warning| warning.reason == word).max_by_key(|warning| warning.at);
    let attach = told(ATTACH);
    // It waits in vain for what was not attached.
    let mount = told(MOUNT).filter(|warning| attach.is_none() || !warning.message.contains("attach"));
    let last = [mount, attach, told(SANDBOX)].into_iter().flatten().max_by_key(|warning| warning.at)?;
    let said = last.message.as_str();
    let has = |pattern: &str| said.contains(pattern);
    let (code, remedy) = match last.reason.as_str() {
        SANDBOX if has("network") || has("plugin") || has("cni") => {
            ("pod_not_set_up", "its node's network plugin gives it no network: look at the plugin's own pods on that node")
        }
        SANDBOX => ("pod_not_set_up", "its node cannot begin pods: look at the container runtime there"),
        ATTACH if has("Multi-Attach") => (
            "volume_not_attached",
            "another pod has the volume on another node: it comes when that one has ended; a node that is gone has to be deleted",
        ),
        ATTACH => ("volume_not_attached", "look at the volume, and at the driver that attaches it to nodes"),
        _ => ("volume_not_mounted", "look at the volume, and whether its secret or claim is there"),
    };
    Some(reason(code, Kind::StartFailed, false, said, remedy))
}

/// Whether there is already where a container runs: then the pod has its network and its volumes.
fn has_its_place(container: &Container) -> bool {
    match &container.waiting {
        Some(waiting) => !matches!(waiting.reason.as_str(), "" | "ContainerCreating" | "PodInitializing"),
        None => container.running.is_some() || container.ended.is_some(),
    }
}

/// Why a pod has no node: `found`, or more exactly what was said of the claim that it waits for.
pub(super) fn of_claims<'a>(pod: &Pod, warnings: impl IntoIterator<Item = &'a Warning>, found: Option<Reason>) -> Option<Reason> {
    let waits = pod.node.is_none() && found.as_ref().is_none_or(|reason| reason.code == "volume_pending");
    let warnings = warnings.into_iter().filter(|warning| waits && warning.reason == PROVISIONING);
    let Some(last) = warnings.max_by_key(|warning| warning.at) else { return found };
    let said = last.message.as_str();
    let remedy = if said.contains("storageclass") {
        "set kubernetes.storage_class to a class that the cluster has"
    } else if said.contains("exceeded quota") {
        "raise the namespace's ResourceQuota, or delete volumes"
    } else {
        "look at what provides volumes of the claim's class (kubernetes.storage_class)"
    };
    Some(reason("volume_pending", Kind::StartFailed, false, format!("its volume cannot be made: {said}"), remedy))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::observed::{Terminated, Waiting};
    use super::*;

    fn warning(word: &str, said: &str, second: i64) -> Warning {
        Warning { reason: word.into(), message: said.into(), at: Timestamp::from_second(second).ok() }
    }

    fn waiting(word: &str) -> Pod {
        let waiting = Waiting { reason: word.into(), message: String::new() };
        Pod { node: Some("n1".into()), service: Container { waiting: Some(waiting), ..Container::default() }, ..Pod::default() }
    }

    fn found(warnings: &[Warning]) -> Option<Reason> {
        of_pod(&waiting("ContainerCreating"), warnings)
    }

    #[test]
    fn what_keeps_containers_from_beginning_has_its_reason() {
        let table = [
            (
                SANDBOX,
                "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox \"a\": \
                 plugin type=\"calico\" failed (add): no addresses",
                ("pod_not_set_up", "network plugin"),
            ),
            (
                SANDBOX,
                "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to start sandbox: no such runtime",
                ("pod_not_set_up", "container runtime"),
            ),
            (
                ATTACH,
                "Multi-Attach error for volume \"pvc-1\" Volume is already used by pod(s) mcp-echo-0",
                ("volume_not_attached", "another pod"),
            ),
            (
                ATTACH,
                "AttachVolume.Attach failed for volume \"pvc-1\" : rpc error: code = Internal",
                ("volume_not_attached", "driver"),
            ),
            (
                MOUNT,
                "MountVolume.SetUp failed for volume \"files\" : secret \"mcp-echo\" not found",
                ("volume_not_mounted", "secret"),
            ),
        ];
        for (word, said, (code, remedy)) in table {
            let reason = found(&[warning(word, said, 1)]).unwrap();
            assert_eq!((reason.code, reason.detail.as_str(), reason.hard), (code, said, false));
            assert!(reason.remedy.contains(remedy), "{said}: {}", reason.remedy);
        }
        assert!(found(&[warning("Unhealthy", "Startup probe failed", 1)]).is_none());
    }

    #[test]
    fn the_last_warning_counts_and_a_wait_for_what_is_not_attached_is_none_of_its_own() {
        let (attach, mount) = (warning(ATTACH, "Multi-Attach error", 1), warning(MOUNT, "MountVolume.SetUp failed", 2));
        assert_eq!(found(&[attach.clone(), mount.clone()]).unwrap().code, "volume_not_mounted");
        assert_eq!(found(&[mount.clone(), attach.clone(), warning(SANDBOX, "x", 3)]).unwrap().code, "pod_not_set_up");
        let waits = warning(MOUNT, "Unable to attach or mount volumes: timed out waiting for the condition", 3);
        assert_eq!(found(&[attach, waits.clone()]).unwrap().code, "volume_not_attached");
        assert_eq!(found(&[waits]).unwrap().code, "volume_not_mounted");
    }

    #[test]
    fn what_was_warned_of_before_a_container_began_is_past() {
        let warnings = [warning(MOUNT, "MountVolume.SetUp failed", 1)];
        let of = |pod: Pod| of_pod(&pod, &warnings).map(|reason| reason.code);
        assert_eq!(of(waiting("PodInitializing")), Some("volume_not_mounted"));
        for word in ["ErrImagePull", "CrashLoopBackOff"] {
            assert_eq!(of(waiting(word)), None, "{word}");
        }
        let ran = Container { ended: Some(Terminated::default()), ..Container::default() };
        assert_eq!(of(Pod { init: vec![ran], ..waiting("PodInitializing") }), None, "the first of its containers has ended");
        let runs = Container { running: Some(Timestamp::UNIX_EPOCH), ..Container::default() };
        assert_eq!(of(Pod { service: runs, ..Pod::default() }), None);
    }

    #[test]
    fn a_volume_that_cannot_be_made_says_why() {
        let table = [
            ("storageclass.storage.k8s.io \"fast\" not found", "kubernetes.storage_class"),
            ("persistentvolumeclaims \"mcp-data\" is forbidden: exceeded quota: small", "ResourceQuota"),
            ("failed to provision volume with StorageClass \"fast\": rpc error: code = ResourceExhausted", "provides volumes"),
        ];
        let pod = Pod::default();
        for (said, remedy) in table {
            let warnings = [warning(PROVISIONING, "an earlier one", 1), warning(PROVISIONING, said, 2)];
            let reason = of_claims(&pod, &warnings, None).unwrap();
            assert!(reason.code == "volume_pending" && reason.detail.contains(said), "{}", reason.detail);
            assert!(reason.remedy.contains(remedy), "{said}: {}", reason.remedy);
        }
        let warnings = [warning(PROVISIONING, "no room", 1)];
        let general = || Some(reason("volume_pending", Kind::StartFailed, false, "unbound", ""));
        assert!(of_claims(&pod, &warnings, general()).unwrap().detail.contains("no room"), "the exact words count");
        assert_eq!(of_claims(&pod, &[], general()).unwrap().detail, "unbound");
        let other = Some(reason("unschedulable", Kind::LimitReached, false, "no memory", ""));
        assert_eq!(of_claims(&pod, &warnings, other).unwrap().code, "unschedulable");
        assert!(of_claims(&waiting("ContainerCreating"), &warnings, None).is_none(), "it has a node, and so its volumes");
    }
}

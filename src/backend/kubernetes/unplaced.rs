//! Why a service has no pods, or pods that no node takes: a rule of the cluster refuses them, or its scheduler finds no
//! place. Pure.

use super::observed::Condition;
use super::reasons::{Reason, reason};
use crate::error::Kind;

/// What the scheduler counts against nodes, and what to do about it. A cluster's nodes may each have their own.
const LACKS: [(&str, &str); 8] = [
    ("Insufficient memory", "no node has the memory that it asks for: lower memory_limit, or add nodes"),
    ("Insufficient cpu", "no node has the CPU that it asks for: lower cpu_limit, or add nodes"),
    ("Insufficient ephemeral-storage", "no node has the disk that it asks for: lower storage_limit, or add nodes"),
    ("Too many pods", "nodes have as many pods as they may: add nodes, or delete services"),
    ("node affinity/selector", "correct kubernetes.node_selector or kubernetes.affinity, or label a node so"),
    ("affinity rules", "other pods keep it off, or are not where it is to be: correct kubernetes.affinity, or add nodes"),
    ("were unschedulable", "a node is closed to new pods: open it (kubectl uncordon)"),
    ("untolerated taint", "a taint keeps it off: free a node of it, add one, or name it in kubernetes.tolerations"),
];

/// Pods that the cluster refuses to make: that answer goes to the controller, never to who wrote the workload.
pub(super) fn refusal(said: &str) -> Reason {
    if said.contains("exceeded quota") {
        let remedy = "raise the namespace's ResourceQuota, ask for less, or delete services";
        return reason("quota_exceeded", Kind::LimitReached, true, said, remedy);
    }
    let remedy = if said.contains("violates PodSecurity") {
        "the namespace does not allow what the spec opens: leave that out of the spec"
    } else if said.contains("usage per ") || said.contains("limit to request ratio per ") {
        "ask for what the namespace's LimitRange allows (memory_limit, cpu_limit, storage_limit), or change that"
    } else {
        "a rule of the cluster refuses its pods; the words say which"
    };
    reason("pods_refused", Kind::NotSupported, true, said, remedy)
}

/// A pod without a node.
pub(super) fn unscheduled(condition: &Condition) -> Reason {
    let said = condition.message.as_deref().unwrap_or("no node takes it");
    let has = |pattern: &str| said.contains(pattern);
    // The second is that of clusters before 1.34.
    if has("PersistentVolume's node affinity") || has("volume node affinity") {
        let remedy =
            "its volume is on a node that does not take it: make room there or bring that node back, or delete the volume";
        return reason("volume_pending", Kind::StartFailed, false, said, remedy);
    }
    if has("PersistentVolumeClaim") || has("persistentvolumeclaim") || has("persistent volumes to bind") {
        let remedy = "look at the claim's events; set kubernetes.storage_class where the cluster has no default class";
        return reason("volume_pending", Kind::StartFailed, false, said, remedy);
    }
    let remedies: Vec<&str> = LACKS.iter().filter(|(pattern, _)| has(pattern)).map(|(_, remedy)| *remedy).collect();
    let remedy = if remedies.is_empty() { "no node fits: add one, or ask for less".to_owned() } else { remedies.join("; ") };
    reason("unschedulable", Kind::LimitReached, false, said, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_scheduler_lacks_is_named() {
        let table = [
            ("0/1 nodes are available: 1 Insufficient memory.", "unschedulable", "memory_limit"),
            ("0/1 nodes are available: 1 Insufficient cpu.", "unschedulable", "cpu_limit"),
            ("0/1 nodes are available: 1 Too many pods.", "unschedulable", "as many pods as they may"),
            ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "volume_pending", "storage_class"),
            ("0/1 nodes are available: 1 node(s) had volume node affinity conflict.", "volume_pending", "delete the volume"),
            ("0/1 nodes are available: 1 node(s) had untolerated taint {x: }.", "unschedulable", "taint"),
            ("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s).", "unschedulable", "taint"),
            ("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s).", "unschedulable", "cpu_limit"),
        ];
        for (said, code, remedy) in table {
            let reason = unscheduled(&Condition { message: Some(said.into()), ..Condition::default() });
            assert_eq!(reason.code, code);
            assert!(reason.remedy.contains(remedy), "{}", reason.remedy);
        }
    }

    #[test]
    fn refused_pods_name_the_quota_or_the_rule() {
        let of = |said: &str| refusal(said).code;
        assert_eq!(of("pods \"x\" is forbidden: exceeded quota: q"), "quota_exceeded");
        assert_eq!(of("pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\""), "pods_refused");
    }
}

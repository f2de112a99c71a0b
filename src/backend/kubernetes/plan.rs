//! What to write next so that a service's objects are as its record says. Pure.

use super::kinds::Owned;
use super::objects::{Object, asked_for, workload_kind};
use super::observed::Workload;
use super::world::Objects;
use crate::domain::status::Record;

/// One thing to do in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Write this object.
    Apply(Object),
    /// Let the workload have so many replicas; nothing else of it changes.
    Scale(Owned, String, u32),
    /// Take this object away.
    Delete(Owned, String),
}

/// How many replicas there are to be. Whoever scales by hand, or an autoscaler, is left alone until the record asks for
/// another number.
pub(super) fn replicas(record: &Record, objects: &Objects) -> u32 {
    let asked = asked_for(record);
    match &objects.workload {
        Some(workload) if !is_rescaled(record, objects, workload) && asked > 0 => workload.replicas,
        _ => asked,
    }
}

/// Whether the record asks for another number than when the workload was written last, or has lost the autoscaler that chose
/// the present one.
fn is_rescaled(record: &Record, objects: &Objects, workload: &Workload) -> bool {
    let autoscaler = |(kind, _): &(Owned, String)| *kind == Owned::HorizontalPodAutoscaler;
    let loses = record.spec.autoscaling.is_none() && objects.written.keys().any(autoscaler);
    let asked = asked_for(record);
    workload.asked != Some(asked) || (loses && workload.replicas != asked)
}

/// What to do so that there are `desired` objects and no others. An object is written again only when what it is made
/// from differs.
pub(super) fn actions(objects: &Objects, desired: Vec<Object>) -> Vec<Action> {
    let Some(root) = objects.root.as_ref().filter(|root| !root.is_removed()) else { return Vec::new() };
    let stale = |(key, written): &(&(Owned, String), &super::observed::Written)| {
        // What another root object owned is on its way out with it.
        !written.deleting && !desired.iter().any(|object| (object.kind, &object.name) == (key.0, &key.1))
    };
    let deletions: Vec<Action> =
        objects.written.iter().filter(stale).map(|((kind, name), _)| Action::Delete(*kind, name.clone())).collect();
    let applied = desired.into_iter().filter_map(|object| {
        let key = (object.kind, object.name.clone());
        let written = objects.written.get(&key).filter(|written| written.root == root.uid);
        match written {
            // It is written when it is gone.
            Some(written) if written.deleting => None,
            Some(written) if written.digest == object.digest => rescaled(objects, &object),
            _ => Some(Action::Apply(object)),
        }
    });
    applied.chain(deletions).collect()
}

fn rescaled(objects: &Objects, object: &Object) -> Option<Action> {
    let workload = objects.workload.as_ref().filter(|workload| object.kind.is_workload() && workload.kind == object.kind)?;
    let record = &objects.root.as_ref()?.record;
    let scale = || Action::Scale(object.kind, object.name.clone(), asked_for(record));
    is_rescaled(record, objects, workload).then(scale)
}

/// Whether the kind of workload differs, whose pods and volumes cannot be taken over.
pub(super) fn changes_kind(record: &Record, spec: &crate::domain::spec::ServiceSpec) -> bool {
    workload_kind(&record.spec) != workload_kind(spec)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::json;

    use super::super::observed::{MadeFrom, Written};
    use super::super::root::Root;
    use super::*;
    use crate::domain::spec::ServiceSpec;
    use crate::domain::status::Desired;

    fn record(replicas: u32, desired: Desired) -> Arc<Record> {
        Arc::new(Record {
            name: "echo".parse().unwrap(),
            generation: 1,
            desired,
            spec: Arc::new(ServiceSpec { replicas, ..ServiceSpec::default() }),
            template: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        })
    }

    fn workload(asked: u32, replicas: u32) -> Workload {
        let makes = MadeFrom::default();
        Workload { kind: Owned::Deployment, asked: Some(asked), replicas, makes, observed: true, refusal: None }
    }

    fn deployment(digest: &str) -> Object {
        Object { kind: Owned::Deployment, name: "mcp-echo".into(), digest: digest.into(), json: json!({}) }
    }

    fn objects(record: Arc<Record>, digest: &str, workload: Workload) -> Objects {
        let root = Root { uid: "u".into(), version: "1".into(), deleting: false, record, refusal: None };
        let written = Written { digest: digest.into(), uid: "w".into(), root: "u".into(), deleting: false };
        Objects {
            root: Some(root),
            workload: Some(workload),
            written: [((Owned::Deployment, "mcp-echo".to_owned()), written)].into(),
            ..Objects::default()
        }
    }

    #[test]
    fn nothing_is_written_while_nothing_differs() {
        let known = objects(record(2, Desired::Running), "a", workload(2, 2));
        assert_eq!(actions(&known, vec![deployment("a")]), []);
        assert_eq!(actions(&known, vec![deployment("b")]), [Action::Apply(deployment("b"))]);
    }

    #[test]
    fn what_is_missing_is_written_and_what_nobody_wants_is_taken_away() {
        let mut known = objects(record(1, Desired::Running), "a", workload(1, 1));
        known.written.clear();
        assert_eq!(actions(&known, vec![deployment("a")]), [Action::Apply(deployment("a"))]);
        let known = objects(record(1, Desired::Running), "a", workload(1, 1));
        assert_eq!(actions(&known, vec![]), [Action::Delete(Owned::Deployment, "mcp-echo".into())]);
    }

    #[test]
    fn what_is_scaled_by_somebody_else_is_left_alone_until_the_record_asks_for_another_number() {
        let scaled = objects(record(2, Desired::Running), "a", workload(2, 5));
        assert_eq!(actions(&scaled, vec![deployment("a")]), []);
        assert_eq!(replicas(&record(2, Desired::Running), &scaled), 5);
        let asked = objects(record(3, Desired::Running), "a", workload(2, 5));
        assert_eq!(actions(&asked, vec![deployment("a")]), [Action::Scale(Owned::Deployment, "mcp-echo".into(), 3)]);
        assert_eq!(replicas(&record(3, Desired::Running), &asked), 3);
    }

    #[test]
    fn what_an_autoscaler_chose_goes_with_it() {
        let mut scaled = objects(record(1, Desired::Running), "a", workload(1, 3));
        let autoscaler = (Owned::HorizontalPodAutoscaler, "mcp-echo".to_owned());
        let written = Written { digest: "h".into(), uid: "h".into(), root: "u".into(), deleting: false };
        scaled.written.insert(autoscaler.clone(), written);
        let delete = Action::Delete(autoscaler.0, autoscaler.1);
        let scale = Action::Scale(Owned::Deployment, "mcp-echo".into(), 1);
        assert_eq!(actions(&scaled, vec![deployment("a")]), [scale, delete]);
        assert_eq!(replicas(&record(1, Desired::Running), &scaled), 1);
    }

    #[test]
    fn a_stopped_service_has_no_replicas_and_gets_them_back() {
        let running = objects(record(2, Desired::Stopped), "a", workload(2, 2));
        assert_eq!(actions(&running, vec![deployment("a")]), [Action::Scale(Owned::Deployment, "mcp-echo".into(), 0)]);
        let stopped = objects(record(2, Desired::Running), "a", workload(0, 0));
        assert_eq!(replicas(&record(2, Desired::Running), &stopped), 2);
    }

    #[test]
    fn a_service_that_is_being_deleted_gets_nothing_new() {
        let mut known = objects(record(1, Desired::Running), "a", workload(1, 1));
        known.root.as_mut().unwrap().deleting = true;
        assert_eq!(actions(&known, vec![deployment("b")]), []);
    }
}

//! What the cluster says of a service that does not get on: its warnings about pods, workloads and claims are events,
//! which carry no labels and cannot be watched with the rest. So they are asked for, and only while something is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use tokio::time::Instant;

use super::kinds;
use super::reconcile::in_time;
use super::shared::Shared;
use super::world::Objects;
use crate::domain::name::ServiceName;
use crate::domain::status::{Desired, Phase};

/// How often services are looked at; nothing is asked unless one is in trouble.
const LOOK: Duration = Duration::from_secs(1);
/// How long a service may take before it counts as in trouble, and how often it is asked about then.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many objects of a service are asked about.
const OBJECTS: usize = 4;
/// So many warnings of an object are read.
const WARNINGS: u32 = 50;

/// The cluster's word for a pod that it refuses to make.
pub(super) const REFUSED: &str = "FailedCreate";
/// So much the clocks of the cluster and the manager may differ.
pub(super) const CLOCKS: Duration = Duration::from_secs(2);

/// What the cluster has said of an object: a warning, or of a pod what else happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Warning {
    /// The cluster's word for it: `Unhealthy`, `FailedMount`.
    pub(super) reason: String,
    pub(super) message: String,
    /// When it was said last.
    pub(super) at: Option<Timestamp>,
}

impl Warning {
    fn read(event: &DynamicObject) -> Self {
        let text = |key: &str| event.data[key].as_str().unwrap_or_default().to_owned();
        Self { reason: text("reason"), message: text("message"), at: moment(event) }
    }
}

/// Asks about services in trouble until it is dropped.
pub(super) async fn follow(shared: Arc<Shared>) {
    // When a service was found in trouble, or asked about last.
    let mut since: BTreeMap<ServiceName, Instant> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let snapshot = shared.view.snapshot();
        if !snapshot.connected {
            continue;
        }
        let troubled = |phase| !matches!(phase, Phase::Running | Phase::Stopped | Phase::Stopping | Phase::Deleting);
        let services = snapshot.services.iter();
        let troubled: Vec<&ServiceName> = services
            .filter(|(_, state)| state.record.desired == Desired::Running && troubled(state.phase))
            .map(|(name, _)| name)
            .collect();
        since.retain(|name, _| troubled.contains(&name));
        for name in troubled {
            if since.entry(name.clone()).or_insert_with(Instant::now).elapsed() >= PATIENCE {
                since.insert(name.clone(), Instant::now());
                ask(&shared, name).await;
            }
        }
    }
}

async fn ask(shared: &Shared, name: &ServiceName) {
    let Some(objects) = shared.objects(name) else { return };
    let mut warnings = BTreeMap::new();
    let Some(root) = &objects.root else { return };
    let record = &root.record;
    for object in suspects(shared, &objects) {
        // Of pulls it tells as well, which are nothing to warn of.
        let fields = format!("involvedObject.name={object}");
        let Some(told) = events(shared, name, &fields).await else { continue };
        // Those of a StatefulSet have the names of their predecessors.
        let since = objects.pods.get(&object).map_or(Some(record.updated_at), |pod| pod.created);
        let told = told.iter().filter(|event| since.is_none_or(|since| is_since(event, since)));
        warnings.insert(object, told.map(Warning::read).collect());
    }
    if objects.present().next().is_none() {
        let workload = shared.names.object(record.name.as_str());
        let fields = format!("involvedObject.kind=ReplicaSet,reason={REFUSED},type=Warning");
        let told = events(shared, name, &fields).await.unwrap_or_default();
        let refusals = told.iter().filter(|event| is_of(event, &workload) && is_since(event, record.updated_at));
        warnings.insert(format!("ReplicaSet of {workload}"), refusals.map(Warning::read).collect());
    }
    shared.amend(name, |objects| {
        if objects.root.as_ref().is_some_and(|root| root.record.generation == record.generation) {
            objects.warnings = warnings;
        }
    });
}

/// Whether of all that was said of pulls the last is that one has begun.
pub(super) fn is_pulling(said: &[Warning]) -> bool {
    let last = |words: &[&str]| said.iter().filter(|one| words.contains(&one.reason.as_str())).filter_map(|one| one.at).max();
    last(&["Pulling"]).is_some_and(|begun| last(&["Pulled", "Failed"]).is_none_or(|over| over < begun))
}

/// Events with these fields; none where they cannot be read.
async fn events(shared: &Shared, name: &ServiceName, fields: &str) -> Option<Vec<DynamicObject>> {
    let selection = ListParams::default().fields(fields).limit(WARNINGS);
    match in_time(shared.api(&kinds::events()).list(&selection), "read the cluster's events").await {
        Ok(listed) => Some(listed.items),
        Err(error) => {
            tracing::debug!(service = %name, %error, "the cluster's warnings could not be read");
            None
        }
    }
}

/// Whether an event is about a `ReplicaSet` of the Deployment `workload`, which has its name and a hash.
fn is_of(event: &DynamicObject, workload: &str) -> bool {
    let name = event.data["involvedObject"]["name"].as_str().unwrap_or_default();
    name.strip_prefix(workload).and_then(|rest| rest.strip_prefix('-')).is_some_and(|hash| !hash.contains('-'))
}

/// Whether an event is not older than a record or a pod, give or take what clocks differ by: what is older was said of
/// another one of that name, or of what it was before.
fn is_since(event: &DynamicObject, made: Timestamp) -> bool {
    moment(event).is_some_and(|moment| moment >= made - CLOCKS)
}

/// When an event happened last.
fn moment(event: &DynamicObject) -> Option<Timestamp> {
    ["lastTimestamp", "eventTime"].into_iter().find_map(|key| event.data[key].as_str())?.parse().ok()
}

/// The objects that may be the cause: pods that are not ready, claims of pods without a node, and a workload that has
/// no pods.
fn suspects(shared: &Shared, objects: &Objects) -> Vec<String> {
    let pods = objects.present().filter(|pod| !pod.deleting && !pod.ready);
    let mut suspects: Vec<String> = pods.clone().map(|pod| pod.name.clone()).take(OBJECTS).collect();
    let Some(root) = &objects.root else { return suspects };
    let homeless = pods.filter(|pod| pod.node.is_none()).take(OBJECTS);
    let claims: BTreeSet<String> =
        homeless.flat_map(|pod| super::objects::claims_of(&shared.names, &root.record.spec, &pod.name)).collect();
    suspects.extend(claims);
    if objects.present().next().is_none() {
        suspects.push(shared.names.object(root.record.name.as_str()));
    }
    suspects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_under_way_from_when_it_is_told_until_its_end_is() {
        let said = |words: &[(&str, i64)]| -> Vec<Warning> {
            let one = |(reason, second): &(&str, i64)| Warning {
                reason: (*reason).to_owned(),
                message: String::new(),
                at: Timestamp::from_second(*second).ok(),
            };
            words.iter().map(one).collect()
        };
        assert!(is_pulling(&said(&[("Scheduled", 1), ("Pulling", 1)])));
        assert!(is_pulling(&said(&[("Pulled", 1), ("Pulling", 2)])), "the next container's");
        assert!(!is_pulling(&said(&[("Pulling", 1), ("Pulled", 9), ("Created", 9)])));
        assert!(!is_pulling(&said(&[("Pulling", 1), ("Failed", 1)])) && !is_pulling(&said(&[("Created", 1)])));
    }
}

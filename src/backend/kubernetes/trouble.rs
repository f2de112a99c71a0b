//! What the cluster says of a service that does not get on: its warnings about pods, workloads and claims are events,
//! which carry no labels and cannot be watched with the rest. So they are asked for, and only while something is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::ListParams;
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

/// A warning about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Warning {
    /// The cluster's word for it: `Unhealthy`, `FailedMount`.
    pub(super) reason: String,
    pub(super) message: String,
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
    for object in suspects(shared, &objects) {
        let selection = ListParams::default().fields(&format!("involvedObject.name={object},type=Warning")).limit(WARNINGS);
        match in_time(shared.api(&kinds::events()).list(&selection), "read the cluster's events").await {
            Ok(listed) => {
                let text = |event: &kube::api::DynamicObject, key: &str| event.data[key].as_str().unwrap_or_default().to_owned();
                let told =
                    listed.items.iter().map(|event| Warning { reason: text(event, "reason"), message: text(event, "message") });
                warnings.insert(object, told.collect::<Vec<_>>());
            }
            Err(error) => tracing::debug!(service = %name, %error, "the cluster's warnings could not be read"),
        }
    }
    shared.amend(name, |objects| objects.warnings = warnings);
}

/// The objects that may be the cause: pods that are not ready, claims of pods without a node, and a workload that has
/// no pods.
fn suspects(shared: &Shared, objects: &Objects) -> Vec<String> {
    let pods = objects.pods.values().filter(|pod| !pod.deleting && !pod.ready);
    let mut suspects: Vec<String> = pods.clone().map(|pod| pod.name.clone()).take(OBJECTS).collect();
    let Some(root) = &objects.root else { return suspects };
    if pods.clone().any(|pod| pod.unscheduled.is_some()) {
        suspects.extend(super::objects::shared_claims(&shared.names, &root.record.spec));
    }
    if objects.pods.is_empty() {
        suspects.push(shared.names.object(root.record.name.as_str()));
    }
    suspects
}

//! What a change would do, for those who ask before they do it. Pure; which objects there are is each backend's to say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Change;
use crate::domain::name::ServiceName;
use crate::domain::spec::MountSource;
use crate::domain::status::{Record, ServiceState};

/// What carrying out a change would do in the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, JsonSchema)]
pub struct Plan {
    /// Whether the engine itself was asked and takes every object as it is described; otherwise the manager alone has
    /// checked the change.
    pub accepted_by_engine: bool,
    /// What would be made, changed and deleted, in that order; empty when nothing would.
    pub objects: Vec<PlannedObject>,
    /// What the engine had to say about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One object that a change would touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, JsonSchema)]
pub struct PlannedObject {
    /// What would happen to it.
    pub action: PlannedAction,
    /// What it is, in the engine's words: `container`, `Deployment`.
    pub kind: String,
    /// Its name in the engine.
    pub name: String,
    /// The object as the engine would keep it, where that can be asked for; secret values are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Value>,
}

/// What would happen to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlannedAction {
    /// It is made.
    Create,
    /// It is made or fetched, unless it is there.
    Ensure,
    /// It is there and gets changed.
    Change,
    /// It is there and gets deleted.
    Delete,
}

impl PlannedObject {
    /// An object without a definition.
    pub(super) fn new(action: PlannedAction, kind: &str, name: impl Into<String>) -> Self {
        Self { action, kind: kind.to_owned(), name: name.into(), definition: None }
    }
}

impl Plan {
    /// The plan of a backend that makes one container for each replica: `now` is the service `name` as it stands,
    /// `container` the name of a replica's container, by the record that would be written and its ordinal.
    pub(super) fn of_containers(
        name: &ServiceName,
        now: Option<&ServiceState>,
        change: Change,
        container: impl Fn(&Record, u32) -> String,
    ) -> Self {
        let next = match now {
            Some(service) => change.after(&service.record),
            None => change.first(name),
        };
        let digest = next.spec.container_digest();
        let kept: Vec<u32> = now
            .iter()
            .flat_map(|service| &service.replicas)
            .filter(|replica| replica.spec_digest == digest && replica.ordinal <= next.spec.replicas)
            .map(|replica| replica.ordinal)
            .collect();
        let new: Vec<u32> = (1..=next.spec.replicas).filter(|ordinal| !kept.contains(ordinal)).collect();
        let mut objects = Vec::new();
        if !new.is_empty() {
            objects.push(PlannedObject::new(PlannedAction::Ensure, "image", &next.spec.image));
            objects.extend(next.spec.volumes.iter().filter_map(|mount| match &mount.source {
                MountSource::Volume(volume) => Some(PlannedObject::new(PlannedAction::Ensure, "volume", volume)),
                MountSource::Host(_) => None,
            }));
        }
        objects.extend(
            new.into_iter().map(|ordinal| PlannedObject::new(PlannedAction::Create, "container", container(&next, ordinal))),
        );
        let leaving = now.iter().flat_map(|service| &service.replicas).filter(|replica| !kept.contains(&replica.ordinal));
        objects.extend(leaving.map(|replica| PlannedObject::new(PlannedAction::Delete, "container", &replica.name)));
        Self { accepted_by_engine: false, objects, warnings: Vec::new() }
    }
}

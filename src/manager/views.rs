//! What the product shows of services: one set of shapes for every face.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Manager, redact};
use crate::backend::Plan;
use crate::domain::reason::Reason;
use crate::domain::spec::ServiceSpec;
use crate::domain::status::{Desired, Phase, Progress, Replica, ReplicaState, ServiceState};
use crate::domain::template::TemplateReference;
use crate::error::Failure;

/// A service in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, JsonSchema)]
pub struct ServiceSummary {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub status: Phase,
    /// Whether the user wants it to run.
    pub desired: Desired,
    /// Where it is reached; none for a service without a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its image.
    pub image: String,
    /// The template it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateReference>,
    /// Its template has changed since, or is gone.
    pub template_outdated: bool,
    /// Replicas asked for.
    pub replicas: u32,
    /// Replicas that answer.
    pub ready_replicas: u32,
    /// Restarts of its replicas, added up.
    pub restarts: u32,
    /// Why it is not as it should be, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// Labels of the user's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Everything about a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, JsonSchema)]
pub struct ServiceDetail {
    /// What a list shows of it.
    #[serde(flatten)]
    pub summary: ServiceSummary,
    /// What the request did: `created`, `changed`, `retried` (what could not be carried out before, once more) or `unchanged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Grows by one with every change.
    pub generation: u64,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    #[schemars(with = "String")]
    pub updated_at: Timestamp,
    /// Its containers.
    pub instances: Vec<Replica>,
    /// How far the present step is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why it could not be created or changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What the engine could not enforce or had to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why it is not as it should be, each with its remedy; those that do not pass by themselves first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Which locks of the default are open.
    pub loosened: Vec<String>,
    /// How it runs; secret values are replaced.
    pub spec: ServiceSpec,
}

/// What creating or changing a service would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, JsonSchema)]
pub struct ServicePlan {
    /// Its name.
    pub name: String,
    /// What would become of it: `created`, `changed`, `retried` or `unchanged`.
    pub outcome: String,
    /// Where it would be reached; none for a service without a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The template it would come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateReference>,
    /// What the engine would be asked for.
    #[serde(flatten)]
    pub plan: Plan,
    /// Which locks of the default would be open.
    pub loosened: Vec<String>,
    /// How it would run; secret values are replaced.
    pub spec: ServiceSpec,
}

/// One page of services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, JsonSchema)]
pub struct ServiceList {
    /// The services, by name.
    pub containers: Vec<ServiceSummary>,
    /// How many there are in all pages.
    pub total: usize,
    /// Pass as `after` to get the next page; none on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// When the engine was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    #[schemars(with = "Option<String>")]
    pub as_of: Option<Timestamp>,
}

impl Manager {
    pub(super) fn summary(&self, service: &ServiceState) -> ServiceSummary {
        let record = &service.record;
        ServiceSummary {
            name: record.name.to_string(),
            status: service.phase,
            desired: record.desired,
            url: record.spec.port.map(|_| self.url(record.name.as_str())),
            image: record.spec.image.clone(),
            template_outdated: record.template.as_ref().is_some_and(|template| self.registry.is_outdated(template)),
            template: record.template.clone(),
            replicas: record.spec.replicas,
            ready_replicas: u32::try_from(service.ready().count()).unwrap_or(u32::MAX),
            restarts: service.replicas.iter().map(|replica| replica.restarts).sum(),
            message: message(service),
            created_at: record.created_at,
            labels: record.spec.labels.clone(),
        }
    }

    pub(super) fn detail(&self, service: &ServiceState) -> ServiceDetail {
        let spec = &service.record.spec;
        ServiceDetail {
            summary: self.summary(service),
            outcome: None,
            generation: service.record.generation,
            updated_at: service.record.updated_at,
            instances: service.replicas.clone(),
            progress: service.progress.clone(),
            failure: service.failure.as_ref().map(Failure::from),
            warnings: service.warnings.clone(),
            reasons: Reason::all(service),
            loosened: spec.loosened(),
            spec: redact::spec(spec),
        }
    }

    pub(super) fn url(&self, name: &str) -> String {
        let settings = &self.settings;
        let port = settings.public_port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{name}.{}{port}", settings.public_scheme, settings.domain)
    }
}

/// Why a service is not as it should be.
pub(super) fn message(service: &ServiceState) -> Option<String> {
    if let Some(failure) = &service.failure {
        return Some(failure.to_string());
    }
    // A backend that knows more than the replicas say knows it in every phase.
    if let Some(reason) = service.reasons.first() {
        return Some(reason.to_string());
    }
    let troubled = |phase| matches!(phase, Phase::CrashLoop | Phase::Exited | Phase::Unhealthy | Phase::Degraded);
    if !troubled(service.phase) {
        return None;
    }
    service.replicas.iter().find(|replica| !replica.is_ready()).map(|replica| {
        let number = replica.ordinal;
        match (&replica.last_exit, replica.state, &replica.health_detail) {
            (_, ReplicaState::Running, Some(detail)) => format!("replica {number}: {detail}"),
            (_, ReplicaState::Running, None) => format!("replica {number} is not healthy"),
            (Some(exit), _, _) if exit.oom_killed => {
                format!(
                    "replica {number} was killed because it used more memory than its limit {}",
                    service.record.spec.memory_limit
                )
            }
            (Some(exit), _, _) => {
                let last = exit.last_log_lines.last().map(|line| format!("; its last words: {line}")).unwrap_or_default();
                format!("replica {number} ended with status {}{last}", exit.code)
            }
            (None, _, _) => format!("replica {number} does not run"),
        }
    })
}

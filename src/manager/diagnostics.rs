//! One look at everything that may be wrong: the engine, limits, capacity, services, templates. Repairs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use utoipa::ToSchema;

use super::system::SystemHealth;
use super::{Manager, views};
use crate::backend::BackendInfo;
use crate::domain::access::{Actor, Operation};
use crate::domain::status::{Phase, ServiceState};
use crate::error::Result;

/// Answer of `GET /system/diagnostics`.
#[derive(Debug, Clone, Serialize, ToSchema, JsonSchema)]
pub struct Diagnostics {
    /// No finding is an error.
    pub healthy: bool,
    /// What was found, in a sentence.
    pub summary: String,
    /// The manager's own health.
    pub health: SystemHealth,
    /// What services run on; absent while it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendInfo>,
    /// Containers that may run.
    pub max_containers: u32,
    /// Replicas of all services.
    pub containers: u32,
    /// How many services there are in each status.
    pub services: BTreeMap<String, u32>,
    /// What is wrong or doubtful, errors first.
    pub findings: Vec<Finding>,
}

/// Something that is wrong or doubtful.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, JsonSchema)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it concerns: `engine`, `limits`, `capacity`, `container NAME`, `template NAME`.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something does not work.
    Error,
    /// Something works, and not as one would expect.
    Warning,
}

impl Manager {
    /// Looks at everything and tells what is wrong. Fails only when the actor may not ask.
    pub async fn diagnostics(self: &Arc<Self>, actor: &Actor) -> Result<Diagnostics> {
        let manager = self.clone();
        self.perform(actor, Operation::SystemDiagnostics, "", async move { Ok(manager.diagnose().await) }).await
    }

    async fn diagnose(&self) -> Diagnostics {
        let (snapshot, health) = (self.snapshot(), self.health());
        let mut findings = Vec::new();
        let mut found = |severity, subject: String, message: String, remedy: Option<String>| {
            findings.push(Finding { severity, subject, message, remedy });
        };
        for check in health.checks.iter().filter(|check| !check.ok) {
            found(Severity::Error, check.name.to_owned(), check.message.clone(), None);
        }
        let backend = match self.backend.info().await {
            Ok(info) => Some(info),
            Err(error) => {
                found(Severity::Error, "engine".to_owned(), error.detail, error.remedy);
                None
            }
        };
        for (limit, reason) in backend.iter().flat_map(|info| &info.unenforced_limits) {
            let message = format!("{limit} is not enforced: {reason}");
            let remedy = "'mcp-manager doctor' says what this machine lacks".to_owned();
            found(Severity::Warning, "limits".to_owned(), message, Some(remedy));
        }
        let containers = snapshot.most_containers();
        let most = self.settings.max_containers;
        if containers >= most {
            let message = format!("all {most} places for containers are taken");
            let remedy = "delete services, or raise MAX_CONTAINERS".to_owned();
            found(Severity::Warning, "capacity".to_owned(), message, Some(remedy));
        }
        let mut services = BTreeMap::new();
        for service in snapshot.services.values() {
            *services.entry(service.phase.as_str().to_owned()).or_default() += 1;
            let subject = format!("container {}", service.record.name);
            if let Some((severity, message)) = trouble(service) {
                let remedy = service.failure.as_ref().and_then(|failure| failure.remedy.clone());
                found(severity, subject.clone(), message, remedy);
            }
            for reason in service.reasons.iter().filter(|reason| !reason.permanent) {
                found(Severity::Warning, subject.clone(), reason.to_string(), Some(reason.remedy.clone()));
            }
            for warning in &service.warnings {
                found(Severity::Warning, subject.clone(), warning.clone(), None);
            }
        }
        for template in self.registry.list().summaries() {
            for error in &template.errors {
                let severity = if template.usable { Severity::Warning } else { Severity::Error };
                found(severity, format!("template {}", template.name), error.to_string(), None);
            }
        }
        findings.sort_by_key(|finding| finding.severity);
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let summary = match (errors, findings.len() - errors) {
            (0, 0) => "everything is as it should be".to_owned(),
            (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
        };
        let max_containers = self.settings.max_containers;
        Diagnostics { healthy: errors == 0, summary, health, backend, max_containers, containers, services, findings }
    }
}

/// Why a service is not as it should be.
fn trouble(service: &ServiceState) -> Option<(Severity, String)> {
    let message = views::message(service);
    match service.phase {
        Phase::Failed | Phase::CrashLoop | Phase::Unhealthy | Phase::Exited => {
            Some((Severity::Error, message.unwrap_or_else(|| format!("is {}", service.phase.as_str()))))
        }
        Phase::Degraded => Some((Severity::Warning, message.unwrap_or_else(|| "not all replicas are healthy".to_owned()))),
        _ => message.map(|message| (Severity::Warning, message)),
    }
}

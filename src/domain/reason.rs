//! Why a service is not as it should be, for people and programs: a code, a cause, what it is about, and a remedy. It is
//! computed from what is so now and never remembered, so that no reason outlives its cause.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::status::{Health, Phase, Replica, ReplicaState, ServiceState};

/// One reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct Reason {
    /// Its stable name: `crash_loop`, `out_of_memory`, `unschedulable`, …
    pub code: String,
    /// What is so, in a sentence.
    pub cause: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// It does not pass by itself: the change that led to it cannot be carried out.
    pub permanent: bool,
    /// Container or pod that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Exit code of its process, where that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// How often it was started again, where its process has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// The last lines it logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_log_lines: Vec<String>,
}

impl Reason {
    /// The reasons of a service: those that its backend gives, else what its failure and its replicas say.
    #[must_use]
    pub fn all(service: &ServiceState) -> Vec<Self> {
        if !service.reasons.is_empty() {
            return service.reasons.clone();
        }
        let failure = service.failure.as_ref().map(|failure| Self {
            code: failure.kind.slug().replace('-', "_"),
            cause: failure.detail.clone(),
            remedy: failure.remedy.clone().unwrap_or_default(),
            permanent: true,
            ..Self::default()
        });
        let replicas = service.replicas.iter().filter_map(|replica| Self::of_replica(replica, service.phase));
        failure.into_iter().chain(replicas).collect()
    }

    fn of_replica(replica: &Replica, phase: Phase) -> Option<Self> {
        let instance = Some(replica.name.clone());
        if replica.state == ReplicaState::Running {
            let cause = replica.health_detail.clone().unwrap_or_else(|| "its health check fails".to_owned());
            let remedy = "look at its logs and at 'health_check'; it is out of the routes until the check succeeds".to_owned();
            let reason = Self { code: "probe_failing".to_owned(), cause, remedy, instance, ..Self::default() };
            return (replica.health == Health::Unhealthy).then_some(reason);
        }
        // What was stopped is as it should be.
        if matches!(phase, Phase::Stopped | Phase::Stopping | Phase::Deleting) {
            return None;
        }
        let exit = replica.last_exit.as_ref()?;
        let (code, remedy) = match () {
            () if exit.oom_killed => ("out_of_memory", "raise memory_limit, or find out what takes it"),
            () if replica.next_start.is_some() || phase == Phase::CrashLoop => {
                ("crash_loop", "look at its logs; it is started again after a pause")
            }
            () => ("exited", "look at its logs; its restart policy says whether it is started again"),
        };
        let cause = match code {
            "out_of_memory" => "it needed more memory than its limit and was killed".to_owned(),
            _ => format!("it ended with exit code {}", exit.code),
        };
        Some(Self {
            code: code.to_owned(),
            cause,
            remedy: remedy.to_owned(),
            permanent: false,
            instance,
            exit_code: Some(exit.code),
            restarts: Some(replica.restarts),
            last_log_lines: exit.last_log_lines.clone(),
        })
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: ", self.code)?;
        if let Some(instance) = &self.instance {
            write!(formatter, "{instance}: ")?;
        }
        formatter.write_str(&self.cause)
    }
}

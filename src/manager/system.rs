//! The manager itself: is it alive, is it ready, what does it run on.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use utoipa::ToSchema;

use super::Manager;
use crate::backend::BackendInfo;
use crate::domain::access::{Actor, Operation};
use crate::error::Result;

/// Answer of `GET /health` and `GET /ready`.
#[derive(Debug, Clone, Serialize, ToSchema, JsonSchema)]
pub struct SystemHealth {
    /// `healthy`, or `degraded` while the engine does not answer.
    pub status: &'static str,
    /// Whether requests can be served in full.
    pub ready: bool,
    /// Version of the manager.
    pub version: &'static str,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Each thing it relies on, and how it is.
    pub checks: Vec<Check>,
}

/// One thing that the manager relies on.
#[derive(Debug, Clone, Serialize, ToSchema, JsonSchema)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// In words, and what to do when it is not.
    pub message: String,
}

/// Answer of `GET /system`.
#[derive(Debug, Clone, Serialize, ToSchema, JsonSchema)]
pub struct SystemInfo {
    /// The manager's own health.
    pub health: SystemHealth,
    /// What services run on.
    pub backend: BackendInfo,
    /// Containers that may run, and how many do.
    pub max_containers: u32,
    /// Replicas of all services.
    pub containers: u32,
}

impl Manager {
    /// How the manager is. Asks nobody, and anybody may ask.
    pub async fn read_health(self: &Arc<Self>, actor: &Actor) -> Result<SystemHealth> {
        let manager = self.clone();
        self.perform(actor, Operation::HealthRead, "", async move { Ok(manager.health()) }).await
    }

    /// Notes that somebody asks which tools there are. The table of them is known above.
    pub async fn read_tools(self: &Arc<Self>, actor: &Actor) -> Result<()> {
        self.perform(actor, Operation::ToolList, "", std::future::ready(Ok(()))).await
    }

    pub(super) fn health(&self) -> SystemHealth {
        let snapshot = self.snapshot();
        let age = snapshot
            .as_of
            .map_or_else(|| "never".to_owned(), |at| format!("{} s ago", Timestamp::now().duration_since(at).as_secs().max(0)));
        let engine = if snapshot.connected {
            format!("answers; last heard of {age}")
        } else {
            format!("does not answer; last heard of {age}; 'mcp-manager doctor' says why")
        };
        let view = if snapshot.synced { "complete" } else { "still looking at what runs" };
        let ready = snapshot.connected && snapshot.synced;
        SystemHealth {
            status: if ready { "healthy" } else { "degraded" },
            ready,
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.started.elapsed().as_secs(),
            checks: vec![
                Check { name: "engine", ok: snapshot.connected, message: engine },
                Check { name: "view", ok: snapshot.synced, message: view.to_owned() },
            ],
        }
    }

    /// What the manager runs on.
    pub async fn system_info(self: &Arc<Self>, actor: &Actor) -> Result<SystemInfo> {
        let manager = self.clone();
        self.perform(actor, Operation::SystemInfo, "", async move {
            let snapshot = manager.snapshot();
            let backend = manager.backend.info().await?;
            let containers = snapshot.most_containers();
            Ok(SystemInfo { health: manager.health(), backend, max_containers: manager.settings.max_containers, containers })
        })
        .await
    }

    /// The metrics in Prometheus' text format.
    pub async fn read_metrics(self: &Arc<Self>, actor: &Actor) -> Result<String> {
        let manager = self.clone();
        self.perform(actor, Operation::MetricsRead, "", async move { manager.metrics.render() }).await
    }
}

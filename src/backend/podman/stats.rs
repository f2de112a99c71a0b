//! What replicas use: the engine's figures where control groups give them, and those of the processes otherwise.

mod proc;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Deserialize;

use super::shared::Shared;
use super::{client::EngineError, errors};
use crate::domain::status::{Replica, ReplicaState, ReplicaStats, ServiceState};
use crate::error::{Error, Kind, Result};

/// CPU time of each container at the last look, for its use since then.
#[derive(Debug, Default)]
pub(super) struct Samples {
    last: Mutex<HashMap<String, (Instant, f64)>>,
}

/// What is read of the engine's figures.
#[derive(Debug, Deserialize)]
struct EngineStats {
    #[serde(rename = "Stats")]
    stats: Option<Vec<EngineReplica>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EngineReplica {
    #[serde(rename = "ContainerID")]
    id: String,
    /// Nanoseconds.
    #[serde(rename = "CPUNano")]
    cpu: u64,
    #[serde(rename = "MemUsage")]
    memory: u64,
    #[serde(rename = "MemLimit")]
    memory_limit: u64,
    #[serde(rename = "PIDs")]
    pids: u64,
    #[serde(rename = "NetInput")]
    received: u64,
    #[serde(rename = "NetOutput")]
    sent: u64,
}

impl Samples {
    /// Figures of all running replicas of a service.
    pub(super) async fn of(&self, shared: &Shared, state: &ServiceState) -> Result<Vec<ReplicaStats>> {
        let running: Vec<&Replica> = state.replicas.iter().filter(|one| one.state == ReplicaState::Running).collect();
        if running.is_empty() {
            return Ok(Vec::new());
        }
        let mut all = if shared.abilities().enforces_memory() || !shared.abilities().rootless {
            from_engine(shared, &running).await?
        } else {
            from_processes(shared, &running).await?
        };
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for (replica, figures) in running.iter().zip(&mut all) {
            let Some(used) = figures.cpu_seconds else { continue };
            if let Some((then, cpu)) = last.insert(replica.id.clone(), (now, used)) {
                let elapsed = now.duration_since(then).as_secs_f64();
                figures.cpu_percent = (elapsed > 0.0).then(|| ((used - cpu) / elapsed * 100.0).max(0.0));
            }
        }
        // Containers come and go; what was not asked about for a day is forgotten.
        last.retain(|_, (then, _)| now.duration_since(*then).as_secs() < 86_400);
        Ok(all)
    }
}

async fn from_engine(shared: &Shared, running: &[&Replica]) -> Result<Vec<ReplicaStats>> {
    let ids: Vec<&str> = running.iter().map(|replica| replica.id.as_str()).collect();
    let answer = shared.engine.stats(&ids).await.map_err(|error| errors::engine(error, "read the figures of the service"))?;
    let odd = |error| errors::engine(EngineError::from(error), "read the figures of the service");
    let answer: EngineStats = serde_json::from_value(answer).map_err(odd)?;
    let found: HashMap<String, EngineReplica> =
        answer.stats.unwrap_or_default().into_iter().map(|figures| (figures.id.clone(), figures)).collect();
    let enforced = shared.abilities().enforces_memory();
    #[expect(clippy::cast_precision_loss, reason = "a fraction of a microsecond of CPU time does not matter")]
    let figures = |replica: &&Replica| {
        let figures = found.get(&replica.id)?;
        Some(ReplicaStats {
            replica: replica.ordinal,
            cpu_seconds: Some(figures.cpu as f64 / 1e9),
            cpu_percent: None,
            memory_bytes: Some(figures.memory),
            memory_limit_bytes: enforced.then_some(figures.memory_limit),
            pids: Some(figures.pids),
            network_received_bytes: Some(figures.received),
            network_sent_bytes: Some(figures.sent),
            source: "engine".to_owned(),
        })
    };
    Ok(running.iter().filter_map(figures).collect())
}

/// Without control groups: the processes of each container, from the machine's process table.
async fn from_processes(shared: &Shared, running: &[&Replica]) -> Result<Vec<ReplicaStats>> {
    let mut all = Vec::new();
    for replica in running {
        let inspected: super::observed::Inspected =
            shared.engine.inspect(&replica.id).await.map_err(|error| errors::engine(error, "look at a container"))?;
        let pid = inspected.pid();
        let local = shared.is_local();
        let figures = tokio::task::spawn_blocking(move || local.then(|| proc::tree(pid)).flatten()).await.ok().flatten();
        let figures = figures.ok_or_else(|| {
            Error::new(Kind::NotSupported, "the processes of the service cannot be seen from here")
                .remedy("run the manager on the engine's machine, or use a machine with control groups version 2")
        })?;
        all.push(ReplicaStats {
            replica: replica.ordinal,
            cpu_seconds: Some(figures.cpu_seconds),
            cpu_percent: None,
            memory_bytes: Some(figures.memory),
            memory_limit_bytes: None,
            pids: Some(figures.threads),
            network_received_bytes: figures.network.map(|(received, _)| received),
            network_sent_bytes: figures.network.map(|(_, sent)| sent),
            source: "proc".to_owned(),
        });
    }
    Ok(all)
}

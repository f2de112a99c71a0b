//! What the engine says of one container, reduced to what is needed. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use podman_api::models::ListContainer;
use serde::Deserialize;

use super::names;
use crate::domain::name::ServiceName;
use crate::domain::status::{Record, ReplicaState};

/// One container of a service, as the engine described it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) ordinal: u32,
    /// Generation of the record that it was made for.
    pub(super) generation: u64,
    pub(super) digest: String,
    pub(super) state: ReplicaState,
    /// Process id on the engine's machine, while it runs.
    pub(super) pid: Option<u32>,
    /// Where its port is reached.
    pub(super) address: Option<SocketAddr>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) exit_code: i64,
    pub(super) oom_killed: bool,
    /// What it wrote last, once it has ended.
    pub(super) last_words: Vec<String>,
}

/// The part of the engine's answer to `inspect` that is read.
#[derive(Debug, Deserialize)]
pub(super) struct Inspected {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "State", default)]
    state: InspectedState,
    #[serde(rename = "Config", default)]
    config: InspectedConfig,
    #[serde(rename = "NetworkSettings", default)]
    network: InspectedNetwork,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    pid: u32,
    exit_code: i64,
    started_at: String,
    finished_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct InspectedConfig {
    labels: Option<HashMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct InspectedNetwork {
    ports: Option<HashMap<String, Option<Vec<InspectedBinding>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct InspectedBinding {
    host_ip: String,
    host_port: String,
}

impl Inspected {
    pub(super) const fn pid(&self) -> u32 {
        self.state.pid
    }

    pub(super) fn is_running(&self) -> bool {
        state(&self.state.status, None) == ReplicaState::Running
    }

    /// It has ended, and the engine has not taken its network and its mounts away yet; after that it is `exited`.
    pub(super) fn is_settling(&self) -> bool {
        self.state.status == "stopped"
    }
}

/// The engine's word for a state. A container that a machine's restart took down is `configured` or `created` again, or
/// with Podman 5 has ended at no time; anything else that is not running has a process that ended.
fn state(word: &str, finished_at: Option<Timestamp>) -> ReplicaState {
    match word {
        "running" | "paused" | "stopping" => ReplicaState::Running,
        "created" | "configured" | "initialized" => ReplicaState::Created,
        "exited" if finished_at.is_none() => ReplicaState::Created,
        _ => ReplicaState::Exited,
    }
}

/// A moment; the engine writes the year 1 for "never".
fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|moment: &Timestamp| moment.as_second() > 0)
}

fn address(host_ip: &str, port: u16, publish: IpAddr) -> Option<SocketAddr> {
    let ip = host_ip.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified()).unwrap_or(publish);
    (port > 0).then(|| SocketAddr::new(ip, port))
}

impl Observed {
    /// From the engine's description of a single container. `port` is the service's port inside.
    pub(super) fn of_inspected(inspected: Inspected, port: Option<u16>, publish: IpAddr) -> Self {
        let labels = inspected.config.labels.unwrap_or_default();
        let bindings = |port: u16| inspected.network.ports.as_ref()?.get(&format!("{port}/tcp"))?.as_ref()?.first();
        let binding = port.and_then(bindings);
        let finished_at = moment(&inspected.state.finished_at);
        let state = state(&inspected.state.status, finished_at);
        Self {
            ordinal: ordinal(&labels),
            generation: names::generation_of_container(&inspected.name),
            digest: labels.get(names::DIGEST).cloned().unwrap_or_default(),
            state,
            pid: Some(inspected.state.pid).filter(|pid| *pid > 0),
            address: binding.and_then(|binding| address(&binding.host_ip, binding.host_port.parse().ok()?, publish)),
            started_at: moment(&inspected.state.started_at),
            finished_at: finished_at.filter(|_| state == ReplicaState::Exited),
            exit_code: inspected.state.exit_code,
            oom_killed: inspected.state.oom_killed,
            last_words: Vec::new(),
            id: inspected.id,
            name: inspected.name,
        }
    }

    /// From an entry of the engine's list; `None` when it is not a container of a service.
    pub(super) fn of_listed(listed: &ListContainer, publish: IpAddr) -> Option<Listed> {
        let labels = listed.labels.as_ref()?;
        let service: ServiceName = labels.get(names::SERVICE)?.parse().ok()?;
        let record: Option<Record> = labels.get(names::RECORD).and_then(|text| serde_json::from_str(text).ok());
        let name = listed.names.as_ref()?.first()?.clone();
        let port = record.as_ref().and_then(|record| record.spec.front_port());
        let second = |second: Option<i64>| Timestamp::from_second(second?).ok().filter(|moment| moment.as_second() > 0);
        let state = state(listed.state.as_deref()?, second(listed.exited_at));
        let mapping = |port: u16| {
            let inside = |mapping: &&podman_api::models::PortMapping| {
                let first = mapping.container_port.unwrap_or_default();
                (first..first.saturating_add(mapping.range.unwrap_or(1).max(1))).contains(&port)
            };
            let mapping = listed.ports.as_ref()?.iter().find(inside)?;
            let host_port = mapping.host_port? + (port - mapping.container_port?);
            address(mapping.host_ip.as_deref().unwrap_or_default(), host_port, publish)
        };
        let observed = Self {
            id: listed.id.clone()?,
            ordinal: ordinal(labels),
            generation: names::generation_of_container(&name),
            digest: labels.get(names::DIGEST).cloned().unwrap_or_default(),
            state,
            pid: listed.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
            address: port.and_then(mapping),
            started_at: second(listed.started_at),
            finished_at: second(listed.exited_at).filter(|_| state == ReplicaState::Exited),
            exit_code: listed.exit_code.map_or(0, i64::from),
            oom_killed: false,
            last_words: Vec::new(),
            name,
        };
        Some(Listed { service, record: record.map(Arc::new), observed })
    }
}

/// A container found in the engine's list.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) service: ServiceName,
    /// The record that it carries.
    pub(super) record: Option<Arc<Record>>,
    pub(super) observed: Observed,
}

fn ordinal(labels: &HashMap<String, String>) -> u32 {
    labels.get(names::ORDINAL).and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inspected_container_is_read() {
        let json = serde_json::json!({
            "Id": "abc", "Name": "mcp-echo-4-2", "Extra": {"ignored": true},
            "State": {"Status": "running", "Pid": 77, "StartedAt": "2026-11-21T03:29:05.261317539Z",
                      "FinishedAt": "0001-01-01T00:00:00Z", "ExitCode": 0, "OOMKilled": false},
            "Config": {"Labels": {names::ORDINAL: "2", names::DIGEST: "d"}},
            "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "45147"}], "81/tcp": null}}
        });
        let publish = IpAddr::from([127, 0, 0, 1]);
        let observed = Observed::of_inspected(serde_json::from_value(json).unwrap(), Some(80), publish);
        assert_eq!((observed.ordinal, observed.generation, observed.digest.as_str()), (2, 4, "d"));
        assert_eq!(observed.address, Some("127.0.0.1:45147".parse().unwrap()));
        assert_eq!((observed.pid, observed.state, observed.finished_at), (Some(77), ReplicaState::Running, None));
    }

    #[test]
    fn what_a_machine_restart_took_down_counts_as_never_started() {
        let ended = moment("2026-11-21T03:29:05.261317539Z");
        assert_eq!(state("configured", ended), ReplicaState::Created);
        assert_eq!(state("exited", moment("0001-01-01T00:00:00Z")), ReplicaState::Created, "as Podman 5 says it");
        assert_eq!(state("exited", ended), ReplicaState::Exited);
        assert_eq!(state("stopped", ended), ReplicaState::Exited);
    }
}

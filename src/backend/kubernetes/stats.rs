//! What replicas use, as the cluster's metrics API measured it last: some ten seconds ago, and nothing yet for a pod that
//! has just been started.

use std::collections::BTreeMap;

use kube::api::ListParams;
use serde_json::Value;

use super::kinds;
use super::reconcile::in_time;
use super::shared::Shared;
use crate::domain::status::{ReplicaState, ReplicaStats, ServiceState};
use crate::error::{Kind, Result};

/// What each running replica of a service uses.
pub(super) async fn of(shared: &Shared, state: &ServiceState) -> Result<Vec<ReplicaStats>> {
    let selection = ListParams::default().labels(&shared.names.service_selector(&state.record.name));
    let api = shared.api(&kinds::pod_metrics());
    let listed = match in_time(api.list(&selection), "read the metrics of its pods").await {
        Ok(listed) => listed.items,
        // A cluster without the metrics API tells nothing.
        Err(error) if matches!(error.kind, Kind::NotFound) => Vec::new(),
        Err(error) => return Err(error),
    };
    let measured: BTreeMap<String, (f64, u64)> =
        listed.into_iter().filter_map(|pod| Some((pod.metadata.name?, usage(&pod.data)?))).collect();
    let running = state.replicas.iter().filter(|replica| replica.state == ReplicaState::Running);
    Ok(running
        .map(|replica| {
            let usage = measured.get(&replica.id);
            ReplicaStats {
                replica: replica.ordinal,
                cpu_seconds: None,
                cpu_percent: usage.map(|(cpu, _)| cpu * 100.0),
                memory_bytes: usage.map(|(_, memory)| *memory),
                memory_limit_bytes: Some(state.record.spec.memory_limit.0),
                pids: None,
                network_received_bytes: None,
                network_sent_bytes: None,
                source: "metrics.k8s.io".to_owned(),
            }
        })
        .collect())
}

/// CPUs and bytes of a pod.
fn usage(metrics: &Value) -> Option<(f64, u64)> {
    let containers = metrics["containers"].as_array()?;
    let amount = |container: &Value, what: &str| container["usage"][what].as_str().and_then(quantity).unwrap_or_default();
    let cpu = containers.iter().map(|container| amount(container, "cpu")).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of memory, below 2^53 and not negative")]
    let memory = containers.iter().map(|container| amount(container, "memory") as u64).sum();
    Some((cpu, memory))
}

/// A quantity as the cluster writes it: `250m`, `13Mi`, `1234n`.
fn quantity(text: &str) -> Option<f64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let scale = match &text[end..] {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        _ => return None,
    };
    text[..end].parse::<f64>().ok().map(|number| number * scale)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_of_a_pod_are_added_up() {
        let metrics = json!({"containers": [
            {"usage": {"cpu": "250m", "memory": "10Mi"}}, {"usage": {"cpu": "1500000n", "memory": "1024"}},
        ]});
        let (cpu, memory) = usage(&metrics).unwrap();
        assert!((cpu - 0.2515).abs() < 1e-9, "{cpu}");
        assert_eq!(memory, (10 << 20) + 1024);
        assert_eq!(quantity("1Zi"), None);
    }
}

//! The host table: which service a name means, where it is reached, and why it is not when it is not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::routed_addresses;
use crate::domain::name::ServiceName;
use crate::domain::status::{Desired, Phase, ServiceState, Snapshot};

/// Every service by name, as it was at one moment. Built anew for each change of the view and shared behind an `Arc`.
#[derive(Debug, Clone, Default)]
pub struct HostTable {
    services: HashMap<ServiceName, ServiceEntry>,
}

/// One service of the table.
#[derive(Debug, Clone)]
pub struct ServiceEntry {
    /// The service as the view knows it.
    pub state: Arc<ServiceState>,
    /// Where its ready replicas listen, by ordinal.
    pub ready: Vec<SocketAddr>,
}

impl HostTable {
    /// The table of a view.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let entry = |(name, state): (&ServiceName, &Arc<ServiceState>)| (name.clone(), ServiceEntry::of(state));
        Self { services: snapshot.services.iter().map(entry).collect() }
    }

    /// The service of that name, written in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ServiceEntry> {
        self.services.get(name)
    }
}

impl IntoIterator for HostTable {
    type Item = (ServiceName, ServiceEntry);
    type IntoIter = std::collections::hash_map::IntoIter<ServiceName, ServiceEntry>;

    fn into_iter(self) -> Self::IntoIter {
        self.services.into_iter()
    }
}

impl ServiceEntry {
    /// The entry of a service.
    #[must_use]
    pub fn of(state: &Arc<ServiceState>) -> Self {
        Self { ready: routed_addresses(state).collect(), state: Arc::clone(state) }
    }
}

/// Why no request can be sent to a service that has no ready replica, in a sentence for its caller.
#[must_use]
pub fn unready_reason(state: &ServiceState) -> String {
    if let (Phase::Failed, Some(failure)) = (state.phase, &state.failure) {
        return format!("it could not be started: {}", failure.detail);
    }
    if state.record.spec.port.is_none() && state.record.desired == Desired::Running {
        return "it has no port that requests could be sent to".to_owned();
    }
    if lacks_address(state) {
        return "it is ready and has no address that requests could be sent to, as services of the memory backend have none"
            .to_owned();
    }
    let health = || state.replicas.iter().find_map(|replica| replica.health_detail.as_deref());
    let exit = || state.replicas.iter().filter_map(|replica| replica.last_exit.as_ref()).max_by_key(|exit| exit.at);
    let ended = |verb: &str| match exit() {
        Some(exit) if exit.oom_killed => format!("{verb} for want of memory (exit code {})", exit.code),
        Some(exit) => format!("{verb} with exit code {}", exit.code),
        None => verb.to_owned(),
    };
    match state.phase {
        Phase::Pending => "it has been accepted and not been started yet".to_owned(),
        Phase::Pulling => match &state.progress {
            Some(progress) => format!("its image is being pulled: {}", progress.message),
            None => "its image is being pulled".to_owned(),
        },
        Phase::Creating => "its containers are being created".to_owned(),
        Phase::Starting | Phase::Running | Phase::Degraded => match health() {
            Some(detail) => format!("it runs and has not been found healthy yet: {detail}"),
            None => "it runs and has not been found healthy yet".to_owned(),
        },
        Phase::Unhealthy => match health() {
            Some(detail) => format!("its health checks fail: {detail}"),
            None => "its health checks fail".to_owned(),
        },
        Phase::CrashLoop => format!("it waits for its next start after it {}", ended("ended")),
        Phase::Exited => format!("it {}, and its restart policy leaves it there", ended("ended")),
        Phase::Stopping => "it is being stopped".to_owned(),
        Phase::Stopped => "it is stopped".to_owned(),
        Phase::Failed => "it could not be started".to_owned(),
        Phase::Deleting => "it is being deleted".to_owned(),
    }
}

/// Whether a service is ready and nevertheless nowhere to be reached: what is only pretended has no address.
#[must_use]
pub fn lacks_address(state: &ServiceState) -> bool {
    let wanted = state.record.desired == Desired::Running && state.record.spec.port.is_some();
    wanted && state.ready().next().is_some() && routed_addresses(state).next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use crate::routing::properties::state;

    #[test]
    fn every_phase_has_its_reason() {
        let mut service = state("echo", &[(false, Some(41001))]);
        let mut reasons = Vec::new();
        for phase in Phase::ALL {
            service.phase = phase;
            reasons.push(format!("{}: {}", phase.as_str(), unready_reason(&service)));
        }
        service.failure = Some(Error::new(Kind::ImageNotFound, "docker.io has no image 'ehco'"));
        service.phase = Phase::Failed;
        reasons.push(unready_reason(&service));
        service.replicas[0].health_detail = Some("GET /health: 500".into());
        service.phase = Phase::Unhealthy;
        reasons.push(unready_reason(&service));
        let mut pretended = state("echo", &[(true, Some(41001))]);
        pretended.replicas[0].address = None;
        reasons.push(unready_reason(&pretended));
        insta::assert_snapshot!(reasons.join("\n"));
    }
}

//! What holds for every view: a ready replica is routed everywhere, an unready one nowhere, and no name breaks a rule.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::{HostTable, Settings, traefik_document, traefik_labels};
use crate::domain::name::ServiceName;
use crate::domain::spec::ServiceSpec;
use crate::domain::status::{Desired, Health, Phase, Record, Replica, ReplicaState, ServiceState, Snapshot};

/// A service with one replica for each pair of (ready, port).
pub(super) fn state(name: &str, replicas: &[(bool, Option<u16>)]) -> ServiceState {
    let port = replicas.iter().any(|(_, port)| port.is_some()).then_some(8000);
    let replicas = replicas.iter().zip(1..).map(|((ready, port), ordinal)| Replica {
        ordinal,
        id: format!("id{ordinal}"),
        name: format!("{name}.{ordinal}"),
        state: ReplicaState::Running,
        health: if *ready { Health::Healthy } else { Health::Unhealthy },
        health_detail: None,
        address: port.map(|port| SocketAddr::from(([127, 0, 0, 1], port))),
        spec_digest: String::new(),
        started_at: None,
        restarts: 0,
        last_exit: None,
        next_start: None,
    });
    let record = Record {
        name: name.parse().unwrap(),
        generation: 1,
        desired: Desired::Running,
        spec: Arc::new(ServiceSpec { port, ..ServiceSpec::default() }),
        template: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    };
    ServiceState {
        record: Arc::new(record),
        phase: Phase::Running,
        replicas: replicas.collect(),
        failure: None,
        progress: None,
        warnings: Vec::new(),
        reasons: Vec::new(),
    }
}

pub(super) fn snapshot(states: Vec<ServiceState>) -> Snapshot {
    let services = states.into_iter().map(|state| (state.record.name.clone(), Arc::new(state))).collect();
    Snapshot { services, synced: true, connected: true, as_of: None }
}

prop_compose! {
    fn any_service()(name in "[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", replicas in prop::collection::vec(any::<(bool, Option<u16>)>(), 0..5))
        -> Option<ServiceState> {
        name.parse::<ServiceName>().ok().map(|name| state(name.as_str(), &replicas))
    }
}

proptest! {
    #[test]
    fn a_ready_replica_is_routed_everywhere_and_an_unready_one_nowhere(services in prop::collection::vec(any_service(), 0..6)) {
        let snapshot = snapshot(services.into_iter().flatten().collect());
        let document = traefik_document(&snapshot, &Settings::default());
        let table = HostTable::of(&snapshot);
        for (name, state) in &snapshot.services {
            let ready: Vec<SocketAddr> = state.ready().filter_map(|replica| replica.address).collect();
            prop_assert_eq!(&table.get(name.as_str()).unwrap().ready, &ready);
            let servers = document["http"]["services"][name.as_str()]["loadBalancer"]["servers"].as_array().cloned().unwrap_or_default();
            let urls: Vec<String> = servers.iter().map(|server| server["url"].as_str().unwrap().to_owned()).collect();
            prop_assert_eq!(urls, ready.iter().map(|address| format!("http://{address}")).collect::<Vec<_>>());
            prop_assert_eq!(document["http"]["routers"].get(name.as_str()).is_some(), !ready.is_empty());
            let labels = traefik_labels(name, &state.record.spec, &Settings::default());
            prop_assert_eq!(labels["traefik.enable"] == "true", state.record.spec.port.is_some());
        }
        let named: BTreeSet<&str> = snapshot.services.keys().map(ServiceName::as_str).collect();
        for collection in ["routers", "services"] {
            let objects = document["http"].get(collection).map(|objects| objects.as_object().unwrap().clone());
            // Traefik refuses an empty collection.
            prop_assert!(objects.as_ref().is_none_or(|objects| !objects.is_empty()));
            for key in objects.unwrap_or_default().keys() {
                prop_assert!(named.contains(key.as_str()), "{} is nobody's", key);
            }
        }
        prop_assert!(!document["http"].as_object().unwrap().is_empty());
    }

    #[test]
    fn no_name_reaches_beyond_its_own_rule(text in ".{0,50}") {
        if let Ok(name) = text.parse::<ServiceName>() {
            let spec = ServiceSpec { port: Some(80), ..ServiceSpec::default() };
            let labels = traefik_labels(&name, &spec, &Settings::default());
            let rule = &labels[&format!("traefik.http.routers.{name}.rule")];
            prop_assert_eq!(rule, &format!("Host(`{name}.localhost`)"));
            prop_assert_eq!(rule.matches('`').count(), 2);
            for key in labels.keys() {
                prop_assert!(!key.contains(char::is_whitespace));
            }
        }
    }
}

//! The standard `traefik.*` labels that every container carries.
//!
//! They are what Traefik's own Docker provider reads from a Docker-compatible Podman socket. The manager's document
//! does not depend on them.

use std::collections::BTreeMap;

use super::Settings;
use crate::domain::name::ServiceName;
use crate::domain::spec::{Probe, ServiceSpec};

/// The label that says by which of its networks a container is reached. A service may say it itself, as Traefik may be on
/// a network of its own choice only.
const NETWORK: &str = "traefik.docker.network";

/// The labels of one service; the same for each of its replicas, which Traefik joins into one service by its name.
///
/// A service without a port gets the one label that keeps Traefik away from it.
#[must_use]
pub fn traefik_labels(name: &ServiceName, spec: &ServiceSpec, settings: &Settings) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut set = |key: String, value: String| labels.insert(format!("traefik.{key}"), value);
    let Some(port) = spec.front_port() else {
        set("enable".into(), "false".into());
        return labels;
    };
    set("enable".into(), "true".into());
    let named = spec.labels.keys().any(|label| label.eq_ignore_ascii_case(NETWORK));
    if let Some(network) = settings.network.as_ref().filter(|_| !named) {
        set("docker.network".into(), network.clone());
    }
    let router = format!("http.routers.{name}");
    set(format!("{router}.rule"), super::document::host_rule(name, settings));
    set(format!("{router}.service"), name.to_string());
    if !settings.entrypoints.is_empty() {
        set(format!("{router}.entrypoints"), settings.entrypoints.join(","));
    }
    if !settings.middlewares.is_empty() {
        set(format!("{router}.middlewares"), settings.middlewares.join(","));
    }
    let balancer = format!("http.services.{name}.loadbalancer");
    set(format!("{balancer}.server.port"), port.to_string());
    if let (true, Probe::Http(path)) = (settings.health_checks, &spec.health_check.probe) {
        set(format!("{balancer}.healthcheck.path"), path.clone());
        set(format!("{balancer}.healthcheck.interval"), format!("{}ms", spec.health_check.interval.0));
        set(format!("{balancer}.healthcheck.timeout"), format!("{}ms", spec.health_check.timeout.0));
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_where_and_how_the_service_is_reached() {
        let spec = ServiceSpec { port: Some(8000), ..ServiceSpec::default() };
        let mut spec_with_health = spec.clone();
        spec_with_health.health_check.probe = Probe::Http("/health".into());
        let settings = Settings {
            middlewares: vec!["security-headers@file".into(), "rate-limit@file".into()],
            network: Some("mcp-network".into()),
            ..Settings::default()
        };
        let name = "echo".parse().unwrap();
        insta::assert_json_snapshot!([
            traefik_labels(&name, &spec, &Settings::default()),
            traefik_labels(&name, &spec_with_health, &settings),
        ]);
    }

    #[test]
    fn a_service_that_names_the_network_by_which_it_is_reached_keeps_it() {
        let settings = Settings { network: Some("mcp-network".into()), ..Settings::default() };
        let of = |label: &str| {
            let labels = BTreeMap::from([(label.to_owned(), "front".to_owned())]);
            let spec = ServiceSpec { port: Some(8000), labels, ..ServiceSpec::default() };
            traefik_labels(&"echo".parse().unwrap(), &spec, &settings).get(NETWORK).cloned()
        };
        assert_eq!([of("traefik.docker.network"), of("Traefik.Docker.Network")], [None, None]);
        assert_eq!(of("traefik.docker.lbswarm").as_deref(), Some("mcp-network"));
    }

    #[test]
    fn a_service_without_a_port_is_kept_from_traefik() {
        let labels = traefik_labels(&"worker".parse().unwrap(), &ServiceSpec::default(), &Settings::default());
        assert_eq!(labels, BTreeMap::from([("traefik.enable".to_owned(), "false".to_owned())]));
    }
}

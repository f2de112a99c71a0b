//! From what runs to who is reached by which name: Traefik labels, the Traefik document, the host table.
//!
//! Pure functions over specs and the live view; nothing here opens a socket. What is routed is decided once, by
//! [`routed_addresses`]: the document and the host table both ask it, so they cannot disagree.

mod document;
mod domain;
mod hosts;
mod labels;

use std::net::SocketAddr;

use crate::domain::status::{Desired, ServiceState};

pub use document::{NAMED_SESSION, keeps_sessions, traefik_document};
pub use domain::{Domain, without_port};
pub use hosts::{HostTable, ServiceEntry, lacks_address, unready_reason};
pub use labels::traefik_labels;

/// How services are named to the outside and to Traefik.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Services answer at `NAME.DOMAIN`.
    pub domain: Domain,
    /// Traefik entry points that lead to services.
    pub entrypoints: Vec<String>,
    /// Traefik middlewares every service gets, with their provider: `security-headers@file`.
    pub middlewares: Vec<String>,
    /// Whether labels ask Traefik to check health by itself. Its Docker provider needs that, as it does not know what
    /// the manager knows; the document never asks for it, as it lists ready replicas only.
    pub health_checks: bool,
    /// Network on which Traefik's Docker provider reaches the containers, when they are on several.
    pub network: Option<String>,
    /// URL of the manager's own gateway, where Traefik sends requests for names that lead nowhere at present, so that
    /// their callers are told why.
    pub fallback_url: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: Domain::default(),
            entrypoints: vec!["web".to_owned()],
            middlewares: Vec::new(),
            health_checks: true,
            network: None,
            fallback_url: None,
        }
    }
}

/// Where requests for a service may be sent at present: the addresses of its ready replicas, by ordinal.
///
/// A service that is to stop leaves the routes with that decision, before its replicas are told to end.
pub fn routed_addresses(state: &ServiceState) -> impl Iterator<Item = SocketAddr> {
    let wanted = state.record.desired == Desired::Running;
    state.ready().filter(move |_| wanted).filter_map(|replica| replica.address)
}

#[cfg(test)]
mod properties;

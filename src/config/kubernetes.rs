//! Section `kubernetes`: the cluster that services run in, and what they get there.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::section::{Check, section};
use super::value::choice;
use crate::domain::address_range::AddressRange;
use crate::domain::quantity::Bytes;

choice! {
    /// By which kind of object a service is reached from outside.
    pub enum RouteKind, "ingress, ingressroute or httproute" {
        /// Every cluster has it.
        Ingress = "ingress",
        /// Traefik's own.
        IngressRoute = "ingressroute",
        /// The Gateway API's.
        HttpRoute = "httproute",
    }
}

section! {
    /// The cluster that services run in, and what they get there.
    pub struct Kubernetes in "kubernetes" {
        /// File that leads to the cluster, as kubectl reads it. In a pod with a service account that account is used
        /// instead.
        kubeconfig: Option<PathBuf> = None, also "KUBECONFIG";
        /// Context in that file; its current one unless set.
        context: Option<String> = None;
        /// Namespace of all services; that of the account or the context unless set.
        namespace: Option<String> = None;
        /// Image that has `mcp-bridge`, such as the manager's own; servers that speak stdio need it.
        bridge_image: Option<String> = None;
        /// Where `mcp-bridge` is in that image.
        bridge_program: String = "/usr/local/bin/mcp-bridge".to_owned();
        /// User and group, by number, of services whose spec names none. 0 leaves the choice to the cluster, as on
        /// OpenShift.
        run_as_user: u32 = 65_532;
        /// Give each service with a port a route from outside: an Ingress, unless `route_kind` names another kind.
        ingress: bool = true;
        /// Class of the ingresses, or of Traefik's routes; the cluster's default unless set.
        ingress_class: Option<String> = None;
        /// Secret with the certificate for the services' host names; without one there is no TLS.
        ingress_tls_secret: Option<String> = None;
        /// Kind of the routes: `ingress`, Traefik's own `ingressroute`, or the Gateway API's `httproute`, which needs `gateway`.
        /// The cluster must have it, and the manager's Role the rule for it.
        route_kind: RouteKind = RouteKind::Ingress;
        /// Entry points of Traefik at which its routes are; those that Traefik uses by default unless set.
        route_entry_points: Vec<String> = Vec::new();
        /// Gateway that leads to services, for routes of the kind `httproute`. It has the port and the certificate.
        gateway: Option<String> = None;
        /// Namespace of that Gateway; that of the services unless set.
        gateway_namespace: Option<String> = None;
        /// One of its listeners, by name; all that fit unless set.
        gateway_section: Option<String> = None;
        /// Secrets with which images are pulled.
        image_pull_secrets: Vec<String> = Vec::new();
        /// Storage class of volumes; the cluster's default unless set.
        storage_class: Option<String> = None;
        /// Size of a volume.
        volume_size: Bytes = Bytes(1 << 30);
        /// Namespaces whose pods may reach services: that of the ingress controller.
        allow_from_namespaces: Vec<String> = Vec::new();
        /// Addresses outside of the cluster that may reach services.
        allow_from: Vec<AddressRange> = Vec::new();
        /// What services with egress cannot reach all the same. Addresses from which clouds tell their machines'
        /// credentials are always closed.
        egress_except: Vec<String> = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"].map(str::to_owned).into();
    }
}

/// Whether a cluster takes it as an exception from all IPv4 addresses: a range of them that is not all.
fn is_part_of_ipv4(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    address.parse::<Ipv4Addr>().is_ok() && prefix.parse::<u8>().is_ok_and(|prefix| (1..=32).contains(&prefix))
}

impl Kubernetes {
    fn validate(&self, check: &mut Check) {
        let label = |text: &str| {
            (1..=63).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-')
        };
        let remedy = "use 1 to 63 lower-case letters, digits and '-'";
        check.that(self.namespace.as_deref().is_none_or(label), "namespace", "is not the name of a namespace", remedy);
        let namespaces = self.allow_from_namespaces.iter().all(|name| label(name));
        check.that(namespaces, "allow_from_namespaces", "has what is not the name of a namespace", remedy);
        self.validate_route(check, label);
        for range in &self.egress_except {
            let message = format!("'{}' is not a part of the IPv4 addresses", range.escape_debug());
            let remedy =
                "use ranges such as 10.0.0.0/8; nothing else may be kept out of 0.0.0.0/0, where services with egress get";
            check.that(is_part_of_ipv4(range), "egress_except", message, remedy);
        }
        check.that(self.volume_size.0 >= 1 << 20, "volume_size", "is too small", "use 1m or more");
        check.that(
            self.bridge_program.starts_with('/'),
            "bridge_program",
            "is not an absolute path",
            "write /usr/local/bin/mcp-bridge",
        );
    }

    fn validate_route(&self, check: &mut Check, label: impl Fn(&str) -> bool) {
        let name = |text: &str| text.len() <= 253 && text.split('.').all(&label);
        let remedy = "use lower-case letters, digits, '-' and '.'";
        check.that(self.gateway.as_deref().is_none_or(name), "gateway", "is not the name of a Gateway", remedy);
        check.that(self.gateway_section.as_deref().is_none_or(name), "gateway_section", "is not the name of a listener", remedy);
        check.that(
            self.gateway_namespace.as_deref().is_none_or(&label),
            "gateway_namespace",
            "is not the name of a namespace",
            "use 1 to 63 lower-case letters, digits and '-'",
        );
        let entry_points = self.route_entry_points.iter().all(|name| !name.is_empty() && !name.contains(char::is_whitespace));
        check.that(entry_points, "route_entry_points", "has what is not the name of an entry point", "write e.g. web,websecure");
        if !self.ingress || self.route_kind != RouteKind::HttpRoute {
            return;
        }
        check.that(
            self.gateway.is_some(),
            "gateway",
            "is not set, and every HTTPRoute belongs to a Gateway",
            "name the Gateway here, and where it is in kubernetes.gateway_namespace; or set kubernetes.route_kind to ingress",
        );
        check.that(
            self.ingress_tls_secret.is_none(),
            "ingress_tls_secret",
            "is set, and an HTTPRoute has no certificate",
            "name the secret in the Gateway's listener, and leave this out",
        );
    }

    /// Settings that are for another kind of routes than the one that is asked for.
    pub(super) fn doubtful(&self) -> Vec<String> {
        let others = [
            ("ingress_class", self.ingress_class.is_some() && self.route_kind == RouteKind::HttpRoute),
            ("route_entry_points", !self.route_entry_points.is_empty() && self.route_kind != RouteKind::IngressRoute),
            ("gateway", self.gateway.is_some() && self.route_kind != RouteKind::HttpRoute),
        ];
        let others = others.into_iter().filter(|(_, is_set)| *is_set);
        others.map(|(name, _)| format!("kubernetes.{name} has no effect on routes of the kind {}", self.route_kind)).collect()
    }
}

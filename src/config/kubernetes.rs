//! Section `kubernetes`: the cluster that services run in, and what they get there.

use std::path::PathBuf;

use super::section::{Check, section};
use crate::domain::address_range::AddressRange;
use crate::domain::quantity::Bytes;

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
        /// Give each service with a port an Ingress.
        ingress: bool = true;
        /// Class of the ingresses; the cluster's default unless set.
        ingress_class: Option<String> = None;
        /// Secret with the certificate for the services' host names; without one there is no TLS.
        ingress_tls_secret: Option<String> = None;
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
        let range = |text: &String| text.contains('/') && text.parse::<AddressRange>().is_ok();
        let remedy = "use ranges such as 10.0.0.0/8";
        check.that(self.egress_except.iter().all(range), "egress_except", "has what is not a range", remedy);
        check.that(self.volume_size.0 >= 1 << 20, "volume_size", "is too small", "use 1m or more");
        check.that(
            self.bridge_program.starts_with('/'),
            "bridge_program",
            "is not an absolute path",
            "write /usr/local/bin/mcp-bridge",
        );
    }
}

//! Section `backend`: where services run, and how the engine is reached.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::section::{Check, section};
use super::value::choice;
use crate::domain::quantity::Span;

choice! {
    /// Where services run.
    pub enum BackendKind, "auto, podman, kubernetes or memory" {
        /// Found out from the surroundings.
        Auto = "auto",
        /// Rootless Podman on this machine.
        Podman = "podman",
        /// A Kubernetes cluster.
        Kubernetes = "kubernetes",
        /// A fake without containers, for tests and demonstrations.
        Memory = "memory",
    }
}

section! {
    /// Where services run, and how the engine is reached.
    pub struct Backend in "backend" {
        /// Where services run: `podman`, `kubernetes`, `memory` (a fake for tests and demonstrations), or `auto`: the cluster
        /// whose pod the manager runs in, else Podman.
        kind: BackendKind = BackendKind::Auto, also "CONTAINER_RUNTIME";
        /// Name of this installation. Managers of different instances share an engine without seeing each other's
        /// services.
        instance: String = "mcp".to_owned();
        /// Socket of a Podman service that somebody else runs; it is waited for, never started. Unless set: the user's
        /// own service where one answers, else one that the manager starts and supervises.
        socket: Option<PathBuf> = None;
        /// The Podman program.
        podman: PathBuf = PathBuf::from("podman");
        /// Network of all services; it is made when missing.
        network: String = "mcp-network".to_owned(), also "MCP_NETWORK";
        /// Address of the engine's machine on which the ports of services are published.
        publish_address: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        /// Name or address under which published ports are reached, where the engine is in another container or on another
        /// machine than the manager; unless set, the address that they are published on.
        services_host: Option<String> = None;
        /// Storage driver of a supervised Podman service; Podman's own choice unless set.
        storage_driver: Option<String> = None, also "CONTAINERS_STORAGE_DRIVER";
        /// Directory of a supervised Podman service for its state.
        storage_runroot: Option<PathBuf> = None, also "CONTAINERS_STORAGE_RUNROOT";
        /// Directory of a supervised Podman service for images and containers.
        storage_graphroot: Option<PathBuf> = None, also "CONTAINERS_STORAGE_GRAPHROOT";
        /// Refuse services whose limits this machine cannot enforce, instead of warning.
        require_limits: bool = false;
        /// Time between two full comparisons of what runs with what should run; changes are seen at once in any case.
        reconcile_interval: Span = Span(60_000);
        /// Longest time for pulling an image.
        pull_timeout: Span = Span(600_000);
        /// Credentials for image registries, in the format of `podman login` (`auth.json`).
        registry_credentials_file: Option<PathBuf> = None, also "REGISTRY_AUTH_FILE";
    }
}

impl Backend {
    /// Arguments of a Podman service that the manager starts, before its command.
    #[must_use]
    pub fn podman_arguments(&self) -> Vec<String> {
        let text = |path: &PathBuf| path.display().to_string();
        let pairs = [
            ("--storage-driver", self.storage_driver.clone()),
            ("--runroot", self.storage_runroot.as_ref().map(text)),
            ("--root", self.storage_graphroot.as_ref().map(text)),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten().collect()
    }

    fn validate(&self, check: &mut Check) {
        let label = |text: &str| {
            (1..=12).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
                && text.starts_with(|first: char| first.is_ascii_lowercase())
        };
        check.that(
            label(&self.instance),
            "instance",
            format!("'{}' is not the name of an instance", self.instance.escape_debug()),
            "use 1 to 12 lower-case letters and digits, a letter first",
        );
        let name = |text: &str| {
            (1..=63).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
                && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        };
        check.that(
            name(&self.network),
            "network",
            format!("'{}' is not the name of a network", self.network.escape_debug()),
            "use letters, digits, '.', '_' and '-', a letter or digit first",
        );
        let host = self.services_host.as_deref().unwrap_or("engine");
        check.that(
            host.parse::<IpAddr>().is_ok() || name(host),
            "services_host",
            format!("'{}' is not a name or an address of a machine", host.escape_debug()),
            "write e.g. engine or 10.0.0.5",
        );
        check.that(
            self.services_host.is_some() || !self.publish_address.is_unspecified(),
            "publish_address",
            "stands for all addresses, which nobody can connect to",
            "set services_host as well",
        );
        let driver = self.storage_driver.as_deref().unwrap_or("overlay");
        check.that(
            ["overlay", "vfs", "btrfs", "zfs"].contains(&driver),
            "storage_driver",
            format!("'{}' is not a storage driver", driver.escape_debug()),
            "use overlay (recommended), vfs, btrfs or zfs",
        );
        check.that(
            (1000..=86_400_000).contains(&self.reconcile_interval.0),
            "reconcile_interval",
            "is out of range",
            "use 1s to 24h",
        );
        check.that((1000..=86_400_000).contains(&self.pull_timeout.0), "pull_timeout", "is out of range", "use 1s to 24h");
    }
}

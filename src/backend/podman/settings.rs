//! What the Podman backend is told by the composition root. It reads no environment and no files itself.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::RegistryCredentials;
use crate::domain::status::Record;
use crate::error::{Error, Result};

/// Finds the value of a secret by its name; `None` when the manager does not know it. May read files.
pub type SecretSource = Arc<dyn Fn(&str) -> Result<Option<String>> + Send + Sync>;
/// Further labels for the containers of a service, such as those that a proxy reads.
pub type LabelSource = Arc<dyn Fn(&Record) -> BTreeMap<String, String> + Send + Sync>;
/// Finds the credentials for an image reference. May read files.
pub type CredentialSource = Arc<dyn Fn(&str) -> Result<Option<RegistryCredentials>> + Send + Sync>;

/// Settings of the Podman backend.
#[derive(Clone)]
pub struct Settings {
    /// Socket of an engine that somebody else runs. It is waited for, never started.
    pub socket: Option<PathBuf>,
    /// Sockets that are used when something answers there, before an engine is started.
    pub known_sockets: Vec<PathBuf>,
    /// Folder for the socket and log of the engine that the manager starts itself; made with mode 0700.
    pub runtime_dir: PathBuf,
    /// Folder in which an engine of the same user tells its name server the addresses of each network's containers.
    pub name_server_dir: Option<PathBuf>,
    /// Folder in which an engine of the same user keeps what does not outlive the machine's run (its `tmp_dir`).
    pub temporary_dir: Option<PathBuf>,
    /// The Podman program.
    pub binary: PathBuf,
    /// Its arguments before the command, for an engine that the manager starts.
    pub arguments: Vec<String>,
    /// Name of this installation: prefix of everything it makes, and value of its owner's label. Letters and digits.
    pub instance: String,
    /// The internal network of all services. Services with egress are also in `NETWORK-egress`.
    pub network: String,
    /// Address of the host on which ports are published.
    pub publish_address: IpAddr,
    /// Where published ports are reached, when that is not the address itself: a name or an address.
    pub services_host: Option<String>,
    /// Time between two full comparisons with the engine.
    pub reconcile_interval: Duration,
    /// A limit that cannot be enforced is an error rather than a warning.
    pub require_limits: bool,
    /// Longest time a pull may take.
    pub pull_timeout: Duration,
    /// Network in which images are made; the engine's default when absent.
    pub build_network: Option<String>,
    /// Longest time that making an image may take.
    pub build_timeout: Duration,
    /// How many containers are created, started or stopped at the same time.
    pub concurrent_operations: usize,
    /// How many health checks run at the same time.
    pub concurrent_checks: usize,
    /// Bytes of log that are kept of each container.
    pub log_bytes: u64,
    /// The bridge's program, for servers that speak stdio.
    pub bridge: Option<PathBuf>,
    /// Values of the Host header that the bridge takes besides those of this machine: names or `*.DOMAIN`.
    pub bridge_hosts: Vec<String>,
    /// Values of secrets.
    pub secrets: SecretSource,
    /// Further labels of containers.
    pub labels: LabelSource,
    /// Credentials for registries.
    pub credentials: CredentialSource,
}

impl Settings {
    /// The defaults, with the folder for what the manager itself starts.
    #[must_use]
    pub fn new(runtime_dir: PathBuf) -> Self {
        Self {
            socket: None,
            known_sockets: Vec::new(),
            runtime_dir,
            name_server_dir: None,
            temporary_dir: None,
            binary: PathBuf::from("podman"),
            arguments: Vec::new(),
            instance: "mcp".to_owned(),
            network: "mcp-network".to_owned(),
            publish_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            services_host: None,
            reconcile_interval: Duration::from_secs(30),
            require_limits: false,
            pull_timeout: Duration::from_mins(10),
            build_network: None,
            build_timeout: Duration::from_mins(15),
            concurrent_operations: 8,
            concurrent_checks: 64,
            log_bytes: 10 << 20,
            bridge: None,
            bridge_hosts: Vec::new(),
            secrets: Arc::new(|_| Ok(None)),
            labels: Arc::new(|_| BTreeMap::new()),
            credentials: Arc::new(|_| Ok(None)),
        }
    }

    /// The value of a secret, looked up where blocking is allowed.
    pub(super) async fn secret(&self, name: &str) -> Result<Option<String>> {
        let (source, name) = (self.secrets.clone(), name.to_owned());
        blocking(move || source(&name)).await
    }

    /// The credentials for an image, looked up where blocking is allowed.
    pub(super) async fn credentials_for(&self, image: &str) -> Result<Option<RegistryCredentials>> {
        let (source, image) = (self.credentials.clone(), image.to_owned());
        blocking(move || source(&image)).await
    }

    /// Name of the network that leads to the outside.
    #[must_use]
    pub fn egress_network(&self) -> String {
        format!("{}-egress", self.network)
    }
}

async fn blocking<T: Send + 'static>(look: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|error| Err(Error::internal("a file could not be looked at", error)))
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("socket", &self.socket)
            .field("runtime_dir", &self.runtime_dir)
            .field("binary", &self.binary)
            .field("instance", &self.instance)
            .field("network", &self.network)
            .field("publish_address", &self.publish_address)
            .finish_non_exhaustive()
    }
}

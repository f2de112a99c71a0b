//! What the Kubernetes backend is told by the composition root. It reads no environment and no files itself, but those
//! that name the cluster and its account.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::kinds::Owned;
use crate::error::Result;

/// Finds the value of a secret by its name; `None` when the manager does not know it. May read files.
pub type SecretSource = Arc<dyn Fn(&str) -> Result<Option<String>> + Send + Sync>;

/// The domain of services where nobody sets another.
pub(super) const DEFAULT_DOMAIN: &str = "localhost";

/// Settings of the Kubernetes backend.
#[derive(Clone)]
pub struct Settings {
    /// How the cluster is reached.
    pub access: Access,
    /// Namespace of all services; that of the account or the context unless set.
    pub namespace: Option<String>,
    /// Namespace of the manager's own pods, where it runs in one; that of the services otherwise. Found out, not set.
    pub manager_namespace: Option<String>,
    /// Name of this installation: prefix of everything it makes, and value of its owner's label.
    pub instance: String,
    /// Services answer at `NAME.DOMAIN`.
    pub domain: String,
    /// An image with `/usr/local/bin/mcp-bridge` or what `bridge_path` says, for servers that speak stdio.
    pub bridge_image: Option<String>,
    /// Where the bridge's program is in that image. It is run there once to copy itself.
    pub bridge_path: String,
    /// User and group of services that name none; the cluster's choice when absent.
    pub run_as_user: Option<u32>,
    /// Whether services with a port get a route from outside.
    pub ingress: bool,
    /// Which kind of object the route is.
    pub route: Route,
    /// Class of the ingresses, or of Traefik's routes; the cluster's default when absent.
    pub ingress_class: Option<String>,
    /// Secret with the certificate of `*.DOMAIN`; no TLS when absent. A Gateway has its own.
    pub ingress_tls_secret: Option<String>,
    /// Names of the secrets with which images are pulled.
    pub image_pull_secrets: Vec<String>,
    /// Storage class of volumes; the cluster's default when absent.
    pub storage_class: Option<String>,
    /// Size of a volume, in bytes.
    pub volume_size: u64,
    /// Namespaces whose pods may reach services: that of the ingress controller.
    pub allow_from_namespaces: Vec<String>,
    /// Address ranges outside of the cluster that may reach services.
    pub allow_from_ranges: Vec<String>,
    /// What a service with egress cannot reach all the same.
    pub egress_except: Vec<String>,
    /// How long anybody waits for a service: images may take so long.
    pub max_wait: Duration,
    /// Values of secrets.
    pub secrets: SecretSource,
}

/// How the cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// With the service account of the pod that the manager runs in.
    Account,
    /// As a file of kubectl's format says, in this context or in its current one.
    File {
        /// The file.
        path: PathBuf,
        /// Name of a context.
        context: Option<String>,
    },
}

/// By which kind of object a service is reached from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// An Ingress.
    Ingress,
    /// Traefik's own kind.
    IngressRoute {
        /// Traefik's entry points; its default ones when empty.
        entry_points: Vec<String>,
    },
    /// The Gateway API's.
    HttpRoute(Gateway),
}

/// The Gateway that a route belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// Its namespace; that of the services when absent.
    pub namespace: Option<String>,
    /// One of its listeners, by name; all that fit when absent.
    pub section: Option<String>,
}

impl Settings {
    /// The kind of the services' routes, where clusters have it only when somebody has installed it.
    pub(super) fn extension(&self) -> Option<Owned> {
        let kind = match &self.route {
            Route::Ingress => return None,
            Route::IngressRoute { .. } => Owned::IngressRoute,
            Route::HttpRoute(_) => Owned::HttpRoute,
        };
        self.ingress.then_some(kind)
    }

    /// The defaults.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self {
            access,
            namespace: None,
            manager_namespace: None,
            instance: "mcp".to_owned(),
            domain: DEFAULT_DOMAIN.to_owned(),
            bridge_image: None,
            bridge_path: "/usr/local/bin/mcp-bridge".to_owned(),
            run_as_user: Some(65_532),
            ingress: true,
            route: Route::Ingress,
            ingress_class: None,
            ingress_tls_secret: None,
            image_pull_secrets: Vec::new(),
            storage_class: None,
            volume_size: 1 << 30,
            allow_from_namespaces: Vec::new(),
            allow_from_ranges: Vec::new(),
            egress_except: Vec::new(),
            max_wait: Duration::from_mins(10),
            secrets: Arc::new(|_| Ok(None)),
        }
    }

    /// The value of a secret, looked up where blocking is allowed.
    pub(super) async fn secret(&self, name: &str) -> Result<Option<String>> {
        let (source, name) = (self.secrets.clone(), name.to_owned());
        let looked = tokio::task::spawn_blocking(move || source(&name)).await;
        looked.unwrap_or_else(|error| Err(crate::error::Error::internal("a file could not be looked at", error)))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("access", &self.access)
            .field("namespace", &self.namespace)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

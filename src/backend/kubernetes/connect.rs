//! The way to the cluster: its address, its account, its namespace. Nothing is asked of it here.

use std::time::Duration;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::settings::{Access, Settings};
use crate::error::{Error, Kind, Result};

/// Longest time until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);

/// A client of the cluster, and the namespace of all services; says in the settings where the manager itself is.
pub(super) async fn connect(settings: &mut Settings) -> Result<(Client, String)> {
    let (config, namespace) = way(settings).await?;
    Ok((client(&config)?, namespace))
}

/// A client with connections of its own.
pub(super) fn client(config: &Config) -> Result<Client> {
    Client::try_from(config.clone()).map_err(|error| Error::internal("the cluster's client could not be made", error))
}

/// The same, but that a call fails at once which a busy server puts off: the other one makes it again later and later.
pub(super) fn plain(config: &Config) -> Result<Client> {
    let mut config = config.clone();
    config.default_retry = false;
    client(&config)
}

/// What [`client`] needs, and the rest as [`connect`] has it.
pub(super) async fn way(settings: &mut Settings) -> Result<(Config, String)> {
    let wrong = |detail: String, error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Kind::Invalid, format!("{detail}: {error}"))
            .remedy("run the manager in a pod with a service account, or set kubernetes.kubeconfig")
    };
    let mut config = match &settings.access {
        Access::Account => {
            Config::incluster().map_err(|error| wrong("this is no pod with a service account".to_owned(), error.into()))?
        }
        Access::File { path, context } => {
            let place = format!("{} does not lead to a cluster", path.display());
            let read = Kubeconfig::read_from(path).map_err(|error| wrong(place.clone(), error.into()))?;
            let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
            Config::from_custom_kubeconfig(read, &options).await.map_err(|error| wrong(place, error.into()))?
        }
    };
    config.connect_timeout = Some(CONNECT);
    if settings.access == Access::Account {
        settings.manager_namespace = Some(config.default_namespace.clone());
    }
    let namespace = settings.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    Ok((config, namespace))
}

//! Composition root: from a [`Config`] to a running manager. The only place that names concrete backends.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::auth::Authenticator;
use crate::backend::kubernetes::{self, Kubernetes};
use crate::backend::memory::{Engine, Memory};
use crate::backend::podman::{self, Podman};
use crate::backend::{Backend, RegistryCredentials};
use crate::config::secrets::SecretValue;
use crate::config::{BackendKind, Config, RouteKind, registry_credentials};
use crate::error::{Error, Kind, Result};
use crate::gateway::mcp::Hub;
use crate::gateway::{self, Gateway};
use crate::lifecycle::{StopSignals, Tasks};
use crate::manager::{self, Manager};
use crate::memory::Rest;
use crate::peers::key::Place;
use crate::peers::{self, Peers};
use crate::registry::{self, Registry};
use crate::routing::{self, Domain};
use crate::telemetry::Metrics;
use crate::tools::Policy;
use crate::{mcp, rest, server};

/// Changes of template files that follow each other within this time are read together.
const TEMPLATE_DEBOUNCE: Duration = Duration::from_millis(200);

/// What a load took of memory goes back when nothing has happened for so long.
const QUIET: Duration = Duration::from_secs(2);

/// Runs the manager until a signal ends it. Prints one line with its address to standard output once it listens.
pub async fn run(config: Config) -> Result<()> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let tasks = Tasks::default();
    let metrics = Metrics::new()?;
    let listener = bind(config.server.listen, "server.listen").await?;
    let address = listener.local_addr().map_err(|error| Error::internal("the listener has no address", error))?;
    let domain: Domain = config.server.domain.parse()?;
    let fallback_url = config.gateway.enabled.then(|| config.server.fallback_url(address));
    let entrypoints = config.server.traefik_entrypoints.clone();
    let routing = routing::Settings { domain: domain.clone(), fallback_url, entrypoints, ..routing::Settings::default() };

    let settings = registry::Settings { dir: config.templates.dir.clone(), debounce: TEMPLATE_DEBOUNCE };
    let registry = Registry::open(settings, &tasks, &metrics).await?;
    let audit = Audit::open(config.audit.file.clone(), config.audit.database_url.as_deref(), &tasks).await?;
    let backend = backend(&config, &routing, &tasks, &metrics).await?;
    let gateway =
        config.gateway.enabled.then(|| Gateway::new(backend.view(), gateway_settings(&config, domain.clone()), &metrics, &tasks));
    let environment = config.environment.clone();
    let manager = Manager::new(
        backend.clone(),
        registry,
        audit,
        metrics.clone(),
        tasks.clone(),
        manager_settings(&config, address),
        Arc::new(move |name| environment.get(name).map(str::to_owned)),
    );
    let services = gateway.clone().map(|gateway| {
        let settings = gateway::mcp::Settings {
            names: config.aggregate.names(),
            origins: config.server.cors_origins.clone(),
            max_sessions: usize::try_from(config.mcp.max_sessions).unwrap_or(usize::MAX),
            session_idle: config.mcp.session_idle.duration(),
        };
        rest::Services { hub: Hub::new(gateway.clone(), backend.view(), settings, &tasks), gateway }
    });
    let policy = Policy::new(config.mcp.compat_tool_names, config.mcp.confirm.clone())?;
    let authenticator = authenticator(&config)?;
    let key = session_key(&config).await?;
    let tools = mcp::router(manager.clone(), authenticator.clone(), mcp_settings(&config, policy.clone(), &key, &tasks));
    let router = rest::router(manager.clone(), authenticator, metrics.clone(), rest_settings(&config, policy), services, tools);
    let router = Peers::new(&key, own_address(&config, address).await?).around(router);

    let (engine, stopping) = (backend.clone(), tasks.stopping());
    let engine = tasks.spawn("backend", async move { engine.run(stopping).await });
    manager.start();
    tasks.spawn("memory", give_memory_back(metrics.clone(), tasks.stopping()));
    let site = server::Settings { metrics: Some(metrics), ..server_settings(&config, domain) };
    if let Some(address) = config.server.traefik_provider_listen {
        let listener = bind(address, "server.traefik_provider_listen").await?;
        let provider = server::serve_provider(listener, site.clone(), routing, backend.view(), tasks.clone());
        tasks.spawn("traefik provider", provider);
    }
    tasks.spawn("listener", server::serve(listener, site, router, gateway, tasks.clone()));
    let mut signals = StopSignals::listen()?;
    announce(address);

    let signal = signals.next().await;
    tracing::info!(signal, "stopping; services go on");
    let (drain, second) = (config.server.drain_timeout.duration(), signals.next());
    tokio::select! {
        ended = tasks.stop(drain) => if !ended {
            tracing::warn!(seconds = drain.as_secs(), "requests still open after the drain time were cut off");
        },
        _ = second => tracing::warn!("a second signal: requests under way were cut off"),
    }
    drop(engine);
    tracing::info!("stopped");
    Ok(())
}

/// Gives back what a load took of memory, a moment after it is over.
async fn give_memory_back(metrics: Metrics, stopping: CancellationToken) {
    let mut rest = Rest::default();
    while tokio::time::timeout(QUIET, stopping.cancelled()).await.is_err() {
        rest.look(metrics.happened());
    }
}

/// Tells people and scripts where it listens; nobody may be reading.
fn announce(address: SocketAddr) {
    use std::io::Write as _;
    let mut output = std::io::stdout();
    let _ = writeln!(output, "mcp-manager listening on http://{address}").and_then(|()| output.flush());
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
}

async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::new(Kind::Invalid, format!("cannot listen on {address}: {error}"))
            .remedy(format!("stop what listens there, or choose another address ({setting})"))
    })
}

async fn backend(config: &Config, routing: &routing::Settings, tasks: &Tasks, metrics: &Metrics) -> Result<Arc<dyn Backend>> {
    match config.backend.kind {
        BackendKind::Memory => {
            tracing::warn!("the memory backend runs nothing: services are only pretended");
            Ok(Arc::new(Memory::over(Engine::new(Duration::from_millis(20)), tasks.clone())))
        }
        _ if config.uses_cluster() => Ok(Kubernetes::connect(kubernetes_settings(config)?, tasks.clone()).await?),
        _ => Ok(Podman::connect(podman_settings(config, routing), tasks.clone(), metrics.clone()).await?),
    }
}

/// The key of sessions that managers share. In a cluster there is no folder that they share, so the cluster keeps it, unless a
/// setting says where it is.
async fn session_key(config: &Config) -> Result<Vec<u8>> {
    match key_place(config) {
        Place::Here if config.uses_cluster() => kubernetes::session_key(kubernetes_settings(config)?).await,
        place => peers::key::shared(&place).await,
    }
}

/// Where managers that share an engine find the key of their sessions. One that pretends shares nothing.
fn key_place(config: &Config) -> Place {
    let instance = &config.backend.instance;
    if let Some(file) = &config.peers.key_file {
        return Place::File(file.clone());
    }
    if let Some(url) = config.redis.url.as_ref().filter(|_| config.redis.enabled) {
        return Place::Redis { url: url.clone(), name: format!("mcp-manager:{instance}:sessions") };
    }
    if config.backend.kind == BackendKind::Memory || config.uses_cluster() {
        return Place::Here;
    }
    let beside_socket = config.backend.socket.as_ref().and_then(|socket| socket.parent());
    let folder = beside_socket.map_or_else(|| config.directories.runtime().join(instance), Path::to_owned);
    Place::File(podman::session_key_file(&folder, instance))
}

/// Where other managers reach this one, which listens at `address`.
async fn own_address(config: &Config, address: SocketAddr) -> Result<SocketAddr> {
    if let Some(named) = &config.peers.address {
        let found = tokio::net::lookup_host(named).await.ok().and_then(|mut found| found.next());
        return found.ok_or_else(|| {
            let message = format!("'{}' is not an address that others reach", crate::domain::shown(named));
            Error::invalid_field("peers.address", message, "write HOST:PORT, with a name that can be looked up")
        });
    }
    if !address.ip().is_unspecified() {
        return Ok(address);
    }
    // In a container or pod the machine's name leads to its own address.
    let name = format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), address.port());
    let found = tokio::net::lookup_host(&name).await.ok().and_then(|mut found| found.find(|found| !found.ip().is_loopback()));
    Ok(found.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], address.port()))))
}

/// A look at the cluster that services would run in.
pub async fn examine_cluster(config: &Config) -> Result<Vec<kubernetes::Look>> {
    Ok(kubernetes::examine(kubernetes_settings(config)?).await)
}

fn kubernetes_settings(config: &Config) -> Result<kubernetes::Settings> {
    let secrets = config.secret_source();
    let access = if config.in_cluster() {
        kubernetes::Access::Account
    } else {
        let path = config.kubernetes.kubeconfig.clone().ok_or_else(|| {
            let message = "there is no way to the cluster: this is no pod with a service account";
            Error::invalid_field("kubernetes.kubeconfig", message, "set it, or KUBECONFIG, to a file such as kubectl reads")
        })?;
        kubernetes::Access::File { path, context: config.kubernetes.context.clone() }
    };
    Ok(kubernetes::Settings {
        namespace: config.kubernetes.namespace.clone(),
        instance: config.backend.instance.clone(),
        domain: config.server.domain.clone(),
        bridge_image: config.kubernetes.bridge_image.clone(),
        bridge_path: config.kubernetes.bridge_program.clone(),
        run_as_user: (config.kubernetes.run_as_user > 0).then_some(config.kubernetes.run_as_user),
        ingress: config.kubernetes.ingress,
        route: route(config),
        ingress_class: config.kubernetes.ingress_class.clone(),
        ingress_tls_secret: config.kubernetes.ingress_tls_secret.clone(),
        image_pull_secrets: config.kubernetes.image_pull_secrets.clone(),
        storage_class: config.kubernetes.storage_class.clone(),
        volume_size: config.kubernetes.volume_size.0,
        allow_from_namespaces: config.kubernetes.allow_from_namespaces.clone(),
        allow_from_ranges: config.kubernetes.allow_from.iter().map(crate::domain::address_range::AddressRange::in_full).collect(),
        egress_except: config.kubernetes.egress_except.clone(),
        max_wait: config.server.max_wait.duration(),
        secrets: Arc::new(move |name| known_secret(secrets.get(name))),
        ..kubernetes::Settings::new(access)
    })
}

/// By what services of a cluster are reached from outside.
fn route(config: &Config) -> kubernetes::Route {
    let settings = &config.kubernetes;
    match (settings.route_kind, &settings.gateway) {
        (RouteKind::IngressRoute, _) => kubernetes::Route::IngressRoute { entry_points: settings.route_entry_points.clone() },
        (RouteKind::HttpRoute, Some(name)) => kubernetes::Route::HttpRoute(kubernetes::Gateway {
            name: name.clone(),
            namespace: settings.gateway_namespace.clone(),
            section: settings.gateway_section.clone(),
        }),
        // Without a name for the Gateway no routes are asked for at all.
        (RouteKind::Ingress | RouteKind::HttpRoute, _) => kubernetes::Route::Ingress,
    }
}

/// The value of a secret, if the manager knows it; the engine may have one of that name otherwise.
fn known_secret(found: Result<SecretValue>) -> Result<Option<String>> {
    match found {
        Ok(value) => Ok(Some(value.reveal().to_owned())),
        Err(error) if error.kind == Kind::Invalid => Ok(None),
        Err(error) => Err(error),
    }
}

fn podman_settings(config: &Config, routing: &routing::Settings) -> podman::Settings {
    let secrets = config.secret_source();
    // All of a service's containers are there, whatever other networks they are on.
    let routing = routing::Settings { network: Some(config.backend.network.clone()), ..routing.clone() };
    let credentials_file = config.backend.registry_credentials_file.clone();
    podman::Settings {
        socket: config.backend.socket.clone(),
        known_sockets: config.directories.podman_sockets(),
        name_server_dir: config.directories.podman_name_server(),
        temporary_dir: config.directories.podman_temporary(),
        binary: config.backend.podman.clone(),
        arguments: config.backend.podman_arguments(),
        instance: config.backend.instance.clone(),
        network: config.backend.network.clone(),
        publish_address: config.backend.publish_address,
        services_host: config.backend.services_host.clone(),
        require_limits: config.backend.require_limits,
        reconcile_interval: config.backend.reconcile_interval.duration(),
        pull_timeout: config.backend.pull_timeout.duration(),
        build_network: config.packages.build_network.clone(),
        build_timeout: config.packages.build_timeout.duration(),
        bridge: config.bridge.path.clone().or_else(bridge_beside_us),
        bridge_hosts: vec![format!("*.{}", config.server.domain)],
        secrets: Arc::new(move |name| known_secret(secrets.get(name))),
        labels: Arc::new(move |record| routing::traefik_labels(&record.name, &record.spec, &routing)),
        credentials: Arc::new(move |image| {
            let Some(file) = &credentials_file else { return Ok(None) };
            let found = registry_credentials(file, image)?;
            Ok(found.map(|(username, password)| RegistryCredentials { username, password }))
        }),
        ..podman::Settings::new(config.directories.runtime().join(&config.backend.instance))
    }
}

/// The bridge's program beside this one, as they are installed.
fn bridge_beside_us() -> Option<std::path::PathBuf> {
    std::env::current_exe().ok().map(|program| program.with_file_name("mcp-bridge"))
}

fn gateway_settings(config: &Config, domain: Domain) -> gateway::Settings {
    gateway::Settings {
        domain,
        connect_timeout: config.gateway.connect_timeout.duration(),
        head_timeout: config.gateway.response_timeout.duration(),
        idle_timeout: config.gateway.idle_timeout.duration(),
        trusted_proxies: config.gateway.trusted_proxies.clone(),
        drain: config.server.drain_timeout.duration(),
        ..gateway::Settings::default()
    }
}

fn manager_settings(config: &Config, address: SocketAddr) -> manager::Settings {
    manager::Settings {
        defaults: config.spec_defaults(),
        max_containers: config.limits.max_containers,
        domain: config.server.domain.clone(),
        public_port: config.server.url_port(address.port()),
        public_scheme: config.server.public_scheme.to_string(),
        max_wait: config.server.max_wait.duration(),
        packages: manager::PackageSettings {
            npm_image: config.packages.npm_image.clone(),
            pypi_image: config.packages.pypi_image.clone(),
            allow_install_scripts: config.packages.allow_install_scripts,
        },
    }
}

fn mcp_settings(config: &Config, policy: Policy, key: &[u8], tasks: &Tasks) -> mcp::Settings {
    mcp::Settings {
        policy,
        origins: config.server.cors_origins.clone(),
        max_body_bytes: usize::try_from(config.server.max_body_bytes.0).unwrap_or(usize::MAX),
        body_timeout: config.server.request_timeout.duration(),
        max_sessions: usize::try_from(config.mcp.max_sessions).unwrap_or(usize::MAX),
        session_idle: config.mcp.session_idle.duration(),
        key: key.to_vec(),
        stopping: tasks.stopping(),
    }
}

fn rest_settings(config: &Config, policy: Policy) -> rest::Settings {
    rest::Settings {
        cors_origins: config.server.cors_origins.clone(),
        max_body_bytes: usize::try_from(config.server.max_body_bytes.0).unwrap_or(usize::MAX),
        body_timeout: config.server.request_timeout.duration(),
        metrics_enabled: config.telemetry.metrics_enabled,
        policy,
    }
}

fn server_settings(config: &Config, domain: Domain) -> server::Settings {
    let defaults = server::Settings::default();
    let allowed_hosts = defaults.allowed_hosts.into_iter().chain(config.server.allowed_hosts.iter().cloned()).collect();
    server::Settings {
        allowed_hosts,
        domain,
        stall_timeout: config.gateway.idle_timeout.duration(),
        max_connections: usize::try_from(config.server.max_connections).unwrap_or(usize::MAX),
        drain: config.server.drain_timeout.duration(),
        ..server::Settings::default()
    }
}

fn authenticator(config: &Config) -> Result<Authenticator> {
    if config.auth.enabled { Ok(Authenticator::Keys(config.auth.keys()?)) } else { Ok(Authenticator::Off) }
}

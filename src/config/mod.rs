//! Settings: defaults, then the TOML file, then the environment, then flags, each on top of the one before.
//!
//! [`load`] gives a [`Config`] that is complete and valid and knows where each value came from, or one error that lists
//! everything that is wrong, with source, field and what is allowed. What the settings do is left to the modules they are for;
//! nothing else in the program reads the environment.

mod aggregate;
mod audit;
pub mod auth;
mod backend;
mod bridge;
mod credentials;
mod directories;
mod environment;
mod file;
mod gateway;
mod health;
mod kubernetes;
mod limits;
mod mcp;
mod origin;
mod packages;
mod peers;
mod redis;
pub mod reference;
pub mod secrets;
mod section;
mod server;
mod telemetry;
mod templates;
mod value;
mod variables;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use crate::domain::spec::Defaults;
use crate::error::{Error, FieldError, Result};

pub use aggregate::Aggregate;
pub use audit::Audit;
pub use auth::Auth;
pub use backend::{Backend, BackendKind};
pub use bridge::Bridge;
pub use credentials::registry_credentials;
pub use directories::Directories;
pub use environment::Environment;
pub use gateway::Gateway;
pub use health::Health;
pub use kubernetes::{Kubernetes, RouteKind};
pub use limits::Limits;
pub use mcp::Mcp;
pub use origin::Origin;
pub use packages::Packages;
pub use peers::Peers;
pub use redis::Redis;
pub use secrets::{SecretSource, Secrets};
pub use section::Setting;
pub use server::{Scheme, Server, reachable};
pub use telemetry::{LogFormat, Telemetry};
pub use templates::Templates;

use section::Check;

/// Where a cluster puts the token of a pod's service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Declares the sections once, for the type, the reader and the lists.
macro_rules! sections {
    ($( $(#[$meta:meta])* $field:ident: $type:ty, )*) => {
        /// All settings, complete and valid.
        #[derive(Debug, Clone, Default)]
        pub struct Config {
            $( $(#[$meta])* pub $field: $type, )*
            /// The environment of the process: for secrets and for templates that may refer to it.
            pub environment: Environment,
            /// The directories of user and system.
            pub directories: Directories,
            /// The file that was read, if any.
            pub file: Option<PathBuf>,
            /// What is allowed but is likely not meant; to be logged at the start.
            pub warnings: Vec<String>,
            origins: BTreeMap<String, Origin>,
        }

        /// Every setting there is, by section.
        #[must_use]
        pub fn settings() -> Vec<Setting> {
            [ $( <$type>::settings(), )* ].concat()
        }

        fn read_sections(figment: &Figment, check: &mut Check) -> Config {
            Config { $( $field: <$type>::read(figment, check), )* ..Config::default() }
        }

        impl Config {
            /// Every setting with its value and where that came from, in the order of [`settings`].
            #[must_use]
            pub fn values(&self) -> Vec<(Setting, serde_json::Value, Origin)> {
                let values = [ $( self.$field.values(), )* ].concat();
                let origin = |setting: &Setting| self.origins.get(&setting.path()).cloned().unwrap_or(Origin::Default);
                settings().into_iter().zip(values).map(|(setting, value)| {
                    let origin = origin(&setting);
                    (setting, value, origin)
                }).collect()
            }
        }
    };
}

sections! {
    /// The manager's own HTTP server.
    server: Server,
    /// Where services run.
    backend: Backend,
    /// The program that speaks HTTP for servers that speak stdio.
    bridge: Bridge,
    /// The cluster, where services run in one.
    kubernetes: Kubernetes,
    /// What services get and may have.
    limits: Limits,
    /// Where templates come from.
    templates: Templates,
    /// How health is found out.
    health: Health,
    /// Where the values of secrets come from.
    secrets: Secrets,
    /// Who may call the API.
    auth: Auth,
    /// The built-in router.
    gateway: Gateway,
    /// The MCP endpoints over many services.
    aggregate: Aggregate,
    /// The manager's own MCP server.
    mcp: Mcp,
    /// Logs and metrics.
    telemetry: Telemetry,
    /// How images are made for packages.
    packages: Packages,
    /// The record of who did what.
    audit: Audit,
    /// Several managers behind one address.
    peers: Peers,
    /// A Redis server that managers share.
    redis: Redis,
}

/// A setting given on the command line.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The flag as the user wrote it: `--listen`, `--set`.
    pub name: String,
    /// `section.field`.
    pub path: String,
    /// Its value.
    pub value: String,
}

/// Everything settings are made from.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The file named on the command line.
    pub file: Option<PathBuf>,
    /// The flags.
    pub flags: Vec<Flag>,
    /// The environment.
    pub environment: Environment,
    /// The directories of user and system.
    pub directories: Directories,
}

impl Inputs {
    /// The inputs of this process.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Result<Self> {
        let environment = Environment::of_process();
        let working = std::env::current_dir().map_err(|error| {
            Error::internal("the working directory is gone", error).remedy("change to a directory that exists")
        })?;
        let directories = Directories::new(&environment, working, "/".as_ref());
        Ok(Self { file, flags, environment, directories })
    }

    /// The file of settings that is read: the one that is named, else the first that exists where they are looked for.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        let named = self.file.clone().or_else(|| self.environment.get(variables::CONFIG_FILE).map(PathBuf::from));
        named.or_else(|| self.directories.config_files().into_iter().find(|path| path.is_file()))
    }
}

/// Reads all settings; an error lists everything that is wrong.
pub fn load(inputs: &Inputs) -> Result<Config> {
    read(inputs, inputs.config_file())
}

/// What holds where nothing is set, for those who look at a machine whose settings are wrong.
pub fn defaults(inputs: &Inputs) -> Result<Config> {
    let directories = inputs.directories.clone();
    let unset = Inputs { file: None, flags: Vec::new(), environment: Environment::default(), directories };
    Ok(Config { environment: inputs.environment.clone(), ..read(&unset, None)? })
}

fn read(inputs: &Inputs, file_path: Option<PathBuf>) -> Result<Config> {
    let settings = settings();
    let mut layers = Layers { figment: Figment::new(), origins: Vec::new() };
    for (path, value) in found_on_machine(&inputs.directories) {
        layers.set(Origin::Machine, &path, &value);
    }
    let file = file_path.as_ref().map(|path| file::File::read(path, &settings)).unwrap_or_default();
    if let Some(path) = &file_path {
        layers.add(Origin::File { path: path.clone(), line: None }, file.values);
    }
    let (variables, mut warnings) = variables::read(&inputs.environment, &settings);
    for variable in &variables {
        layers.set(Origin::Variable(variable.name.clone()), &variable.path, &variable.value);
    }
    let mut errors = file.errors;
    for flag in &inputs.flags {
        if settings.iter().any(|setting| setting.path() == flag.path) {
            layers.set(Origin::Flag(flag.name.clone()), &flag.path, &flag.value);
        } else {
            let paths: Vec<String> = settings.iter().map(Setting::path).collect();
            let error = crate::domain::fields::unknown_field(&flag.path, paths.iter().map(String::as_str));
            errors.push(FieldError { message: format!("unknown setting in {}", Origin::Flag(flag.name.clone())), ..error });
        }
    }
    let origins: BTreeMap<String, Origin> =
        settings.iter().map(|setting| (setting.path(), layers.origin(&setting.path(), &file.lines))).collect();
    let mut check = Check::default();
    let config = read_sections(&layers.figment, &mut check);
    errors.extend(check.problems.into_iter().map(|problem| field_error(problem, &origins)));
    if !errors.is_empty() {
        return Err(Error::invalid("the settings are not valid", errors));
    }
    warnings.extend(config.doubtful());
    Ok(Config {
        environment: inputs.environment.clone(),
        directories: inputs.directories.clone(),
        file: file_path,
        warnings,
        origins,
        ..config
    })
}

/// Defaults that depend on the machine.
fn found_on_machine(directories: &Directories) -> Vec<(String, String)> {
    let text = |path: PathBuf| path.display().to_string();
    vec![
        ("templates.dir".to_owned(), text(directories.templates())),
        ("secrets.dir".to_owned(), text(directories.secrets())),
        ("auth.keys_file".to_owned(), text(directories.keys_file())),
    ]
}

/// A wrong setting with the source of its value.
fn field_error(problem: section::Problem, origins: &BTreeMap<String, Origin>) -> FieldError {
    // A rule may point into a setting; the origin is that of the setting.
    let (message, line) = match origins.get(&problem.path) {
        None | Some(Origin::Default) => (problem.message, None),
        Some(Origin::File { path, line }) => (format!("{}, in {}", problem.message, path.display()), *line),
        Some(origin) => (format!("{}, in {origin}", problem.message), None),
    };
    FieldError { line, ..FieldError::new(problem.path, message, problem.remedy) }
}

/// The layers of settings, each with its origin.
struct Layers {
    figment: Figment,
    origins: Vec<Origin>,
}

impl Layers {
    /// Puts a layer on top.
    fn add(&mut self, origin: Origin, values: Dict) {
        let figment = std::mem::take(&mut self.figment);
        self.figment = figment.merge(Layer { origin: origin.to_string(), values });
        self.origins.push(origin);
    }

    /// Puts a layer with a single setting on top.
    fn set(&mut self, origin: Origin, path: &str, value: &str) {
        let values = figment::util::nest(path, Value::from(value)).into_dict().unwrap_or_default();
        self.add(origin, values);
    }

    /// Where the value at `path` came from.
    fn origin(&self, path: &str, lines: &BTreeMap<String, usize>) -> Origin {
        let name = self.figment.find_metadata(path).map(|metadata| metadata.name.to_string());
        let origin = self.origins.iter().find(|origin| Some(origin.to_string()) == name).cloned();
        match origin {
            Some(Origin::File { path: file, .. }) => Origin::File { path: file, line: lines.get(path).copied() },
            origin => origin.unwrap_or(Origin::Default),
        }
    }
}

/// One layer of settings.
struct Layer {
    origin: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

impl Config {
    /// What specs get where they say nothing, and the bounds of the installation.
    #[must_use]
    pub fn spec_defaults(&self) -> Defaults {
        let text = |path: &PathBuf| path.display().to_string();
        Defaults {
            memory_limit: self.limits.default_memory_limit,
            cpu_limit: self.limits.default_cpu_limit,
            pids_limit: self.limits.default_pids_limit,
            health_interval: self.health.interval,
            start_timeout: self.health.start_timeout,
            working_directory: text(&self.directories.working),
            allowed_host_paths: self.limits.allowed_host_paths.iter().map(text).collect(),
        }
    }

    /// Whether this is a pod of a cluster, with a service account.
    #[must_use]
    pub fn in_cluster(&self) -> bool {
        self.environment.get("KUBERNETES_SERVICE_HOST").is_some() && std::path::Path::new(ACCOUNT).exists()
    }

    /// Whether services run in a cluster.
    #[must_use]
    pub fn uses_cluster(&self) -> bool {
        match self.backend.kind {
            BackendKind::Kubernetes => true,
            BackendKind::Auto => self.in_cluster(),
            BackendKind::Memory | BackendKind::Podman => false,
        }
    }

    /// Where the values of secrets are looked up.
    #[must_use]
    pub fn secret_source(&self) -> SecretSource {
        SecretSource { directory: self.secrets.dir.clone(), environment: self.environment.clone() }
    }

    /// What is allowed but likely not meant.
    fn doubtful(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.auth.enabled && self.server.cors_origins.iter().any(|origin| origin == "*") {
            warnings.push(
                "CORS_ORIGINS is * while authentication is off: every web page that somebody on this machine opens can use the \
                 API; name the origins, or set ENABLE_AUTH=true"
                    .to_owned(),
            );
        }
        if !self.auth.enabled && !self.server.listen.ip().is_loopback() {
            let listen = self.server.listen;
            warnings.push(format!(
                "the API listens on {listen} while authentication is off: whoever reaches this address can start containers; \
                 set ENABLE_AUTH=true, or listen on 127.0.0.1"
            ));
        }
        if self.redis.url.is_some() && !self.redis.enabled {
            warnings.push("REDIS_URL has no effect while ENABLE_REDIS is not true".to_owned());
        }
        if self.redis.enabled && self.peers.key_file.is_some() {
            warnings.push("ENABLE_REDIS has no effect: peers.key_file says where the key of sessions is".to_owned());
        }
        warnings.extend(self.kubernetes.doubtful());
        warnings
    }
}

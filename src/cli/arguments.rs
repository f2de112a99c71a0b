//! The command line as users see it: commands, arguments, help texts. What they do stands in the other files.

#![expect(clippy::doc_markdown, reason = "these comments are help texts, shown on terminals as they stand")]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::clients::arguments::ClientCommand;
use super::contexts::ContextCommand;
use super::install::arguments::InstallCommand;
use super::mcp::arguments::{McpCall, McpService, Subject};
use super::package_arguments::{Export, Import};
pub use super::service_arguments::{Apply, LogStream, Logs, Run};
use crate::manager::Wait;

/// Ends of every help text: what scripts can rely on.
const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed (also: a check of 'doctor' failed)
  2    the command, its input or a setting is wrong
  3    there is no such service or template
  4    it exists already, or does not fit the present state
  5    the manager does not answer
  6    not allowed: a key is missing, wrong or too weak
  7    done, but the service is not healthy
  130  interrupted, but for 'logs --follow' and 'events', which end so (0)";

/// Run any MCP server as a locked-down container with a stable URL.
///
/// 'serve' runs the manager; most other commands ask a running one to do something. Results are tables on a terminal and
/// JSON elsewhere.
#[derive(Debug, Parser)]
#[command(name = "mcp-manager", version, after_help = EXIT_CODES)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub struct CommandLine {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// Where a manager listens by default.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:8000";

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Address of the manager [default: that of the context in use, else http://127.0.0.1:8000]
    #[arg(long, global = true, value_name = "URL", env = "MCP_MANAGER_SERVER", hide_env_values = true)]
    pub server: Option<String>,
    /// Manager by the name that 'mcp-manager context set' gave it [default: the one in use]
    #[arg(long, global = true, value_name = "NAME", env = "MCP_MANAGER_CONTEXT", hide_env_values = true)]
    pub context: Option<String>,
    /// File with the certificates, in PEM, by which addresses of HTTPS are believed, instead of the system's.
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Key for the manager; better given by the variable, since others can see command lines.
    #[arg(long, global = true, value_name = "KEY", env = "MCP_MANAGER_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// File that holds the key; it counts before --api-key.
    #[arg(long, global = true, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// How results are written; 'auto' is a table on a terminal and JSON elsewhere.
    #[arg(long, short, global = true, value_name = "FORMAT", value_enum, default_value_t = OutputFormat::Auto)]
    pub output: OutputFormat,
    /// Short for --output json; errors are JSON too.
    #[arg(long, global = true, conflicts_with = "output")]
    pub json: bool,
    /// Say nothing but results and errors; lists show names only.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

impl Common {
    /// Address of the manager.
    pub fn server(&self) -> &str {
        self.server.as_deref().unwrap_or(DEFAULT_SERVER)
    }
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A table on a terminal, JSON elsewhere.
    Auto,
    /// Tables and sentences.
    Table,
    /// JSON.
    Json,
}

/// How long a command waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// Until the change is recorded.
    None,
    /// Until all its processes run.
    Started,
    /// Until it is healthy, or its start timeout has passed.
    Healthy,
}

impl From<WaitFor> for Wait {
    fn from(wait: WaitFor) -> Self {
        match wait {
            WaitFor::None => Self::None,
            WaitFor::Started => Self::Started,
            WaitFor::Healthy => Self::Healthy,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the manager until it is stopped.
    Serve(Settings),
    /// Create a service.
    Run(Box<Run>),
    /// Take over servers that you have: an 'mcpServers' file of a client, or a server.json of the MCP registry.
    Import(Import),
    /// Print the MCP registry's server.json for a template.
    Export(Export),
    /// Make services be as files describe them: create, change, try again what failed, or leave alone.
    Apply(Apply),
    /// List services.
    Ls(List),
    /// List the containers behind services.
    Ps(Names),
    /// Show everything about a service.
    Status(Name),
    /// Show what a service has written.
    ///
    /// Lines come as the service wrote them, colours and all else that a terminal obeys included; --json escapes that.
    /// Interrupting --follow ends it with status 0.
    Logs(Logs),
    /// Start stopped services.
    Start(NamesAndWait),
    /// Stop services; they stay stopped until somebody starts them.
    Stop(NamesAndWait),
    /// Restart services, one replica after the other.
    Restart(NamesAndWait),
    /// Change how many containers run a service.
    Scale(Scale),
    /// Delete services with everything that belongs to them.
    Rm(Remove),
    /// Ask a running manager whether it is well; the exit code says it.
    Health {
        #[arg(long, help = "Whether it can serve requests in full, rather than whether it is alive")]
        ready: bool,
    },
    /// Follow what happens to services; interrupting it ends it with status 0.
    Events(Events),
    /// Look at templates.
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Connect MCP clients: editors, assistants and command lines on this machine.
    #[command(subcommand)]
    Client(ClientCommand),
    /// Serve a running manager's tools to an MCP client over standard input and output.
    ///
    /// For clients that start a program: each call is a request to the manager's API, with --server and --api-key or their
    /// variables. While no manager answers, calls fail and say so; none is started.
    Mcp,
    /// List the tools of an MCP service.
    McpTools(McpService),
    /// Call a tool of an MCP service.
    McpCall(McpCall),
    /// Check whether this machine can run services, and say what to do about it.
    Doctor(Settings),
    #[command(flatten)]
    Install(InstallCommand),
    /// Look at the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make keys for callers of the API.
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Remember managers by name, with address and key, and choose which one commands ask.
    #[command(subcommand)]
    Context(ContextCommand),
    /// Print the completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Show the version.
    Version,
    /// Print the reference of all commands, or of all tools, in Markdown.
    #[command(hide = true)]
    Reference {
        /// What is described.
        #[arg(value_enum, default_value_t = Subject::Commands)]
        subject: Subject,
    },
}

/// Where settings come from besides the environment.
#[derive(Debug, Default, Args)]
pub struct Settings {
    /// File of settings [default: config.toml in ~/.config/mcp-manager or /etc/mcp-manager, if there] [env: MCP_MANAGER_CONFIG=]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on (setting server.listen).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Where services run: auto, podman, kubernetes or memory (setting backend.kind).
    #[arg(long, value_name = "KIND")]
    pub backend: Option<String>,
    /// Directory of templates (setting templates.dir).
    #[arg(long, value_name = "DIRECTORY")]
    pub templates: Option<String>,
    /// Least level that is logged (setting telemetry.log_level).
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How log lines look: auto, human or json (setting telemetry.log_format).
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Any setting, as 'config show' names it; may be repeated.
    #[arg(long, value_name = "SECTION.NAME=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
pub struct List {
    /// Only services in these states, comma-separated, e.g. running,starting.
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// Only services from this template, NAME or NAME@VERSION.
    #[arg(long, short, value_name = "TEMPLATE")]
    pub template: Option<String>,
    /// Only services with this label. May be repeated.
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub label: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Names {
    /// Names of services; all when none is given.
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Name {
    /// Name of the service.
    pub name: String,
}

#[derive(Debug, Args)]
pub struct NamesAndWait {
    /// Names of services.
    #[arg(required = true)]
    pub names: Vec<String>,
    /// How long to wait.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = WaitFor::Healthy)]
    pub wait: WaitFor,
}

#[derive(Debug, Args)]
pub struct Scale {
    /// Name of the service.
    pub name: String,
    /// How many containers run it.
    pub replicas: u32,
    /// How long to wait.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = WaitFor::Healthy)]
    pub wait: WaitFor,
}

#[derive(Debug, Args)]
pub struct Remove {
    /// Names of services.
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Delete their named volumes with the data in them, too.
    #[arg(long)]
    pub volumes: bool,
    /// A service that does not exist is no error.
    #[arg(long, short = 'f')]
    pub ignore_missing: bool,
}

#[derive(Debug, Args)]
pub struct Events {
    /// Name of the service; all when none is given.
    pub name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// List templates, with the errors of those that have some.
    Ls,
    /// Show a template.
    Show {
        /// The template, NAME or NAME@VERSION.
        name: String,
    },
    /// Check template files, without a manager.
    Validate {
        /// The files; of a directory, those that the manager would read. '-' is standard input.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of templates.
    Schema,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting, its value and where that comes from.
    Show(Settings),
    /// Show which file of settings is read.
    Path(Settings),
    /// Print the reference of all settings, in Markdown.
    Reference,
}

#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Make a key. It is shown once; the manager keeps a digest of it only.
    Key(Key),
}

#[derive(Debug, Args)]
pub struct Key {
    /// Name of its holder, for the audit.
    pub name: String,
    /// What its holder may do: viewer (look), operator (run services) or admin (everything).
    pub role: String,
    /// File of keys that the key's line is added to [default: the setting auth.keys_file]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

//! The arguments of `mcp-manager client`: help texts, shown on terminals as they stand. What they do stands in the other files.

#![expect(clippy::doc_markdown, reason = "these comments are help texts, shown on terminals as they stand")]

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// List the clients that can be connected: whether they are here, and what they are connected to.
    List,
    /// Print what 'connect' would write, without touching a file.
    Config(ClientEntries),
    /// Write servers into a client's file. Everything else in it stays as it is.
    Connect(ClientChange),
    /// Take servers out of a client's file again. If nothing else was changed, it is what it was, byte for byte.
    Disconnect(ClientRemoval),
    /// Speak MCP on standard input and output for an endpoint, for clients that know no servers but programs.
    Relay {
        /// Address of the endpoint.
        #[arg(value_name = "URL")]
        url: String,
    },
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct ClientEntries {
    /// The client, as 'client list' names it.
    pub client: String,
    /// Services to connect, one entry each [default: all running ones, behind one entry]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// One entry for all running services, their tools under SERVICE__TOOL.
    #[arg(long)]
    pub all: bool,
    /// One entry for a group of services. May be repeated.
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// An entry for the manager's own tools.
    #[arg(long)]
    pub manager: bool,
    /// Let the client start a program that relays, instead of connecting by itself.
    #[arg(long)]
    pub stdio: bool,
    /// How the key of the manager is written [default: reference if one is given here, else none]
    #[arg(long, value_enum, value_name = "HOW")]
    pub key: Option<KeyForm>,
    /// Let tools that only read run without a question, where the client has a list of such.
    #[arg(long)]
    pub auto_approve: bool,
    /// The client's file, where it is not in its usual place.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// How a client's file holds the key of the manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyForm {
    /// Not at all.
    None,
    /// By reference to the variable MCP_MANAGER_API_KEY, as the client writes that.
    Reference,
    /// The key itself.
    Literal,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mcp-manager client connect claude-code files notes    two services, an entry each
  mcp-manager client connect cursor                     all running services behind one entry
  mcp-manager client connect codex --manager --dry-run  the manager's own tools; only show the change")]
pub struct ClientChange {
    #[command(flatten)]
    pub entries: ClientEntries,
    /// Show the change, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace servers of other kinds that have the same names.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct ClientRemoval {
    /// The client, as 'client list' names it.
    pub client: String,
    /// Servers to take out [default: all that lead to this manager]
    #[arg(value_name = "SERVICE")]
    pub names: Vec<String>,
    /// The client's file, where it is not in its usual place.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Show the change, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
}

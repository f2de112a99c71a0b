//! The arguments of commands with many: run, apply, logs. Help texts, shown on terminals as they stand; what the commands do
//! stands in `services` and `logs`.

#![expect(clippy::doc_markdown, reason = "these comments are help texts, shown on terminals as they stand")]

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::arguments::WaitFor;
use super::package_arguments::PackageOptions;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  mcp-manager run echo                                  from the template 'echo'
  mcp-manager run notes --template memory --env LEVEL=debug
  mcp-manager run files --image python:3.13-slim --port 8000 -- python -m http.server
  mcp-manager run npm:@modelcontextprotocol/server-everything
  mcp-manager run pypi:mcp-server-time@2025.9.25 --service clock -- --local-timezone=UTC")]
pub struct Run {
    /// Name of the service, which is reached at http://NAME.localhost; or where a server comes from: npm:NAME, pypi:NAME
    /// (both also with @VERSION) or image:REFERENCE, which an image and a template are made for.
    pub name: String,
    #[command(flatten)]
    pub package: PackageOptions,
    /// Template to start from, NAME or NAME@VERSION [default: the one named like the service, unless --image is given]
    #[arg(long, short, value_name = "TEMPLATE")]
    pub template: Option<String>,
    /// Image to run.
    #[arg(long, short, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Port on which the service listens inside its container.
    #[arg(long, short, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Environment variable; without a value it is taken from here. May be repeated.
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Environment variable filled from a secret. May be repeated.
    #[arg(long, value_name = "NAME=SECRET")]
    pub secret: Vec<String>,
    /// Named volume or allowed host directory. May be repeated.
    #[arg(long, short, value_name = "SOURCE:TARGET[:ro]")]
    pub volume: Vec<String>,
    /// Fixed loopback port of this machine for a container port. May be repeated.
    #[arg(long, value_name = "HOST:CONTAINER")]
    pub publish: Vec<String>,
    /// Label of your own. May be repeated.
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// How many containers run it.
    #[arg(long, value_name = "NUMBER")]
    pub replicas: Option<u32>,
    /// Limit of memory, e.g. 512m.
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Limit of CPU time, e.g. 0.5.
    #[arg(long, value_name = "CPUS")]
    pub cpus: Option<String>,
    /// Limit of processes and threads.
    #[arg(long, value_name = "NUMBER")]
    pub pids: Option<u32>,
    /// User, or user:group, inside the container.
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Further network it is attached to. May be repeated.
    #[arg(long, value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Path that answers when the service is healthy.
    #[arg(long, value_name = "PATH")]
    pub health_path: Option<String>,
    /// Longest time until it is healthy, e.g. 2m.
    #[arg(long, value_name = "TIME")]
    pub start_timeout: Option<String>,
    /// What happens when it ends by itself: no, always, unless-stopped, on-failure or on-failure:TIMES.
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// When the image is pulled: always, missing or never.
    #[arg(long, value_name = "POLICY")]
    pub pull: Option<String>,
    /// Let it write to its root file system.
    #[arg(long)]
    pub writable: bool,
    /// Let it open connections to the outside.
    #[arg(long)]
    pub egress: bool,
    /// Replaces the image's entrypoint.
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// How long to wait.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = WaitFor::Healthy)]
    pub wait: WaitFor,
    /// Change nothing, and show what would be done.
    #[arg(long = "dry-run")]
    pub plan: bool,
    /// Replaces the image's command.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Apply {
    /// File with one service, a list of services, or several one after the other, in JSON; '-' is standard input. May be
    /// repeated.
    #[arg(long, short, value_name = "FILE", required = true)]
    pub file: Vec<PathBuf>,
    /// How long to wait.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = WaitFor::Healthy)]
    pub wait: WaitFor,
    /// Change nothing, and show what would be done.
    #[arg(long = "dry-run")]
    pub plan: bool,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// Name of the service.
    pub name: String,
    /// Go on with new lines.
    #[arg(long, short)]
    pub follow: bool,
    /// So many of the last lines of each replica.
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 100)]
    pub tail: u32,
    /// Only lines from then on: a time, seconds since 1970, or a span before now (2h).
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only lines before then: a time, seconds since 1970, or a span before now.
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only one of its output streams.
    #[arg(long, value_enum, value_name = "STREAM")]
    pub stream: Option<LogStream>,
    /// Only this replica.
    #[arg(long, value_name = "NUMBER")]
    pub replica: Option<u32>,
    /// What the container before the present one has written: why it ended. In a cluster only.
    #[arg(long, short, conflicts_with = "follow")]
    pub previous: bool,
    /// Show the time of each line.
    #[arg(long, short)]
    pub timestamps: bool,
}

/// An output stream of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

//! The arguments of commands about packages: help texts, shown on terminals as they stand. What they do stands in
//! `packages`.

use std::path::PathBuf;

use clap::Args;

/// Options of `run` for servers that come from a package or an image.
#[derive(Debug, Clone, Default, Args)]
pub struct PackageOptions {
    /// Name of a service that comes from a package or an image [default: the last part of its name]
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// How clients talk to a server that comes from a package or an image: stdio, http or sse [default: found out]
    #[arg(long, value_name = "TRANSPORT")]
    pub transport: Option<String>,
    /// The package's program, when it has several.
    #[arg(long, value_name = "PROGRAM")]
    pub program: Option<String>,
    /// Install this as well, e.g. 'mcp<2' or NAME@VERSION. May be repeated
    #[arg(long, value_name = "PACKAGE")]
    pub with: Vec<String>,
    /// Install this package of the base image's distribution as well, e.g. git. May be repeated
    #[arg(long, value_name = "PACKAGE")]
    pub system: Vec<String>,
    /// Let the package and what it needs run programs while they are installed, where the manager allows it.
    #[arg(long)]
    pub install_scripts: bool,
    /// Make the package's image anew, with what its registry has now.
    #[arg(long)]
    pub refresh: bool,
    /// Replace a template of the same name that says something else.
    #[arg(long)]
    pub replace_template: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Import {
    /// The file; '-' is standard input.
    pub file: PathBuf,
    /// Only these of its servers, as they are named here. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Make templates, and start nothing.
    #[arg(long)]
    pub templates_only: bool,
    /// Replace templates of the same servers that say something else.
    #[arg(long)]
    pub replace_template: bool,
    /// Let the servers open connections to the outside.
    #[arg(long)]
    pub egress: bool,
}

#[derive(Debug, Args)]
pub struct Export {
    /// The template, NAME or NAME@VERSION.
    pub template: String,
    /// Name of the server in the registry, e.g. io.github.me/weather.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Its version [default: the template's, or that of its package]
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
}

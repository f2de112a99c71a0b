//! The arguments of `install` and `uninstall`: help texts, shown on terminals as they stand. What they do stands in the
//! other files.

use clap::{Args, Subcommand};

use crate::cli::arguments::Settings;

#[derive(Debug, Subcommand)]
pub enum InstallCommand {
    /// Let systemd run the manager: write a unit of your user's own systemd, enable and start it.
    Install(Install),
    /// Stop the manager that 'install' set up, and remove its unit. Settings, templates and services stay.
    Uninstall(Removal),
}

#[derive(Debug, Args)]
#[command(after_help = "\
The unit runs this program from where it is now, as you, with the settings that are given here. Variables of this shell are
not in it; put such settings into the file that 'mcp-manager config path' names.

A user's systemd runs from the first login to the last logout. To start with the machine, and to go on after you log out, your
user has to linger, which needs an administrator once: sudo loginctl enable-linger USER

The manager starts the Podman service that it needs by itself, so no further unit is needed.")]
pub struct Install {
    /// Only print the unit and the commands.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace a unit that was changed by hand, or that somebody else wrote.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Debug, Args)]
pub struct Removal {
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Remove the unit also when it was changed by hand, or when somebody else wrote it.
    #[arg(long)]
    pub force: bool,
}

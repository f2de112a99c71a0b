//! Where clients keep their files, on each system, and whether a client is there. Directories and variables come from the
//! configuration's environment; nothing is written.

use std::path::{Path, PathBuf};

use super::form::Client;
use crate::config::Environment;

/// A file or directory below one that the system gives.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    base: Base,
    path: &'static str,
    with_folder: bool,
}

/// A directory that the system gives.
#[derive(Debug, Clone, Copy)]
enum Base {
    /// The user's home.
    Home,
    /// `XDG_CONFIG_HOME`, or `~/.config`, on every system.
    Config,
    /// Where applications of the system keep settings: as [`Base::Config`] on Linux, `~/Library/Application Support` on
    /// macOS, `%APPDATA%` on Windows.
    Application,
}

/// Candidates on each system; the first that is there is meant, else the first.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// On Linux and whatever is like it.
    pub linux: &'static [Place],
    /// On macOS.
    pub macos: &'static [Place],
    /// On Windows.
    pub windows: &'static [Place],
}

/// A system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Linux and whatever is like it.
    Linux,
    /// macOS.
    MacOs,
    /// Windows.
    Windows,
}

impl Place {
    /// Below the user's home.
    pub const fn home(path: &'static str) -> Self {
        Self { base: Base::Home, path, with_folder: false }
    }

    /// Below the directory of settings of XDG.
    pub const fn config(path: &'static str) -> Self {
        Self { base: Base::Config, path, with_folder: false }
    }

    /// Below the system's own directory of settings.
    pub const fn application(path: &'static str) -> Self {
        Self { base: Base::Application, path, with_folder: false }
    }

    /// The same, which is there as soon as its directory is.
    pub const fn with_folder(self) -> Self {
        Self { with_folder: true, ..self }
    }
}

impl Places {
    /// None, for entries to build on.
    pub const NOWHERE: Self = Self::everywhere(&[]);

    /// The same below the bases of every system.
    pub const fn everywhere(places: &'static [Place]) -> Self {
        Self { linux: places, macos: places, windows: places }
    }
}

/// The machine as clients find it.
#[derive(Debug)]
pub struct Machine<'e> {
    /// Its system.
    pub system: System,
    /// The variables.
    pub environment: &'e Environment,
}

impl<'e> Machine<'e> {
    /// This one.
    pub fn this(environment: &'e Environment) -> Self {
        let system = match std::env::consts::OS {
            "macos" => System::MacOs,
            "windows" => System::Windows,
            _ => System::Linux,
        };
        Self { system, environment }
    }

    /// The file of a client; nothing when the machine says no home.
    pub fn file(&self, client: &Client) -> Option<PathBuf> {
        let named = |(variable, name): &(&str, &str)| {
            let value = PathBuf::from(self.environment.get(variable)?);
            Some(if name.is_empty() { value } else { value.join(name) })
        };
        if let Some(file) = client.variables.iter().find_map(named) {
            return Some(file);
        }
        let places = match self.system {
            System::Linux => client.places.linux,
            System::MacOs => client.places.macos,
            System::Windows => client.places.windows,
        };
        let candidates = || places.iter().filter_map(|place| Some((place, self.path(*place)?)));
        let meant =
            |(place, path): &(&Place, PathBuf)| path.exists() || place.with_folder && path.parent().is_some_and(Path::is_dir);
        candidates().find(meant).or_else(|| candidates().next()).map(|(_, path)| path)
    }

    /// What shows that the client is there: a program, its file, or its directory.
    pub fn evidence(&self, client: &Client) -> Option<PathBuf> {
        let program = client.programs.iter().find_map(|program| self.program(program));
        let file = || self.file(client).filter(|file| file.exists());
        let trace = || client.trace.and_then(|trace| self.path(trace)).filter(|trace| trace.is_dir());
        program.or_else(file).or_else(trace)
    }

    /// A path as people write it, with `~` for their home.
    pub fn shown(&self, path: &Path) -> String {
        match self.home().and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned)) {
            Some(below) => Path::new("~").join(below).display().to_string(),
            None => path.display().to_string(),
        }
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let path = self.environment.get("PATH")?;
        let names = if self.system == System::Windows {
            vec![format!("{name}.exe"), format!("{name}.cmd")]
        } else {
            vec![name.to_owned()]
        };
        let directories: Vec<PathBuf> = std::env::split_paths(path).collect();
        directories.iter().flat_map(|directory| names.iter().map(|name| directory.join(name))).find(|path| path.is_file())
    }

    fn home(&self) -> Option<PathBuf> {
        let variable = if self.system == System::Windows { "USERPROFILE" } else { "HOME" };
        self.environment.get(variable).map(PathBuf::from)
    }

    fn path(&self, place: Place) -> Option<PathBuf> {
        let home = self.home();
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let absolute = |name: &str| self.environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = || absolute("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let base = match (place.base, self.system) {
            (Base::Home, _) => home.clone(),
            (Base::Config, _) | (Base::Application, System::Linux) => config(),
            (Base::Application, System::MacOs) => below_home("Library/Application Support"),
            (Base::Application, System::Windows) => {
                self.environment.get("APPDATA").map(PathBuf::from).or_else(|| below_home("AppData/Roaming"))
            }
        };
        base.map(|base| base.join(place.path))
    }
}

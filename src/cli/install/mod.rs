//! `mcp-manager install` and `uninstall`: the manager as a unit of the user's own systemd. What is written is one file, and
//! what is enabled is that file, so that both can be taken back. The machine's own units, packages and users are left alone.

pub mod arguments;
mod systemd;
mod unit;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::arguments::Settings;
use super::doctor::machine::Machine;
use super::exit::Outcome;
use super::output::Output;
use super::settings;
use crate::config::{Config, Directories, Environment, Origin};
use crate::error::{Error, Kind, Result};
use crate::whole_file;
use arguments::{Install, InstallCommand, Removal};
use systemd::Systemd;
use unit::Whose;

/// The unit's name.
const UNIT: &str = "mcp-manager.service";

/// What was done about the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Installed,
    Changed,
    Unchanged,
}

/// Carries out the command.
pub fn command(output: &Output, command: &InstallCommand) -> Outcome {
    let environment = Environment::of_process();
    let runtime_dir = environment.get("XDG_RUNTIME_DIR").map(PathBuf::from);
    let machine = Machine::new("/".into(), rustix::process::getuid().as_raw(), Vec::new(), runtime_dir);
    let file = file(&machine, &Directories::new(&environment, PathBuf::new(), "/".as_ref()))?;
    let installation = Installation { systemd: Systemd::of(machine), file };
    match command {
        InstallCommand::Install(arguments) => install(output, &installation, arguments),
        InstallCommand::Uninstall(arguments) => uninstall(output, &installation, arguments),
    }
}

/// The unit's file.
fn file(machine: &Machine, directories: &Directories) -> Result<PathBuf> {
    if machine.uid == 0 {
        let detail = "this is root, whose containers would run with the rights of the machine's administrator";
        return Err(Error::new(Kind::NotSupported, detail)
            .remedy("run it as the user that services are to run as: sudo -iu USER mcp-manager install"));
    }
    directories.user_units().map(|folder| folder.join(UNIT)).ok_or_else(|| {
        Error::new(Kind::Invalid, "HOME does not say where units of this user are").remedy("set HOME to the user's directory")
    })
}

/// The unit on a machine.
struct Installation {
    systemd: Systemd,
    file: PathBuf,
}

fn install(output: &Output, installation: &Installation, arguments: &Install) -> Outcome {
    let config = settings::load(&arguments.settings)?;
    let program = std::env::current_exe()
        .map_err(|error| Error::internal("where this program is cannot be told", error).remedy("call it by its full path"))?;
    if !program.is_file() {
        let detail = format!("{} is no longer there", program.display());
        return Err(Error::new(Kind::Conflict, detail).remedy("call the program that replaced it").into());
    }
    let text = unit::text(&program, &words(&arguments.settings, &config)?)?;
    let left_out = left_out(&config);
    if !left_out.is_empty() {
        let file = config.directories.config_files().into_iter().next().unwrap_or_default();
        output.note(&format!(
            "warning: these variables are set here and not in the unit: {}; put what they say into {}",
            left_out.join(", "),
            file.display()
        ));
    }
    if arguments.dry_run {
        return shown(output, installation, &text);
    }
    installation.systemd.check()?;
    let done = installation.put(&text, arguments.force)?;
    start(done, &config)?;
    let lingers = installation.systemd.lingers();
    if !lingers {
        output.note(&format!(
            "it runs while you are logged in; to start with the machine and to go on without you: sudo loginctl enable-linger {}",
            installation.systemd.user()
        ));
    }
    let done = match done {
        Done::Installed => "installed",
        Done::Changed => "changed",
        Done::Unchanged => "unchanged",
    };
    if output.json {
        return output.document(&json!({"unit": UNIT, "file": installation.file, "outcome": done, "lingers": lingers}));
    }
    output.text(&format!(
        "{UNIT}: {done} and running; {}\nwhat it says: journalctl --user --unit {UNIT}",
        installation.file.display()
    ))
}

/// `--dry-run`: the unit, and what would be done with it.
fn shown(output: &Output, installation: &Installation, text: &str) -> Outcome {
    let commands = ["daemon-reload".to_owned(), format!("enable {UNIT}"), format!("restart {UNIT}")];
    let commands = commands.map(|words| format!("systemctl --user {words}"));
    if output.explicit_json {
        return output.document(&json!({"file": installation.file, "unit": text, "commands": commands}));
    }
    output.note(&format!("nothing was written; {} would be:", installation.file.display()));
    output.text(text)?;
    output.note(&format!("and then: {}", commands.join("; ")));
    Ok(())
}

/// What the unit calls the program with: the settings that were given, with paths that mean the same wherever it runs.
fn words(given: &Settings, config: &Config) -> Result<Vec<String>> {
    let absolute = |path: &Path| -> Result<String> {
        let absolute = std::path::absolute(path).map_err(|error| Error::internal("the working directory is gone", error))?;
        Ok(absolute.display().to_string())
    };
    let mut words = vec!["serve".to_owned()];
    // A file that was not named is found again.
    if let Some(file) = config.file.as_ref().filter(|file| !config.directories.config_files().contains(file)) {
        words.push(format!("--config={}", absolute(file)?));
    }
    words.extend(given.set.iter().map(|set| format!("--set={set}")));
    let as_given = [
        ("--listen", &given.listen),
        ("--backend", &given.backend),
        ("--log-level", &given.log_level),
        ("--log-format", &given.log_format),
    ];
    words.extend(as_given.iter().filter_map(|(flag, value)| value.as_ref().map(|value| format!("{flag}={value}"))));
    // Units run in the user's home, where `./templates` is another folder than here.
    if given.templates.is_some() || config.templates.dir == config.directories.working.join("templates") {
        words.push(format!("--templates={}", absolute(&config.templates.dir)?));
    }
    Ok(words)
}

/// Variables that count here, and that the unit does not have.
fn left_out(config: &Config) -> Vec<String> {
    let settings = config.values().into_iter().filter_map(|(_, _, origin)| match origin {
        Origin::Variable(name) => Some(name),
        _ => None,
    });
    let secrets = config.environment.names().filter(|name| name.starts_with("MCP_MANAGER_SECRET_")).map(str::to_owned);
    settings.chain(secrets).collect()
}

fn uninstall(output: &Output, installation: &Installation, arguments: &Removal) -> Outcome {
    let present = installation.present()?;
    if let Some(text) = &present {
        installation.check_ours(text, arguments.force)?;
    }
    let removed = present.is_some() && !arguments.dry_run;
    if removed {
        installation.remove()?;
    }
    if output.json {
        return output.document(&json!({
            "unit": UNIT, "file": installation.file, "dry_run": arguments.dry_run,
            "outcome": if present.is_some() { "removed" } else { "unchanged" },
        }));
    }
    let file = installation.file.display();
    output.text(&match (present, arguments.dry_run) {
        (None, _) => format!("{UNIT}: nothing to do, there is no {file}"),
        (Some(_), true) => format!("{UNIT} would be stopped and disabled, and {file} removed"),
        (Some(_), false) => format!("{UNIT}: stopped, disabled and removed; services that run go on"),
    })
}

impl Installation {
    /// The unit that is there.
    fn present(&self) -> Result<Option<String>> {
        match std::fs::read_to_string(&self.file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.fault("cannot be read", error)),
        }
    }

    /// A unit that others wrote or changed is theirs.
    fn check_ours(&self, text: &str, force: bool) -> Result<()> {
        let whose = match unit::whose(text) {
            Whose::Ours => return Ok(()),
            _ if force => return Ok(()),
            Whose::Edited => "was changed by hand",
            Whose::Foreign => "was not written by 'mcp-manager install'",
        };
        Err(Error::new(Kind::Conflict, format!("{} {whose}", self.file.display()))
            .remedy("keep your changes in a file of their own (systemctl --user edit mcp-manager), or say --force"))
    }

    /// Writes the unit, whole or not at all, if it is not there as it should be.
    fn put(&self, text: &str, force: bool) -> Result<Done> {
        let done = match self.present()? {
            Some(present) if present == text => return Ok(Done::Unchanged),
            Some(present) => {
                self.check_ours(&present, force)?;
                Done::Changed
            }
            None => Done::Installed,
        };
        // A unit is read by systemd and by whoever looks after it; a mode that somebody gave it stays.
        let permissions = std::fs::metadata(&self.file).map_or_else(|_| Permissions::from_mode(0o644), |of| of.permissions());
        whole_file::make_folder_of(&self.file)
            .and_then(|()| whole_file::write(&self.file, text.as_bytes(), Some(permissions)))
            .map_err(|error| self.fault("cannot be written", error))?;
        Ok(done)
    }

    /// Stops, disables and removes the unit, and the folders for units if nothing else is in them.
    fn remove(&self) -> Result<()> {
        if self.systemd.check().is_ok() {
            systemd::call(&["--quiet", "disable", "--now", UNIT])?;
        }
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        let wants = folder.join("default.target.wants");
        for file in [&wants.join(UNIT), &self.file] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(self.fault("cannot be removed", error)),
                _ => {}
            }
        }
        for empty in [&wants, folder, folder.parent().unwrap_or(folder)] {
            // Not empty: then it is somebody's.
            let _ = std::fs::remove_dir(empty);
        }
        if self.systemd.check().is_ok() {
            systemd::call(&["daemon-reload"])?;
        }
        Ok(())
    }

    fn fault(&self, what: &str, error: std::io::Error) -> Error {
        Error::new(Kind::Invalid, format!("{} {what}: {error}", self.file.display()))
            .remedy("make its folder writable for this user")
            .because(error)
    }
}

/// Enables and starts the unit, and waits until the manager listens. A unit that could not be started stays, so that
/// its reason can be looked up and the command repeated.
fn start(done: Done, config: &Config) -> Result<()> {
    let listen = config.server.listen;
    if !systemd::is_active(UNIT) && systemd::is_taken(listen) {
        let detail = format!("something else listens on {listen} already");
        return Err(Error::new(Kind::Conflict, detail).remedy("stop it, or choose another address with --listen"));
    }
    systemd::call(&["daemon-reload"])?;
    systemd::call(&["--quiet", "enable", UNIT])?;
    systemd::call(&[if done == Done::Unchanged { "start" } else { "restart" }, UNIT])?;
    systemd::wait(UNIT, listen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::machine::fake::Fake;

    /// A home without a systemd.
    fn installation(home: &Path) -> Installation {
        let machine = Fake::with(&[]).of_user(1000);
        let environment = Environment::from_iter([("HOME", home.to_str().unwrap())]);
        let directories = Directories::new(&environment, PathBuf::new(), home);
        Installation { file: file(&machine, &directories).unwrap(), systemd: Systemd::of(machine) }
    }

    #[test]
    fn a_unit_is_written_once_and_removed_without_a_trace() {
        let home = tempfile::tempdir().unwrap();
        let installation = installation(home.path());
        let text = unit::text("/x".as_ref(), &[]).unwrap();
        std::fs::create_dir(home.path().join(".config")).unwrap();
        assert_eq!(installation.put(&text, false).unwrap(), Done::Installed);
        assert_eq!(installation.put(&text, false).unwrap(), Done::Unchanged);
        let other = unit::text("/y".as_ref(), &[]).unwrap();
        assert_eq!(installation.put(&other, false).unwrap(), Done::Changed);
        assert_eq!(installation.present().unwrap().as_deref(), Some(other.as_str()));
        std::fs::set_permissions(&installation.file, Permissions::from_mode(0o600)).unwrap();
        installation.put(&text, false).unwrap();
        assert_eq!(
            std::fs::metadata(&installation.file).unwrap().permissions().mode() & 0o777,
            0o600,
            "a mode of one's own stays"
        );
        installation.remove().unwrap();
        assert_eq!(std::fs::read_dir(home.path().join(".config")).unwrap().count(), 0);
    }

    #[test]
    fn the_units_of_others_are_left_alone_unless_forced() {
        let home = tempfile::tempdir().unwrap();
        let installation = installation(home.path());
        let text = unit::text("/x".as_ref(), &[]).unwrap();
        std::fs::create_dir_all(installation.file.parent().unwrap()).unwrap();
        for theirs in ["[Service]\nExecStart=/z\n".to_owned(), text.replace("Restart=on-failure", "Restart=no")] {
            std::fs::write(&installation.file, &theirs).unwrap();
            assert_eq!(installation.put(&text, false).unwrap_err().kind, Kind::Conflict);
            assert_eq!(installation.present().unwrap().as_ref(), Some(&theirs));
            assert_eq!(installation.put(&text, true).unwrap(), Done::Changed);
        }
    }

    #[test]
    fn folders_with_other_units_stay() {
        let home = tempfile::tempdir().unwrap();
        let installation = installation(home.path());
        installation.put(&unit::text("/x".as_ref(), &[]).unwrap(), false).unwrap();
        let other = installation.file.with_file_name("other.service");
        std::fs::write(&other, "").unwrap();
        installation.remove().unwrap();
        assert!(other.exists() && !installation.file.exists());
    }

    #[test]
    fn root_is_refused() {
        let machine = Fake::with(&[]).of_user(0);
        assert_eq!(file(&machine, &Directories::default()).unwrap_err().kind, Kind::NotSupported);
    }
}

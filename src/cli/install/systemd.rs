//! The user's own systemd: whether there is one, and what is asked of it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::doctor::machine::Machine;
use crate::config::reachable;
use crate::error::{Error, Kind, Result};

/// Longest time until the manager listens; its first start may set up Podman's storage.
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(200);

/// The systemd of a machine's user.
#[derive(Debug)]
pub struct Systemd {
    machine: Machine,
}

impl Systemd {
    /// That of this machine's user.
    pub const fn of(machine: Machine) -> Self {
        Self { machine }
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.machine.user
    }

    /// Whether there is one to ask.
    pub fn check(&self) -> Result<()> {
        if !self.machine.has("/run/systemd/system") {
            let detail = "systemd does not run here, so there is nothing that could start the manager";
            return Err(Error::new(Kind::NotSupported, detail)
                .remedy("let whatever starts programs on this machine run 'mcp-manager serve' as this user"));
        }
        let socket = self.machine.runtime_dir.as_ref().map(|folder| folder.join("systemd/private"));
        if socket.is_some_and(|socket| self.machine.has(socket)) {
            return Ok(());
        }
        let (user, uid) = (self.user(), self.machine.uid);
        let detail = format!("systemd runs here, but no systemd of the user '{user}' can be asked");
        Err(Error::new(Kind::NotSupported, detail).remedy(format!(
            "log in as '{user}' rather than becoming it by su or sudo; or: sudo loginctl enable-linger {user}, then \
             export XDG_RUNTIME_DIR=/run/user/{uid}"
        )))
    }

    /// Whether the user's units start with the machine.
    pub fn lingers(&self) -> bool {
        self.machine.has(format!("/var/lib/systemd/linger/{}", self.user()))
    }
}

/// Calls `systemctl --user`.
pub fn call(words: &[&str]) -> Result<()> {
    let shown = || format!("systemctl --user {}", words.join(" "));
    let ended = command(words).output().map_err(|error| {
        Error::internal(format!("'{}' cannot be run: {error}", shown()), error).remedy("install systemd's programs")
    })?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let detail = format!("'{}' failed: {}", shown(), said.trim());
    Err(Error::new(Kind::StartFailed, detail).remedy("see what it says; the manager's own words: journalctl --user -n 30"))
}

/// Whether a unit runs.
pub fn is_active(unit: &str) -> bool {
    command(&["--quiet", "is-active", unit]).status().is_ok_and(|status| status.success())
}

/// Waits until the unit runs and somebody listens at its address.
pub fn wait(unit: &str, address: SocketAddr) -> Result<()> {
    let began = Instant::now();
    let mut listens = false;
    while began.elapsed() < PATIENCE {
        if command(&["--quiet", "is-failed", unit]).status().is_ok_and(|status| status.success()) {
            break;
        }
        // Port 0 is any port, so nobody knows where to look.
        listens = address.port() == 0 || TcpStream::connect_timeout(&reachable(address), PAUSE).is_ok();
        if listens && is_active(unit) {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    let detail = if listens { "the manager does not stay up" } else { "the manager does not listen" };
    Err(Error::new(Kind::StartFailed, detail).remedy(format!("see why: journalctl --user --unit {unit} -n 30")))
}

/// Whether somebody has the address.
pub fn is_taken(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new("systemctl");
    command.arg("--user").args(words).stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::machine::fake::Fake;

    #[test]
    fn a_machine_without_systemd_and_a_user_without_one_are_told_apart() {
        let nobody = Systemd::of(Fake::with(&[]).of_user(1000));
        assert!(nobody.check().unwrap_err().detail.contains("does not run here"));
        let fake = Fake::with(&[("/run/systemd/system/x", "")]);
        let another = Systemd::of(fake.of_user(1000));
        assert!(another.check().unwrap_err().remedy.unwrap().contains("enable-linger"));
    }
}

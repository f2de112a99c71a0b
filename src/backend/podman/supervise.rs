//! The engine's own process: `podman system service`, started when nothing answers, started again when it dies.
//!
//! It serves the API only: containers have parents of their own and go on without it. The user's own engine that answers
//! when the manager starts is used as long as it can be reached, is never ended, and has one started in its place when
//! nobody listens there any more.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::client::Engine;
use super::settings::Settings;
use super::turns;
use crate::error::{Error, Kind, Result};
use crate::memory;
use crate::telemetry::Metrics;

/// How long a started engine may take to answer.
const START: Duration = Duration::from_secs(15);
/// How long it may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(5);
/// How long one that cannot be reached any more may take.
const LET_GO: Duration = Duration::from_secs(1);
/// How long the manager's own connections may take to close.
const CLOSE: Duration = Duration::from_millis(300);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const SOCKET: &str = "podman.sock";
const LOG: &str = "podman-service.log";

/// Where the engine is, and whether it is ours to run.
#[derive(Debug)]
pub(super) enum Place {
    /// Somebody else runs it, and nobody else may.
    Theirs(PathBuf),
    /// The manager sees to it that one runs there.
    Supervised(Box<Supervisor>),
}

impl Place {
    /// The first engine that answers, or else the place for one of our own.
    pub(super) async fn find(settings: &Settings) -> Self {
        if let Some(socket) = &settings.socket {
            return Self::Theirs(socket.clone());
        }
        let supervisor = |socket: PathBuf, found: bool| {
            let (binary, arguments) = (settings.binary.clone(), settings.arguments.clone());
            let folder = settings.runtime_dir.clone();
            Self::Supervised(Box::new(Supervisor { binary, arguments, folder, socket, found, child: None }))
        };
        for socket in &settings.known_sockets {
            if Engine::new(socket).ping().await.is_ok() {
                let is_mine = std::fs::metadata(socket).is_ok_and(|file| file.uid() == rustix::process::getuid().as_raw());
                return if is_mine { supervisor(socket.clone(), true) } else { Self::Theirs(socket.clone()) };
            }
        }
        supervisor(settings.runtime_dir.join(SOCKET), false)
    }

    pub(super) fn socket(&self) -> PathBuf {
        match self {
            Self::Theirs(socket) => socket.clone(),
            Self::Supervised(supervisor) => supervisor.socket.clone(),
        }
    }
}

/// Runs the engine's process.
#[derive(Debug)]
pub(super) struct Supervisor {
    binary: PathBuf,
    arguments: Vec<String>,
    /// Where its log is; its socket too, unless that was found.
    folder: PathBuf,
    socket: PathBuf,
    /// An engine of somebody else answered there when the manager started, which is theirs to end.
    found: bool,
    /// The process, when this manager started it; an earlier one may have left one running.
    child: Option<Child>,
}

impl Supervisor {
    /// Makes sure that an engine answers: one that an earlier manager left, or a new one.
    pub(super) async fn ensure(&mut self) -> Result<()> {
        let engine = Engine::new(&self.socket);
        if engine.ping().await.is_ok() {
            return Ok(());
        }
        if self.found && UnixStream::connect(&self.socket).await.is_ok() {
            // Such as systemd, whose engine may be on its way up.
            return Err(self.cannot_start("somebody listens on its socket and does not answer"));
        }
        self.start().map_err(|error| self.cannot_start(&error.to_string()))?;
        let deadline = Instant::now() + START;
        loop {
            if engine.ping().await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                self.child = None;
                let said = self.last_line().await;
                return Err(self.cannot_start(&format!("it ended with {status}: {said}")));
            }
            if Instant::now() > deadline {
                self.stop().await;
                return Err(self.cannot_start("it does not answer"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn cannot_start(&self, reason: &str) -> Error {
        let detail = format!("the container engine ({}) cannot be started: {reason}", self.binary.display());
        Error::new(Kind::BackendUnavailable, detail).remedy("install Podman, or see what `mcp-manager doctor` says")
    }

    fn start(&mut self) -> std::io::Result<()> {
        for folder in [Some(self.folder.as_path()), self.socket.parent()].into_iter().flatten() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        std::fs::set_permissions(&self.folder, std::fs::Permissions::from_mode(0o700))?;
        // A socket file that nobody serves would keep the engine from making its own.
        match std::fs::remove_file(&self.socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A file rather than a pipe: the engine must not lose its standard error with the manager.
        let log = std::fs::File::create(self.folder.join(LOG))?;
        let mut command = Command::new(&self.binary);
        memory::keep_from(command.as_std_mut());
        let child = command
            .args(&self.arguments)
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", self.socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // The manager's own directory may go away before the engine does.
            .current_dir("/")
            // Signals of the manager's terminal are not for it.
            .process_group(0)
            .spawn()?;
        tracing::info!(binary = %self.binary.display(), pid = child.id(), socket = %self.socket.display(), "started the container engine");
        self.child = Some(child);
        Ok(())
    }

    async fn last_line(&self) -> String {
        let log = tokio::fs::read_to_string(self.folder.join(LOG)).await.unwrap_or_default();
        log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
    }

    /// Keeps an engine running until `cancelled`, and stops it then.
    pub(super) async fn run(&mut self, metrics: &Metrics, cancelled: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let gone = tokio::select! {
                () = cancelled.cancelled() => break,
                reason = self.attend() => reason,
            };
            tracing::warn!(reason = gone, "the container engine is gone; it is started again");
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = cancelled.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.ensure().await {
                Ok(()) => metrics.engine_restarts.inc(),
                Err(error) => tracing::error!(%error, "the container engine could not be started again"),
            }
        }
        self.stop().await;
    }

    /// Returns when the engine does not answer any more; says why. One that runs on without its socket, which somebody
    /// removed, is of no use to anybody, and is ended.
    async fn attend(&mut self) -> String {
        let engine = Engine::new(&self.socket);
        let server = self.server().await;
        let reason = tokio::select! {
            reason = self.ended(&engine) => return reason,
            reason = engine.unreachable() => reason,
        };
        let pid = self.child.as_ref().and_then(Child::id).and_then(|pid| i32::try_from(pid).ok()).or(server);
        if let Some(pid) = pid {
            tracing::warn!(pid, %reason, "the container engine cannot be reached though it runs; it is ended");
            self.end(pid, LET_GO).await;
        }
        reason.to_string()
    }

    /// Returns when the engine's process has ended; says how.
    async fn ended(&mut self, engine: &Engine) -> String {
        match &mut self.child {
            Some(child) => {
                let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
                self.child = None;
                // What was started may have been a front for the process that really serves.
                if engine.ping().await.is_ok() {
                    return hung_up(engine.socket()).await;
                }
                status
            }
            // It may end whenever nothing is asked of it, if somebody else, such as systemd, listens and starts it again.
            None if self.found => engine.unreachable().await.to_string(),
            None => hung_up(engine.socket()).await,
        }
    }

    /// The engine's process that this manager has not started, when it may be ended: an earlier manager started it.
    async fn server(&self) -> Option<i32> {
        if self.found { None } else { server_of(&self.socket).await }
    }

    /// Asks the engine to end, also one that an earlier manager left here, and makes it end. While another manager uses
    /// it, it stays: the last one takes it down.
    async fn stop(&mut self) {
        let deadline = Instant::now() + CLOSE;
        while connections(&self.socket) > 0 {
            if Instant::now() > deadline {
                tracing::info!("the container engine stays: another manager uses it");
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let server = self.server().await;
        let Some(pid) = self.child.as_ref().and_then(Child::id).and_then(|pid| i32::try_from(pid).ok()).or(server) else {
            return;
        };
        self.end(pid, STOP).await;
        // Nothing here is of use to anybody any more.
        for file in [&self.socket, &self.folder.join(LOG)] {
            let _ = std::fs::remove_file(file);
        }
        turns::remove_files(&self.folder);
        let _ = std::fs::remove_dir(&self.folder);
    }

    /// Ends the engine's process, by force when it takes longer than `grace`.
    async fn end(&mut self, pid: i32, grace: Duration) {
        signal(pid, Signal::TERM);
        let deadline = Instant::now() + grace;
        loop {
            let ended = match &mut self.child {
                Some(child) => child.try_wait().map_or(true, |status| status.is_some()),
                None => !Path::new(&format!("/proc/{pid}")).exists(),
            };
            if ended {
                break;
            }
            if Instant::now() > deadline {
                signal(pid, Signal::KILL);
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.child = None;
    }
}

/// Returns when whoever serves the socket closes a connection, which its end does.
async fn hung_up(socket: &Path) -> String {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return "nothing listens on its socket".to_owned() };
    let mut byte = [0_u8; 1];
    let _ = stream.read(&mut byte).await;
    if Engine::new(socket).ping().await.is_ok() { "it closed the connection".to_owned() } else { "it ended".to_owned() }
}

/// How many connections to the socket are open, as the kernel's table of sockets says.
fn connections(socket: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    established(&table, &socket.display().to_string())
}

/// Counts the established connections of one path: state 03, in the sixth column.
fn established(table: &str, path: &str) -> usize {
    let connected = |line: &&str| {
        let mut columns = line.split_whitespace();
        columns.nth(5) == Some("03") && columns.nth(1) == Some(path)
    };
    table.lines().filter(connected).count()
}

/// The process that serves a socket, when it is a process of the same user.
async fn server_of(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let peer = stream.peer_cred().ok()?;
    peer.pid().filter(|pid| *pid > 0 && peer.uid() == rustix::process::getuid().as_raw())
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself in the meantime.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn open_connections_are_counted_and_listening_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(connections(&socket), 0);
        let client = UnixStream::connect(&socket).await.unwrap();
        let (served, _) = listener.accept().await.unwrap();
        assert_eq!(connections(&socket), 1);
        drop((client, served));
        // A process that another test is starting holds what this one holds until it becomes its program.
        let closed = async {
            while connections(&socket) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap();
    }

    #[tokio::test]
    async fn an_engine_that_cannot_be_started_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = |binary: &str, arguments: &[&str]| Supervisor {
            binary: binary.into(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            folder: folder.path().join("run"),
            socket: folder.path().join("run").join(SOCKET),
            found: false,
            child: None,
        };
        let error = supervisor("/nowhere/podman", &[]).ensure().await.unwrap_err();
        assert_eq!(error.kind, Kind::BackendUnavailable);
        assert!(error.detail.contains("/nowhere/podman") && error.remedy.is_some(), "{error}");
        let error = supervisor("sh", &["-c", "echo no id maps >&2; exit 3"]).ensure().await.unwrap_err();
        assert!(error.detail.contains("exit status: 3: no id maps"), "{error}");
        let mode = std::fs::metadata(folder.path().join("run")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "nobody else reaches the socket");
    }
}

//! Rootless Podman beside the product, through its own command: images for tests, and what is left in the engine.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard, OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::machine::{Part, offered};
use super::product::Options;

/// Image of the echo server, as the echo template names it.
pub const ECHO_IMAGE: &str = "localhost/mcp/echo:latest";

/// Whom a test shares the engine with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// With any test that shares it, too.
    All,
    /// With those that write no secrets: every product here has an engine of its own over one store of secrets, which
    /// forgets what two engines write at the same moment. An installation has one engine.
    Secrets,
    /// With nobody, for tests that count what is in it.
    Nobody,
}

/// The right to use the engine.
#[expect(dead_code, reason = "held, not read")]
pub enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Secrets(RwLockReadGuard<'static, ()>, MutexGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// Waits for a turn.
pub async fn turn(sharing: Sharing) -> Turn {
    static ENGINE: RwLock<()> = RwLock::const_new(());
    static SECRETS: Mutex<()> = Mutex::const_new(());
    match sharing {
        Sharing::All => Turn::Shared(ENGINE.read().await),
        Sharing::Secrets => {
            // In this order: nobody who has a turn waits for another.
            let secrets = SECRETS.lock().await;
            Turn::Secrets(ENGINE.read().await, secrets)
        }
        Sharing::Nobody => Turn::Alone(ENGINE.write().await),
    }
}

/// A name that nothing else on this machine has.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// True when rootless Podman is there, with the echo image in it; reports that the test is left out otherwise.
pub async fn ready() -> bool {
    static IMAGE: OnceCell<()> = OnceCell::const_new();
    if offered(Part::Podman).is_none() {
        return false;
    }
    IMAGE.get_or_init(build_echo).await;
    true
}

/// Builds the echo image from the program under test, with no registry, and starts the container that stays.
async fn build_echo() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_mcp-echo"), folder.path().join("mcp-echo")).unwrap();
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/echo/Dockerfile");
    let present = async || podman(&["images", "--quiet", "--no-trunc", ECHO_IMAGE]).await;
    let before = present().await;
    podman(&["build", "--quiet", "--tag", ECHO_IMAGE, "--file", recipe, &folder.path().display().to_string()]).await;
    if !before.is_empty() && before != present().await {
        // Nobody needs the one that has lost its name, unless another run uses it just now.
        let _ = Command::new("podman").args(["rmi", &before]).output().await;
    }
    tokio::task::spawn_blocking(super::company::keep).await.unwrap();
}

/// Output of a Podman command that has to succeed.
pub async fn podman(arguments: &[&str]) -> String {
    loop {
        let output = Command::new("podman").args(arguments).output().await.unwrap();
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).trim().to_owned();
        }
        let said = String::from_utf8_lossy(&output.stderr);
        // What another test removes while Podman lists it makes the whole list fail.
        let lists = [(&["volume", "ls"][..], "no such volume"), (&["images"][..], "image not known")];
        let is_gone = lists.iter().any(|(list, gone)| arguments.starts_with(list) && said.contains(gone));
        assert!(is_gone, "podman {}: {said}", arguments.join(" "));
    }
}

/// Everything in the engine that an instance owns: containers, volumes, secrets.
pub async fn owned_by(instance: &str) -> Vec<String> {
    let filter = format!("label=io.mcp-manager.owner={instance}");
    let containers = podman(&["ps", "--all", "--filter", &filter, "--format", "container {{.Names}}"]).await;
    let volumes = podman(&["volume", "ls", "--filter", &filter, "--format", "volume {{.Name}}"]).await;
    let secrets = podman(&["secret", "ls", "--format", "secret {{.Name}}"]).await;
    let secrets = secrets.lines().filter(|line| line.starts_with(&format!("secret {instance}.")));
    containers.lines().chain(volumes.lines()).chain(secrets).map(str::to_owned).collect()
}

/// Asks the engines of this user to end that have this text in their command line.
pub fn end_engines(text: &str) {
    for engine in super::processes(text, "system service") {
        let pid = rustix::process::Pid::from_raw(engine);
        // It may have ended meanwhile.
        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
    }
}

/// Removes what an instance left in the engine, and the engine it started, so that a failed test disturbs no other.
pub struct Sweep {
    instance: Option<String>,
}

impl Sweep {
    pub fn instance(name: String) -> Self {
        Self { instance: Some(name) }
    }

    pub fn of(options: &Options) -> Self {
        Self { instance: (options.backend == "podman").then(|| options.instance.clone()) }
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        let Some(instance) = &self.instance else { return };
        let filter = format!("label=io.mcp-manager.owner={instance}");
        let lines = |arguments: &[&str]| {
            let output = std::process::Command::new("podman").args(arguments).output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let list = |arguments: &[&str]| lines(&[arguments, &["--quiet", "--filter", &filter]].concat());
        let remove = |arguments: &[&str], names: Vec<String>| {
            if !names.is_empty() {
                // What is gone already is what is wanted.
                let _ = std::process::Command::new("podman").args(arguments).args(names).output();
            }
        };
        remove(&["rm", "--force", "--time", "0"], list(&["ps", "--all"]));
        remove(&["volume", "rm", "--force"], list(&["volume", "ls"]));
        let secrets = lines(&["secret", "ls", "--format", "{{.Name}}"]);
        remove(&["secret", "rm"], secrets.into_iter().filter(|name| name.starts_with(&format!("{instance}."))).collect());
        end_engines(&format!("/{instance}/"));
    }
}

//! Checks of Podman: is it there and new enough, what it says of runtime, network and storage, does its API answer.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::Finding;
use super::kernel::{Cgroups, cgroups};
use super::machine::Machine;
use crate::config::Config;

/// Longest time that Podman may take to describe itself; its first start sets up storage.
const PATIENCE: Duration = Duration::from_secs(30);

/// Oldest version that is known to work.
const OLDEST: (u32, u32) = (4, 3);

/// All checks of this file.
pub async fn check(machine: &Machine, config: &Config) -> Vec<Finding> {
    let program = &config.backend.podman;
    let remote = config.backend.socket.is_some();
    let mut findings = Vec::new();
    match info(program, &config.backend.podman_arguments()).await {
        Ok(info) => findings.extend(judge(machine, &info)),
        // Somebody else runs the engine; this machine need not have the program.
        Err(_) if remote => {}
        Err(error) => findings.push(error),
    }
    findings.push(api(config).await);
    findings
}

/// What `podman info` says.
async fn info(program: &Path, arguments: &[String]) -> Result<Value, Finding> {
    const CHECK: &str = "podman";
    let output =
        Command::new(program).args(arguments).args(["info", "--format", "json"]).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match tokio::time::timeout(PATIENCE, output).await {
        Err(_) => {
            let message = format!("'podman info' gave no answer in {} s", PATIENCE.as_secs());
            return Err(Finding::fail(CHECK, message, "see what holds it up: podman --log-level debug info"));
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("{} is not installed, so there is nothing to run containers with", program.display());
            return Err(Finding::fail(CHECK, message, "sudo apt-get install podman uidmap slirp4netns netavark aardvark-dns"));
        }
        Ok(Err(error)) => {
            let message = format!("{} cannot be run: {error}", program.display());
            return Err(Finding::fail(CHECK, message, "correct the setting backend.podman, or the program's permissions"));
        }
        Ok(Ok(output)) => output,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        return Err(Finding::fail(CHECK, format!("'podman info' fails: {last}"), "correct what it says; try: podman info"));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        Finding::fail(CHECK, format!("'podman info' gave no usable answer: {error}"), "install Podman 4.3 or newer")
    })
}

/// What Podman's description of itself means.
fn judge(machine: &Machine, info: &Value) -> Vec<Finding> {
    let mut findings = vec![version(info), runtime(machine, info), network(machine, info)];
    findings.extend(outside(machine, info));
    findings.push(storage(machine, info));
    findings.extend(space(info));
    findings
}

fn text<'a>(info: &'a Value, pointer: &str) -> &'a str {
    info.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn version(info: &Value) -> Finding {
    const CHECK: &str = "podman";
    let version = text(info, "/version/Version");
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        let message = format!("version {version} is older than {}.{}", OLDEST.0, OLDEST.1);
        return Finding::fail(CHECK, message, "install a newer Podman, e.g. the one of Debian 12 or newer");
    }
    let rootless = info.pointer("/host/security/rootless").and_then(Value::as_bool).unwrap_or_default();
    Finding::ok(CHECK, format!("version {version}, {}", if rootless { "rootless" } else { "with root rights" }))
}

fn runtime(machine: &Machine, info: &Value) -> Finding {
    const CHECK: &str = "runtime";
    let (name, path) = (text(info, "/host/ociRuntime/name"), text(info, "/host/ociRuntime/path"));
    if name.is_empty() || (!path.is_empty() && !machine.has(path)) {
        return Finding::fail(CHECK, "none is installed, so no container can start", "sudo apt-get install crun");
    }
    if name == "crun" && cgroups(machine) == Cgroups::Hybrid {
        let message = "crun does not start containers where both versions of control groups are mounted";
        let remedy = "use runc:\nsudo apt-get install runc\n\
                      mkdir -p ~/.config/containers\n\
                      printf '[engine]\\nruntime = \"runc\"\\ncgroup_manager = \"cgroupfs\"\\n' >> ~/.config/containers/containers.conf";
        return Finding::fail(CHECK, message, remedy);
    }
    Finding::ok(CHECK, format!("{name}, control groups by {}", text(info, "/host/cgroupManager")))
}

fn network(machine: &Machine, info: &Value) -> Finding {
    const CHECK: &str = "networks";
    let backend = text(info, "/host/networkBackend");
    if backend != "netavark" {
        let message =
            format!("Podman uses {}: services may not find each other by name", if backend.is_empty() { "cni" } else { backend });
        let remedy = "sudo apt-get install netavark aardvark-dns\nset network_backend = \"netavark\" in the [network] section of containers.conf, then: podman system reset";
        return Finding::warn(CHECK, message, remedy);
    }
    if machine.program("netavark").is_none() {
        return Finding::fail(CHECK, "netavark is not installed, so services get no network", "sudo apt-get install netavark");
    }
    if machine.program("aardvark-dns").is_none() {
        let message = "aardvark-dns is not installed, so services cannot find each other by name";
        return Finding::warn(CHECK, message, "sudo apt-get install aardvark-dns");
    }
    Finding::ok(CHECK, "netavark with aardvark-dns")
}

/// How rootless networks reach the outside; Podman with root rights needs nothing for it.
fn outside(machine: &Machine, info: &Value) -> Option<Finding> {
    const CHECK: &str = "rootless network";
    if machine.uid == 0 {
        return None;
    }
    let has = |name: &str| machine.program(name).is_some();
    // Podman 5 takes pasta by default, before that slirp4netns.
    let wanted = match text(info, "/host/rootlessNetworkCmd") {
        "" if text(info, "/version/Version").starts_with(['3', '4']) => "slirp4netns",
        "" => "pasta",
        named => named,
    };
    let package = if wanted == "pasta" { "passt" } else { "slirp4netns" };
    Some(if has(wanted) {
        Finding::ok(CHECK, wanted)
    } else {
        let message = format!("{wanted} is not installed, so networks of services cannot be made");
        Finding::fail(CHECK, message, format!("sudo apt-get install {package}"))
    })
}

fn storage(machine: &Machine, info: &Value) -> Finding {
    const CHECK: &str = "storage";
    let driver = text(info, "/store/graphDriverName");
    let overlay = "mkdir -p ~/.config/containers\n\
                   printf '[storage]\\ndriver = \"overlay\"\\n' > ~/.config/containers/storage.conf\n\
                   podman system reset   # removes all images and containers of this user";
    match driver {
        "overlay" => {}
        "vfs" => {
            let message = "driver vfs: every container copies its whole image, which is slow and fills the disk";
            return Finding::warn(CHECK, message, overlay);
        }
        other => return Finding::ok(CHECK, format!("driver {other}")),
    }
    let helper = info.pointer("/store/graphOptions/overlay.mount_program/Executable").and_then(Value::as_str);
    match helper {
        None => Finding::ok(CHECK, "driver overlay, by the kernel itself"),
        Some(helper) if !machine.has("/dev/fuse") => {
            let message = format!("driver overlay by {helper}, but /dev/fuse does not exist");
            Finding::fail(CHECK, message, "sudo modprobe fuse\nin a container: start it with --device /dev/fuse")
        }
        Some(helper) => Finding::ok(CHECK, format!("driver overlay, by {helper}")),
    }
}

/// Room for images.
fn space(info: &Value) -> Option<Finding> {
    const CHECK: &str = "disk space";
    let root = text(info, "/store/graphRoot");
    let state = rustix::fs::statvfs(root).ok()?;
    let free = state.f_bavail.saturating_mul(state.f_frsize) >> 20;
    let message = format!("{:.1} GiB free in {root}", f64::from(u32::try_from(free).unwrap_or(u32::MAX)) / 1024.0);
    Some(if free < 2048 {
        Finding::warn(CHECK, format!("{message}; pulling images may fail"), "make room, e.g.: podman image prune")
    } else {
        Finding::ok(CHECK, message)
    })
}

/// Whether a Podman service answers, and whether it has to.
async fn api(config: &Config) -> Finding {
    const CHECK: &str = "podman api";
    let named = config.backend.socket.clone();
    let sockets: Vec<PathBuf> = named.clone().map_or_else(|| config.directories.podman_sockets(), |socket| vec![socket]);
    for socket in &sockets {
        if let Some(version) = ping(socket).await {
            return Finding::ok(CHECK, format!("version {version} answers at {}", socket.display()));
        }
    }
    match named {
        Some(socket) => {
            let message = format!("nothing answers at {}, where backend.socket says there is a Podman service", socket.display());
            let remedy = format!(
                "start it: podman system service --time 0 unix://{}\nor leave backend.socket unset, so that the manager starts one",
                socket.display()
            );
            Finding::fail(CHECK, message, remedy)
        }
        None => Finding::ok(CHECK, "no service runs; the manager starts one by itself"),
    }
}

/// The API version of the service at `socket`, if one answers.
async fn ping(socket: &Path) -> Option<String> {
    let answer = async {
        let mut stream = UnixStream::connect(socket).await.ok()?;
        stream.write_all(b"GET /libpod/_ping HTTP/1.0\r\nHost: d\r\n\r\n").await.ok()?;
        let mut head = Vec::new();
        stream.take(4096).read_to_end(&mut head).await.ok()?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let version =
            head.lines().find_map(|line| line.strip_prefix("Libpod-Api-Version:").map(|version| version.trim().to_owned()));
        head.contains(" 200 ").then(|| version.unwrap_or_else(|| "unknown".to_owned()))
    };
    tokio::time::timeout(Duration::from_secs(5), answer).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fake::Fake;
    use super::*;
    use serde_json::json;

    fn machine(more: &[(&str, &str)]) -> Fake {
        let programs = [
            ("/usr/bin/runc", ""),
            ("/usr/lib/podman/netavark", ""),
            ("/usr/lib/podman/aardvark-dns", ""),
            ("/usr/bin/slirp4netns", ""),
        ];
        Fake::with(&[&programs[..], more].concat())
    }

    fn described(version: &str, runtime: &str, driver: &str) -> Value {
        json!({
            "host": {"ociRuntime": {"name": runtime, "path": "/usr/bin/runc"}, "cgroupManager": "cgroupfs",
                "networkBackend": "netavark", "security": {"rootless": true}},
            "store": {"graphDriverName": driver, "graphRoot": "/", "graphOptions": {}},
            "version": {"Version": version}
        })
    }

    fn states(machine: &Fake, info: &Value) -> Vec<(&'static str, State)> {
        judge(&machine.machine, info).into_iter().filter(|f| f.check != "disk space").map(|f| (f.check, f.state)).collect()
    }

    #[test]
    fn a_usual_podman_is_fine() {
        let found = states(&machine(&[]), &described("4.3.1", "runc", "overlay"));
        assert!(found.iter().all(|(_, state)| *state == State::Ok), "{found:?}");
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn an_old_podman_a_wrong_runtime_and_slow_storage_are_told() {
        let hybrid = machine(&[("/sys/fs/cgroup/unified/cgroup.controllers", "")]);
        let found = states(&hybrid, &described("3.4.4", "crun", "vfs"));
        for expected in [("podman", State::Fail), ("runtime", State::Fail), ("storage", State::Warn)] {
            assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
        }
    }

    #[test]
    fn missing_helpers_of_networks_are_told() {
        let bare = Fake::with(&[("/usr/bin/runc", "")]);
        let found = states(&bare, &described("5.4.2", "runc", "overlay"));
        assert!(found.contains(&("networks", State::Fail)) && found.contains(&("rootless network", State::Fail)), "{found:?}");
    }

    #[test]
    fn an_empty_description_makes_failures_and_no_panic() {
        assert!(judge(&machine(&[]).machine, &Value::Null).iter().any(|finding| finding.state == State::Fail));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_with_the_package() {
        let finding = info(Path::new("/nonexistent/podman"), &[]).await.unwrap_err();
        assert!(finding.remedy.unwrap().contains("apt-get install podman"));
    }
}

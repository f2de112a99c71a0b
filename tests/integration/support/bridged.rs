//! A running `mcp-bridge` with a stdio server behind it: on this machine, or as the first process of a rootless
//! container. Ends with the test.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::podman::podman;
use super::{eventually, http_client};

/// How long a bridge may take to come up with its server.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than a bridge without work waits until it gives memory back.
const REST: Duration = Duration::from_secs(3);

const BRIDGE: &str = env!("CARGO_BIN_EXE_mcp-bridge");

/// A running one.
pub struct Bridged {
    /// `http://127.0.0.1:PORT/mcp`
    pub url: String,
    process: Option<Child>,
    container: Option<String>,
}

/// `examples/conformance-server`, which cargo builds beside the tests.
pub fn conformance_server() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let server = tests.ancestors().nth(2).unwrap().join("examples/conformance-server");
    assert!(server.exists(), "{} is not built: cargo build --example conformance-server", server.display());
    server
}

impl Bridged {
    /// On this machine, before a command.
    pub async fn on_host(command: &Path) -> Self {
        Self::before(&[], &[command.to_str().unwrap()]).await
    }

    /// On this machine, with these flags of its own, before a command.
    pub async fn before(flags: &[&str], command: &[&str]) -> Self {
        let mut process = Command::new(BRIDGE)
            .args(["--listen", "127.0.0.1:0"])
            .args(flags)
            .arg("--")
            .args(command)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let address = line.split_once("address=").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned());
                if let Some(address) = address.filter(|_| line.contains("is listening")) {
                    return Some(address);
                }
            }
            None
        };
        let address = timeout(PATIENCE, listening).await.expect("it listens").expect("it does not end before it listens");
        // A log that nobody reads would stop it once the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let bridged = Self { url: format!("http://{address}/mcp"), process: Some(process), container: None };
        bridged.until_healthy().await;
        bridged
    }

    /// As the first process of a locked-down container of this image, before the image's own entrypoint and command.
    pub async fn in_container(image: &str, options: &[&str]) -> Self {
        let own = podman(&["image", "inspect", "--format", "[{{json .Config.Entrypoint}},{{json .Config.Cmd}}]", image]).await;
        let own: [Option<Vec<String>>; 2] = serde_json::from_str(&own).unwrap();
        let mount = format!("type=bind,source={BRIDGE},target=/.mcp-bridge,ro=true");
        let mut arguments = vec!["run", "--detach", "--rm", "--publish", "127.0.0.1::8080", "--mount", &mount];
        arguments.extend([
            "--cap-drop",
            "all",
            "--security-opt",
            "no-new-privileges",
            "--read-only",
            "--entrypoint",
            "/.mcp-bridge",
        ]);
        arguments.extend(options);
        arguments.extend([image, "--listen", "0.0.0.0:8080", "--"]);
        arguments.extend(own.iter().flatten().flatten().map(String::as_str));
        let container = podman(&arguments).await;
        let port = podman(&["port", &container, "8080/tcp"]).await;
        let bridged = Self { url: format!("http://{port}/mcp"), process: None, container: Some(container) };
        bridged.until_healthy().await;
        bridged
    }

    /// Resident memory of a bridge on this machine at rest, in bytes: what a load has left free in the heap goes back only
    /// when nothing has happened for a while.
    pub async fn memory_at_rest(&self) -> u64 {
        let (mut reading, mut since) = (self.memory(), Instant::now());
        eventually("its memory does not change any more", async || {
            let now = self.memory();
            if now != reading {
                (reading, since) = (now, Instant::now());
            }
            since.elapsed() > REST
        })
        .await;
        reading
    }

    /// Resident memory of a bridge on this machine now, in bytes.
    pub fn memory(&self) -> u64 {
        let pid = self.process.as_ref().and_then(Child::id).expect("it runs on this machine");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// Process ids of what a bridge on this machine has started.
    pub fn servers(&self) -> Vec<i32> {
        let pid = self.process.as_ref().and_then(Child::id).expect("it runs on this machine");
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let children = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default());
        children.flat_map(|pids| pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
    }

    /// A figure of its metrics.
    pub async fn figure(&self, name: &str) -> u64 {
        let client = http_client().build().unwrap();
        let text = client.get(self.url.replace("/mcp", "/metrics")).send().await.unwrap().text().await.unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap().parse().unwrap()
    }

    async fn until_healthy(&self) {
        let client = http_client().build().unwrap();
        let health = self.url.replace("/mcp", "/health");
        let healthy = async {
            while !client.get(&health).send().await.is_ok_and(|answer| answer.status() == 200) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let came = timeout(PATIENCE, healthy).await;
        assert!(came.is_ok(), "never healthy: {}", self.log().await);
    }

    /// What a bridge in a container said so far.
    pub async fn log(&self) -> String {
        let Some(container) = &self.container else { return "it runs on this machine".to_owned() };
        let output = Command::new("podman").args(["logs", container]).output().await.unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Ends it and waits for its end.
    pub async fn finish(mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = i32::try_from(process.id().unwrap()).unwrap();
            super::product::signal(pid, rustix::process::Signal::TERM);
            let status = timeout(PATIENCE, process.wait()).await.expect("it ends").unwrap();
            assert!(status.success(), "{status}");
        }
    }
}

impl Drop for Bridged {
    fn drop(&mut self) {
        if let Some(container) = &self.container {
            // What is gone already is what is wanted.
            let _ = std::process::Command::new("podman").args(["rm", "--force", "--volumes", "--time", "5", container]).output();
        }
    }
}

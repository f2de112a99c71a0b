//! What happens when the engine's disk is full, on rootless Podman.

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::eventually;
use crate::support::machine::{Part, offered};
use crate::support::podman::{self, ECHO_IMAGE, podman as run};
use crate::support::product::{Options, Product};

const MEBIBYTE: u64 = 1 << 20;

/// An engine of its own whose storage is a small file system in memory.
struct SmallEngine {
    folder: tempfile::TempDir,
    process: Child,
}

impl SmallEngine {
    async fn start(bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        let command = format!(
            "mkdir {root}/small && mount -t tmpfs -o size={bytes} tmpfs {root}/small && exec podman --root {root}/small/root \
             --runroot {root}/run --tmpdir {root}/tmp system service --time=0 unix://{root}/podman.sock"
        );
        let process =
            Command::new("podman").args(["unshare", "sh", "-c", &command]).kill_on_drop(true).process_group(0).spawn().unwrap();
        let engine = Self { folder, process };
        eventually("the engine listens", async || tokio::net::UnixStream::connect(engine.socket()).await.is_ok()).await;
        engine
    }

    fn socket(&self) -> String {
        self.folder.path().join("podman.sock").display().to_string()
    }

    async fn podman(&self, arguments: &[&str]) -> String {
        run(&[&["--url", &format!("unix://{}", self.socket())], arguments].concat()).await
    }

    /// Bytes that are free on its disk.
    async fn free(&self) -> u64 {
        self.shell("df --block-size=1 --output=avail . | tail -n 1").await.trim().parse().unwrap()
    }

    /// Fills its disk but for so many bytes.
    async fn fill(&self, but: u64) {
        self.shell("rm -f filling").await;
        let filling = self.free().await.saturating_sub(but);
        // Where the disk turns out to be full before, it is full.
        self.shell(&format!("head -c {filling} /dev/zero >filling || true")).await;
    }

    /// Runs a command on its disk, which only processes of the engine's user namespace see.
    async fn shell(&self, command: &str) -> String {
        let place = self.folder.path().join("small");
        let command = format!("cd {} && mountpoint -q . && {{ {command}; }}", place.display());
        run(&["unshare", "sh", "-c", &command]).await
    }

    async fn end(mut self) {
        podman::end_engines(&self.socket());
        self.process.wait().await.unwrap();
    }
}

impl Drop for SmallEngine {
    fn drop(&mut self) {
        podman::end_engines(&self.socket());
    }
}

/// Asks for a service, which must fail for want of space and leave nothing.
async fn refused(engine: &SmallEngine, product: &Product, template: &str) -> Option<Value> {
    let (status, problem) = product.post("/containers", &json!({"service_name": "full", "template": template})).await;
    if status == 201 {
        return None;
    }
    assert_eq!((status, problem["type"].as_str()), (507, Some("urn:mcp-manager:problem:no-space")), "{problem:#}");
    assert!(problem["remedy"].is_string(), "{problem:#}");
    assert_eq!(product.get("/containers").await.1["total"], 0);
    assert_eq!(engine.podman(&["volume", "ls", "--quiet"]).await, "", "records are left");
    assert_eq!(engine.podman(&["ps", "--all", "--quiet"]).await, "", "containers are left");
    Some(problem)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_nothing_is_left() {
    if !podman::ready().await || offered(Part::Hub).is_none() {
        return;
    }
    // The engine's own figure counts copies of the image, too.
    let image = std::fs::metadata(env!("CARGO_BIN_EXE_mcp-echo")).unwrap().len();
    // Room for the echo image, and not for that of nginx.
    let engine = SmallEngine::start(image + 48 * MEBIBYTE).await;
    let product = Product::start(Options::podman().with("MCP_MANAGER_BACKEND_SOCKET", engine.socket())).await;
    assert!(refused(&engine, &product, "nginx").await.is_some(), "its image does not fit");
    let file = engine.folder.path().join("echo.tar").display().to_string();
    run(&["save", "--quiet", "--output", &file, ECHO_IMAGE]).await;
    engine.podman(&["load", "--quiet", "--input", &file]).await;
    engine.fill(0).await;
    assert!(refused(&engine, &product, "echo").await.is_some(), "there is no room at all");
    // Half of what the image takes, of which the engine makes a copy for the container's user ids; an engine that can do
    // without the copy has enough.
    engine.fill(image / 2).await;
    let free = engine.free().await;
    if refused(&engine, &product, "echo").await.is_some() {
        eventually("what was copied is gone", async || engine.free().await + MEBIBYTE > free).await;
    } else {
        assert_eq!(product.call(reqwest::Method::DELETE, "/containers/full").await.0, 204);
    }
    let (status, _) = product.terminate().await;
    assert!(status.success());
    engine.end().await;
}

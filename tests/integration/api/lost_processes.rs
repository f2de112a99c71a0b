//! An engine that lost all of its processes at once while its runtime folder stayed, as when the container is restarted
//! that everything runs in. On a Podman of its own beside that of the other tests: same user, other folders.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::podman::{self, ECHO_IMAGE};
use crate::support::product::{Options, Product};

/// Where another Podman of the same user keeps everything.
struct Apart {
    folder: tempfile::TempDir,
}

impl Apart {
    fn new() -> Self {
        let apart = Self { folder: tempfile::tempdir().unwrap() };
        for folder in [apart.runtime(), apart.data()] {
            std::fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
        }
        apart
    }

    fn runtime(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Of a Podman that keeps its things here.
    fn environment(&self) -> [(&'static str, String); 2] {
        [("XDG_RUNTIME_DIR", self.runtime()), ("XDG_DATA_HOME", self.data())]
            .map(|(name, path)| (name, path.display().to_string()))
    }

    fn podman(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new("podman").args(arguments).envs(self.environment()).output().unwrap();
        assert!(output.status.success(), "podman {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Processes of this user that have this place in their command line or environment.
    fn processes(&self, but: i32) -> Vec<i32> {
        let (user, place) = (rustix::process::getuid().as_raw(), self.folder.path().display().to_string());
        let names = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).contains(&place);
        let matching = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let ours = entry.metadata().ok()?.uid() == user && pid != but;
            (ours && (names(&entry.path().join("cmdline")) || names(&entry.path().join("environ")))).then_some(pid)
        });
        matching.collect()
    }

    /// Ends everything that runs here but one process, the containers first, whose processes have ids of their own.
    fn end_all(&self, but: i32) {
        let pids = self.podman(&["ps", "--format", "{{.Pid}}"]).replace('\n', " ");
        let monitors = crate::support::processes(&self.folder.path().display().to_string(), "conmon");
        let monitors = monitors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        self.podman(&["unshare", "sh", "-c", &format!("kill -KILL {monitors}; kill -KILL {pids}")]);
        for pid in self.processes(but) {
            // It may have ended with another one.
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let place = self.data().join("containers/storage/overlay").display().to_string();
        let remove = format!("umount {place}; rm -rf {}", self.data().display());
        let podman = |arguments: &[&str]| std::process::Command::new("podman").args(arguments).envs(self.environment()).output();
        // After a failure there may be less or more; the last command ends what keeps the user namespace.
        for arguments in [&["rm", "--all", "--force", "--time=0"][..], &["unshare", "sh", "-c", &remove], &["system", "migrate"]]
        {
            let _ = podman(arguments);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_processes_all_ended_at_once_is_brought_back_with_its_services() {
    if !podman::ready().await {
        return;
    }
    let apart = Apart::new();
    let image = apart.folder.path().join("echo.tar").display().to_string();
    podman::podman(&["save", "--quiet", "--output", &image, ECHO_IMAGE]).await;
    apart.podman(&["load", "--quiet", "--input", &image]);

    let options = apart.environment().into_iter().fold(Options::podman(), |options, (name, value)| options.with(name, value));
    let product = Product::start(options).await;
    let before = product.create_echo("echo", json!({"replicas": 2})).await;
    apart.end_all(product.pid());

    let restarted = |service: &serde_json::Value| {
        let anew = |number: usize| service["instances"][number]["started_at"] != before["instances"][number]["started_at"];
        service["status"] == "running" && anew(0) && anew(1)
    };
    product.until("echo", "it runs again", restarted).await;
    let answer = product.service(Method::GET, "echo", "/health").send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", product.log());
    assert!(product.log().contains("all processes of the container engine were ended at once"), "{}", product.log());

    product.finish().await;
    assert_eq!(apart.podman(&["ps", "--all", "--quiet"]), "", "containers are left");
    assert_eq!(apart.podman(&["volume", "ls", "--quiet"]), "", "records are left");
}

//! A running `mcp-manager serve`, with an instance name of its own, so that products of several tests share an engine
//! without seeing each other. What it leaves in the engine is removed with it.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::echo::status_and_json;
use super::kubernetes::Namespace;
use super::{http_client, podman, tell_failures_at_once};

/// How long a manager may take to come up, and a service to start.
const PATIENCE: Duration = Duration::from_mins(1);

/// How to start one.
#[derive(Debug, Clone)]
pub struct Options {
    /// `podman`, `kubernetes` or `memory`.
    pub backend: &'static str,
    /// Name of the installation.
    pub instance: String,
    /// Where it listens; port 0 is a free one.
    pub listen: String,
    /// Further environment variables.
    pub environment: Vec<(String, String)>,
    /// Whom the test shares the engine with.
    pub sharing: podman::Sharing,
    /// It is not waited for until it is ready.
    pub unready: bool,
}

impl Options {
    /// On the memory backend.
    pub fn memory() -> Self {
        Self {
            backend: "memory",
            instance: podman::unique("t"),
            listen: "127.0.0.1:0".to_owned(),
            environment: Vec::new(),
            sharing: podman::Sharing::All,
            unready: false,
        }
    }

    /// On rootless Podman, with an instance of its own.
    pub fn podman() -> Self {
        Self { backend: "podman", ..Self::memory() }
    }

    /// In a namespace of a cluster, with its pods within reach of this machine.
    pub fn kubernetes(namespace: &Namespace) -> Self {
        Self { backend: "kubernetes", ..Self::memory() }
            .with("MCP_MANAGER_KUBERNETES_KUBECONFIG", namespace.kubeconfig().display().to_string())
            .with("MCP_MANAGER_KUBERNETES_NAMESPACE", &namespace.name)
            .with("MCP_MANAGER_KUBERNETES_BRIDGE_IMAGE", &namespace.image)
            .with("MCP_MANAGER_KUBERNETES_ALLOW_FROM", "0.0.0.0/0")
    }

    /// With the engine for itself, for tests that count what is in it.
    pub fn alone(self) -> Self {
        Self { sharing: podman::Sharing::Nobody, ..self }
    }

    /// For tests that write secrets: whose services speak stdio, for one, since their sessions have a key.
    pub fn with_secrets(self) -> Self {
        Self { sharing: podman::Sharing::Secrets, ..self }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }
}

/// The running program.
pub struct Product {
    pub options: Options,
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    pub port: u16,
    pub client: Client,
    /// Its templates, a copy of the shipped ones, and whatever else a test puts there.
    pub folder: tempfile::TempDir,
    turn: Option<podman::Turn>,
    sweep: podman::Sweep,
}

impl Product {
    pub async fn start(options: Options) -> Self {
        let turn = if options.backend == "podman" { Some(podman::turn(options.sharing).await) } else { None };
        Self::in_turn(options, turn).await
    }

    /// Another manager of the same installation, over the same engine.
    pub async fn beside(&self) -> Self {
        Self::in_turn(self.options.clone(), None).await
    }

    /// Another one that is told something else.
    pub async fn beside_with(&self, name: &str, value: impl Into<String>) -> Self {
        Self::in_turn(self.options.clone().with(name, value), None).await
    }

    async fn in_turn(options: Options, turn: Option<podman::Turn>) -> Self {
        tell_failures_at_once();
        let folder = tempfile::tempdir().unwrap();
        let templates = folder.path().join("templates");
        std::fs::create_dir(&templates).unwrap();
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/templates")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, templates.join(path.file_name().unwrap())).unwrap();
        }
        let sweep = podman::Sweep::of(&options);
        Self::over(options, folder, turn, sweep).await
    }

    /// A manager over the folder of a former one.
    async fn over(options: Options, folder: tempfile::TempDir, turn: Option<podman::Turn>, sweep: podman::Sweep) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.path().join("log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-manager"))
            .args(["serve", "--listen", &options.listen])
            .env("MCP_MANAGER_BACKEND_KIND", options.backend)
            .env("MCP_MANAGER_BACKEND_INSTANCE", &options.instance)
            .env("MCP_MANAGER_TEMPLATES_DIR", folder.path().join("templates"))
            .env("LOG_LEVEL", "debug")
            .envs(options.environment.clone())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("it listens").unwrap();
        let read = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        let line = line.unwrap_or_else(|| panic!("it ended without listening: {}", read()));
        let url = line.strip_prefix("mcp-manager listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        let port = url.rsplit(':').next().unwrap().parse().unwrap();
        let client = http_client().build().unwrap();
        let product = Self { options, child, url, port, client, folder, turn, sweep };
        if !product.options.unready {
            product.until_ready().await;
        }
        product
    }

    async fn until_ready(&self) {
        let ready = async {
            while !self.client.get(format!("{}/ready", self.url)).send().await.is_ok_and(|answer| answer.status() == 200) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(PATIENCE, ready).await.is_ok(), "it never became ready: {}", self.log());
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn templates(&self) -> PathBuf {
        self.folder.path().join("templates")
    }

    /// Process id of the manager.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().expect("it runs")).unwrap()
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).timeout(PATIENCE * 3)
    }

    /// Status and JSON body of a request without a body. No body at all reads as `null`.
    pub async fn call(&self, method: Method, path: &str) -> (u16, Value) {
        let response = self.request(method, path).send().await.unwrap();
        if response.content_length() == Some(0) || response.status() == 204 {
            return (response.status().as_u16(), Value::Null);
        }
        status_and_json(response).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path).await
    }

    pub async fn send(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        status_and_json(self.request(method, path).json(body).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(Method::POST, path, body).await
    }

    /// Creates a service from the echo template with its test controls, and with `more` on top; must succeed.
    pub async fn create_echo(&self, name: &str, more: Value) -> Value {
        let mut body = json!({"service_name": name, "template": "echo", "environment": {"MCP_ECHO_TEST_CONTROLS": "true"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = self.post("/containers", &body).await;
        assert_eq!(status, 201, "{answer:#}\n{}", self.log());
        answer
    }

    /// A request to a service by its host name, through the embedded gateway.
    pub fn service(&self, method: Method, name: &str, path: &str) -> RequestBuilder {
        self.request(method, path).header("host", format!("{name}.localhost:{}", self.port))
    }

    /// Waits until `GET /containers/{name}` satisfies `holds`.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let (_, service) = self.get(&format!("/containers/{name}")).await;
                if holds(&service) {
                    return service;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let Ok(service) = timeout(PATIENCE, wait).await else {
            panic!("never: {what}: {:#}\n{}", self.get(&format!("/containers/{name}")).await.1, self.log());
        };
        service
    }

    /// Ends it as a shutdown does, and waits for its end.
    pub async fn terminate(mut self) -> (ExitStatus, String) {
        signal(self.pid(), rustix::process::Signal::TERM);
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        let log = self.log();
        (status, log)
    }

    /// Kills it where it stands, and starts another in its place.
    pub async fn kill_and_restart(mut self) -> Self {
        self.child.kill().await.unwrap();
        Self::over(self.options.clone(), self.folder, self.turn.take(), self.sweep).await
    }

    /// The same, and the other one listens where this one did.
    pub async fn kill_and_restart_in_place(mut self) -> Self {
        self.options.listen = self.url.strip_prefix("http://").unwrap().to_owned();
        self.kill_and_restart().await
    }

    /// Ends it as a shutdown does, and starts another in its place.
    pub async fn terminate_and_restart(mut self) -> Self {
        signal(self.pid(), rustix::process::Signal::TERM);
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        Self::over(self.options.clone(), self.folder, self.turn.take(), self.sweep).await
    }

    /// Deletes all its services and ends it; nothing of it may be left in the engine.
    pub async fn finish(self) {
        let (_, list) = self.get("/containers").await;
        for service in list["containers"].as_array().unwrap() {
            let name = service["name"].as_str().unwrap();
            let (status, answer) = self.call(Method::DELETE, &format!("/containers/{name}")).await;
            assert_eq!(status, 204, "{answer}");
        }
        if self.options.backend == "podman" {
            assert_eq!(podman::owned_by(&self.options.instance).await, Vec::<String>::new(), "left in the engine");
        }
        let (status, log) = self.terminate().await;
        assert!(status.success(), "{status}: {log}");
    }
}

/// Makes a process stand still. The signal alone only asks for that: on a busy machine a thread that is woken by a request
/// goes on, and answers it, before the one that the signal wakes gets its turn.
pub fn stand_still(pid: i32) {
    signal(pid, rustix::process::Signal::STOP);
    let tasks = std::path::PathBuf::from(format!("/proc/{pid}/task"));
    let stands = |task: std::fs::DirEntry| {
        // The state follows the name, which may hold anything, in parentheses. A thread that has ended is none.
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
    };
    let last = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !std::fs::read_dir(&tasks).is_ok_and(|tasks| tasks.flatten().all(stands)) {
        assert!(std::time::Instant::now() < last, "process {pid} does not stand still");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Sends a signal to a process of this test.
pub fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

//! The real Traefik as a program, with the shipped configuration; only ports and folders differ.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tokio::process::{Child, Command};

use super::product::Product;
use super::{eventually, free_port, http_client};

/// The shipped configuration in the product's folder, leading to the product; only ports and folders differ.
pub struct Files {
    folder: PathBuf,
    web: u16,
    secure: u16,
    dashboard: u16,
}

impl Files {
    /// For Traefik on free ports.
    pub fn shipped(product: &Product) -> Self {
        let folder = product.folder.path().join("traefik");
        std::fs::create_dir_all(folder.join("dynamic")).unwrap();
        let files = Self { folder, web: free_port(), secure: free_port(), dashboard: free_port() };
        for file in ["traefik.yml", "dynamic/manager.yml", "dynamic/middlewares.yml"] {
            std::fs::write(files.folder.join(file), shipped(file)).unwrap();
        }
        files.change(
            "traefik.yml",
            &[
                ("\":80\"", format!("\"127.0.0.1:{}\"", files.web)),
                ("\":443\"", format!("\"127.0.0.1:{}\"", files.secure)),
                ("127.0.0.1:8080", format!("127.0.0.1:{}", files.dashboard)),
                ("traefik/dynamic", files.folder.join("dynamic").display().to_string()),
                ("pollInterval: 1s", "pollInterval: 200ms".to_owned()),
            ],
        );
        files.change("dynamic/manager.yml", &[("127.0.0.1:8000", format!("127.0.0.1:{}", product.port))]);
        files
    }

    /// Replaces what a file must have.
    pub fn change(&self, file: &str, changes: &[(&str, String)]) {
        let path = self.folder.join(file);
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{file} has no {from}");
            text = text.replace(from, to);
        }
        std::fs::write(path, text).unwrap();
    }

    /// Starts Traefik and waits until it answers.
    pub async fn run(self, program: &str, environment: &[(&str, &str)]) -> Traefik {
        let path = self.folder.join("log");
        let log = std::fs::File::create(&path).unwrap();
        let process = Command::new(program)
            .arg(format!("--configFile={}", self.folder.join("traefik.yml").display()))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let Self { web, secure, dashboard, .. } = self;
        let client = http_client().build().unwrap();
        let traefik = Traefik { _process: process, web, secure, dashboard, client, log: path };
        eventually("Traefik answers", async || {
            let ping = traefik.client.get(format!("http://127.0.0.1:{dashboard}/ping")).send().await;
            ping.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        traefik
    }
}

/// The text of a shipped file.
pub fn shipped(file: &str) -> String {
    std::fs::read_to_string(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/traefik")).join(file)).unwrap()
}

/// A running Traefik.
pub struct Traefik {
    _process: Child,
    pub web: u16,
    pub secure: u16,
    pub dashboard: u16,
    pub client: Client,
    pub log: PathBuf,
}

impl Traefik {
    /// What it has said of itself, without the requests.
    pub fn said(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| !line.contains("\"RequestMethod\"")).collect::<Vec<_>>().join("\n")
    }

    /// Starts Traefik with the shipped files, on free ports, in front of `product`.
    pub async fn start(program: &str, product: &Product, provider: u16) -> Self {
        let files = Files::shipped(product);
        files.change("traefik.yml", &[("127.0.0.1:8082", format!("127.0.0.1:{provider}"))]);
        files.run(program, &[]).await
    }

    /// Likewise, with all over TLS, as `tls.yml.example` says.
    pub async fn start_with_tls(program: &str, product: &Product, provider: u16) -> Self {
        let files = Files::shipped(product);
        let redirect = "  web:\n    http: {redirections: {entryPoint: {to: websecure, scheme: https}}}\n";
        let changes = [("127.0.0.1:8082", format!("127.0.0.1:{provider}")), ("  web:\n", redirect.to_owned())];
        files.change("traefik.yml", &changes);
        // Of the shipped limits only what may pass at once, so that the speed of this machine does not count.
        files.change("dynamic/middlewares.yml", &[("average: 100", "average: 1".to_owned())]);
        files.run(program, &[("MCP_ENTRYPOINT", "websecure")]).await
    }

    /// Status and body of a request by host name.
    pub async fn get(&self, host: &str, path: &str) -> (u16, Value) {
        let request = self.client.get(format!("http://127.0.0.1:{}{path}", self.web)).header("host", host);
        let answer = request.timeout(Duration::from_secs(10)).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    /// What it knows of `services`, or of `routers`, as text.
    pub async fn known(&self, of: &str) -> String {
        let answer = self.client.get(format!("http://127.0.0.1:{}/api/http/{of}", self.dashboard)).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// Which replicas answer, and how often, over so many requests.
    pub async fn answers(&self, requests: usize) -> BTreeMap<String, usize> {
        let mut seen = BTreeMap::new();
        for _ in 0..requests {
            let (status, answer) = self.get("echo.localhost", "/echo/hi").await;
            assert_eq!(status, 200, "{answer}");
            *seen.entry(answer["instance"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        seen
    }
}

//! A running `mcp-echo` process on a free port of loopback, killed with the value.

use std::process::{ExitStatus, Stdio};

use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use super::PATIENCE;
use super::http_client;

/// The process, its address and its output.
pub struct EchoProcess {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    pub client: Client,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl EchoProcess {
    /// Starts the program with these environment variables and no others, and waits until it listens.
    pub async fn start(environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-echo"))
            .args(["--port", "0", "--bind", "127.0.0.1"])
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = timeout(PATIENCE, stdout.next_line()).await.unwrap().unwrap().expect("it ended without listening");
        let url = line.strip_prefix("mcp-echo listening on ").expect(&line).to_owned();
        Self { child, url, client: http_client().build().unwrap(), stdout, stderr }
    }

    /// With the endpoints for tests.
    pub async fn with_controls() -> Self {
        Self::start(&[("MCP_ECHO_TEST_CONTROLS", "true")]).await
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url)).timeout(PATIENCE)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url)).timeout(PATIENCE)
    }

    /// Status and JSON body of `GET path`.
    pub async fn get_json(&self, path: &str) -> (u16, Value) {
        status_and_json(self.get(path).send().await.unwrap()).await
    }

    /// Status and JSON body of `POST path`.
    pub async fn post_json(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        status_and_json(self.post(path).body(body).send().await.unwrap()).await
    }

    /// Sends SIGTERM, as a container engine does to stop a container.
    pub fn terminate(&self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    pub async fn exit_status(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it did not end").unwrap()
    }

    /// The first line of standard output, from here on, that contains `part`.
    pub async fn stdout_line(&mut self, part: &str) -> String {
        line_with(&mut self.stdout, part).await
    }

    /// The first line of standard error, from here on, that contains `part`.
    pub async fn stderr_line(&mut self, part: &str) -> String {
        line_with(&mut self.stderr, part).await
    }
}

async fn line_with<R: tokio::io::AsyncBufRead + Unpin>(lines: &mut Lines<R>, part: &str) -> String {
    let search = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(part) {
                return line;
            }
        }
        panic!("the output ended without a line that contains {part:?}");
    };
    timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("no line contains {part:?}"))
}

/// Takes an answer apart; a body that is not JSON fails the test.
pub async fn status_and_json(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}, not JSON: {text}")))
}

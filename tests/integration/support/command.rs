//! The `mcp-manager` command as a user or a script calls it.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::product::Product;

/// No command of these tests takes longer.
const PATIENCE: Duration = Duration::from_mins(1);

/// A user with a home of their own, no other variables than those given, and a manager to talk to.
pub struct User {
    pub home: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What came of a command.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl User {
    /// Talks to the manager at `server`.
    pub fn of(server: &str) -> Self {
        Self::without_manager().with("MCP_MANAGER_SERVER", server)
    }

    /// Talks to nobody unless a command says to whom.
    pub fn without_manager() -> Self {
        Self { home: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// Talks to a running product.
    pub fn of_product(product: &Product) -> Self {
        Self::of(&product.url)
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The command with these arguments, split like a shell does.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-manager"));
        command
            .args(shlex::split(arguments).unwrap())
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .envs(self.variables.clone())
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, arguments: &str) -> Ran {
        let output = timeout(PATIENCE, self.command(arguments).output()).await.expect(arguments).unwrap();
        Ran::of(output)
    }

    /// Runs it to its end; it must succeed. Its standard output.
    pub async fn done(&self, arguments: &str) -> String {
        self.done_within(PATIENCE, arguments).await
    }

    /// The same for what may take longer.
    pub async fn done_within(&self, patience: Duration, arguments: &str) -> String {
        let ran = Ran::of(timeout(patience, self.command(arguments).output()).await.expect(arguments).unwrap());
        assert_eq!(ran.code, 0, "{arguments}: {ran:#?}");
        ran.stdout
    }

    /// Runs it to its end; it must succeed with a document.
    pub async fn document(&self, arguments: &str) -> Value {
        let text = self.done(arguments).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments}: {error}: {text}"))
    }

    /// Starts it.
    pub fn spawn(&self, arguments: &str) -> Child {
        self.command(arguments).spawn().unwrap()
    }
}

impl Ran {
    /// What came of a command that was started before.
    pub async fn end_of(child: Child) -> Self {
        Self::of(timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap())
    }

    fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        // A command that a signal ended is told apart from every exit code.
        let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

//! Checks of the manager's own surroundings: settings, address, templates, keys.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use super::Finding;
use crate::config::Config;
use crate::error::{Error, FieldError};
use crate::http_client::{self, Trust};
use crate::registry::check_file;

/// All checks of this file.
pub async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = settings(config);
    findings.push(address(config.server.listen).await);
    findings.extend(names(&config.server.domain).await);
    findings.push(templates(config));
    findings
}

/// What is wrong with the settings. What they would have said of address and templates nobody knows then.
pub fn wrong_settings(wrong: Error) -> Vec<Finding> {
    let fail = |message: String, remedy: Option<String>| {
        Finding::fail("settings", message, remedy.unwrap_or_else(|| "mcp-manager config show".to_owned()))
    };
    if wrong.fields.is_empty() {
        return vec![fail(wrong.detail, wrong.remedy)];
    }
    let told = |field: FieldError| {
        let said = FieldError { remedy: None, ..field.clone() };
        fail(said.to_string(), field.remedy)
    };
    wrong.fields.into_iter().map(told).collect()
}

/// Whether programs of this machine find services by name. Browsers and curl know names below localhost by themselves;
/// others ask the system. Without `getent` there is nobody to ask.
async fn names(domain: &str) -> Option<Finding> {
    const CHECK: &str = "names";
    let name = format!("echo.{domain}");
    let asked = Command::new("getent").args(["ahosts", &name]).stdin(Stdio::null()).kill_on_drop(true).output();
    let answer = tokio::time::timeout(Duration::from_secs(5), asked).await.ok()?.ok()?;
    let first = String::from_utf8_lossy(&answer.stdout).split_whitespace().next().map(str::to_owned);
    Some(match first {
        Some(address) => Finding::ok(CHECK, format!("{name} is {address}")),
        None if domain == "localhost" => {
            let message =
                "the system does not know names below localhost; browsers and curl do, other programs will not find services";
            Finding::warn(
                CHECK,
                message,
                "sudo apt-get install libnss-myhostname\nor ask at the manager's address with the header 'Host: NAME.localhost'",
            )
        }
        None => {
            let message = format!("nobody knows {name}, so services are not found by name");
            Finding::warn(CHECK, message, format!("point *.{domain} at this machine, or set server.domain to localhost"))
        }
    })
}

fn settings(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "settings";
    let mut findings: Vec<Finding> =
        config.warnings.iter().map(|warning| Finding::warn(CHECK, warning, "mcp-manager config show")).collect();
    if let Err(error) = config.auth.keys() {
        findings.push(Finding::fail(CHECK, error.detail, error.remedy.unwrap_or_default()));
    }
    if findings.is_empty() {
        let source = config.file.as_ref().map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
        findings.push(Finding::ok(CHECK, format!("valid ({source})")));
    }
    findings
}

/// Whether the manager can listen, or does already.
async fn address(listen: SocketAddr) -> Finding {
    const CHECK: &str = "address";
    let Err(error) = TcpListener::bind(listen) else { return Finding::ok(CHECK, format!("{listen} is free")) };
    if error.kind() == ErrorKind::AddrInUse {
        if let Some(version) = manager_at(listen).await {
            return Finding::ok(CHECK, format!("a manager, version {version}, runs at {listen}"));
        }
        let remedy = format!(
            "see who: ss -ltnp 'sport = :{}'\nor listen elsewhere: mcp-manager serve --listen 127.0.0.1:PORT",
            listen.port()
        );
        return Finding::fail(CHECK, format!("another program listens on {listen}"), remedy);
    }
    let remedy = "choose another one with --listen or MCP_MANAGER_LISTEN";
    Finding::fail(CHECK, format!("the manager cannot listen on {listen}: {error}"), remedy)
}

/// The version of the manager that listens there, if it is one.
async fn manager_at(listen: SocketAddr) -> Option<String> {
    let client = http_client::builder(Trust::Nobody).ok()?.timeout(Duration::from_secs(3)).build().ok()?;
    // An address that means all of them is reached over the loopback one.
    let host = if listen.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], listen.port())) } else { listen };
    let health: Value = client.get(format!("http://{host}/health")).send().await.ok()?.json().await.ok()?;
    Some(health.get("version")?.as_str()?.to_owned())
}

fn templates(config: &Config) -> Finding {
    const CHECK: &str = "templates";
    let directory = &config.templates.dir;
    let shown = directory.display();
    let files = match std::fs::read_dir(directory) {
        Ok(files) => files,
        Err(error) => {
            let message = format!("the directory {shown} cannot be read: {error}; services can be made from images only");
            return Finding::warn(
                CHECK,
                message,
                format!("mkdir -p {shown}, or name another one with MCP_MANAGER_TEMPLATES_DIR"),
            );
        }
    };
    let mut broken = Vec::new();
    let mut valid = 0_usize;
    for path in files.filter_map(|file| Some(file.ok()?.path())) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_template = path.extension().is_some_and(|extension| extension == "json") && !name.ends_with(".schema.json");
        if !is_template || name.starts_with('.') {
            continue;
        }
        match std::fs::read(&path).map(|content| check_file(&content, name)) {
            Ok(Ok(_)) => valid += 1,
            _ => broken.push(path.display().to_string()),
        }
    }
    broken.sort();
    match (valid, broken.is_empty()) {
        (0, true) => {
            Finding::warn(CHECK, format!("there are none in {shown}"), "put template files there; see docs/templates.md")
        }
        (_, true) => Finding::ok(CHECK, format!("{valid} in {shown}")),
        (_, false) => {
            let message = format!("{valid} usable and {} broken ones in {shown}", broken.len());
            Finding::warn(CHECK, message, format!("mcp-manager template validate {}", broken.join(" ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[tokio::test]
    async fn an_address_is_free_or_taken_by_a_stranger() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        // It accepts and says nothing a manager would say.
        let stranger = std::thread::spawn(move || listener.accept().map(drop));
        assert_eq!(address(taken).await.state, State::Fail);
        stranger.join().unwrap().unwrap();
        assert_eq!(address("127.0.0.1:0".parse().unwrap()).await.state, State::Ok);
    }

    #[test]
    fn broken_templates_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.templates.dir = directory.path().to_owned();
        assert_eq!(templates(&config).state, State::Warn, "an empty directory");
        std::fs::write(directory.path().join("good.json"), r#"{"name": "good", "image": "x"}"#).unwrap();
        assert_eq!(templates(&config).state, State::Ok);
        std::fs::write(directory.path().join("bad.json"), "{").unwrap();
        assert!(templates(&config).remedy.unwrap().contains("bad.json"));
        config.templates.dir = directory.path().join("none");
        assert_eq!(templates(&config).state, State::Warn, "a missing directory");
    }
}

//! One container that runs as long as the tests do.
//!
//! Podman 4 gives the namespace of all networks up when the last container of a user ends, and with it the network of one
//! that is just being started. Tests beside each other start and end containers all the time, as no installation does. That
//! the product mends it is the claim of tests that run without company; no other test should meet it.

use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::podman::ECHO_IMAGE;

static COMPANY: Mutex<Option<Child>> = Mutex::new(None);

/// Starts it and waits until it runs. It ends with its standard input, and so with this process at the latest.
pub fn keep() {
    let mut company = COMPANY.lock().unwrap_or_else(PoisonError::into_inner);
    let file = std::env::temp_dir().join(super::podman::unique("mcp-test-company-"));
    let id = format!("--cidfile={}", file.display());
    let words = ["run", "--rm", "--interactive", "--network", "podman", &id, ECHO_IMAGE, "--stdio"];
    let mut command = Command::new("podman");
    let child = command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    *company = Some(child);
    let deadline = Instant::now() + super::PATIENCE;
    let runs = || {
        let Ok(id) = std::fs::read_to_string(&file) else { return false };
        let inspected = Command::new("podman").args(["inspect", "--format", "{{.State.Running}}", &id]).output().unwrap();
        inspected.stdout.starts_with(b"true")
    };
    while !runs() {
        assert!(Instant::now() < deadline, "the container that keeps others company does not run");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::remove_file(&file).unwrap();
}

/// While this lives there is none. Only for tests that have the engine for themselves.
pub struct Without;

impl Without {
    pub fn company() -> Self {
        if let Some(mut child) = COMPANY.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
        Self
    }
}

impl Drop for Without {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            keep();
        }
    }
}

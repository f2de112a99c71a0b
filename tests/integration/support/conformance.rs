//! The protocol's own conformance suite as a program, and what it says of a server.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

/// How long all scenarios together may take; each has 30 seconds of the suite's own.
const PATIENCE: Duration = Duration::from_mins(5);

/// What the suite found. Scenarios that the revision does not require are not among them.
#[derive(Debug)]
pub struct Outcome {
    /// Names of the required scenarios that passed.
    pub passed: BTreeSet<String>,
    /// The others, each with the checks that failed in it.
    pub failed: Vec<String>,
}

/// Runs all scenarios that `revision` requires of servers against the endpoint.
pub async fn run(suite: &str, url: &str, revision: &str) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    let mut command = Command::new(suite);
    command
        .args(["server", "--url", url, "--requirements", revision, "--output-dir"])
        .arg(&results)
        .current_dir(folder.path())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("the suite ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = || format!("the suite said: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    let summary = text.split_once("=== SUMMARY ===").unwrap_or_else(|| panic!("no summary; {}", said())).1;
    let (all, unscored) = summary.split_once("Not scored for").unwrap_or((summary, ""));
    let unscored: BTreeSet<&str> = unscored.lines().filter_map(|line| line.trim().split(' ').nth(1)).collect();
    let mut outcome = Outcome { passed: BTreeSet::new(), failed: Vec::new() };
    for line in all.lines() {
        let Some((mark, rest)) = line.split_once(' ') else { continue };
        let Some((scenario, _)) = rest.split_once(':') else { continue };
        match mark {
            _ if unscored.contains(scenario) => {}
            "✓" => drop(outcome.passed.insert(scenario.to_owned())),
            "✗" => outcome.failed.push(format!("{scenario}: {}", failures(&results, scenario).join("; "))),
            _ => {}
        }
    }
    assert!(!outcome.passed.is_empty() || !outcome.failed.is_empty(), "nothing was scored; {}", said());
    outcome
}

/// The checks of a scenario that failed, with what the suite makes of them.
fn failures(results: &Path, scenario: &str) -> Vec<String> {
    let folders = std::fs::read_dir(results).into_iter().flatten().flatten();
    // The folder's name goes on with the time.
    let of_scenario = folders.filter(|folder| {
        let name = folder.file_name().to_string_lossy().into_owned();
        name.strip_prefix(&format!("server-{scenario}-")).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    let checks = of_scenario.filter_map(|folder| std::fs::read(folder.path().join("checks.json")).ok());
    let checks = checks.filter_map(|text| serde_json::from_slice::<Vec<Value>>(&text).ok()).flatten();
    let failed = checks.filter(|check| check["status"] == "FAILURE");
    failed.map(|check| format!("{} ({})", check["id"].as_str().unwrap_or("?"), check["errorMessage"])).collect()
}

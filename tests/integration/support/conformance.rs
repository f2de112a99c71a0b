//! The protocol's own conformance suite as a program, and what it says of a server.

use std::collections::{BTreeMap, BTreeSet};
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
    /// The others by name, each with the checks that failed in it.
    pub failed: BTreeMap<String, String>,
}

/// How many scenarios each revision requires of a server.
pub const REQUIRED: [(&str, usize); 2] = [("2025-11-25", 30), ("2026-07-28", 37)];

/// Runs both revisions' scenarios, one after the other and then the first again: a client of one era must not spoil the
/// server for the other. All must pass but the `exceptions`, each a reason with the scenarios that it holds for, and those
/// must not: an exception that has become untrue is to be taken out.
pub async fn assert_conforms_except(suite: &str, url: &str, exceptions: &[(&str, &[&str])]) {
    let excepted: BTreeSet<&str> = exceptions.iter().flat_map(|(_, scenarios)| scenarios.iter().copied()).collect();
    let mut met = BTreeSet::new();
    for (revision, required) in [REQUIRED[0], REQUIRED[1], REQUIRED[0]] {
        let outcome = run(suite, url, revision).await;
        let lost: Vec<_> = outcome.failed.iter().filter(|(scenario, _)| !excepted.contains(scenario.as_str())).collect();
        assert!(lost.is_empty(), "{revision}: {} of {required} scenarios failed: {lost:#?}", lost.len());
        assert_eq!(outcome.passed.len() + outcome.failed.len(), required, "{revision}: {outcome:?}");
        met.extend(outcome.failed.into_keys());
    }
    let untrue: Vec<_> = excepted.iter().filter(|scenario| !met.contains(**scenario)).collect();
    assert!(untrue.is_empty(), "these pass and need no exception: {untrue:?}");
}

/// All scenarios of both revisions pass.
pub async fn assert_conforms(suite: &str, url: &str) {
    assert_conforms_except(suite, url, &[]).await;
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
    let mut outcome = Outcome { passed: BTreeSet::new(), failed: BTreeMap::new() };
    for line in all.lines() {
        let Some((mark, rest)) = line.split_once(' ') else { continue };
        let Some((scenario, _)) = rest.split_once(':') else { continue };
        match mark {
            _ if unscored.contains(scenario) => {}
            "✓" => drop(outcome.passed.insert(scenario.to_owned())),
            "✗" => drop(outcome.failed.insert(scenario.to_owned(), failures(&results, scenario).join("; "))),
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

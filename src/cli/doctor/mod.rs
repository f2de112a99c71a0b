//! `mcp-manager doctor`: looks at everything that rootless containers, or pods of a cluster, need and says, for each, how
//! it is, what that means and which command puts it right. It puts nothing right itself.

mod cluster;
mod identity;
mod kernel;
pub(super) mod machine;
mod manager;
mod podman;

use serde::Serialize;

use super::exit::{Code, Outcome, Trouble};
use super::output::{Output, counted, harmless};
use crate::config::{BackendKind, Config};
use crate::error::Error;
use machine::Machine;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// It works, with a drawback.
    Warn,
    /// Services cannot run like this.
    Fail,
}

/// What a look at one thing gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    /// How it is, and what that means.
    message: String,
    /// What to do about it; commands stand on lines of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, state: State::Ok, message: message.into(), remedy: None }
    }

    fn warn(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Warn, message: message.into(), remedy: Some(remedy.into()) }
    }

    fn fail(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Fail, message: message.into(), remedy: Some(remedy.into()) }
    }
}

/// Looks at everything and shows what was found; fails when a check does. A report is for people, so only `--json` makes
/// it JSON. `wrong` is what is wrong with the settings; `config` then has the defaults.
pub async fn command(output: &Output, config: &Config, wrong: Option<Error>) -> Outcome {
    let findings = look(config, wrong).await;
    let failed = findings.iter().filter(|finding| finding.state == State::Fail).count();
    let warned = findings.iter().filter(|finding| finding.state == State::Warn).count();
    if output.explicit_json {
        output.document(&serde_json::json!({"ok": failed == 0, "failed": failed, "warnings": warned, "checks": findings}))?;
    } else {
        let mut shown = findings.iter().filter(|finding| !output.quiet || finding.state != State::Ok);
        shown.try_for_each(|finding| output.coloured(&line(finding)))?;
        let sum = match (failed, warned) {
            (0, 0) => "everything is as it should be".to_owned(),
            (0, warned) => format!("services can run; {}", counted(warned, "warning")),
            (failed, warned) => format!("services cannot run; {}, {}", counted(failed, "failure"), counted(warned, "warning")),
        };
        output.text(&format!("\n{sum}"))?;
    }
    if failed == 0 { Ok(()) } else { Err(Trouble::Said(Code::Failed)) }
}

/// Every check, in the order in which one needs the other.
async fn look(config: &Config, wrong: Option<Error>) -> Vec<Finding> {
    let machine = Machine::this(config);
    let mut findings = Vec::new();
    if config.backend.kind == BackendKind::Memory {
        let message = "the memory backend is chosen: services are only pretended, and nothing below needs containers";
        findings.push(Finding::warn("backend", message, "set backend.kind to auto, or CONTAINER_RUNTIME=podman"));
    } else if config.uses_cluster() {
        findings.extend(cluster::check(config).await);
    } else {
        findings.extend(identity::check(&machine));
        findings.extend(kernel::check(&machine, config.backend.require_limits));
        // Root's Podman has its own storage and settings, so what it says would be about another one.
        if machine.uid != 0 {
            findings.extend(podman::check(&machine, config).await);
        }
    }
    findings.extend(match wrong {
        Some(wrong) => manager::wrong_settings(wrong),
        None => manager::check(config).await,
    });
    findings
}

fn line(finding: &Finding) -> String {
    use owo_colors::OwoColorize as _;
    let state = match finding.state {
        State::Ok => format!("{}  ", "ok".green()),
        State::Warn => format!("{}", "warn".yellow()),
        State::Fail => format!("{}", "fail".red().bold()),
    };
    let remedy = finding.remedy.as_ref().map(|remedy| format!("\n      -> {}", harmless(remedy).replace('\n', "\n         ")));
    format!("{state}  {:<16} {}{}", finding.check, harmless(&finding.message), remedy.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_state_check_message_and_remedy() {
        let finding = Finding::fail("subuid", "no range for 'dev'", "give it one:\nsudo usermod …");
        let text = anstream::adapter::strip_str(&line(&finding)).to_string();
        assert_eq!(text, "fail  subuid           no range for 'dev'\n      -> give it one:\n         sudo usermod …");
    }
}

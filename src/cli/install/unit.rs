//! The unit's text: making it, and telling whether a text is one that was made here. Pure.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::domain::hex;
use crate::error::{Error, Result};

/// How the first line of a unit begins that was made here; the digest of all other lines follows.
const MARK: &str = "# Written by 'mcp-manager install'; 'mcp-manager uninstall' removes it. Digest: ";

/// Whose a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Made here, and as it was made.
    Ours,
    /// Made here, and changed since.
    Edited,
    /// Somebody else's.
    Foreign,
}

/// A unit that runs the program with these arguments.
pub fn text(program: &Path, arguments: &[String]) -> Result<String> {
    let Some(program) = program.to_str() else {
        return Err(unfit(&program.display().to_string()));
    };
    // systemd takes dollar signs for variables in arguments only, percent signs everywhere.
    let mut command = vec![quoted(program)?];
    for argument in arguments {
        command.push(quoted(argument)?.replace('$', "$$"));
    }
    let command = command.join(" ");
    let body = format!(
        "[Unit]\n\
         Description=mcp-manager, which runs MCP servers as containers\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStart={command}\n\
         # A control group to hand on: Podman looks in its own for what it can limit.\n\
         Delegate=yes\n\
         # Services, and the processes behind their networks, go on when the manager ends.\n\
         KillMode=process\n\
         Restart=on-failure\n\
         RestartSec=2\n\
         # Wrong settings stay wrong.\n\
         RestartPreventExitStatus=2\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    );
    Ok(format!("{MARK}{}\n{body}", digest(&body)))
}

/// Whose a unit with this text is.
pub fn whose(text: &str) -> Whose {
    let Some((first, body)) = text.split_once('\n') else { return Whose::Foreign };
    match first.strip_prefix(MARK) {
        Some(said) if said == digest(body) => Whose::Ours,
        Some(_) => Whose::Edited,
        None => Whose::Foreign,
    }
}

fn digest(body: &str) -> String {
    hex(&Sha256::digest(body))
}

/// One word of a command line in a unit.
fn quoted(word: &str) -> Result<String> {
    if word.chars().any(char::is_control) {
        return Err(unfit(word));
    }
    Ok(format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")))
}

fn unfit(word: &str) -> Error {
    let message = format!("'{}' cannot stand in a unit", word.escape_debug());
    Error::invalid_field("", message, "use names without control characters, in UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_to_systemd_what_they_mean_here() {
        let unit = text("/opt/50% of \"it\"/mcp-manager".as_ref(), &["serve".into(), r"--set=a.b=$HOME\n".into()]).unwrap();
        let line = r#"ExecStart="/opt/50%% of \"it\"/mcp-manager" "serve" "--set=a.b=$$HOME\\n""#;
        assert!(unit.lines().any(|other| other == line), "{unit}");
        assert!(text("/x".as_ref(), &["a\nExecStart=b".into()]).is_err());
    }

    #[test]
    fn a_unit_knows_whether_it_was_changed() {
        let unit = text("/x".as_ref(), &[]).unwrap();
        assert_eq!(whose(&unit), Whose::Ours);
        assert_eq!(whose(&unit.replace("RestartSec=2", "RestartSec=9")), Whose::Edited);
        assert_eq!(whose("[Service]\nExecStart=/x\n"), Whose::Foreign);
        assert_eq!(whose(""), Whose::Foreign);
    }
}

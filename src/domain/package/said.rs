//! What a script that makes an image says on its output beyond the words of its commands: steps, what was installed, its end.
//!
//! Only standard output is read for these, and the script sends there what it says itself alone: its commands, which repeat
//! what registries and packages say, have standard error for both of their streams.

use super::lock::{self, Lock};

/// A line that begins with this says what is done next.
pub const STEP: &str = "mcp-manager-step ";

/// The line that begins with this says which versions were installed, as [`lock`] reads them.
pub const LOCK: &str = "mcp-manager-lock ";

/// The line that begins with this says that the script has ended, and with which code.
const END: &str = "mcp-manager-end ";

/// So many seconds the script's container waits after the script's end, for whoever takes what is in it. It is gone after
/// that even if nobody is left to remove it.
pub const WAITS: u64 = 120;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said<'l> {
    /// This is done next.
    Step(&'l str),
    /// These versions were installed.
    Lock(Lock),
    /// The script ended with this code; zero is success.
    End(i64),
    /// Something else, by one of the script's commands.
    Words(&'l str),
}

/// Reads a line of standard output.
#[must_use]
pub fn said(line: &str) -> Said<'_> {
    let line = line.trim_end();
    if let Some(step) = line.strip_prefix(STEP) {
        return Said::Step(step);
    }
    if let Some(lock) = line.strip_prefix(LOCK).and_then(lock::read) {
        return Said::Lock(lock);
    }
    if let Some(code) = line.strip_prefix(END).and_then(|code| code.parse().ok()) {
        return Said::End(code);
    }
    Said::Words(line)
}

/// A script that stops at the first thing that goes wrong, says its end, and then waits to be taken.
#[must_use]
pub fn whole(script: &str) -> String {
    format!("(set -eu\n{script})\necho \"{END}$?\"\nexec sleep {WAITS}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_script_says_is_told_from_what_its_commands_say() {
        assert_eq!(said("mcp-manager-step installing x\r"), Said::Step("installing x"));
        assert_eq!(said("mcp-manager-lock {\"x\":\"1.0\"}\n"), Said::Lock([("x".to_owned(), "1.0".to_owned())].into()));
        assert_eq!(said("mcp-manager-end 64"), Said::End(64));
        assert_eq!(said("npm warn x"), Said::Words("npm warn x"));
        for line in ["mcp-manager-end soon", "mcp-manager-lock {\"x\":1}", "mcp-manager-label a=b", " mcp-manager-end 0"] {
            assert_eq!(said(line), Said::Words(line));
        }
    }

    proptest! {
        #[test]
        fn no_line_is_refused(line in "(mcp-manager-(step|lock|end) )?\\PC*") {
            let _ = said(&line);
        }
    }
}

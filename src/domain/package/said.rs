//! What a script that makes an image says on its output beyond its own words: steps, labels of the image, its end.

/// A line that begins with this says what is done next.
pub const STEP: &str = "mcp-manager-step ";

/// A line that begins with this is a label of the image, `NAME=VALUE`.
pub const LABEL: &str = "mcp-manager-label ";

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
    /// The image has this label.
    Label(&'l str, &'l str),
    /// The script ended with this code; zero is success.
    End(i64),
    /// Something else, by one of the script's commands.
    Words(&'l str),
}

/// Reads a line.
#[must_use]
pub fn said(line: &str) -> Said<'_> {
    let line = line.trim_end();
    if let Some(step) = line.strip_prefix(STEP) {
        return Said::Step(step);
    }
    if let Some((name, value)) = line.strip_prefix(LABEL).and_then(|label| label.split_once('=')) {
        return Said::Label(name, value);
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
        assert_eq!(said("mcp-manager-label a.b={\"x\":\"=\"}"), Said::Label("a.b", "{\"x\":\"=\"}"));
        assert_eq!(said("mcp-manager-end 64"), Said::End(64));
        assert_eq!(said("mcp-manager-end soon"), Said::Words("mcp-manager-end soon"));
        assert_eq!(said("npm warn x"), Said::Words("npm warn x"));
    }

    proptest! {
        #[test]
        fn no_line_is_refused(line in "\\PC*") {
            let _ = said(&line);
        }
    }
}

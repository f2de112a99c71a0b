//! What scripts see of a failure: an exit code, and the error as text or JSON on standard error.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::output::{escaped, harmless};
use crate::error::{Error, Kind};
use crate::problem::Problem;

/// Exit codes, as the help lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Unreachable = 5,
    Denied = 6,
    NotHealthy = 7,
    Interrupted = 130,
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub enum Trouble {
    /// An error, to be shown.
    Error(Code, Box<Error>),
    /// Everything has been said; only the exit code is left.
    Said(Code),
    /// Nobody reads our output any more, which is theirs to decide.
    BrokenPipe,
}

/// Result of commands.
pub type Outcome<T = ()> = Result<T, Trouble>;

impl Trouble {
    /// The manager could not be reached, or what answered is none.
    pub fn unreachable(error: Error) -> Self {
        Self::Error(Code::Unreachable, Box::new(error))
    }

    /// The code to leave with.
    pub const fn code(&self) -> Code {
        match self {
            Self::Error(code, _) | Self::Said(code) => *code,
            Self::BrokenPipe => Code::Done,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let code = match error.kind {
            Kind::Invalid => Code::Usage,
            Kind::NotFound => Code::NotFound,
            Kind::AlreadyExists | Kind::Conflict => Code::Conflict,
            Kind::Unauthenticated | Kind::Forbidden => Code::Denied,
            _ => Code::Failed,
        };
        Self::Error(code, Box::new(error))
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Error::internal(format!("the output cannot be written: {error}"), error).into()
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Shows the error, if there is one to show, and gives the exit code.
pub fn report(trouble: &Trouble, as_json: bool) -> ExitCode {
    if let Trouble::Error(code, error) = trouble {
        let text = if as_json { json_text(error, *code) } else { human_text(error) };
        // Where standard error is gone too, the exit code has to do.
        let _ = writeln!(anstream::stderr(), "{text}");
    }
    trouble.code().into()
}

fn json_text(error: &Error, code: Code) -> String {
    let mut problem = Problem::from(error.clone()).member("exit_code", json!(code as u8));
    if code == Code::Unreachable {
        // The kinds of errors are the manager's; not to reach it is the client's own.
        "urn:mcp-manager:problem:manager-unreachable".clone_into(&mut problem.r#type);
        "The manager does not answer".clone_into(&mut problem.title);
    }
    escaped(&serde_json::to_string(&problem).unwrap_or_default())
}

/// `error: DETAIL`, a line for each field, the internal cause where there is one, and the remedy.
pub fn human_text(error: &Error) -> String {
    use owo_colors::OwoColorize as _;
    let mut lines = vec![format!("{} {}", "error:".red().bold(), harmless(&error.detail))];
    if error.fields.len() > 1 {
        lines.extend(error.fields.iter().map(|field| format!("  {}", harmless(&field.to_string()))));
    }
    // The innermost cause says what happened; those around it only say that something did.
    let causes =
        std::iter::successors(error.source.as_deref().map(|cause| cause as &dyn std::error::Error), |cause| cause.source());
    if let Some(cause) = causes.last().map(ToString::to_string).filter(|cause| !error.detail.contains(cause.as_str())) {
        lines.push(format!("  because: {}", harmless(&cause)));
    }
    // That of a single field is part of the detail.
    if let Some(remedy) = error.remedy.as_ref().filter(|remedy| !error.detail.contains(remedy.as_str())) {
        lines.push(format!("{} {}", "remedy:".green().bold(), harmless(remedy)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FieldError;

    #[test]
    fn an_error_is_shown_with_all_its_fields_and_its_remedy() {
        let fields = vec![FieldError::new("port", "is 0", "use 1 to 65535"), FieldError::new("image", "is missing", "set it")];
        let error = Error::invalid("the service cannot be created", fields).remedy("correct the file");
        let text = anstream::adapter::strip_str(&human_text(&error)).to_string();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_an_error_quotes_does_nothing_to_the_terminal() {
        let error = Error::new(Kind::Invalid, "it says \u{1b}[2J").remedy("beep\u{7}").because("\u{9b}m".to_owned());
        let text = anstream::adapter::strip_str(&human_text(&error)).to_string();
        assert_eq!(text, "error: it says \u{fffd}[2J\n  because: \u{fffd}m\nremedy: beep\u{fffd}");
    }

    #[test]
    fn every_kind_of_error_has_an_exit_code_other_than_done() {
        for kind in Kind::ALL {
            assert_ne!(Trouble::from(Error::new(kind, "x")).code(), Code::Done, "{kind:?}");
        }
    }

    #[test]
    fn json_errors_are_problem_documents_with_the_exit_code() {
        let text = json_text(&Error::new(Kind::NotFound, "there is no service 'x'"), Code::NotFound);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["type"], "urn:mcp-manager:problem:not-found");
        assert_eq!(value["exit_code"], 3);
    }
}

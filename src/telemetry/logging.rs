//! Log lines: readable sentences with fields, for people or as JSON, always on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::json::JsonLines;
use crate::error::{Error, Result};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people when standard error is a terminal, JSON otherwise.
    Auto,
    /// One readable line each.
    Human,
    /// One JSON object a line.
    Json,
}

/// Levels as people and other programs spell them, and ours.
const LEVELS: [(&str, &str); 10] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("notice", "info"),
    ("warn", "warn"),
    ("warning", "warn"),
    ("error", "error"),
    ("critical", "error"),
    ("fatal", "error"),
    ("off", "off"),
];

/// Libraries whose lower levels tell about their own workings only; a directive for one of them opens it again.
const QUIET: &str = "hyper=info,hyper_util=info,reqwest=info,notify=info,h2=info,mio=info,rmcp=info,tower=info";

/// The filter that `level` asks for: a level (`debug`, `WARNING`) or directives (`info,mcp_manager::backend=trace`).
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    let level = level.trim();
    let known = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(level)).map(|(_, level)| *level);
    let directives = match known {
        Some(level @ ("trace" | "debug")) => format!("{level},{QUIET}"),
        Some(level) => level.to_owned(),
        None if level.is_empty() => return Err("is empty".to_owned()),
        // A single word would be taken for the name of a module, and switch everything off.
        None if !level.contains(['=', ',']) => return Err(format!("'{}' is not a level", level.escape_debug())),
        None => level.to_owned(),
    };
    EnvFilter::try_new(directives).map_err(|error| error.to_string())
}

/// Starts logging for the whole process, to standard error. To be called once.
pub fn start(level: &str, format: Format) -> Result<()> {
    let filter = filter(level)
        .map_err(|message| Error::invalid_field("log_level", message, "use error, warning, info, debug or trace"))?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if format == Format::Json || (format == Format::Auto && !terminal) {
        builder.json().event_format(JsonLines).try_init()
    } else {
        builder.with_ansi(terminal).with_target(false).try_init()
    };
    started.map_err(|error| Error::internal("logging is already started", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_taken_in_every_common_spelling() {
        for level in ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "warn", "trace", "off", " info "] {
            assert!(filter(level).is_ok(), "{level}");
        }
        assert_eq!(filter("WARNING").unwrap().to_string(), "warn");
        assert_eq!(filter("CRITICAL").unwrap().to_string(), "error");
    }

    #[test]
    fn directives_are_taken_as_they_are_and_a_misspelt_level_is_refused() {
        assert_eq!(filter("info,mcp_manager::backend=trace").unwrap().to_string(), "mcp_manager::backend=trace,info");
        for bad in ["", "loud", "debgu", "info,x=loud"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}

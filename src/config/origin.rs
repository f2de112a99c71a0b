//! Where the value of a setting came from.

use std::fmt;
use std::path::PathBuf;

/// Where the value of a setting came from; a later kind wins over an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// Found out on this machine, e.g. which directory exists.
    Machine,
    /// The file of settings.
    File {
        /// The file.
        path: PathBuf,
        /// Line of the setting, from 1, where known.
        line: Option<usize>,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::Machine => formatter.write_str("default on this machine"),
            Self::File { path, line: None } => write!(formatter, "file {}", path.display()),
            Self::File { path, line: Some(line) } => write!(formatter, "file {}:{line}", path.display()),
            Self::Variable(name) => write!(formatter, "variable {name}"),
            Self::Flag(name) => write!(formatter, "flag {name}"),
        }
    }
}

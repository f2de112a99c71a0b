//! Why the engine did not do what it was asked, whichever client library reported it. What that means for services is
//! decided in [`super::errors`].

use std::time::Duration;

use containers_api::conn::{self, hyper};

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum EngineError {
    /// It answered, with an error: HTTP status and its own words (`message: cause`).
    #[error("the engine answered {status}: {message}")]
    Refused { status: u16, message: String },
    /// It did not answer.
    #[error("the engine cannot be reached: {0}")]
    Away(String),
    /// It did not answer in time.
    #[error("the engine did not answer within {} seconds", .0.as_secs())]
    Late(Duration),
    /// Its answer could not be read.
    #[error("the engine's answer could not be read: {0}")]
    Odd(String),
}

impl EngineError {
    /// Whether it said that the thing does not exist.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether the engine itself is the problem, rather than the request.
    pub(super) const fn is_away(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Late(_))
    }

    /// Whether its words contain `text`; they are the only thing that tells most failures apart.
    pub(super) fn says(&self, text: &str) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains(text))
    }
}

impl From<conn::Error> for EngineError {
    fn from(error: conn::Error) -> Self {
        match error {
            conn::Error::SerdeJsonError(error) => Self::Odd(error.to_string()),
            conn::Error::Encoding(error) => Self::Odd(error.to_string()),
            conn::Error::Fault { code, message } => Self::Refused { status: code.as_u16(), message },
            other => Self::Away(other.to_string()),
        }
    }
}

impl From<serde_json::Error> for EngineError {
    fn from(error: serde_json::Error) -> Self {
        Self::Odd(error.to_string())
    }
}

impl From<hyper::Error> for EngineError {
    fn from(error: hyper::Error) -> Self {
        Self::Away(error.to_string())
    }
}

impl From<podman_api::Error> for EngineError {
    // By value: the crate's `clone` of an error recurses without end.
    fn from(error: podman_api::Error) -> Self {
        match error {
            podman_api::Error::Fault { code, message } => Self::Refused { status: code.as_u16(), message },
            podman_api::Error::Error(error) => error.into(),
            podman_api::Error::SerdeJsonError(error) => error.into(),
            podman_api::Error::IO(error) => Self::Away(error.to_string()),
            other => Self::Odd(other.to_string()),
        }
    }
}

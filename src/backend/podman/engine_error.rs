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

/// Asks once more after a fault of the engine itself. Podman 5 answers with one when, having ended a container, it finds
/// something of it already cleared away, such as its line in the name server's file; asked again it goes on from there.
pub(super) async fn again_if_faulty<A>(ask: impl Fn() -> A) -> Result<(), EngineError>
where
    A: Future<Output = Result<(), EngineError>>,
{
    match ask().await {
        Err(error @ EngineError::Refused { status: 500.., .. }) => {
            tracing::debug!(%error, "asking the engine once more");
            ask().await
        }
        answer => answer,
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn the_engine_is_asked_once_more_after_a_fault_of_its_own_only() {
        let refused = |status| Err(EngineError::Refused { status, message: "netavark".to_owned() });
        for (answers, asked, last) in [
            (vec![Ok(())], 1, None),
            (vec![refused(500), Ok(())], 2, None),
            (vec![refused(500), refused(500)], 2, Some(500)),
            (vec![refused(409)], 1, Some(409)),
        ] {
            let answers = RefCell::new(answers.into_iter());
            let count = RefCell::new(0);
            let answer = again_if_faulty(|| {
                *count.borrow_mut() += 1;
                std::future::ready(answers.borrow_mut().next().unwrap())
            });
            let status = answer.await.err().map(|error| if let EngineError::Refused { status, .. } = error { status } else { 0 });
            assert_eq!((status, *count.borrow()), (last, asked));
        }
    }
}

//! Errors as answers of handlers; the shape and the statuses are [`crate::problem`]'s.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::{Error, Kind};
pub use crate::problem::Problem as ProblemDocument;
use crate::problem::status;

/// An error as an answer.
#[derive(Debug)]
pub struct Problem(pub Error);

/// Result of handlers.
pub type Answer<T> = Result<T, Problem>;

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl Problem {
    /// The answer, under another status than the kind's own.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Response {
        let Self(error) = self;
        if error.kind == Kind::Internal {
            // Logged once, here, where it is handled; the caller does not see the cause.
            tracing::error!(detail = error.detail, cause = ?error.source, "a request failed");
        }
        let document = ProblemDocument { status: status.as_u16(), ..ProblemDocument::from(error) };
        let mut response: Response = document.into_response();
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = status(self.0.kind);
        self.with_status(status)
    }
}

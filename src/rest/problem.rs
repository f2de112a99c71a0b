//! Errors as RFC 9457 problem documents: the one file that speaks HTTP for [`crate::error`].

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, FieldError, Kind};

/// What every error answer holds (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDocument {
    /// Stable name of the kind of problem: `urn:mcp-manager:problem:KIND`.
    #[serde(rename = "type")]
    #[schema(example = "urn:mcp-manager:problem:not-found")]
    pub kind: String,
    /// Short title, the same for every problem of the kind.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Every field that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

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

/// The status that stands for a kind of error.
#[must_use]
pub const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::AlreadyExists | Kind::Conflict | Kind::Cancelled => StatusCode::CONFLICT,
        Kind::LimitReached => StatusCode::TOO_MANY_REQUESTS,
        Kind::NotSupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::ImageNotFound | Kind::ImageAccessDenied | Kind::WrongArchitecture | Kind::StartFailed => {
            StatusCode::FAILED_DEPENDENCY
        }
        Kind::RegistryUnavailable => StatusCode::BAD_GATEWAY,
        Kind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        Kind::BackendUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The problem document of an error.
#[must_use]
pub fn document(error: &Error, status: StatusCode) -> ProblemDocument {
    ProblemDocument {
        kind: format!("urn:mcp-manager:problem:{}", error.kind.slug()),
        title: error.kind.title().to_owned(),
        status: status.as_u16(),
        detail: error.detail.clone(),
        remedy: error.remedy.clone(),
        errors: error.fields.clone(),
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
        // The document holds nothing but text and numbers, so it can always be written.
        let body = serde_json::to_vec(&document(&error, status)).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
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
        let status = match self.0.kind {
            // Nobody said who they are: that is the remedy, not another role.
            Kind::Forbidden if self.0.detail.starts_with("'anonymous'") => StatusCode::UNAUTHORIZED,
            kind => status(kind),
        };
        self.with_status(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_an_error_status_and_a_stable_type() {
        let table: Vec<String> =
            Kind::ALL.iter().map(|kind| format!("{} {} {}", status(*kind).as_u16(), kind.slug(), kind.title())).collect();
        assert!(Kind::ALL.iter().all(|kind| status(*kind).as_u16() >= 400));
        insta::assert_snapshot!(table.join("\n"));
    }
}

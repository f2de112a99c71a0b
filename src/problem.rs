//! RFC 9457 problem documents: how an [`Error`] looks in HTTP. The gateway, the listener and the REST face share it.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, FieldError, Kind};

/// Media type of problem documents.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, for a caller that reads JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// Stable URI of the kind of problem: `urn:mcp-manager:problem:SLUG`.
    pub r#type: String,
    /// The same for every problem of its type.
    pub title: String,
    /// The HTTP status.
    #[serde(serialize_with = "as_number")]
    pub status: StatusCode,
    /// What went wrong this time.
    pub detail: String,
    /// What the caller can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Further members.
    #[serde(flatten)]
    pub members: Map<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of type `slug`.
    pub fn new(status: StatusCode, slug: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:mcp-manager:problem:{slug}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            remedy: None,
            errors: Vec::new(),
            members: Map::new(),
        }
    }

    /// Adds what the caller can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds a member of its own.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The answer that carries it.
    #[must_use]
    pub fn into_response<B: From<Bytes>>(self) -> Response<B> {
        // A struct of plain values always serialises.
        let body = Bytes::from(serde_json::to_vec(&self).unwrap_or_default());
        let mut headers = http::HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let mut response = Response::new(B::from(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let mut problem = Self::new(status(error.kind), error.kind.slug(), error.kind.title(), error.detail);
        (problem.remedy, problem.errors) = (error.remedy, error.fields);
        problem
    }
}

impl axum::response::IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        Self::into_response(self)
    }
}

/// The HTTP status of each kind of error.
#[must_use]
pub const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::AlreadyExists | Kind::Conflict | Kind::Cancelled => StatusCode::CONFLICT,
        Kind::LimitReached => StatusCode::TOO_MANY_REQUESTS,
        Kind::NotSupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::ImageNotFound | Kind::ImageAccessDenied | Kind::WrongArchitecture | Kind::StartFailed => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Kind::RegistryUnavailable => StatusCode::BAD_GATEWAY,
        Kind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        Kind::BackendUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_a_document_with_its_remedy_and_fields() {
        let error = Error::invalid_field("port", "is 0", "use 1 to 65535");
        insta::assert_json_snapshot!(Problem::from(error).member("service", "echo"));
    }

    #[test]
    fn every_kind_of_error_is_answered_as_an_error() {
        for kind in Kind::ALL {
            assert!(status(kind).is_client_error() || status(kind).is_server_error(), "{}", kind.slug());
        }
    }
}

//! RFC 9457 problem documents: how an [`Error`] looks in HTTP. The gateway, the listener and the REST face share it.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::error::{Error, FieldError, Kind};

/// Media type of problem documents.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, for a caller that reads JSON: what every error answer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, schemars::JsonSchema)]
pub struct Problem {
    /// Stable URI of the kind of problem: `urn:mcp-manager:problem:SLUG`.
    #[schema(example = "urn:mcp-manager:problem:not-found")]
    pub r#type: String,
    /// The same for every problem of its type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// What the caller can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The fields that are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Further members.
    #[serde(flatten)]
    #[schema(ignore)]
    #[schemars(skip)]
    pub members: Map<String, Value>,
}

impl Problem {
    /// A problem of type `slug`.
    pub fn new(status: StatusCode, slug: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:mcp-manager:problem:{slug}"),
            title: title.to_owned(),
            status: status.as_u16(),
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
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = headers;
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let error = error.with_some_remedy();
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
        // What cannot be read at all is a 400; the faces that read say so themselves.
        Kind::Invalid
        | Kind::NotSupported
        | Kind::ImageNotFound
        | Kind::ImageAccessDenied
        | Kind::WrongArchitecture
        | Kind::StartFailed => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::AlreadyExists | Kind::Conflict | Kind::Cancelled => StatusCode::CONFLICT,
        Kind::LimitReached => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
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
    fn every_kind_is_an_error_status_and_a_stable_type() {
        let table: Vec<String> =
            Kind::ALL.iter().map(|kind| format!("{} {} {}", status(*kind).as_u16(), kind.slug(), kind.title())).collect();
        assert!(Kind::ALL.iter().all(|kind| status(*kind).as_u16() >= 400));
        let remedies = Kind::ALL.map(|kind| Problem::from(Error::new(kind, "x")).remedy.unwrap_or_default());
        assert!(remedies.iter().all(|remedy| !remedy.is_empty()), "{remedies:?}");
        insta::assert_snapshot!(table.join("\n"));
    }
}

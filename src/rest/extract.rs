//! What handlers get out of a request: the actor, names, bodies, queries; every failure is a problem document.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::{StatusCode, header, request::Parts};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Api;
use super::problem::Problem;
use crate::auth::presented_key;
use crate::domain::access::Actor;
use crate::domain::document::Document;
use crate::domain::name::ServiceName;
use crate::error::{Error, Kind};
use crate::server::RequestId;

/// Who asks.
pub struct Caller(pub Actor);

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let request_id = parts.extensions.get::<RequestId>().map(|id| id.0.clone());
        Ok(Self(api.authenticator.actor(presented_key(&parts.headers), request_id)?))
    }
}

/// Anybody: for what is open to all, whatever key they present.
pub struct Anyone(pub Actor);

impl FromRequestParts<Api> for Anyone {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Infallible> {
        Ok(Self(Actor::stranger(parts.extensions.get::<RequestId>().map(|id| id.0.clone()))))
    }
}

/// A service's name from the path.
pub struct Name(pub ServiceName);

impl FromRequestParts<Api> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, api)
            .await
            .map_err(|rejection| Problem(Error::invalid_field("name", rejection.body_text(), "use a service's name")))?;
        Ok(Self(text.parse()?))
    }
}

/// Parameters after the `?`; unknown ones are errors when `T` denies them.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, api).await {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => {
                let text = rejection.body_text();
                let message = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text).to_owned();
                let (field, message) = match message.split_once(": ") {
                    Some((field, message)) if !field.contains(' ') => (field.to_owned(), message.to_owned()),
                    _ => ("query".to_owned(), message),
                };
                Err(Problem(Error::invalid_field(field, message, "GET /docs lists the parameters")))
            }
        }
    }
}

/// A JSON body. Its content type is not looked at, but for forms, which only a browser's cross-site request would send.
pub struct Body(pub Value);

/// A JSON body that may be absent.
pub struct OptionalBody(pub Option<Value>);

impl FromRequest<Api> for Body {
    type Rejection = Response;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Response> {
        let OptionalBody(value) = OptionalBody::from_request(request, api).await?;
        value.map(Self).ok_or_else(|| {
            Problem(Error::invalid_field("", "the body is empty", "send a JSON object")).with_status(StatusCode::BAD_REQUEST)
        })
    }
}

impl FromRequest<Api> for OptionalBody {
    type Rejection = Response;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Response> {
        const FORMS: [&str; 3] = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_form = FORMS.iter().any(|form| content_type.starts_with(form));
        let from_browser = request.headers().contains_key(header::ORIGIN);
        if is_form && from_browser {
            let problem = Problem(Error::new(Kind::Invalid, "the body is a form").remedy("send application/json"));
            return Err(problem.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let read = Bytes::from_request(request, api);
        let bytes = within(api.settings.body_timeout, read).await?.map_err(|rejection| {
            let remedy = format!("send at most {} bytes", api.settings.max_body_bytes);
            let kind = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE { Kind::LimitReached } else { Kind::Invalid };
            let status = rejection.status();
            Problem(Error::new(kind, rejection.body_text()).remedy(remedy)).with_status(status)
        })?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(None));
        }
        Document::parse(&bytes)
            .map(|document| Self(Some(document.value)))
            .map_err(|errors| Problem(Error::invalid("the body cannot be read", errors)).with_status(StatusCode::BAD_REQUEST))
    }
}

async fn within<F: Future>(limit: Duration, future: F) -> Result<F::Output, Response> {
    tokio::time::timeout(limit, future).await.map_err(|_| {
        let detail = format!("the body did not arrive within {} s", limit.as_secs());
        let problem = Problem(Error::new(Kind::Timeout, detail).remedy("send it faster, or in a smaller body"));
        problem.with_status(StatusCode::REQUEST_TIMEOUT).into_response()
    })
}

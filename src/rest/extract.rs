//! What handlers get out of a request: the actor, names, bodies, queries; every failure is a problem document.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::{StatusCode, request::Parts};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Api;
use super::problem::Problem;
use crate::auth::presented_key;
use crate::domain::access::Actor;
use crate::domain::document::Document;
use crate::domain::name::ServiceName;
use crate::domain::{fields, shown};
use crate::error::{Error, FieldError, Kind};
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

/// Parameters that break rules although each can be read.
pub trait Rules: DeserializeOwned + Default {
    /// All the rules that they break.
    fn violations(&self) -> Vec<FieldError> {
        Vec::new()
    }
}

impl<T: Rules> FromRequestParts<Api> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, api).await.map_err(|rejection| {
            Problem(Error::invalid_field("query", rejection.body_text(), "write NAME=VALUE, joined by '&'"))
        })?;
        parameters(pairs).map(Self).map_err(|errors| Problem(Error::invalid("the parameters are not valid", errors)))
    }
}

/// Reads all parameters; all that is wrong with them otherwise.
fn parameters<T: Rules>(pairs: Vec<(String, String)>) -> Result<T, Vec<FieldError>> {
    let mut object = Map::new();
    let mut twice = Vec::new();
    for (name, value) in pairs {
        if object.contains_key(&name) {
            twice.push(FieldError::new(shown(&name), "is given twice", "keep one of them"));
        } else {
            object.insert(name, Value::String(value));
        }
    }
    let mut read = fields::read_part::<T>(&object, &|_| true, &[]);
    if !read.errors.is_empty() {
        // Parameters are texts. Where something else is wanted, a text that reads as such is it.
        for error in read.errors {
            let text = object.get(&error.field).and_then(Value::as_str);
            let value = text.and_then(|text| serde_json::from_str(text).ok());
            if let Some(value @ (Value::Number(_) | Value::Bool(_))) = value {
                object.insert(error.field, value);
            }
        }
        read = fields::read_part(&object, &|_| true, &[]);
    }
    let mut errors = [twice, read.errors].concat();
    if errors.is_empty() {
        return Ok(read.value);
    }
    errors.extend(read.value.violations().into_iter().filter(|error| !read.unread.contains(&error.field)));
    Err(fields::bounded(errors))
}

/// A JSON body, whatever content type it is said to have.
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
        let read = Bytes::from_request(request, api);
        let bytes = within(api.settings.body_timeout, read).await?.map_err(|rejection| {
            let status = rejection.status();
            let error = if status == StatusCode::PAYLOAD_TOO_LARGE {
                let remedy = format!("send at most {} bytes (setting server.max_body_bytes)", api.settings.max_body_bytes);
                Error::new(Kind::LimitReached, "the body is too large").remedy(remedy)
            } else {
                Error::new(Kind::Invalid, rejection.body_text()).remedy("send the whole body")
            };
            Problem(error).with_status(status)
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

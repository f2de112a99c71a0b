//! What handlers get out of a request: the actor, names, bodies, queries; every failure is a problem document.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
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
        let Segment(text) = Segment::from_request_parts(parts, api).await?;
        Ok(Self(text.parse()?))
    }
}

/// The one parameter of the path, as text.
pub struct Segment(pub String);

impl FromRequestParts<Api> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let read = Path::<String>::from_request_parts(parts, api).await;
        read.map(|Path(text)| Self(text)).map_err(|rejection| Problem(unreadable(rejection)))
    }
}

fn unreadable(rejection: PathRejection) -> Error {
    let text = rejection.body_text();
    if let PathRejection::FailedToDeserializePathParams(failed) = rejection
        && let ErrorKind::InvalidUtf8InPathParam { key } = failed.into_kind()
    {
        return Error::invalid_field(key, "is not UTF-8", "write it as text, with %XX for the bytes of its UTF-8");
    }
    Error::new(Kind::Invalid, format!("the address cannot be read: {text}"))
}

/// That there are no parameters after the `?` where none is known: one that is misspelt, or meant for another endpoint,
/// would be passed over in silence.
pub struct NoParameters;

impl FromRequestParts<Api> for NoParameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let pairs = pairs(parts, api).await?;
        none_of(pairs.iter().map(|(name, _)| name.as_str()), "unknown parameter", "leave it out: there are none here")
            .map(|()| Self)
            .map_err(|errors| Problem(Error::invalid("the request is not valid", errors)))
    }
}

/// That there is no body where none is known, or nothing in it; programs send `{}` out of habit.
pub struct NoBody;

impl FromRequest<Api> for NoBody {
    type Rejection = Response;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Response> {
        let OptionalBody(body) = OptionalBody::from_request(request, api).await?;
        let refused = |errors| Problem(Error::invalid("there is nothing to be said in a body here", errors)).into_response();
        match body.map(|body| body.value) {
            None | Some(Value::Null) => Ok(Self),
            Some(Value::Object(fields)) => {
                none_of(fields.keys().map(String::as_str), "unknown field", "leave it out: nothing is read here")
                    .map(|()| Self)
                    .map_err(refused)
            }
            Some(_) => Err(refused(vec![FieldError::new("", "is not known", "send no body")])),
        }
    }
}

fn none_of<'a>(names: impl Iterator<Item = &'a str>, message: &str, remedy: &str) -> Result<(), Vec<FieldError>> {
    let unknown: Vec<FieldError> =
        names.take(fields::MAX_ERRORS + 1).map(|name| FieldError::new(shown(name), message, remedy)).collect();
    if unknown.is_empty() { Ok(()) } else { Err(fields::bounded(unknown)) }
}

async fn pairs(parts: &mut Parts, api: &Api) -> Result<Vec<(String, String)>, Problem> {
    let read = Query::<Vec<(String, String)>>::from_request_parts(parts, api).await;
    read.map(|Query(pairs)| pairs)
        .map_err(|rejection| Problem(Error::invalid_field("query", rejection.body_text(), "write NAME=VALUE, joined by '&'")))
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
        parameters(pairs(parts, api).await?)
            .map(Self)
            .map_err(|errors| Problem(Error::invalid("the request is not valid", errors)))
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
pub struct Body(pub Written);

/// A JSON body that may be absent.
pub struct OptionalBody(pub Option<Written>);

/// What a body says, and the names that it gives twice.
pub struct Written {
    /// What it says; of a name that is given twice, the last.
    pub value: Value,
    /// The names that are given twice.
    pub twice: Vec<FieldError>,
}

impl Written {
    /// What `read` makes of it; when names are given twice, the list of these and of what `read` finds wrong.
    pub fn read<T>(&self, read: impl FnOnce(&Value) -> Result<T, Error>) -> Result<T, Error> {
        let read = read(&self.value);
        if self.twice.is_empty() {
            return read;
        }
        fields::once(read.map_err(|error| error.fields), &self.twice)
            .map_err(|errors| Error::invalid("the request is not valid", errors))
    }

    /// The value, when no name is given twice; what is wrong with it is told with those that are.
    pub fn once(self, wrong: impl FnOnce(&Value) -> Vec<FieldError>) -> Result<Value, Error> {
        if !self.twice.is_empty() {
            self.read(|value| Err::<(), _>(Error::invalid("", wrong(value))))?;
        }
        Ok(self.value)
    }
}

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
        Document::read(&bytes)
            .map(|document| Self(Some(Written { value: document.value, twice: document.twice })))
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

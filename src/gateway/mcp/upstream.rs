//! One message to a service, and what comes back. Everything goes through the gateway, which chooses the replica.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::raw::{Message, Object};
use crate::domain::name::ServiceName;
use crate::gateway::{Client, Gateway, ResponseBody};
use crate::rpc::events::Events;

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(super) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub(super) const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Longest message of a service that is read as a whole. What is only passed on has no limit.
const MAX_MESSAGE: usize = 64 << 20;
const MAX_PROBLEM: usize = 64 << 10;

/// The way to services.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    pub(super) gateway: Arc<Gateway>,
    client: Client,
}

/// Why a service did not answer as MCP wants it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unanswered {
    /// The gateway's word on why.
    #[error("{0}")]
    Unreachable(String),
    #[error("answered {0}")]
    Refused(StatusCode),
    /// What was said about no request, as of a session that is not known (any more).
    #[error("did not take the message: {0}")]
    NotTaken(String),
    /// The service's own error, which is passed on as it is.
    #[error("answered with an error: {}", .0.text("message").unwrap_or_default())]
    Said(Object),
    #[error("answered in {0} rather than JSON or events")]
    Foreign(String),
    #[error("broke off: {0}")]
    BrokeOff(String),
    #[error("does not speak MCP: {0}")]
    NotMcp(String),
    #[error("did not answer within {} s", .0.as_secs_f32())]
    Late(Duration),
}

impl Upstream {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        let client = gateway.client(([127, 0, 0, 1], 0).into());
        Self { gateway, client }
    }

    /// Sends a request with the headers of MCP that are given, and waits for the head of the answer.
    pub(super) async fn send(
        &self,
        service: &ServiceName,
        method: Method,
        mut headers: HeaderMap,
        body: impl Into<Body>,
    ) -> Result<Response<ResponseBody>, Unanswered> {
        let host = self.gateway.host(service.as_str());
        headers.insert(HOST, HeaderValue::from_str(&host).unwrap_or_else(|_| HeaderValue::from_static("localhost")));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json, text/event-stream"));
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let mut request = Request::new(body.into());
        *request.uri_mut() = self.gateway.mcp_path(service.as_str()).parse().unwrap_or_default();
        (*request.method_mut(), *request.headers_mut()) = (method, headers);
        let response = self.gateway.forward(service.as_str(), request, &self.client).await;
        if !response.status().is_success() && kind(response.headers()) == crate::problem::MEDIA_TYPE {
            let status = response.status();
            let body = http_body_util::Limited::new(response.into_body(), MAX_PROBLEM).collect().await;
            let problem: Value = body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok()).unwrap_or_default();
            // The gateway's own words name the service; a service may speak of problems in this form, too.
            return Err(match (problem["service"].as_str(), problem["detail"].as_str()) {
                (Some(_), Some(detail)) => Unanswered::Unreachable(detail.to_owned()),
                _ => Unanswered::Refused(status),
            });
        }
        Ok(response)
    }

    /// Sends a message and reads what comes back, one message after the other.
    pub(super) async fn post(
        &self,
        service: &ServiceName,
        headers: HeaderMap,
        body: impl Into<Body>,
    ) -> Result<Answers, Unanswered> {
        Answers::of(self.send(service, Method::POST, headers, body).await?)
    }
}

fn kind(headers: &HeaderMap) -> &str {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// The messages of one answer.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) status: StatusCode,
    pub(super) session: Option<HeaderValue>,
    body: Option<ResponseBody>,
    /// What has been read ahead.
    ahead: Option<(Message, Bytes)>,
    /// `None` when the whole body is one message.
    events: Option<Events>,
}

impl Answers {
    /// An answer in JSON or in events; one without a body (202) has no messages.
    pub(super) fn of(response: Response<ResponseBody>) -> Result<Self, Unanswered> {
        let (parts, body) = response.into_parts();
        // Whatever is in such an answer, it is no message; many servers do not say beforehand that it is empty.
        let is_nothing = matches!(parts.status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT);
        let events = match kind(&parts.headers) {
            _ if is_nothing => None,
            "application/json" => None,
            "text/event-stream" => Some(Events::default()),
            _ if parts.status.is_success() && hyper::body::Body::is_end_stream(&body) => None,
            _ if !parts.status.is_success() => return Err(Unanswered::Refused(parts.status)),
            other => return Err(Unanswered::Foreign(other.to_owned())),
        };
        let session = parts.headers.get(SESSION_ID).cloned();
        let body = (!is_nothing).then_some(body);
        Ok(Self { status: parts.status, session, body, ahead: None, events })
    }

    pub(super) const fn is_stream(&self) -> bool {
        self.events.is_some()
    }

    /// The id of the last event that has one; it is empty where nothing can be had again.
    pub(super) fn last_event(&self) -> Option<&[u8]> {
        self.events.as_ref()?.last_id()
    }

    /// How long the service wants to be left alone before the stream is opened again.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.events.as_ref()?.retry()
    }

    /// The first message, which is read again with the others; `None` when there is none.
    pub(super) async fn first(&mut self) -> Result<Option<&Message>, Unanswered> {
        self.ahead = self.next().await?;
        Ok(self.ahead.as_ref().map(|(message, _)| message))
    }

    /// The next message; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(Message, Bytes)>, Unanswered> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        let broke = |error: &dyn std::fmt::Display| Unanswered::BrokeOff(error.to_string());
        if self.events.is_none() {
            let Some(body) = self.body.take() else { return Ok(None) };
            let text = http_body_util::Limited::new(body, MAX_MESSAGE).collect().await.map_err(|error| broke(&error))?;
            return Self::message(text.to_bytes(), self.status);
        }
        loop {
            let Some(events) = &mut self.events else { return Ok(None) };
            if let Some(data) = events.take() {
                return Self::message(data, self.status);
            }
            if events.pending() > MAX_MESSAGE {
                return Err(broke(&"a message is too long"));
            }
            let Some(body) = &mut self.body else { return Ok(None) };
            match body.frame().await {
                Some(Ok(frame)) => events.push(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(error)) => return Err(broke(&error)),
                None => self.body = None,
            }
        }
    }

    fn message(text: Bytes, status: StatusCode) -> Result<Option<(Message, Bytes)>, Unanswered> {
        match Message::parse(&text) {
            Some(message) => Ok(Some((message, text))),
            None if text.is_empty() && status.is_success() => Ok(None),
            None if !status.is_success() => Err(Unanswered::Refused(status)),
            None => Err(Unanswered::BrokeOff("what it sent is no message".to_owned())),
        }
    }
}

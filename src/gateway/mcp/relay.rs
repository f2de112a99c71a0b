//! What a service answers to one request, on its way to the client: as JSON when the answer comes first, as a stream of
//! events when something comes before it or when it takes its time.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Response, StatusCode};
use tokio_util::sync::CancellationToken;

use super::KEEP_ALIVE;
use super::raw::{Message, Object, Raw, error};
use super::upstream::{Answers, Unanswered};
use crate::domain::name::ServiceName;
use crate::rpc;
use crate::rpc::events::{KEEP_ALIVE as COMMENT, event};

/// After so long without a word the client is given an open stream rather than nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// One answer under way.
pub(super) struct Relay<C> {
    pub(super) answers: Answers,
    /// The id of the client's request.
    pub(super) id: Raw,
    pub(super) service: ServiceName,
    /// What the client gets of a message: given parsed and as it came.
    pub(super) convert: C,
    /// The client has called the request off, and waits for no answer.
    pub(super) cancelled: CancellationToken,
}

impl<C> Relay<C>
where
    C: FnMut(Message, Bytes) -> Option<Bytes> + Send + 'static,
{
    /// The client's answer.
    pub(super) async fn run(mut self) -> Response<Body> {
        if !self.answers.is_stream() {
            let Some((text, _)) = self.next().await else { return nothing() };
            return super::json(StatusCode::OK, text);
        }
        match tokio::time::timeout(PATIENCE, self.next()).await {
            Ok(None) => nothing(),
            Ok(Some((text, true))) => super::json(StatusCode::OK, text),
            Ok(Some((text, false))) => super::stream(stream::iter([Ok(event(&text))]).chain(self.rest())),
            Err(_) => super::stream(stream::iter([Ok(COMMENT)]).chain(self.rest())),
        }
    }

    fn rest(self) -> impl stream::Stream<Item = Result<Bytes, Infallible>> + Send {
        stream::unfold(Some(self), |relay| async move {
            let mut relay = relay?;
            match tokio::time::timeout(KEEP_ALIVE, relay.next()).await {
                Ok(next) => next.map(|(text, last)| (Ok(event(&text)), (!last).then_some(relay))),
                Err(_) => Some((Ok(COMMENT), Some(relay))),
            }
        })
    }

    /// The next message for the client, and whether it is the last. The last always is an answer; it is left out when the
    /// service has none to a request that was called off. May be dropped and called again while a stream is read.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        let error = loop {
            match self.answers.next().await {
                Ok(Some((message, text))) => {
                    let last = message.is_answer();
                    if let Some(text) = (self.convert)(message, text) {
                        return Some((text, last));
                    }
                }
                Ok(None) => break Unanswered::BrokeOff("it ended without an answer".to_owned()),
                Err(error) => break error,
            }
        };
        (!self.cancelled.is_cancelled()).then(|| (failure(&self.id, &self.service, &error), true))
    }
}

/// What a client gets for a request that it has called off, if there is no answer.
pub(super) fn nothing() -> Response<Body> {
    super::stream(stream::empty())
}

/// The JSON-RPC error for a request that a service did not answer.
pub(super) fn failure(id: &Raw, service: &ServiceName, why: &Unanswered) -> Bytes {
    let text = match why {
        Unanswered::Said(said) => {
            let mut whole = Object::default();
            whole.put("jsonrpc", &"2.0");
            whole.set("id", id.clone());
            whole.put("error", said);
            return whole.to_text().into();
        }
        Unanswered::Unreachable(detail) => detail.clone(),
        other => format!("the service '{service}' {other}"),
    };
    error(Some(id), rpc::INTERNAL_ERROR, &text, Some(&serde_json::json!({"service": service.as_str()})))
}

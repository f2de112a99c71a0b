//! Several messages in one body, as revision 2025-03-26 has it: answered together, or as events where the server says
//! anything before its answers. Leaves out what is done with each of them (see [`super::super::session`]).

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;

use super::super::json;
use super::super::reader::Reader;
use super::super::scan::{Kind, Refused, scan_of_client};
use super::super::session::Session;
use super::super::splice::Pieces;
use super::super::stream::{First, Stream};
use super::Front;
use super::legacy::{Accepts, SILENCE, id_of, look};
use super::response::{self, Response, empty, error, events, no_session};
use crate::rpc;
use crate::rpc::batch::{self, MOST};

impl Front {
    pub(super) async fn batch(&self, id: &str, accepts: Accepts, text: &Bytes) -> Response {
        let Some(session) = self.bridge.sessions.get(id) else { return no_session() };
        let elements = json::check(text).and_then(|whole| json::elements(text, whole)).unwrap_or_default();
        let is_old = session.version.get().is_some_and(|version| batch::are_in(version));
        if !is_old || elements.is_empty() || elements.len() > MOST {
            let says = format!("a batch is 1 to {MOST} messages of revision 2025-03-26");
            return error(StatusCode::BAD_REQUEST, None, rpc::INVALID_REQUEST, &says);
        }
        let busy = session.busy();
        let whole = session.open_stream(false);
        let mut calls = Vec::new();
        for element in elements {
            let stream = session.open_stream(!accepts.events);
            if accepts.events {
                stream.join(&whole);
            }
            if self.bring(&session, text.slice(element.start..element.end), &stream).await {
                calls.push(stream);
            }
        }
        if calls.is_empty() {
            return empty(StatusCode::ACCEPTED);
        }
        if !accepts.events {
            let mut answers = Vec::new();
            for stream in calls {
                if let First::Answer(answer) = stream.first().await {
                    answers.push(answer);
                }
            }
            return together(answers);
        }
        let count = calls.len();
        let ended = Arc::clone(&whole);
        let mut all = Box::pin(async move {
            for stream in calls {
                // What it said is on the stream of the batch; this is its end.
                let _nothing = stream.first().await;
            }
            ended.close();
        });
        if accepts.json && tokio::time::timeout(SILENCE, &mut all).await.is_ok() {
            if let Some(answers) = whole.take_exactly(count) {
                return together(answers);
            }
        } else {
            self.bridge.context.tasks.spawn("batch", all);
        }
        session.keep(&whole);
        events(Reader::open(whole, look(&session), None, Some(Box::new(busy))))
    }

    /// Brings one message of a batch to the server; whether it gets an answer, which comes on `stream`.
    async fn bring(&self, session: &Arc<Session>, text: Bytes, stream: &Arc<Stream>) -> bool {
        let message = match scan_of_client(&text) {
            Ok(message) => message,
            Err(refused) => {
                let code = if matches!(refused, Refused::Json(_)) { rpc::PARSE_ERROR } else { rpc::INVALID_REQUEST };
                stream.finish(rpc::error(None, code, &refused.to_string(), None));
                return true;
            }
        };
        match message.kind() {
            Kind::Request => {
                if let Err(failed) = session.request(text.clone(), &message, stream).await {
                    stream.finish(rpc::error(id_of(&text, &message), rpc::INTERNAL_ERROR, &failed.to_string(), None));
                }
                return true;
            }
            Kind::Notification => {
                if let Err(error) = session.notify(text, &message).await {
                    self.bridge.context.metrics.messages_dropped.add(1);
                    tracing::debug!(%error, "a notification of a batch could not be brought to the server");
                }
            }
            Kind::Response => session.answer(&text, &message),
        }
        false
    }
}

/// All answers as one.
fn together(answers: impl IntoIterator<Item = Pieces>) -> Response {
    let mut whole = vec![b'['];
    for answer in answers {
        if whole.len() > 1 {
            whole.push(b',');
        }
        answer.for_each(|piece| whole.extend_from_slice(&piece));
    }
    whole.push(b']');
    response::json(StatusCode::OK, Bytes::from(whole))
}

//! Questions of a server of the stateless era to a client of the earlier ones, and who waits for their answers. Leaves out
//! the calls that they belong to (see [`super::backward`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::super::json::{self, Span};
use super::super::scan::{Message, scan};
use super::super::stream::Stream;
use crate::rpc;

/// What a call ends with whose client does not answer any more.
pub(super) const ENDED: &[u8] = br#"{"code":-32603,"message":"the session has ended"}"#;

/// All questions to one client.
#[derive(Default)]
pub(super) struct Questions {
    /// Who waits for the client's answer, by the bridge's id.
    waiting: Mutex<HashMap<String, oneshot::Sender<Bytes>>>,
    last: AtomicU64,
}

/// A question that waits for its answer. When it is dropped without one, the client is told that nobody waits any more.
struct Question<'a> {
    all: &'a Questions,
    id: String,
    on: &'a Stream,
    /// The server's name for it, JSON.
    name: &'a [u8],
    is_form: bool,
    answer: oneshot::Receiver<Bytes>,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.all.waiting().remove(&self.id).is_some() {
            self.on.push(rpc::cancelled(rpc::quoted(&self.id).as_bytes(), "the call that it belongs to is over"));
        }
    }
}

impl Questions {
    /// Asks the client all `questions` of `text` at once, on this stream, and waits until the limit for its answers: a JSON
    /// object of them, or the error that the call ends with.
    pub(super) async fn ask(
        &self,
        text: &Bytes,
        questions: Option<Span>,
        on: &Arc<Stream>,
        limit: Option<Duration>,
    ) -> Result<Vec<u8>, Bytes> {
        let asked = questions.into_iter().flat_map(|questions| json::members(text, questions)).flatten();
        let asked: Vec<_> = asked.map(|question| self.put(text, question.key.of(text), question.value, on)).collect();
        let answers = answers(asked);
        let Some(limit) = limit else { return answers.await };
        tokio::time::timeout(limit, answers).await.unwrap_or_else(|_| {
            let says = format!("the client did not answer within {} s", limit.as_secs());
            Err(format!("{{\"code\":{},\"message\":\"{says}\"}}", rpc::INTERNAL_ERROR).into())
        })
    }

    fn put<'a>(&'a self, text: &Bytes, name: &'a [u8], question: Span, on: &'a Stream) -> Question<'a> {
        let id = format!("mcp-bridge-{}", self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let [method, params] = json::find(text, Some(question), ["method", "params"]);
        let method = method.and_then(|method| json::string(text, method)).unwrap_or_default();
        let params = params.map_or(&b"{}"[..], |params| params.of(text));
        let (sender, answer) = oneshot::channel();
        self.waiting().insert(id.clone(), sender);
        on.push(rpc::request(rpc::quoted(&id).as_bytes(), &method, params));
        Question { all: self, id, on, name, is_form: method == "elicitation/create", answer }
    }

    /// Brings the client's answer to one of them.
    pub(super) fn answered(&self, text: &Bytes, message: &Message) {
        let id = message.id.and_then(|id| json::string(text, id)).unwrap_or_default();
        if let Some(waiting) = self.waiting().remove(&*id) {
            // Nobody may be waiting any more.
            let _gone = waiting.send(text.clone());
        }
    }

    /// Ends all of them with the session.
    pub(super) fn end(&self) {
        self.waiting().clear();
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Bytes>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answers(asked: Vec<Question<'_>>) -> Result<Vec<u8>, Bytes> {
    let ended = || Bytes::from_static(ENDED);
    let mut answers = vec![b'{'];
    for mut question in asked {
        let said = (&mut question.answer).await.map_err(|_| ended())?;
        let message = scan(&said).unwrap_or_default();
        let result = match message.result {
            Some(result) => result.of(&said),
            // A server that got nothing for its question would ask again. A form can be left; other refusals end the call.
            None if question.is_form => br#"{"action":"cancel"}"#,
            None => return Err(message.error.map_or_else(ended, |error| said.slice(error.start..error.end))),
        };
        answers.extend_from_slice(if answers.len() > 1 { b"," } else { b"" });
        answers.extend_from_slice(question.name);
        answers.push(b':');
        answers.extend_from_slice(result);
    }
    answers.push(b'}');
    Ok(answers)
}

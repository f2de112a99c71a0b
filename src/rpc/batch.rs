//! Several messages in one body, as revision 2025-03-26 of the Model Context Protocol has it: taken apart, and the answers
//! to them put together. Leaves out what each is answered. The bridge has a way of its own, which copies nothing and whose
//! streams can be resumed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::events::{Events, KEEP_ALIVE as COMMENT, event};

/// Most messages of one batch.
pub const MOST: usize = 100;
/// After so long the answers that there are go out as events, and the others after them.
const PATIENCE: Duration = Duration::from_secs(2);
/// The error of a request that ended without an answer.
const UNANSWERED: &str = "the request has ended without an answer, as its session or the server did";
/// A stream says so often that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Whether sessions of this revision have batches.
#[must_use]
pub fn are_in(revision: &str) -> bool {
    // The one before is JSON-RPC as it is, which has them.
    matches!(revision, "2025-03-26" | "2024-11-05")
}

/// The messages of a batch, as they came.
///
/// # Errors
/// What is wrong with it as a whole.
pub fn messages(batch: &[u8]) -> Result<Vec<&RawValue>, String> {
    let Messages(messages) = serde_json::from_slice(batch).map_err(|error| format!("this is no batch: {error}"))?;
    if messages.is_empty() {
        return Err("this batch has no messages".to_owned());
    }
    if messages.iter().any(|message| method(message).as_deref() == Some("initialize")) {
        return Err("initialize cannot be part of a batch; send it by itself".to_owned());
    }
    Ok(messages)
}

/// What is in a batch, read no further than is allowed: a short message takes many times its length.
struct Messages<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Messages<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Messages<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array of messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut found = Vec::new();
                while let Some(message) = sequence.next_element()? {
                    if found.len() == MOST {
                        return Err(A::Error::custom(format_args!("it has more than {MOST} messages")));
                    }
                    found.push(message);
                }
                Ok(Messages(found))
            }
        }
        deserializer.deserialize_seq(Reading)
    }
}

/// The answers to the messages of a batch, in the making.
#[derive(Default)]
pub struct Answers(Vec<Asked>);

impl Answers {
    /// A message is answered with this, as it is none that could be taken.
    pub fn refuse(&mut self, answer: Response<Body>) {
        self.0.push(Asked { id: None, answer: std::future::ready(answer).boxed() });
    }

    /// A message is answered so; `id`, JSON, is that of a request. What is no request is brought where it belongs before any
    /// request is, and has no answer unless it is refused.
    pub async fn add(&mut self, id: Option<String>, answer: BoxFuture<'static, Response<Body>>) {
        if id.is_some() {
            self.0.push(Asked { id, answer });
            return;
        }
        let answer = answer.await;
        if !answer.status().is_success() {
            self.refuse(answer);
        }
    }

    /// The answer to the batch.
    pub async fn together(self) -> Response<Body> {
        together(self.0).await
    }
}

/// A message of a batch that may get an answer.
struct Asked {
    /// The id of a request, JSON; none for what is answered only when it is refused.
    id: Option<String>,
    /// What it is answered.
    answer: BoxFuture<'static, Response<Body>>,
}

/// The method of a message; the last, where it is there twice, as for who reads it next.
fn method(message: &RawValue) -> Option<String> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(message.get()).ok()?;
    serde_json::from_str(members.get("method")?.get()).ok()
}

/// The answer to a batch, of those to its requests: one JSON text when there is nothing but answers and all come soon, else
/// a stream of events. What refuses one request and is no message, and so was said of what they have in common, is the
/// answer to all. A request whose answer ends before it is there is answered with an error.
async fn together(asked: Vec<Asked>) -> Response<Body> {
    let each = asked.into_iter().map(|Asked { id, answer }| owed(id, answer.map(said).flatten_stream().boxed()));
    let mut all: SelectAll<BoxStream<'static, Said>> = each.collect();
    let mut patience = pin!(tokio::time::sleep(PATIENCE));
    let mut first = Vec::new();
    loop {
        let said = tokio::select! {
            said = all.next() => said,
            () = &mut patience => break,
        };
        match said {
            Some(Said::Message(message)) => {
                let is_answer = method(&message).is_none();
                first.push(message);
                if !is_answer {
                    break;
                }
            }
            Some(Said::Refusal(refusal)) => return *refusal,
            None => return whole(&first),
        }
    }
    let first = stream::iter(first).map(|message| Ok(event(message.get().as_bytes())));
    events(first.chain(rest(all)))
}

/// A part of an answer.
enum Said {
    Message(Box<RawValue>),
    Refusal(Box<Response<Body>>),
}

/// What an answer says, in its order.
fn said(answer: Response<Body>) -> BoxStream<'static, Said> {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let message = |text: Bytes| serde_json::from_slice(&text).ok().map(Said::Message);
    if kind.starts_with("text/event-stream") {
        let read = (answer.into_body().into_data_stream(), Events::default());
        let texts = stream::unfold(read, |(mut body, mut events)| async move {
            loop {
                if let Some(text) = events.take() {
                    return Some((text, (body, events)));
                }
                events.push(&body.next().await?.ok()?);
            }
        });
        return texts.filter_map(move |text| std::future::ready(message(text))).boxed();
    }
    if kind.starts_with("application/json") {
        let text = async move { to_bytes(answer.into_body(), usize::MAX).await.ok().and_then(message) };
        return stream::once(text).filter_map(std::future::ready).boxed();
    }
    if answer.status().is_success() {
        return stream::empty().boxed();
    }
    stream::once(std::future::ready(Said::Refusal(Box::new(answer)))).boxed()
}

/// The same, and an error where there is no answer to the request of this id.
fn owed(id: Option<String>, said: BoxStream<'static, Said>) -> BoxStream<'static, Said> {
    if id.is_none() {
        return said;
    }
    let owed = stream::unfold((said, id), |(mut said, mut id)| async move {
        match said.next().await {
            Some(Said::Message(message)) => {
                id = id.filter(|_| method(&message).is_some());
                Some((Said::Message(message), (said, id)))
            }
            // Where it cannot be the answer to all, the error follows.
            Some(refusal) => Some((refusal, (said, id))),
            None => {
                let error = super::error(Some(id?.as_bytes()), super::INTERNAL_ERROR, UNANSWERED, None);
                let error = serde_json::from_slice(&error).ok()?;
                Some((Said::Message(error), (stream::empty().boxed(), None)))
            }
        }
    });
    owed.boxed()
}

/// What is said after the first of it.
fn rest(all: SelectAll<BoxStream<'static, Said>>) -> impl stream::Stream<Item = Result<Bytes, Infallible>> + Send {
    stream::unfold(all, |mut all| async move {
        loop {
            let text = match tokio::time::timeout(KEEP_ALIVE, all.next()).await {
                Ok(Some(Said::Message(message))) => event(message.get().as_bytes()),
                // The head of the answer is under way already; the request gets an error.
                Ok(Some(Said::Refusal(_))) => continue,
                Ok(None) => return None,
                Err(_) => COMMENT,
            };
            return Some((Ok(text), all));
        }
    })
}

fn whole(answers: &[Box<RawValue>]) -> Response<Body> {
    if answers.is_empty() {
        return with(StatusCode::ACCEPTED, None, Body::empty());
    }
    let texts: Vec<&str> = answers.iter().map(|answer| answer.get()).collect();
    with(StatusCode::OK, Some("application/json"), Body::from(format!("[{}]", texts.join(","))))
}

fn events<S>(events: S) -> Response<Body>
where
    S: stream::Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
{
    let mut response = with(StatusCode::OK, Some("text/event-stream"), Body::from_stream(events));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn with(status: StatusCode, kind: Option<&'static str>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().extend(kind.map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind))));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;

    const ONE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    const TWO: &str = r#"{"jsonrpc":"2.0","id":"2","error":{"code":-32601,"message":"x"}}"#;
    const NEWS: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#;

    async fn answered(answers: Vec<Response<Body>>) -> (u16, String, String) {
        let asked = answers.into_iter().map(|answer| Asked { id: None, answer: ready(answer).boxed() });
        let response = together(asked.collect()).await;
        let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
        let status = response.status().as_u16();
        (status, kind, String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap())
    }

    fn json(status: StatusCode, text: &'static str) -> Response<Body> {
        with(status, Some("application/json"), Body::from(text))
    }

    fn streamed(texts: &[&'static str]) -> Response<Body> {
        let all: Vec<u8> = texts.iter().flat_map(|text| event(text.as_bytes())).collect();
        with(StatusCode::OK, Some("text/event-stream"), Body::from(all))
    }

    #[test]
    fn a_batch_is_some_messages_and_none_of_them_opens_a_session() {
        let found = messages(br#" [{"id":1.0} , 7,{"method":"ping"}]"#).unwrap();
        assert_eq!(found.iter().map(|message| message.get()).collect::<Vec<_>>(), [r#"{"id":1.0}"#, "7", r#"{"method":"ping"}"#]);
        assert!(messages(format!("[{}]", vec!["1"; MOST].join(",")).as_bytes()).is_ok());
        for (text, why) in [
            ("[]".to_owned(), "no messages"),
            (format!("[{}]", vec!["1"; MOST + 1].join(",")), "more than 100"),
            (r#"[{"method":"ping"},{"id":1,"method":"initi\u0061lize"}]"#.to_owned(), "initialize"),
            (r#"[{"id":1,"method":"ping","method":"initialize"}]"#.to_owned(), "initialize"),
            ("{}".to_owned(), "no batch"),
            ("[1".to_owned(), "no batch"),
        ] {
            assert!(messages(text.as_bytes()).unwrap_err().contains(why), "{text}");
        }
    }

    #[tokio::test]
    async fn answers_that_come_soon_are_one_text_whatever_each_came_as() {
        let both = vec![json(StatusCode::OK, ONE), streamed(&[TWO]), with(StatusCode::ACCEPTED, None, Body::empty())];
        let (status, kind, text) = answered(both).await;
        assert_eq!((status, kind.as_str()), (200, "application/json"));
        assert!([format!("[{ONE},{TWO}]"), format!("[{TWO},{ONE}]")].contains(&text), "{text}");
        // What is wrong with one is answered beside the others.
        assert_eq!(answered(vec![json(StatusCode::BAD_REQUEST, TWO)]).await, (200, kind, format!("[{TWO}]")));
        assert_eq!(answered(Vec::new()).await, (202, String::new(), String::new()));
    }

    #[tokio::test]
    async fn where_more_than_answers_is_said_all_of_it_comes_as_events() {
        let (status, kind, text) = answered(vec![streamed(&[NEWS, ONE]), json(StatusCode::OK, TWO)]).await;
        assert_eq!((status, kind.as_str()), (200, "text/event-stream"));
        let mut events = Events::default();
        events.push(text.as_bytes());
        let mut found: Vec<Bytes> = std::iter::from_fn(|| events.take()).collect();
        let news = found.iter().position(|text| text == NEWS);
        assert!(news < found.iter().position(|text| text == ONE), "{found:?}");
        found.sort();
        let mut expected = [NEWS, ONE, TWO];
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn an_answer_that_takes_its_time_keeps_none_of_the_others() {
        let never = Asked { id: Some("2".to_owned()), answer: std::future::pending().boxed() };
        let soon = Asked { id: Some("1".to_owned()), answer: ready(json(StatusCode::OK, ONE)).boxed() };
        let response = together(vec![soon, never]).await;
        let mut body = response.into_body().into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap(), event(ONE.as_bytes()));
    }

    #[tokio::test]
    async fn what_is_no_message_is_the_answer_to_all() {
        let refused = with(StatusCode::NOT_ACCEPTABLE, Some("application/problem+json"), Body::from("{}"));
        let answer = answered(vec![json(StatusCode::OK, ONE), refused]).await;
        assert_eq!(answer, (406, "application/problem+json".to_owned(), "{}".to_owned()));
    }

    #[tokio::test]
    async fn a_request_whose_answer_never_comes_is_answered_with_an_error() {
        let one = |answer: Response<Body>| Asked { id: Some("1".to_owned()), answer: ready(answer).boxed() };
        for (ends, kind) in [(streamed(&[]), "application/json"), (streamed(&[NEWS]), "text/event-stream")] {
            let response = together(vec![one(ends)]).await;
            assert_eq!(response.headers()[CONTENT_TYPE], kind);
            let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let text = String::from_utf8(text.to_vec()).unwrap();
            assert!(text.contains(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"#) && text.contains(UNANSWERED), "{text}");
        }
        // What is refused when others have been answered already.
        let late = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            with(StatusCode::NOT_ACCEPTABLE, None, Body::empty())
        };
        let late = Asked { id: Some("1".to_owned()), answer: late.boxed() };
        let news = Asked { id: Some("\"2\"".to_owned()), answer: ready(streamed(&[NEWS, TWO])).boxed() };
        let text = to_bytes(together(vec![news, late]).await.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(text.contains(TWO) && text.matches(UNANSWERED).count() == 1, "{text}");
    }
}

//! How tools are called without a change to what is said: the arguments go out as the user wrote them, and the result is kept
//! as it came. Numbers that no type here holds, `-0` and the order of members would not survive being read and written.
//!
//! Everything else of the protocol is the library's affair: it writes the call and gets a result with nothing in it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::common::client_side_sse::BoxedSseResponse;
use rmcp::transport::common::http_header::{EVENT_STREAM_MIME_TYPE, HEADER_SESSION_ID, JSON_MIME_TYPE};
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use sse_stream::SseStream;

/// The text of a JSON value.
pub type Raw = Box<RawValue>;

/// An answer, or an event of one, may be as long as this; so it is for all else that the library reads.
const MAX_ANSWER: usize = 16 << 20;

type Fault = StreamableHttpError<reqwest::Error>;

/// An HTTP client that passes the arguments and the result of one call.
#[derive(Debug, Clone)]
pub struct Verbatim {
    http: reqwest::Client,
    arguments: Option<Raw>,
    result: Arc<Mutex<Option<Raw>>>,
}

/// An answer to a request.
#[derive(Deserialize)]
struct Answer {
    id: Raw,
    result: Option<Raw>,
    error: Option<Refusal>,
}

/// What is shown of an error.
#[derive(Deserialize)]
struct Refusal {
    code: Raw,
    message: Raw,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "resultType")]
    kind: Option<String>,
}

impl Verbatim {
    /// One that calls with these arguments.
    pub fn new(http: reqwest::Client, arguments: Option<Raw>) -> Self {
        Self { http, arguments, result: Arc::default() }
    }

    /// The result of the call, when it has come.
    pub fn result(&self) -> Option<Raw> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The message with the arguments as they were written.
    fn written(&self, message: &ClientJsonRpcMessage) -> serde_json::Result<String> {
        let text = serde_json::to_string(message)?;
        let Some(arguments) = &self.arguments else { return Ok(text) };
        let mut message: BTreeMap<String, Raw> = serde_json::from_str(&text)?;
        let mut params: BTreeMap<String, Raw> =
            message.get("params").map(|params| serde_json::from_str(params.get())).transpose()?.unwrap_or_default();
        params.insert("arguments".to_owned(), arguments.clone());
        message.insert("params".to_owned(), to_raw_value(&params)?);
        serde_json::to_string(&message)
    }

    /// What the library gets to see of a message of the server: of the result only that it is there, of an error what is
    /// shown of it, and everything else, e.g. that input is required, as it is.
    fn seen<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Ok(Answer { id, result, error }) = serde_json::from_str(text) else { return Cow::Borrowed(text) };
        let of_answer = |member: &str, value: &str| format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"{member}\":{value}}}", id.get());
        if let Some(Refusal { code, message }) = error {
            let shown = format!("{{\"code\":{},\"message\":{}}}", code.get(), message.get());
            return Cow::Owned(of_answer("error", &shown));
        }
        let Some(result) = result else { return Cow::Borrowed(text) };
        let stand_in = match serde_json::from_str::<Kind>(result.get()).map(|Kind { kind }| kind).as_ref().map(Option::as_deref) {
            Ok(None) => "{\"content\":[]}",
            Ok(Some("complete")) => "{\"content\":[],\"resultType\":\"complete\"}",
            _ => return Cow::Borrowed(text),
        };
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        Cow::Owned(of_answer("result", stand_in))
    }

    /// The same for a stream.
    fn seen_in(&self, stream: BoxedSseResponse) -> BoxedSseResponse {
        let own = self.clone();
        let events = stream.map(move |event| {
            event.map(|mut event| {
                event.data = event.data.map(|data| own.seen(&data).into_owned());
                event
            })
        });
        events.boxed()
    }

    async fn answer(&self, response: Response) -> Result<StreamableHttpPostResponse, Fault> {
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
        if status.is_success() && kind.starts_with(EVENT_STREAM_MIME_TYPE) {
            let events = SseStream::from_bytes_stream(bounded(response.bytes_stream())).boxed();
            return Ok(StreamableHttpPostResponse::Sse(self.seen_in(events), None));
        }
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(StreamableHttpError::Client)?);
            if body.len() > MAX_ANSWER {
                return Err(StreamableHttpError::ResponseBodyTooLarge { max_size: MAX_ANSWER });
            }
        }
        let text = String::from_utf8_lossy(&body);
        // An error may come with any status.
        if kind.starts_with(JSON_MIME_TYPE)
            && let Ok(message) = serde_json::from_str(&self.seen(&text))
            && (status.is_success() || matches!(message, JsonRpcMessage::Error(_)))
            && is_answered(&message)
        {
            return Ok(StreamableHttpPostResponse::Json(message, None));
        }
        let start: String = text.chars().take(256).collect();
        Err(StreamableHttpError::UnexpectedServerResponse(format!("HTTP {status}: {start}").into()))
    }
}

impl StreamableHttpClient for Verbatim {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Fault> {
        let is_call = matches!(&message, JsonRpcMessage::Request(request)
            if matches!(request.request, ClientRequest::CallToolRequest(_)));
        if !is_call {
            return self.http.post_message(uri, message, session_id, auth_header, custom_headers).await;
        }
        let request = self.http.post(&*uri).headers(custom_headers.into_iter().collect::<HeaderMap>());
        let request = request.header(ACCEPT, [EVENT_STREAM_MIME_TYPE, JSON_MIME_TYPE].join(", "));
        let mut request = request.header(CONTENT_TYPE, JSON_MIME_TYPE).body(self.written(&message)?);
        if let Some(session) = &session_id {
            request = request.header(HEADER_SESSION_ID, &**session);
        }
        if let Some(token) = auth_header {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(StreamableHttpError::Client)?;
        if response.status() == StatusCode::NOT_FOUND && session_id.is_some() {
            return Err(StreamableHttpError::SessionExpired);
        }
        self.answer(response).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Fault> {
        self.http.delete_session(uri, session_id, auth_header, custom_headers).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxedSseResponse, Fault> {
        let stream = self.http.get_stream(uri, session_id, last_event_id, auth_header, custom_headers).await?;
        // Answers to other requests than a call are the library's to read.
        Ok(if self.arguments.is_some() { self.seen_in(stream) } else { stream })
    }
}

/// Whether a message that is all of an answer tells whoever waits for it: what has no id reaches nobody.
fn is_answered(message: &ServerJsonRpcMessage) -> bool {
    !matches!(message, JsonRpcMessage::Error(error) if error.id.is_none())
}

/// The bytes of a stream of events, none of which is too long.
fn bounded(
    stream: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (mut line, mut event) = (0_usize, 0_usize);
    let mut check = move |chunk: &Bytes| {
        for byte in chunk {
            match byte {
                b'\r' => {}
                b'\n' if line == 0 => event = 0,
                b'\n' => line = 0,
                _ => (line, event) = (line + 1, event + 1),
            }
            if event > MAX_ANSWER {
                return Err(io::Error::other("an event is longer than 16 MiB"));
            }
        }
        Ok(())
    };
    let checked = stream.map(move |chunk| {
        let chunk = chunk.map_err(io::Error::other)?;
        check(&chunk)?;
        Ok(chunk)
    });
    let mut failed = false;
    checked.take_while(move |chunk| {
        let goes_on = !failed;
        failed = chunk.is_err();
        ready(goes_on)
    })
}

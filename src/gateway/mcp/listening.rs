//! The stream on which a service of the earlier eras says what is no answer: opened, and opened again when it ends. A
//! session that a service has forgotten is opened anew where its client waits for news of resources. Leaves out what is
//! done with what is heard.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::look::{Line, within};
use super::session::Session;
use super::upstream::{Answers, Unanswered};
use crate::lifecycle::Tasks;
use crate::rpc::pauses::{Pauses, WORKS};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Between the first attempts to reach a service.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum NoStream {
    /// The service has none.
    Never,
    /// The service does not know what is asked for: the session, the event, or such streams at all.
    Unknown,
    /// It may be otherwise next time.
    NotNow(Unanswered),
}

impl From<Unanswered> for NoStream {
    fn from(error: Unanswered) -> Self {
        let Unanswered::Refused(status) = error else {
            return if matches!(error, Unanswered::Foreign(_)) { Self::Never } else { Self::NotNow(error) };
        };
        match status {
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => Self::Unknown,
            StatusCode::NOT_IMPLEMENTED => Self::Never,
            // Some have one stream at a time, and do not know yet that the former one has ended.
            StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Self::NotNow(error),
            _ if status.is_server_error() => Self::NotNow(error),
            _ => Self::Never,
        }
    }
}

/// Opens the stream of a session. It begins behind the event `last`, if the service still has what came after that.
pub(super) async fn open(line: &Line, last: Option<&HeaderValue>) -> Result<Answers, NoStream> {
    let mut headers = line.headers(None, None);
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    headers.extend(last.map(|last| (LAST_EVENT_ID, last.clone())));
    let sent = line.upstream.send(&line.service, Method::GET, headers, Body::empty());
    let answers = Answers::of(within(line.limit, sent).await?)?;
    if answers.is_stream() && answers.status.is_success() {
        return Ok(answers);
    }
    Err(Unanswered::Refused(answers.status).into())
}

impl Session {
    /// Passes on what a service says outside of answers until `until`, and sees to it that the service goes on to say it.
    /// `pauses` are those of the former line, if that has been forgotten by the service.
    pub(super) fn hear(
        self: Arc<Self>,
        line: Line,
        until: CancellationToken,
        tasks: Tasks,
        mut pauses: Pauses,
    ) -> BoxFuture<'static, ()> {
        // A new line is heard by a task of its own, which is a future of this very kind: one of them has to be boxed.
        async move {
            let stopping = tasks.stopping();
            tokio::select! {
                () = until.cancelled() => return,
                () = stopping.cancelled() => return,
                is_forgotten = self.listen_to(&line, &mut pauses) => if !is_forgotten { return },
            }
            self.forget(&line);
            // The next call opens a line where there is none. Who waits for news makes none.
            while !self.watched(&line.service).is_empty() && !self.ended.is_cancelled() && !stopping.is_cancelled() {
                let Err(error) = self.line_after(pauses, &line.upstream, &line.service, &tasks).await else { return };
                tracing::debug!(service = line.service.as_str(), %error, "a session with a service is not opened anew yet");
                tokio::select! {
                    () = self.ended.cancelled() => {}
                    () = stopping.cancelled() => {}
                    () = tokio::time::sleep(pauses.pause()) => {}
                }
            }
        }
        .boxed()
    }

    /// Passes on what a service says, over one stream after the other. Returns when there is none any more; whether that is
    /// because the service has forgotten the session.
    async fn listen_to(&self, line: &Line, pauses: &mut Pauses) -> bool {
        let (mut last, mut is_first) = (None::<HeaderValue>, true);
        loop {
            let (began, mut wanted) = (Instant::now(), Duration::ZERO);
            match open(line, last.as_ref()).await {
                Ok(mut answers) => {
                    while let Ok(Some((message, text))) = answers.next().await {
                        pauses.reset();
                        self.hears(&line.service, message, text);
                    }
                    if let Some(id) = answers.last_event() {
                        last = HeaderValue::from_bytes(id).ok().filter(|id| !id.is_empty());
                    }
                    wanted = answers.retry().unwrap_or_default();
                }
                Err(NoStream::Never) => return false,
                // It may be the event alone that it does not know any more.
                Err(NoStream::Unknown) if last.take().is_some() => continue,
                Err(NoStream::Unknown) => return !is_first,
                Err(NoStream::NotNow(error)) => {
                    tracing::debug!(service = line.service.as_str(), %error, "a service is not listened to for now");
                }
            }
            is_first = false;
            if began.elapsed() >= WORKS {
                pauses.reset();
            }
            tokio::time::sleep(pauses.pause().max(wanted)).await;
        }
    }
}

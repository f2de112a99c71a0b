//! Bodies that stream through the gateway in both directions, one piece at a time.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};
use tracing::Span;

use super::upstream::{Link, Upstream};

type BoxError = Box<dyn StdError + Send + Sync>;

/// What the client sends.
#[derive(Debug)]
pub struct RequestBody {
    source: Source,
    /// Counts what has been passed on, for whoever watches for a standstill.
    progress: Option<Arc<AtomicU64>>,
}

#[derive(Debug)]
enum Source {
    Empty,
    Incoming(Incoming),
    Router(axum::body::Body),
}

impl RequestBody {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self { source: Source::Empty, progress: None }
    }

    /// Counts what is passed on from here; nothing for a body that is empty anyway.
    pub(super) fn watch(&mut self) -> Option<Arc<AtomicU64>> {
        self.progress = (!self.is_end_stream()).then(Arc::default);
        self.progress.clone()
    }
}

impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        Self { source: Source::Incoming(body), progress: None }
    }
}

impl From<axum::body::Body> for RequestBody {
    fn from(body: axum::body::Body) -> Self {
        Self { source: Source::Router(body), progress: None }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Incoming(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Source::Router(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
        };
        if let (Poll::Ready(_), Some(progress)) = (&polled, &self.progress) {
            progress.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Incoming(body) => body.is_end_stream(),
            Source::Router(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Incoming(body) => body.size_hint(),
            Source::Router(body) => body.size_hint(),
        }
    }
}

/// What the client gets. When a replica breaks off, it ends with an error, which breaks off the client's connection in
/// turn: a half answer never looks like a whole one. When it is dropped before its end, the replica's connection is
/// closed.
#[derive(Debug)]
pub struct ResponseBody(Answer);

#[derive(Debug)]
enum Answer {
    /// The gateway's own words.
    Full(Bytes),
    /// From a replica over a connection that this body drives and gives back at its end.
    Driven { body: Incoming, link: Option<Box<Link>>, upstream: Arc<Upstream>, silence: Silence, span: Span },
    /// From a replica over a connection that has its own task.
    Detached { body: Incoming, silence: Silence },
}

/// How long a replica has sent nothing.
#[derive(Debug)]
struct Silence {
    limit: Duration,
    /// Made when the first piece is late, as most answers come at once.
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Silence {
    const fn within(limit: Duration) -> Self {
        Self { limit, timer: None, running: false }
    }

    /// Passes on what a body said, or an error once it has said nothing for too long.
    fn bounds<T>(
        &mut self,
        polled: Poll<Option<Result<T, BoxError>>>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<T, BoxError>>> {
        self.running &= polled.is_pending();
        if polled.is_ready() {
            return polled;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)));
        if !std::mem::replace(&mut self.running, true) {
            timer.as_mut().reset(Instant::now() + self.limit);
        }
        timer.as_mut().poll(context).map(|()| Some(Err(format!("nothing was sent for {} s", self.limit.as_secs_f32()).into())))
    }
}

impl ResponseBody {
    pub(super) fn driven(body: Incoming, link: Box<Link>, upstream: Arc<Upstream>, silence: Duration) -> Self {
        if body.is_end_stream() {
            upstream.keep(link);
            return Self(Answer::Full(Bytes::new()));
        }
        Self(Answer::Driven { body, link: Some(link), upstream, silence: Silence::within(silence), span: Span::current() })
    }

    pub(super) const fn detached(body: Incoming, silence: Duration) -> Self {
        Self(Answer::Detached { body, silence: Silence::within(silence) })
    }
}

impl From<Bytes> for ResponseBody {
    fn from(text: Bytes) -> Self {
        Self(Answer::Full(text))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Answer::Full(text) if text.is_empty() => Poll::Ready(None),
            Answer::Full(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Answer::Detached { body, silence } => silence.bounds(Pin::new(body).poll_frame(context).map_err(Into::into), context),
            Answer::Driven { body, link, upstream, silence, span } => {
                let polled = silence.bounds(poll_driven(body, link, context).map_err(Into::into), context);
                let ended = match &polled {
                    Poll::Ready(Some(Ok(_))) => body.is_end_stream(),
                    Poll::Ready(None) => true,
                    Poll::Ready(Some(Err(error))) => {
                        let replica = upstream.address;
                        tracing::warn!(parent: &*span, %replica, %error, "a replica broke off in the middle of its answer");
                        *link = None;
                        false
                    }
                    Poll::Pending => false,
                };
                if ended && let Some(link) = link.take() {
                    upstream.keep(link);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Answer::Full(text) => text.is_empty(),
            Answer::Driven { body, .. } | Answer::Detached { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Answer::Full(text) => SizeHint::with_exact(text.len() as u64),
            Answer::Driven { body, .. } | Answer::Detached { body, .. } => body.size_hint(),
        }
    }
}

/// The next piece. The body is filled by its connection, and the connection is driven here and nowhere else, so the
/// connection alone needs the waker.
fn poll_driven(
    body: &mut Incoming,
    link: &mut Option<Box<Link>>,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let mut unheard = Context::from_waker(Waker::noop());
    // The first look also tells the connection that a piece is wanted.
    let polled = Pin::new(&mut *body).poll_frame(&mut unheard);
    if polled.is_ready() {
        return polled;
    }
    if let Some(open) = link
        && !open.drive(context)
    {
        *link = None;
    }
    Pin::new(body).poll_frame(&mut unheard)
}

//! Bodies: reading one with limits of size and time, and what answers are made of.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;

use super::response::{Response, plain};
use crate::bridge::reader::Reader;
use crate::bridge::splice::Pieces;

/// A body that is worth less than a new buffer for the connection.
const SMALL: usize = 2048;

/// The body of an answer.
#[derive(Debug)]
pub enum Payload {
    /// Nothing.
    Empty,
    /// A text that is there.
    Whole(Pieces),
    /// Server-sent events.
    Events(Box<Reader>),
    /// Another replica's answer.
    Foreign(Incoming),
}

impl Payload {
    /// A text that is there.
    pub fn whole(text: impl Into<Pieces>) -> Self {
        Self::Whole(text.into())
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(pieces) => Poll::Ready(pieces.next().map(|piece| Ok(Frame::data(piece)))),
            Self::Events(reader) => Pin::new(&mut **reader).poll_frame(context),
            Self::Foreign(body) => Pin::new(body).poll_frame(context).map_err(std::io::Error::other),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(pieces) => pieces.is_empty(),
            Self::Foreign(body) => body.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(pieces) => SizeHint::with_exact(pieces.len() as u64),
            Self::Events(_) => SizeHint::default(),
            Self::Foreign(body) => body.size_hint(),
        }
    }
}

/// Reads a body of at most `limit` bytes within `time`.
///
/// # Errors
/// The answer that says why not.
pub async fn read(body: Incoming, limit: usize, time: Duration) -> Result<Bytes, Response> {
    // The usual body has come with its headers; only a longer one sets a timer.
    match tokio::time::timeout(time, collect(body, limit)).await {
        Ok(collected) => collected,
        Err(_) => Err(plain(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {} s", time.as_secs()))),
    }
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, Response> {
    let too_large = || plain(StatusCode::PAYLOAD_TOO_LARGE, format!("the limit of a message is {limit} bytes"));
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(plain(StatusCode::BAD_REQUEST, "the body broke off".to_owned()));
        };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(too_large());
        }
        if whole.is_empty() && body.is_end_stream() {
            // A small body is copied, so that the connection's buffer can be used for the next request.
            return Ok(if data.len() <= SMALL { Bytes::copy_from_slice(&data) } else { data });
        }
        if whole.is_empty() {
            whole.reserve(announced.clamp(data.len(), 1 << 20));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

//! The body of an answer, whoever gave it, without a box around the gateway's.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::gateway::ResponseBody;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub(super) enum Body {
    Gateway(ResponseBody),
    Router(axum::body::Body),
}

impl From<Bytes> for Body {
    fn from(text: Bytes) -> Self {
        Self::Gateway(ResponseBody::from(text))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Gateway(body) => Pin::new(body).poll_frame(context),
            Self::Router(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Gateway(body) => body.is_end_stream(),
            Self::Router(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Gateway(body) => body.size_hint(),
            Self::Router(body) => body.size_hint(),
        }
    }
}

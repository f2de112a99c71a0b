//! Requests of revision 2026-07-28, which stand for themselves. Leaves out HTTP, and what has to be said differently to a
//! server of the earlier eras (see [`super::era::forward`]).

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::HeaderMap;

use super::Context;
use super::ask::{Ask, Reply};
use super::common::{Common, Era};
use super::era::{Dress, forward::Forward};
use super::link::Link;
use super::scan::Message;
use super::stream::{Limits, Stream};
use crate::error::Error;
use crate::rpc::{self, keys};

/// Why a request gets no answer of the server.
#[derive(Debug)]
pub enum Refused {
    /// It could not be brought to the server.
    Failed(Error),
    /// The bridge answers with an error of the protocol.
    Answer {
        /// JSON-RPC code.
        code: i32,
        /// For people.
        says: String,
        /// JSON.
        data: Option<String>,
    },
    /// Another replica holds what the request goes on with.
    Elsewhere(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Refused {
    /// An error of the protocol without data.
    #[must_use]
    pub fn answer(code: i32, says: impl Into<String>) -> Self {
        Self::Answer { code, says: says.into(), data: None }
    }
}

/// A request under way.
pub struct Answering {
    /// Where its answer comes.
    pub stream: Arc<Stream>,
    /// Cancels the request when it is dropped before the answer has come.
    pub guard: Box<dyn Send + Sync>,
}

/// Cancels a request when it is dropped.
struct Cancel(Weak<Link>, Bytes);

impl Drop for Cancel {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.cancel(&self.1, "the client has gone");
        }
    }
}

/// Serves requests of the stateless era.
#[derive(Debug)]
pub struct Stateless {
    context: Arc<Context>,
    common: Arc<Common>,
    forward: Arc<Forward>,
}

impl Stateless {
    /// Over the common server.
    #[must_use]
    pub fn new(context: &Arc<Context>, common: &Arc<Common>, ids: &super::owner::Ids) -> Self {
        Self { context: Arc::clone(context), common: Arc::clone(common), forward: Forward::new(context, common, ids) }
    }

    /// Brings a request to the server. With `solo` the client takes the answer alone.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn request(&self, text: Bytes, message: &Message, headers: &HeaderMap, solo: bool) -> Result<Answering, Refused> {
        let ready = self.common.ready().await?;
        if message.is(&text, "tools/call") {
            let checked = ready.tool_headers.check(&self.context, &ready.link, headers, &text, message).await;
            checked.map_err(|says| Refused::answer(rpc::HEADER_MISMATCH, says))?;
        }
        let limits = Limits { unread: self.context.options.max_queue, replay: 0, lossy: false, solo };
        let stream = Stream::new(0, limits);
        match &ready.era {
            Era::Modern(_) => {
                let [level] = message.meta(&text, [keys::LOG_LEVEL]);
                let endless = message.is(&text, "subscriptions/listen");
                let ask = Ask { reply: Reply::Stream(Arc::clone(&stream)), dress: Dress::Plain, logs: level.is_some(), endless };
                let key = ready.link.ask(&text, message, ask)?;
                Ok(Answering { stream, guard: Box::new(Cancel(Arc::downgrade(&ready.link), key)) })
            }
            Era::Legacy(introduction) => self.forward.request(&ready.link, introduction, text, message, stream).await,
        }
    }

    /// Cancels a request of this link when the guard is dropped.
    #[must_use]
    pub fn cancel_guard(link: &Arc<Link>, key: Bytes) -> Box<dyn Send + Sync> {
        Box::new(Cancel(Arc::downgrade(link), key))
    }

    /// Ends what nobody comes back to.
    pub fn sweep(&self) {
        self.forward.sweep();
    }

    /// Ends all subscriptions and held calls.
    pub fn close_all(&self) {
        self.forward.close_all();
    }
}

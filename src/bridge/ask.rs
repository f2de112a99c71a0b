//! What is asked of a server over a [`Link`], and who hears what it says beside its answers. Leaves out the link itself.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::era::Dress;
use super::link::Link;
use super::scan::Message;
use super::stream::Stream;

/// Gets what a server says of its own accord.
pub trait Owner: Send + Sync {
    /// A request of the server to a client.
    fn request(&self, link: &Arc<Link>, text: Bytes, message: &Message);
    /// A notification that belongs to no request.
    fn notification(&self, link: &Arc<Link>, text: Bytes, message: &Message);
    /// The server has ended; its requests were answered with this reason.
    fn ended(&self, link: &Arc<Link>, why: &str);
}

/// Where an answer goes.
#[derive(Debug)]
pub enum Reply {
    /// To a client.
    Stream(Arc<Stream>),
    /// To the bridge itself.
    Own(oneshot::Sender<Bytes>),
}

/// What is asked, beside the text.
#[derive(Debug)]
pub struct Ask {
    /// Where the answer goes.
    pub reply: Reply,
    /// How the answer is changed for a client of another era.
    pub dress: Dress,
    /// Whether log messages without a number may belong to it.
    pub logs: bool,
    /// Whether it is a subscription, which does not end by itself.
    pub endless: bool,
}

/// Keeps a request of the bridge itself among those that wait for as long as the bridge does.
pub(super) struct Waits<'a>(pub(super) &'a Link, pub(super) Bytes);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.forget(&self.1);
    }
}

//! The end of a subscription of the stateless era at a server of the earlier eras, where resources are subscribed to one by
//! one. Leaves out what is brought to the subscriber (see [`super::super::listeners`]).

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::super::Context;
use super::super::common::Common;
use super::super::link::Link;
use super::super::stream::Stream;
use crate::rpc;

/// Ends a subscription when it is dropped.
pub(super) struct Listening {
    pub(super) context: Arc<Context>,
    pub(super) common: Arc<Common>,
    pub(super) link: Arc<Link>,
    pub(super) uris: Vec<String>,
    pub(super) stream: Arc<Stream>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stream.close();
        let weak: Weak<Stream> = Arc::downgrade(&self.stream);
        self.common.listeners.remove(&weak);
        for uri in self.uris.drain(..) {
            if !self.common.listeners.any_wants(&uri) {
                self.context.tasks.spawn("unsubscribe", tell_server(Arc::clone(&self.link), "resources/unsubscribe", uri));
            }
        }
    }
}

/// Subscribes the server to a resource, or ends that.
pub(super) async fn tell_server(link: Arc<Link>, method: &'static str, uri: String) {
    let params = format!("{{\"uri\":{}}}", rpc::quoted(&uri));
    if let Err(error) = link.call(rpc::request(b"0", method, params.as_bytes()), Duration::from_secs(30)).await {
        tracing::debug!(%error, method, "the server did not answer");
    }
}

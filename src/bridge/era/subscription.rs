//! The end of a subscription of the stateless era at a server of the earlier eras, where resources are subscribed to one by
//! one. Leaves out what is brought to the subscriber (see [`super::super::listeners`]).

use std::sync::{Arc, Weak};

use super::super::Context;
use super::super::common::Common;
use super::super::repeat::tell_server;
use super::super::stream::Stream;

/// Ends a subscription when it is dropped.
pub(super) struct Listening {
    pub(super) context: Arc<Context>,
    pub(super) common: Arc<Common>,
    pub(super) uris: Vec<String>,
    pub(super) stream: Arc<Stream>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stream.close();
        let weak: Weak<Stream> = Arc::downgrade(&self.stream);
        self.common.listeners.remove(&weak);
        let Some(ready) = self.common.running() else { return };
        let mut uris = std::mem::take(&mut self.uris);
        uris.retain(|uri| !self.common.listeners.any_wants(uri));
        self.context.tasks.spawn("unsubscribe", async move {
            for uri in uris {
                tell_server(&ready.link, "resources/unsubscribe", &uri).await;
            }
        });
    }
}

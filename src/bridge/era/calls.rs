//! The calls of one client of the earlier eras at a server of the stateless one: each can be cancelled from its beginning
//! to its end, also while the client is asked something. Leaves out what is done then (see [`super::backward`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::super::json;

/// All calls of one client.
#[derive(Default)]
pub(super) struct Calls {
    /// The client's ids, and what cancels them.
    open: Mutex<HashMap<u64, (Bytes, CancellationToken)>>,
    last: AtomicU64,
}

/// A call that is open until this is dropped.
pub(super) struct Call {
    all: Arc<Calls>,
    number: u64,
    /// The client's id, JSON.
    pub(super) id: Bytes,
    /// Cancelled when the client does so.
    pub(super) cancelled: CancellationToken,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.all.open().remove(&self.number);
    }
}

impl Calls {
    /// Begins a call.
    pub(super) fn begin(self: &Arc<Self>, id: Bytes) -> Call {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let cancelled = CancellationToken::new();
        self.open().insert(number, (id.clone(), cancelled.clone()));
        Call { all: Arc::clone(self), number, id, cancelled }
    }

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.open().len()
    }

    /// Cancels the client's call of this id. Only if none is written so, one that is written otherwise is meant.
    pub(super) fn cancel(&self, id: &[u8]) {
        let open = self.open();
        let of = |same: fn(&[u8], &[u8]) -> bool| open.values().find(|(own, _)| same(own, id));
        if let Some((_, cancelled)) = of(|one, other| one == other).or_else(|| of(json::same_scalar)) {
            cancelled.cancel();
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, (Bytes, CancellationToken)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

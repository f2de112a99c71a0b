//! All running servers, for what is done to each of them now and then. Leaves out what that is.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::link::Link;

/// All links, for what is done to each of them now and then.
#[derive(Debug, Default)]
pub struct Links {
    all: Mutex<Vec<Weak<Link>>>,
}

impl Links {
    /// Adds one for as long as it lives.
    pub fn add(&self, link: &Arc<Link>) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(link));
    }

    /// Those that are alive.
    #[must_use]
    pub fn alive(&self) -> Vec<Arc<Link>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|link| link.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// How many requests wait for an answer, apart from subscriptions.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.alive().iter().map(|link| link.pending()).sum()
    }
}

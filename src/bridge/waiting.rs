//! The unanswered requests of one link, and which of them a message of the server belongs to. Leaves out what is sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::ask::Reply;
use super::era::Dress;
use super::json;
use super::stream::Stream;
use crate::error::{Error, Kind, Result};
use crate::rpc;

/// An unanswered request.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) reply: Reply,
    pub(super) dress: Dress,
    pub(super) logs: bool,
    pub(super) endless: bool,
    /// The client's id and progress token, JSON.
    pub(super) id: Bytes,
    pub(super) token: Option<Bytes>,
    pub(super) order: u64,
    pub(super) since: Instant,
}

/// All unanswered requests of a link.
#[derive(Debug, Default)]
pub(super) struct State {
    /// By the id that the server knows.
    waiting: HashMap<Bytes, Waiting>,
    /// How many of them are subscriptions.
    subscriptions: usize,
    pub(super) order: u64,
    pub(super) ended: Option<Arc<str>>,
    /// Whether a client's request was answered with a result.
    pub(super) has_answered: bool,
}

impl State {
    /// How many requests wait for an answer: all but the subscriptions.
    pub(super) fn calls(&self) -> usize {
        self.waiting.len() - self.subscriptions
    }

    /// Whether one more may wait. Subscriptions have a limit of their own, so that they keep nobody from being answered.
    ///
    /// # Errors
    /// `LimitReached`.
    pub(super) fn check_room(&self, endless: bool, limit: usize) -> Result<()> {
        let (count, what) = if endless {
            (self.subscriptions, "subscriptions are open at the server")
        } else {
            (self.calls(), "requests are waiting for the server")
        };
        if count < limit {
            return Ok(());
        }
        Err(Error::new(Kind::LimitReached, format!("{count} {what}, which is the limit")))
    }

    /// The request that the server knows by this key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Waiting> {
        self.waiting.get(key)
    }

    /// Adds a request under a key that is free.
    pub(super) fn insert(&mut self, key: Bytes, waiting: Waiting) {
        self.subscriptions += usize::from(waiting.endless);
        self.waiting.insert(key, waiting);
    }

    /// Takes the request that the server knows by this key.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Waiting> {
        let removed = self.waiting.remove(key)?;
        self.subscriptions -= usize::from(removed.endless);
        Some(removed)
    }

    /// Takes all that are meant.
    pub(super) fn take_all(&mut self, is_meant: impl Fn(&Waiting) -> bool) -> Vec<(Bytes, Waiting)> {
        let taken: Vec<_> = self.waiting.extract_if(|_, waiting| is_meant(waiting)).collect();
        self.subscriptions -= taken.iter().filter(|(_, waiting)| waiting.endless).count();
        taken
    }

    /// Takes the request that the server knows by this id, however it writes it.
    pub(super) fn take(&mut self, id: &[u8]) -> Option<Waiting> {
        self.remove(id).or_else(|| {
            let key = self.waiting.keys().find(|key| json::same_scalar(key, id)).cloned();
            key.and_then(|key| self.remove(&key))
        })
    }

    /// The key of a request by the client's id. Only if none is written so, one that is written otherwise is meant: not all
    /// integers can be told apart as numbers.
    pub(super) fn key_of(&self, id: &[u8], is_of: impl Fn(&Stream) -> bool) -> Option<Bytes> {
        let of = |same: fn(&[u8], &[u8]) -> bool| {
            let mut found = self
                .waiting
                .iter()
                .filter(|(_, waiting)| same(&waiting.id, id) && matches!(&waiting.reply, Reply::Stream(stream) if is_of(stream)));
            found.next().map(|(key, _)| key.clone())
        };
        of(|one, other| one == other).or_else(|| of(json::same_scalar))
    }

    /// The request of this progress token of a client, with the same care.
    pub(super) fn of_token(&self, token: &[u8]) -> Option<&Waiting> {
        let of = |same: fn(&[u8], &[u8]) -> bool| {
            self.waiting.values().find(|waiting| waiting.token.as_ref().is_some_and(|own| same(own, token)))
        };
        of(|one, other| one == other).or_else(|| of(json::same_scalar))
    }

    /// The streams of all requests, the latest first.
    pub(super) fn streams(&self, only_logging: bool) -> Vec<Arc<Stream>> {
        let mut waiting: Vec<_> = self.waiting.values().filter(|waiting| waiting.logs || !only_logging).collect();
        waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.order));
        waiting
            .into_iter()
            .filter_map(|waiting| match &waiting.reply {
                Reply::Stream(stream) => Some(Arc::clone(stream)),
                Reply::Own(_) => None,
            })
            .collect()
    }

    /// The key of the only request that waits, if it is the only one. Subscriptions wait all the time.
    pub(super) fn only_one(&self) -> Option<Bytes> {
        let mut calls = self.waiting.iter().filter(|(_, waiting)| !waiting.endless);
        let key = calls.next()?.0.clone();
        calls.next().is_none().then_some(key)
    }

    /// Takes what has waited for `limit`.
    pub(super) fn take_late(&mut self, limit: Duration) -> Vec<(Bytes, Waiting)> {
        self.take_all(|waiting| !waiting.endless && waiting.since.elapsed() >= limit)
    }

    /// How many have a stream of this mark.
    pub(super) fn count_of(&self, mark: usize) -> usize {
        let is_of = |waiting: &&Waiting| matches!(&waiting.reply, Reply::Stream(stream) if stream.belongs_to() == mark);
        self.waiting.values().filter(is_of).count()
    }

    /// Takes all whose stream has this mark.
    pub(super) fn take_of(&mut self, mark: usize) -> Vec<(Bytes, Waiting)> {
        self.take_all(|waiting| matches!(&waiting.reply, Reply::Stream(stream) if stream.belongs_to() == mark))
    }
}

impl Waiting {
    /// Answers it with an error of the bridge.
    pub(super) fn fail(self, says: &str) {
        if let Reply::Stream(stream) = self.reply {
            stream.finish(rpc::error(Some(&self.id), rpc::INTERNAL_ERROR, says, None));
        }
    }
}

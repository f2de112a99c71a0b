//! Servers of an earlier era that one call at a time has for itself, because the server may ask that call's client.
//! Leaves out the calls (see [`super::forward`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::super::Context;
use super::super::ask::Owner;
use super::super::common::{initialize, refuse_request};
use super::super::json::{self, Span};
use super::super::link::Link;
use super::super::scan::Message;
use super::super::stream::Stream;
use super::LEGACY;
use crate::error::{Kind, Result};

/// Servers that are kept for the next call with the same client capabilities.
const IDLE: usize = 4;
/// How long a call waits for a server while there are as many as there may be.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it waits before a call that waits for its client makes room for it.
const POLITE: Duration = Duration::from_millis(500);
/// How soon it is looked again if there is room; a process says nothing when it is gone.
const LOOK: Duration = Duration::from_millis(50);

/// A server that one call at a time has for itself, introduced to the capabilities of that call's client.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) link: Arc<Link>,
    pub(super) asked: mpsc::Receiver<Bytes>,
    pub(super) logs: Arc<Mutex<Option<Arc<Stream>>>>,
    capabilities: Vec<u8>,
}

/// All servers that are lent.
#[derive(Debug)]
pub(super) struct Leases {
    context: Arc<Context>,
    idle: Mutex<Vec<(Lease, Instant)>>,
    given_back: Notify,
}

impl Leases {
    /// Nothing is lent yet.
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context), idle: Mutex::default(), given_back: Notify::new() }
    }

    /// A server for one call. While there are as many as there may be it waits for one, and calls `make_room` now and then,
    /// which may end what is not at work.
    ///
    /// # Errors
    /// `LimitReached` after a while; why a server does not start.
    pub(super) async fn take(&self, capabilities: Vec<u8>, make_room: impl Fn()) -> Result<Lease> {
        let began = Instant::now();
        let mut polite = POLITE;
        let link = loop {
            if let Some(lease) = self.take_idle(&capabilities) {
                return Ok(lease);
            }
            let refused = match Link::start(&self.context, true) {
                Ok(link) => break link,
                Err(refused) => refused,
            };
            if refused.kind != Kind::LimitReached || began.elapsed() >= PATIENCE {
                return Err(refused);
            }
            // One that was introduced to other capabilities is of no use now.
            let unused = lock(&self.idle).pop();
            if unused.is_none() && began.elapsed() >= polite {
                polite = began.elapsed() + POLITE;
                make_room();
            }
            drop(unused);
            let _either = tokio::time::timeout(LOOK, self.given_back.notified()).await;
        };
        let (sender, asked) = mpsc::channel(64);
        let logs = Arc::new(Mutex::new(None));
        link.own(Voice { asked: sender, logs: Arc::clone(&logs), offered: offered(&capabilities) });
        initialize(&link, LEGACY[0], &capabilities, self.context.options.start_timeout).await?;
        Ok(Lease { link, asked, logs, capabilities })
    }

    fn take_idle(&self, capabilities: &[u8]) -> Option<Lease> {
        let mut idle = lock(&self.idle);
        idle.retain(|(lease, _)| lease.link.ended().is_none());
        let index = idle.iter().position(|(lease, _)| lease.capabilities == capabilities);
        index.map(|index| idle.swap_remove(index).0)
    }

    /// Takes a server back whose call is over.
    pub(super) fn give_back(&self, lease: Lease) {
        *lock(&lease.logs) = None;
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE && lease.link.ended().is_none() {
            idle.push((lease, Instant::now()));
        }
        drop(idle);
        self.given_back.notify_one();
    }

    /// Ends servers that nobody has used for `limit`.
    pub(super) fn sweep(&self, limit: Duration) {
        lock(&self.idle).retain(|(_, since)| since.elapsed() < limit);
    }

    /// Ends all that nobody uses.
    pub(super) fn close(&self) {
        lock(&self.idle).clear();
    }
}

/// Hears for a leased server.
struct Voice {
    asked: mpsc::Sender<Bytes>,
    logs: Arc<Mutex<Option<Arc<Stream>>>>,
    /// What the client lets itself be asked.
    offered: Vec<&'static str>,
}

/// The questions that a client of these capabilities takes.
fn offered(capabilities: &[u8]) -> Vec<&'static str> {
    let whole = json::check(capabilities).ok();
    let found = json::find(capabilities, whole, ["sampling", "elicitation", "roots"]);
    let methods = ["sampling/createMessage", "elicitation/create", "roots/list"];
    let is_offered = |value: Option<Span>| value.is_some_and(|value| capabilities[value.start] == b'{');
    methods.into_iter().zip(found).filter_map(|(method, value)| is_offered(value).then_some(method)).collect()
}

impl Owner for Voice {
    fn request(&self, link: &Arc<Link>, text: Bytes, message: &Message) {
        let is_offered = self.offered.contains(&&*message.method(&text));
        if !is_offered || self.asked.try_send(text.clone()).is_err() {
            refuse_request(link, &text, message);
        }
    }

    fn notification(&self, _: &Arc<Link>, text: Bytes, message: &Message) {
        if message.is(&text, "notifications/message")
            && let Some(stream) = &*lock(&self.logs)
        {
            stream.push(text);
        }
    }

    fn ended(&self, _: &Arc<Link>, _: &str) {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

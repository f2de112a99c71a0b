//! The child that belongs to one session, which is started again when the session needs it. Leaves out what is said to it
//! (see [`super::session`]).

use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use tokio::sync::SetOnce;

use super::ask::Owner;
use super::backoff::Backoff;
use super::common::refuse_request;
use super::link::Link;
use super::repeat::repeat;
use super::scan::Message;
use super::session::{Backing, Session, lock};
use crate::error::{Error, Kind, Result};

/// A child that belongs to one session. If it ends, the next request starts another one, which hears again how the
/// client introduced itself, its log level and its subscriptions.
#[derive(Default)]
pub struct Own {
    pub(super) link: Mutex<Option<Arc<Link>>>,
    pub(super) introduction: Mutex<Vec<Bytes>>,
    backoff: Mutex<Backoff>,
    starting: tokio::sync::Mutex<()>,
    /// Why the session has ended, once it has: what is being started then serves nobody.
    closed: SetOnce<String>,
    /// The log level that the client has set last, JSON.
    pub(super) level: Mutex<Option<Bytes>>,
}

impl Own {
    /// With a child that was introduced to the client by this `initialize` request.
    #[must_use]
    pub fn new(link: Arc<Link>, initialize: Bytes) -> Self {
        Self { link: Mutex::new(Some(link)), introduction: Mutex::new(vec![initialize]), ..Self::default() }
    }

    /// Ends the child, also one that is being started, and starts no more.
    pub(super) fn close(&self, why: &str) {
        // The first reason is the one.
        let _first = self.closed.set(why.to_owned());
        let link = lock(&self.link).take();
        if let Some(link) = link {
            link.stop(why);
        }
    }
}

impl Session {
    /// The session's own child, started again if it has ended.
    pub(super) async fn own_link(self: &Arc<Self>, own: &Own) -> Result<Arc<Link>> {
        let running = || lock(&own.link).clone().filter(|link| link.ended().is_none());
        if let Some(link) = running() {
            return Ok(link);
        }
        let _one = own.starting.lock().await;
        if let Some(link) = running() {
            return Ok(link);
        }
        let over = |why: &String| Error::new(Kind::BackendUnavailable, why.clone());
        lock(&own.backoff).check()?;
        let started = tokio::select! {
            biased;
            why = own.closed.wait() => return Err(over(why)),
            started = self.introduce(own) => started,
        };
        match started {
            Ok(link) => {
                lock(&own.backoff).started();
                *lock(&own.link) = Some(Arc::clone(&link));
                // It may have been closed before it had this child to end.
                if let Some(why) = own.closed.get() {
                    own.close(why);
                    return Err(over(why));
                }
                Ok(link)
            }
            Err(error) => {
                lock(&own.backoff).failed(&error.to_string());
                Err(error)
            }
        }
    }

    /// Starts another child and repeats to it how the client introduced itself.
    async fn introduce(self: &Arc<Self>, own: &Own) -> Result<Arc<Link>> {
        let link = Link::start(&self.context, false)?;
        link.own(Voice(Arc::downgrade(self)));
        let introduction = lock(&own.introduction).clone();
        let mut introduction = introduction.into_iter();
        if let Some(initialize) = introduction.next() {
            let (answer, message) = link.call(initialize, self.context.options.start_timeout).await?;
            if message.result.is_none() {
                let says = String::from_utf8_lossy(&answer).into_owned();
                return Err(Error::new(Kind::StartFailed, format!("the server refuses to be initialised again: {says}")));
            }
        }
        for notification in introduction {
            link.tell(&notification);
        }
        let level = lock(&own.level).clone();
        repeat(&link, level, self.wanted_uris(), self.context.options.start_timeout).await;
        Ok(link)
    }
}

/// Hears for a session with a child of its own.
pub(super) struct Voice(pub(super) Weak<Session>);

impl Owner for Voice {
    fn request(&self, link: &Arc<Link>, text: Bytes, message: &Message) {
        match self.0.upgrade() {
            Some(session) => session.tell(link, text, message),
            None => refuse_request(link, &text, message),
        }
    }

    fn notification(&self, link: &Arc<Link>, text: Bytes, message: &Message) {
        if let Some(session) = self.0.upgrade() {
            session.tell(link, text, message);
        }
    }

    fn ended(&self, link: &Arc<Link>, why: &str) {
        let Some(session) = self.0.upgrade() else { return };
        if let Backing::Own(own) = &session.backing {
            let is_present = lock(&own.link).as_ref().is_some_and(|present| Arc::ptr_eq(present, link));
            if is_present {
                tracing::warn!(why, "the server of a session has ended; the next request starts it again");
                session.context.metrics.children_failed.add(1);
                lock(&own.backoff).ended(why, link.has_worked());
            }
        }
    }
}

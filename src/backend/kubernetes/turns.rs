//! Whose turn it is to record a service that takes places for containers, or names: one manager's at a time.
//!
//! A second Lease says so, held for a moment only. It is taken by one write where this manager had it last, and given back
//! behind the back of whoever has waited. Requests of one manager share a turn: what they are about to take is promised in
//! this process. Counted is what is known here: each turn leaves on the Lease the version of the root object that was
//! written last, and the next one begins when the watch has told of that. A list would not do: a cluster's answer to one
//! that has to be of this moment waits for its own cache, up to a tenth of a second.
//!
//! Who dies in its turn holds the others up until the Lease runs out. What it has written is not known then, nor where a
//! call got no answer: root objects are listed in that case.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use kube::api::{Api, DynamicObject, ListParams};
use serde_json::json;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::lease::{Lease, Taken, holder};
use super::reconcile::in_time;
use super::root::{self, Root};
use super::shared::Shared;
use super::{errors, kinds, names};
use crate::error::{Error, Kind, Result};

/// How long a turn holds whose manager has died.
const HOLDS: Duration = Duration::from_secs(7);
/// How long after its beginning something is still written in it: a call that is under way then ends before another turn.
const TRUSTED: Duration = Duration::from_secs(5);
/// So long requests of this manager come in on a turn, or follow each other at once; then others are let in between.
const SHARED: Duration = Duration::from_millis(200);
/// Pause in which they are: longer than theirs between two looks, with the look and the write.
const REST: Duration = Duration::from_millis(25);
/// Between two looks whether a turn has ended: at first, and at most while it stays the same one.
const LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(200);
/// Longest wait for a turn, and for one call.
const PATIENCE: Duration = Duration::from_secs(20);
const CALL: Duration = Duration::from_secs(4);
/// How long the watch may take to tell of what was written last.
const WATCH: Duration = Duration::from_millis(500);
/// The same of one that may have been cut off.
const NEW_WATCH: Duration = Duration::from_secs(3);

const TAKING: &str = "take a turn at recording services";

/// The turns of this manager.
pub(super) struct Turns {
    shared: Arc<Shared>,
    /// That of this moment.
    current: Mutex<Weak<Turn>>,
    /// Rings when one has ended.
    ended: Notify,
    written: Mutex<Written>,
    /// Who waits for a turn, takes or ends one has this.
    own: AsyncMutex<Own>,
}

struct Own {
    lease: Lease,
    /// Since when it is ours, from before it was asked for.
    held: Option<Instant>,
    /// When turns began that followed each other at once, and when the last one ended.
    began: Instant,
    ended: Instant,
}

/// What the watch has to tell of before all that was recorded is known.
#[derive(Default)]
struct Written {
    /// Version of the root object that was written last in a turn.
    newest: u64,
    /// Writes of which it is not known whether they were carried out.
    in_doubt: u32,
}

/// A turn; it ends when the last of its requests drops it.
pub(super) struct Turn {
    turns: Arc<Turns>,
    since: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let turns = self.turns.clone();
        turns.ended.notify_waiters();
        self.turns.shared.tasks.spawn("turn", async move {
            let mut own = turns.own.lock().await;
            if turns.is_over() {
                turns.give_back(&mut own).await;
            }
        });
    }
}

impl Turn {
    /// Writes a root object in this turn.
    pub(super) async fn write(&self, call: impl Future<Output = Result<DynamicObject, kube::Error>>) -> Result<DynamicObject> {
        let left = TRUSTED.saturating_sub(self.since.elapsed());
        if left.is_zero() {
            return Err(busy());
        }
        self.turns.written().in_doubt += 1;
        let written = tokio::time::timeout(left, in_time(call, "write the record")).await.unwrap_or_else(|_| Err(errors::away()));
        let version = match &written {
            Ok(object) => object.metadata.resource_version.as_deref().map_or(0, root::number),
            // No answer, or none that says that nothing was written.
            Err(error) if matches!(error.kind, Kind::BackendUnavailable | Kind::Internal) => return written,
            Err(_) => 0,
        };
        let mut known = self.turns.written();
        known.newest = known.newest.max(version);
        known.in_doubt = known.in_doubt.saturating_sub(1);
        written
    }
}

impl Turns {
    pub(super) fn new(shared: Arc<Shared>) -> Arc<Self> {
        let (lease, now) = (Lease::new(shared.names.places(), HOLDS), Instant::now());
        Arc::new(Self {
            shared,
            current: Mutex::default(),
            ended: Notify::new(),
            written: Mutex::default(),
            own: AsyncMutex::new(Own { lease, held: None, began: now, ended: now }),
        })
    }

    /// That of this moment, which whoever asks may have taken before, or one of its own.
    pub(super) async fn join(self: &Arc<Self>) -> Result<Arc<Turn>> {
        let current = self.current().upgrade();
        if let Some(turn) = current { Ok(turn) } else { self.take().await }
    }

    /// Waits for a turn. When it begins, what was recorded in others is known.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Arc<Turn>> {
        if let Some(turn) = self.young() {
            return Ok(turn);
        }
        let mut own = self.own.lock().await;
        if let Some(turn) = self.young() {
            return Ok(turn);
        }
        self.until_over().await;
        if own.held.is_some_and(|since| since.elapsed() >= SHARED) || self.written().in_doubt > 0 {
            self.give_back(&mut own).await;
        }
        if own.held.is_none() {
            self.begin(&mut own).await?;
        }
        let since = own.held.unwrap_or_else(Instant::now);
        let turn = Arc::new(Turn { turns: self.clone(), since });
        *self.current() = Arc::downgrade(&turn);
        Ok(turn)
    }

    async fn begin(&self, own: &mut Own) -> Result<()> {
        if own.ended.elapsed() > REST {
            own.began = Instant::now();
        } else if own.began.elapsed() > SHARED {
            tokio::time::sleep(REST).await;
            own.began = Instant::now();
        }
        let (since, taken) = self.taken(own).await?;
        own.held = Some(since);
        let known = self.catch_up(&taken).await;
        if known.is_err() {
            self.give_back(own).await;
        }
        known
    }

    /// Takes the lease when it is free; since when it is ours at the least, and what it was like.
    async fn taken(&self, own: &mut Own) -> Result<(Instant, Taken)> {
        let (leases, began, mut pause) = (self.leases(), Instant::now(), LOOK);
        loop {
            let (looked, before) = (Instant::now(), own.lease.seen.as_ref().map(|seen| seen.at));
            match tokio::time::timeout(CALL, own.lease.take(&leases)).await {
                Ok(Ok(Some(taken))) => return Ok((looked, taken)),
                Ok(Ok(None)) if began.elapsed() > PATIENCE => return Err(busy()),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(errors::api(error, TAKING)),
                Err(_) => return Err(errors::away()),
            }
            // Where turns follow each other, the next one is soon.
            let is_same = before == own.lease.seen.as_ref().map(|seen| seen.at);
            pause = if is_same { (pause * 3 / 2).min(LONGEST_LOOK) } else { LOOK };
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
        }
    }

    /// Waits until what was recorded before this turn is known here.
    async fn catch_up(&self, taken: &Taken) -> Result<()> {
        let newest = match taken {
            Taken::Unchanged if self.written().in_doubt == 0 => return Ok(()),
            Taken::From(lease) if holder(lease).is_empty() => recorded(lease),
            // Nobody has had a turn.
            Taken::New => Some(0),
            _ => None,
        };
        *self.written() = Written { newest: newest.unwrap_or_default(), in_doubt: 1 };
        let is_told = match newest {
            Some(newest) => self.shared.until_known(WATCH, |world| world.is_told_of(newest)).await,
            None => false,
        };
        if !is_told {
            let newest = self.listed().await?;
            if !self.shared.until_known(NEW_WATCH, |world| world.is_told_of(newest)).await {
                return Err(Error::new(Kind::BackendUnavailable, "what other managers have recorded is not known here yet")
                    .remedy("try again in a moment"));
            }
            self.written().newest = newest;
        }
        self.written().in_doubt = 0;
        Ok(())
    }

    /// Version of the root object that was written last, of those there are.
    async fn listed(&self) -> Result<u64> {
        let all = ListParams::default().labels(&self.shared.names.selector());
        let api = self.shared.api(&kinds::root());
        let list = in_time(api.list_metadata(&all), "look at what others have recorded").await?;
        let versions = list.items.iter().filter_map(|object| Some(Root::read(&object.metadata)?.number()));
        Ok(versions.max().unwrap_or_default())
    }

    /// The next one finds on it what it has to know.
    async fn give_back(&self, own: &mut Own) {
        if own.held.take().is_none() {
            return;
        }
        let recorded = {
            let written = self.written();
            (written.in_doubt == 0).then(|| written.newest.to_string())
        };
        let notes = json!({names::RECORDED: recorded});
        match tokio::time::timeout(CALL, own.lease.give_back(&self.leases(), &notes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a turn could not be given back; it runs out"),
            Err(_) => tracing::debug!("a turn could not be given back in time; it runs out"),
        }
        own.ended = Instant::now();
    }

    fn leases(&self) -> Api<DynamicObject> {
        self.shared.api(&kinds::leases())
    }

    /// That of this moment, if further requests may come in on it.
    fn young(&self) -> Option<Arc<Turn>> {
        let current = self.current().upgrade();
        current.filter(|turn| turn.since.elapsed() < SHARED)
    }

    fn is_over(&self) -> bool {
        self.current().strong_count() == 0
    }

    async fn until_over(&self) {
        loop {
            let ended = self.ended.notified();
            if self.is_over() {
                return;
            }
            ended.await;
        }
    }

    fn current(&self) -> MutexGuard<'_, Weak<Turn>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What who had the lease last has left on it.
fn recorded(lease: &DynamicObject) -> Option<u64> {
    lease.metadata.annotations.as_ref()?.get(names::RECORDED)?.parse().ok()
}

fn busy() -> Error {
    Error::new(Kind::Conflict, "other requests were recording services all the time").remedy("try again")
}

#[cfg(test)]
mod tests;

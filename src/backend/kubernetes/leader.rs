//! Which of several managers writes: the holder of a Lease. All of them answer.
//!
//! Whether a lease has run out is told by our own clock from when it was seen to change last, so that clocks need not
//! agree. Records are atomic whoever writes them, and objects are written by server-side apply; so two that believe to be
//! the holder for a moment do no harm. Who does not hold it hears of it by a watch: each renewal, and at once when it is
//! given back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use super::{errors, kinds};

/// How long a lease holds without being renewed.
const HOLDS: Duration = Duration::from_secs(15);
/// How long after its last renewal its holder still writes: it stops before another one may begin.
const TRUSTED: Duration = Duration::from_secs(13);
/// How often it is renewed.
const RENEWED: Duration = Duration::from_secs(8);
/// How long after the last renewal that was heard of one who does not hold it looks.
const OVERDUE: Duration = Duration::from_secs(9);
/// How often one looks who hears of nothing.
const WAITS: Duration = Duration::from_secs(4);
/// How soon a failed look is repeated, and how often a server that is away is asked: the view is to be right soon after its
/// return.
const AGAIN: Duration = Duration::from_millis(500);
/// Longest time for one call, and for one to a server that is away.
const PATIENCE: Duration = Duration::from_secs(4);
const GLANCE: Duration = Duration::from_secs(2);

/// What was seen of the lease last.
struct Seen {
    version: String,
    at: Instant,
    /// We wrote this version, and hold it unless somebody has taken it since.
    ours: bool,
}

impl Seen {
    fn of(lease: &DynamicObject) -> Self {
        Self { version: lease.metadata.resource_version.clone().unwrap_or_default(), at: Instant::now(), ours: false }
    }

    /// It is like this now.
    fn see(&mut self, lease: &DynamicObject) {
        if self.version != lease.metadata.resource_version.as_deref().unwrap_or_default() {
            *self = Self::of(lease);
        }
    }
}

/// Takes part until cancelled, and then gives the lease back.
pub(super) async fn take_part(shared: Arc<Shared>, cancelled: CancellationToken) {
    let identity = format!("{}-{:08x}", rustix::system::uname().nodename().to_string_lossy(), rand::random::<u32>());
    let mut seen: Option<Seen> = None;
    let mut held_since: Option<Instant> = None;
    let (mut away, mut failures) = (false, 0_u32);
    while !cancelled.is_cancelled() {
        if away {
            tokio::select! {
                () = cancelled.cancelled() => break,
                () = distrusted(held_since) => {
                    held_since = None;
                    shared.lead(false);
                    continue;
                }
                () = answers(|| ask(&shared)) => {}
            }
        }
        // The connection by which it has just answered is the plain client's.
        let (client, patience) = if away { (shared.plain_client(), GLANCE) } else { (shared.client(), PATIENCE) };
        let began = Instant::now();
        let looked = tokio::time::timeout(patience, look(&shared, client, &identity, &mut seen)).await;
        match &looked {
            Ok(Ok(true)) => held_since = Some(began),
            Ok(Ok(false)) => held_since = None,
            Ok(Err(error)) => tracing::debug!(%error, "the lease could not be looked at"),
            Err(_) => tracing::debug!("the lease could not be looked at in time"),
        }
        // A look goes to the server's own store, and there is one every few seconds: it tells whether the server answers.
        let failed = match &looked {
            Ok(Ok(_)) => false,
            Ok(Err(error)) => errors::is_away(error),
            Err(_) => true,
        };
        failures = if failed { failures + 1 } else { 0 };
        if looked.is_err() {
            shared.reconnect();
        }
        // One look may be slow.
        away = failures > 1 || (failed && looked.is_ok());
        shared.answered(!away);
        let holds = held_since.is_some_and(|since| since.elapsed() < TRUSTED);
        shared.lead(holds);
        let pause = async {
            match looked {
                Ok(Ok(true)) => tokio::time::sleep(RENEWED).await,
                Ok(Ok(false)) => attend(&shared, &mut seen).await,
                _ if failed => tokio::time::sleep(AGAIN).await,
                _ => tokio::time::sleep(WAITS).await,
            }
        };
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = pause => {}
        }
    }
    if shared.is_leading() {
        shared.lead(false);
        let _ = tokio::time::timeout(PATIENCE, give_back(&shared, &identity)).await;
    }
}

/// Hears of the lease that somebody else holds until it is to be looked at: when it is given back or has run out, when
/// nothing was heard of it for so long that the server may be away, and when it cannot be heard of any more.
async fn attend(shared: &Shared, seen: &mut Option<Seen>) {
    let Some(seen) = seen else { return tokio::time::sleep(WAITS).await };
    let only = WatchParams::default().fields(&format!("metadata.name={}", shared.names.managers()));
    let leases = leases(shared, shared.client());
    let mut news = match tokio::time::timeout(PATIENCE, leases.watch(&only, &seen.version)).await {
        Ok(Ok(news)) => news.boxed(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the lease cannot be watched");
            return tokio::time::sleep(WAITS).await;
        }
        Err(_) => return,
    };
    loop {
        let since = seen.at.elapsed();
        let next = if since < OVERDUE { OVERDUE } else { HOLDS }.saturating_sub(since);
        match tokio::time::timeout(next.max(AGAIN), news.next()).await {
            Ok(Some(Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease)))) => {
                seen.see(&lease);
                shared.answered(true);
                if holder(&lease).is_empty() {
                    return;
                }
            }
            Ok(Some(Ok(WatchEvent::Bookmark(_)))) => {}
            Ok(Some(Ok(WatchEvent::Deleted(_)))) | Err(_) => return,
            // Whoever ends every watch at once is not asked for one after the other.
            Ok(Some(Ok(WatchEvent::Error(_)) | Err(_)) | None) => return tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Waits until the holder has to stop writing, for it could not renew the lease.
async fn distrusted(held_since: Option<Instant>) {
    match held_since {
        Some(since) => tokio::time::sleep(TRUSTED.saturating_sub(since.elapsed())).await,
        None => std::future::pending().await,
    }
}

/// Asks the server for the lease, which it has in its own store.
async fn ask(shared: &Shared) -> Result<(), kube::Error> {
    leases(shared, shared.plain_client()).get_opt(&shared.names.managers()).await.map(|_| ())
}

/// Waits until a server that is away answers. What it is asked while it is away it may never answer, so it is asked again
/// beside that, each time by a connection that is not busy.
async fn answers<A: Future<Output = Result<(), kube::Error>>>(ask: impl Fn() -> A) {
    let (mut asked, mut again) = (FuturesUnordered::new(), tokio::time::interval(AGAIN));
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = again.tick() => asked.push(tokio::time::timeout(GLANCE, ask())),
            Some(answer) = asked.next() => match answer {
                Ok(Err(error)) if errors::is_away(&error) => tracing::debug!(%error, "the API server is still away"),
                Ok(_) => return,
                Err(_) => tracing::debug!("the API server is still silent"),
            },
        }
    }
}

fn holder(lease: &DynamicObject) -> &str {
    lease.data["spec"]["holderIdentity"].as_str().unwrap_or_default()
}

fn leases(shared: &Shared, client: Client) -> Api<DynamicObject> {
    Api::namespaced_with(client, &shared.names.namespace, &kinds::leases())
}

/// Looks at the lease and takes or renews it if that is ours to do; whether it is ours afterwards.
async fn look(shared: &Shared, client: Client, identity: &str, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
    let leases = leases(shared, client);
    // What is ours needs no look: writing it fails if somebody has taken it.
    if let Some(own) = seen.take_if(|seen| seen.ours)
        && let Some(renewed) = written(shared, &leases, identity, &own.version).await?
    {
        *seen = Some(renewed);
        return Ok(true);
    }
    let Some(lease) = leases.get_opt(&shared.names.managers()).await? else {
        return created(shared, &leases, identity).await;
    };
    let known = seen.get_or_insert_with(|| Seen::of(&lease));
    known.see(&lease);
    let (holder, run_out, version) = (holder(&lease), known.at.elapsed() >= HOLDS, known.version.clone());
    if holder != identity && !holder.is_empty() && !run_out {
        return Ok(false);
    }
    let taken = written(shared, &leases, identity, &version).await?;
    let is_ours = taken.is_some();
    if is_ours {
        *seen = taken;
    }
    Ok(is_ours)
}

/// Writes the lease as ours, if it still is of `version`: of two who take it, one does. `None` when it is not.
async fn written(
    shared: &Shared,
    leases: &Api<DynamicObject>,
    identity: &str,
    version: &str,
) -> Result<Option<Seen>, kube::Error> {
    let change = json!({"metadata": {"resourceVersion": version}, "spec": spec(identity)});
    match leases.patch(&shared.names.managers(), &PatchParams::default(), &Patch::Merge(change)).await {
        Ok(lease) => Ok(Some(Seen { ours: true, ..Seen::of(&lease) })),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn created(shared: &Shared, leases: &Api<DynamicObject>, identity: &str) -> Result<bool, kube::Error> {
    let mut lease = DynamicObject::new(&shared.names.managers(), &kinds::leases());
    lease.data = json!({"spec": spec(identity)});
    match leases.create(&PostParams::default(), &lease).await {
        Ok(_) => Ok(true),
        Err(error) if errors::is_conflict(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn spec(identity: &str) -> Value {
    json!({
        "holderIdentity": identity,
        "leaseDurationSeconds": HOLDS.as_secs(),
        "renewTime": format!("{:.6}", Timestamp::now()),
    })
}

/// So that the next one need not wait until it runs out.
async fn give_back(shared: &Shared, identity: &str) -> Result<(), kube::Error> {
    let leases = leases(shared, shared.client());
    let Some(lease) = leases.get_opt(&shared.names.managers()).await? else { return Ok(()) };
    if holder(&lease) != identity {
        return Ok(());
    }
    let version = lease.metadata.resource_version.unwrap_or_default();
    let change = json!({"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": ""}});
    leases.patch(&shared.names.managers(), &PatchParams::default(), &Patch::Merge(change)).await.map(|_| ())
}

#[cfg(test)]
mod tests;

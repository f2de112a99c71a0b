//! Which of several managers writes: the holder of a Lease. All of them answer.
//!
//! Records are atomic whoever writes them, and objects are written by server-side apply; so two that believe to be the holder
//! for a moment do no harm. Who does not hold it hears of it by a watch: each renewal, and at once when it is given back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kube::Client;
use kube::api::{Api, DynamicObject, WatchEvent, WatchParams};
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::lease::{Lease, Seen, holder};
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

/// Takes part until cancelled, and then gives the lease back.
pub(super) async fn take_part(shared: Arc<Shared>, cancelled: CancellationToken) {
    let mut lease = Lease::new(shared.names.managers(), HOLDS);
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
        let looked = tokio::time::timeout(patience, lease.take(&leases(&shared, client))).await;
        match &looked {
            Ok(Ok(Some(_))) => held_since = Some(began),
            Ok(Ok(None)) => held_since = None,
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
                Ok(Ok(Some(_))) => tokio::time::sleep(RENEWED).await,
                Ok(Ok(None)) => attend(&shared, &mut lease.seen).await,
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
        let _ = tokio::time::timeout(PATIENCE, lease.give_back(&leases(&shared, shared.client()), &json!({}))).await;
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

fn leases(shared: &Shared, client: Client) -> Api<DynamicObject> {
    Api::namespaced_with(client, &shared.names.namespace, &kinds::leases())
}

#[cfg(test)]
mod tests;

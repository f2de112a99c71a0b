//! Which of several managers writes: the holder of a Lease. All of them answer.
//!
//! Whether a lease has run out is told by our own clock from when it was seen to change last, so that clocks need not
//! agree. Records are atomic whoever writes them, and objects are written by server-side apply; so two that believe to be
//! the holder for a moment do no harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use super::{errors, kinds};

/// How long a lease holds without being renewed.
const HOLDS: Duration = Duration::from_secs(15);
/// How long after its last renewal its holder still writes: it stops before another one may begin.
const TRUSTED: Duration = Duration::from_secs(13);
/// How often it is renewed.
const RENEWED: Duration = Duration::from_secs(8);
/// How often one who does not hold it looks.
const WAITS: Duration = Duration::from_secs(4);
/// How soon a failed look is repeated: the view is to be right soon after the API server is back.
const AGAIN: Duration = Duration::from_millis(500);
/// Longest time for one call, and for one to a server that has not answered the last one.
const PATIENCE: Duration = Duration::from_secs(4);
const GLANCE: Duration = Duration::from_secs(2);

/// What was seen of the lease last.
struct Seen {
    version: String,
    at: Instant,
    /// We wrote this version, and hold it unless somebody has taken it since.
    ours: bool,
}

/// Takes part until cancelled, and then gives the lease back.
pub(super) async fn take_part(shared: Arc<Shared>, cancelled: CancellationToken) {
    let identity = format!("{}-{:08x}", rustix::system::uname().nodename().to_string_lossy(), rand::random::<u32>());
    let mut seen: Option<Seen> = None;
    let mut held_since: Option<Instant> = None;
    let (mut patience, mut failures) = (PATIENCE, 0_u32);
    while !cancelled.is_cancelled() {
        let looked = tokio::time::timeout(patience, look(&shared, &identity, &mut seen)).await;
        match &looked {
            Ok(Ok(true)) => held_since = Some(Instant::now()),
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
        let away = failures > 1 || (failed && looked.is_ok());
        shared.answered(!away);
        patience = if away { GLANCE } else { PATIENCE };
        let holds = held_since.is_some_and(|since| since.elapsed() < TRUSTED);
        shared.lead(holds);
        let pause = match looked {
            Ok(Ok(true)) => RENEWED,
            _ if failed => AGAIN,
            _ => WAITS,
        };
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    if shared.is_leading() {
        shared.lead(false);
        let _ = tokio::time::timeout(PATIENCE, give_back(&shared, &identity)).await;
    }
}

/// Looks at the lease and takes or renews it if that is ours to do; whether it is ours afterwards.
async fn look(shared: &Shared, identity: &str, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
    // What is ours needs no look: writing it fails if somebody has taken it.
    if let Some(own) = seen.take_if(|seen| seen.ours)
        && let Some(renewed) = written(shared, identity, &own.version).await?
    {
        *seen = Some(renewed);
        return Ok(true);
    }
    let leases = shared.api(&kinds::leases());
    let Some(lease) = leases.get_opt(&shared.names.managers()).await? else {
        return created(shared, identity).await;
    };
    let version = lease.metadata.resource_version.clone().unwrap_or_default();
    if seen.as_ref().is_none_or(|seen| seen.version != version) {
        *seen = Some(Seen { version: version.clone(), at: Instant::now(), ours: false });
    }
    let holder = lease.data["spec"]["holderIdentity"].as_str().unwrap_or_default();
    let run_out = seen.as_ref().is_some_and(|seen| seen.at.elapsed() > HOLDS);
    if holder != identity && !holder.is_empty() && !run_out {
        return Ok(false);
    }
    let taken = written(shared, identity, &version).await?;
    let is_ours = taken.is_some();
    if is_ours {
        *seen = taken;
    }
    Ok(is_ours)
}

/// Writes the lease as ours, if it still is of `version`: of two who take it, one does. `None` when it is not.
async fn written(shared: &Shared, identity: &str, version: &str) -> Result<Option<Seen>, kube::Error> {
    let change = json!({"metadata": {"resourceVersion": version}, "spec": spec(identity)});
    let leases = shared.api(&kinds::leases());
    match leases.patch(&shared.names.managers(), &PatchParams::default(), &Patch::Merge(change)).await {
        Ok(lease) => {
            let version = lease.metadata.resource_version.unwrap_or_default();
            Ok(Some(Seen { version, at: Instant::now(), ours: true }))
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn created(shared: &Shared, identity: &str) -> Result<bool, kube::Error> {
    let resource = kinds::leases();
    let mut lease = DynamicObject::new(&shared.names.managers(), &resource);
    lease.data = json!({"spec": spec(identity)});
    match shared.api(&resource).create(&PostParams::default(), &lease).await {
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
    let leases = shared.api(&kinds::leases());
    let Some(lease) = leases.get_opt(&shared.names.managers()).await? else { return Ok(()) };
    if lease.data["spec"]["holderIdentity"].as_str() != Some(identity) {
        return Ok(());
    }
    let version = lease.metadata.resource_version.unwrap_or_default();
    let change = json!({"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": ""}});
    leases.patch(&shared.names.managers(), &PatchParams::default(), &Patch::Merge(change)).await.map(|_| ())
}

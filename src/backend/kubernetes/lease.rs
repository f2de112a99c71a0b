//! A Lease as managers use it: who holds it, and writing that. Pure of what it is held for.
//!
//! Whether it has run out is told by our own clock from when it was seen to change last, so that clocks need not agree. It
//! is written only if it still is of the version that was seen: of two who take it, one does.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{errors, kinds};

/// What was seen of a lease last.
pub(super) struct Seen {
    pub(super) version: String,
    pub(super) at: Instant,
    /// We wrote this version, and it is so unless somebody has written it since.
    ours: bool,
}

impl Seen {
    fn of(lease: &DynamicObject) -> Self {
        Self { version: lease.metadata.resource_version.clone().unwrap_or_default(), at: Instant::now(), ours: false }
    }

    fn written(lease: &DynamicObject) -> Self {
        Self { ours: true, ..Self::of(lease) }
    }

    /// It is like this now.
    pub(super) fn see(&mut self, lease: &DynamicObject) {
        if self.version != lease.metadata.resource_version.as_deref().unwrap_or_default() {
            *self = Self::of(lease);
        }
    }
}

/// What a lease was like when it was taken.
pub(super) enum Taken {
    /// As we wrote it last: nobody has had it since.
    Unchanged,
    /// As somebody has written it.
    From(Box<DynamicObject>),
    /// There was none.
    New,
}

/// A lease of an installation's managers, and one of them.
pub(super) struct Lease {
    name: String,
    identity: String,
    /// How long it holds without being renewed.
    holds: Duration,
    pub(super) seen: Option<Seen>,
}

impl Lease {
    pub(super) fn new(name: String, holds: Duration) -> Self {
        let identity = format!("{}-{:08x}", rustix::system::uname().nodename().to_string_lossy(), rand::random::<u32>());
        Self { name, identity, holds, seen: None }
    }

    /// Looks at it and takes or renews it if that is ours to do; what it was like before if it is ours afterwards.
    pub(super) async fn take(&mut self, leases: &Api<DynamicObject>) -> Result<Option<Taken>, kube::Error> {
        // What we wrote last needs no look: writing it fails if somebody has taken it.
        if let Some(own) = self.seen.take_if(|seen| seen.ours)
            && self.write(leases, &own.version, self.held()).await?
        {
            return Ok(Some(Taken::Unchanged));
        }
        let Some(lease) = leases.get_opt(&self.name).await? else { return self.create(leases).await };
        let known = self.seen.get_or_insert_with(|| Seen::of(&lease));
        known.see(&lease);
        let (holder, run_out, version) = (holder(&lease), known.at.elapsed() >= self.holds, known.version.clone());
        if holder != self.identity && !holder.is_empty() && !run_out {
            return Ok(None);
        }
        let is_ours = self.write(leases, &version, self.held()).await?;
        Ok(is_ours.then(|| Taken::From(Box::new(lease))))
    }

    /// So that the next one need not wait until it runs out. It finds `notes` as annotations.
    pub(super) async fn give_back(&mut self, leases: &Api<DynamicObject>, notes: &Value) -> Result<(), kube::Error> {
        let free = json!({"metadata": {"annotations": notes}, "spec": {"holderIdentity": ""}});
        if let Some(own) = self.seen.take_if(|seen| seen.ours)
            && self.write(leases, &own.version, free.clone()).await?
        {
            return Ok(());
        }
        let Some(lease) = leases.get_opt(&self.name).await? else { return Ok(()) };
        if holder(&lease) == self.identity {
            self.write(leases, &lease.metadata.resource_version.unwrap_or_default(), free).await?;
        }
        Ok(())
    }

    /// Makes this change, if it still is of `version`; whether it was.
    async fn write(&mut self, leases: &Api<DynamicObject>, version: &str, mut change: Value) -> Result<bool, kube::Error> {
        change["metadata"]["resourceVersion"] = json!(version);
        match leases.patch(&self.name, &PatchParams::default(), &Patch::Merge(change)).await {
            Ok(lease) => {
                self.seen = Some(Seen::written(&lease));
                Ok(true)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create(&mut self, leases: &Api<DynamicObject>) -> Result<Option<Taken>, kube::Error> {
        let mut lease = DynamicObject::new(&self.name, &kinds::leases());
        lease.data = self.held();
        match leases.create(&PostParams::default(), &lease).await {
            Ok(lease) => {
                self.seen = Some(Seen::written(&lease));
                Ok(Some(Taken::New))
            }
            Err(error) if errors::is_conflict(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn held(&self) -> Value {
        json!({"spec": {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.holds.as_secs(),
            "renewTime": format!("{:.6}", Timestamp::now()),
        }})
    }
}

/// Who holds it; nobody when empty.
pub(super) fn holder(lease: &DynamicObject) -> &str {
    lease.data["spec"]["holderIdentity"].as_str().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod stand_in;

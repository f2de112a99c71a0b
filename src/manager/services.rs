//! Changes to services: create, apply, patch, start, stop, restart, delete. How a change is recorded and waited for is
//! in [`super::changes`], what a request wants in [`super::wanted`].

use std::sync::Arc;
use std::time::Duration;

use super::Manager;
use super::changes::{CHANGED, Found};
use super::request::{PatchRequest, ServiceRequest};
use super::views::ServiceDetail;
use super::wait::{Outcome, Patience, Wait};
use crate::backend::Change;
use crate::domain::access::{Actor, Operation};
use crate::domain::name::ServiceName;
use crate::domain::status::{Desired, Phase, Record, ServiceState, Snapshot};
use crate::error::{Error, Kind, Result};

impl Manager {
    /// Creates a service. `AlreadyExists` when there is one of that name.
    pub async fn create_service(
        self: &Arc<Self>,
        actor: &Actor,
        request: ServiceRequest,
        wait: impl Into<Patience>,
    ) -> Result<ServiceDetail> {
        let (name, patience) = (self.name_in(&request)?, wait.into());
        let manager = self.clone();
        let target = name.clone();
        let work = async move {
            manager.is_free(&name)?;
            let wanted = manager.resolve(&name, request).await?;
            let record = manager.record_creation(&name, &wanted).await?;
            manager.see_created(&record, patience).await
        };
        self.perform(actor, Operation::ServiceCreate, target.as_str(), work).await
    }

    /// Makes a service be as `request` says: creates it, changes it, or leaves it alone. `outcome` says which. What could
    /// not be carried out before is tried again.
    pub async fn apply_service(
        self: &Arc<Self>,
        actor: &Actor,
        name: &ServiceName,
        request: ServiceRequest,
        wait: impl Into<Patience>,
    ) -> Result<ServiceDetail> {
        self.readable(&request)?;
        let (manager, owned, patience) = (self.clone(), name.clone(), wait.into());
        let work = async move {
            let wanted = manager.resolve(&owned, request).await?;
            match manager.create_or_find(&owned, &wanted).await? {
                Found::New(record) => manager.see_created(&record, patience).await,
                Found::Old(_) => {
                    let is_so = |record: &Record| wanted.is_in(record);
                    manager.change(&owned, patience, |record| Ok(wanted.change(record.desired)), is_so).await
                }
            }
        };
        self.perform(actor, Operation::ServiceApply, name.as_str(), Box::pin(work)).await
    }

    /// Changes some fields of a service.
    pub async fn patch_service(
        self: &Arc<Self>,
        actor: &Actor,
        name: &ServiceName,
        patch: PatchRequest,
        wait: impl Into<Patience>,
    ) -> Result<ServiceDetail> {
        let (manager, owned, patience) = (self.clone(), name.clone(), wait.into());
        let work = async move {
            let edit = |record: &Record| {
                let spec = Arc::new(manager.patched(record, &patch)?);
                Ok(Change { spec, template: record.template.clone(), desired: record.desired })
            };
            let is_so = |record: &Record| edit(record).is_ok_and(|change| *change.spec == *record.spec);
            manager.change(&owned, patience, edit, is_so).await
        };
        self.perform(actor, Operation::ServicePatch, name.as_str(), work).await
    }

    /// Starts a stopped service; with a `request`, creates it when it does not exist. A service that exists is never
    /// changed by this: `Conflict` when anything that the request says is not so. What it does not say is not compared.
    pub async fn start_service(
        self: &Arc<Self>,
        actor: &Actor,
        name: &ServiceName,
        request: Option<ServiceRequest>,
        wait: impl Into<Patience>,
    ) -> Result<ServiceDetail> {
        request.as_ref().map_or(Ok(()), |request| self.readable(request))?;
        let (manager, owned, patience) = (self.clone(), name.clone(), wait.into());
        let work = async move {
            if let Some(request) = request {
                let found = if let Ok(current) = manager.service(&owned) {
                    Found::Old(current)
                } else {
                    let wanted = manager.resolve(&owned, request.clone()).await?;
                    manager.create_or_find(&owned, &wanted).await?
                };
                match found {
                    Found::New(record) => return manager.see_created(&record, patience).await,
                    Found::Old(current) => manager.agree(&current, request).await?,
                }
            } else {
                manager.service(&owned).map_err(|missing| {
                    missing.remedy(format!("create it: POST /containers, or send a spec with POST /containers/{owned}/start"))
                })?;
            }
            manager.set_desired(&owned, Desired::Running, patience).await
        };
        self.perform(actor, Operation::ServiceStart, name.as_str(), Box::pin(work)).await
    }

    /// Stops a service; it stays stopped until somebody starts it.
    pub async fn stop_service(
        self: &Arc<Self>,
        actor: &Actor,
        name: &ServiceName,
        wait: impl Into<Patience>,
    ) -> Result<ServiceDetail> {
        let (manager, owned, patience) = (self.clone(), name.clone(), wait.into());
        let work = async move { manager.set_desired(&owned, Desired::Stopped, patience).await };
        self.perform(actor, Operation::ServiceStop, name.as_str(), work).await
    }

    /// Stops and starts every replica, one after the other. A stopped service is started.
    pub async fn restart_service(
        self: &Arc<Self>,
        actor: &Actor,
        name: &ServiceName,
        wait: impl Into<Patience>,
    ) -> Result<ServiceDetail> {
        let (manager, owned, patience) = (self.clone(), name.clone(), wait.into());
        let work = async move {
            let current = manager.service(&owned)?;
            if current.record.desired == Desired::Stopped || current.phase == Phase::Failed {
                return manager.set_desired(&owned, Desired::Running, patience).await;
            }
            if patience.wait == Wait::None && manager.snapshot().connected {
                let backend = manager.backend.clone();
                manager.tasks.spawn_for_request("restart", async move {
                    if let Err(error) = backend.restart(&owned).await {
                        tracing::warn!(service = %owned, %error, "a restart that nobody waited for failed");
                    }
                });
                return Ok(ServiceDetail { outcome: Some(CHANGED.to_owned()), ..manager.detail(&current) });
            }
            manager.backend.restart(&owned).await?;
            let limit = current.record.spec.start_timeout.duration();
            let is_so = |record: &Record| record.desired == Desired::Running;
            let waited = manager.wait_for(&owned, current.record.generation, &patience, limit, &is_so).await;
            manager.told(&owned, waited, CHANGED)
        };
        self.perform(actor, Operation::ServiceRestart, name.as_str(), work).await
    }

    /// Deletes a service with everything that belongs to it; named volumes only when asked for.
    pub async fn delete_service(self: &Arc<Self>, actor: &Actor, name: &ServiceName, volumes: bool) -> Result<()> {
        let (manager, owned) = (self.clone(), name.clone());
        let work = async move {
            manager.service(&owned)?;
            manager.backend.remove(&owned, volumes).await
        };
        self.perform(actor, Operation::ServiceDelete, name.as_str(), work).await
    }

    /// The live state of a service.
    pub(super) fn service(&self, name: &ServiceName) -> Result<Arc<ServiceState>> {
        let snapshot = self.snapshot();
        if let Some(service) = snapshot.services.get(name) {
            return Ok(service.clone());
        }
        has_looked(&snapshot)?;
        Err(Error::not_found("service", name.as_str(), snapshot.services.keys().map(ServiceName::as_str)))
    }

    /// Whether a service of that name can be created.
    pub(super) fn is_free(&self, name: &ServiceName) -> Result<()> {
        let snapshot = self.snapshot();
        // An engine that is away for a moment is waited for by the backend.
        if !snapshot.synced {
            return Err(Error::new(Kind::BackendUnavailable, "the container engine does not answer at present")
                .remedy("'mcp-manager doctor' says why; try again when /ready answers 200"));
        }
        if snapshot.services.contains_key(name) {
            return Err(Error::new(Kind::AlreadyExists, format!("there is a service '{name}' already"))
                .remedy(format!("use another name, PUT /containers/{name} to change it, or delete it first")));
        }
        Ok(())
    }

    async fn set_desired(self: &Arc<Self>, name: &ServiceName, desired: Desired, patience: Patience) -> Result<ServiceDetail> {
        let current = self.service(name)?;
        let ended = match current.phase {
            Phase::Exited | Phase::CrashLoop => true,
            // Somebody has scaled it to nothing behind the manager's back.
            Phase::Stopped => current.replicas.is_empty(),
            _ => false,
        };
        if ended && desired == Desired::Running && current.record.desired == desired {
            // It ended by itself; starting it is what a restart does.
            self.backend.restart(name).await?;
        }
        let edit = |record: &Record| Ok(Change { spec: record.spec.clone(), template: record.template.clone(), desired });
        let is_so = |record: &Record| record.desired == desired;
        let recorded = self.record_change(name, edit, &is_so).await?;
        let spec = &recorded.after.spec;
        let waited = if desired == Desired::Stopped && patience.wait != Wait::None {
            // Stopping takes at most the stop timeout and the engine's own time.
            let limit = spec.stop_timeout.duration() + Duration::from_secs(20);
            let stopped = |service: &ServiceState| (service.phase == Phase::Stopped).then_some(Outcome::Reached);
            self.wait_until(name, &patience, limit, stopped).await
        } else {
            self.wait_for(name, recorded.after.generation, &patience, spec.start_timeout.duration(), &is_so).await
        };
        self.told(name, waited, recorded.outcome)
    }
}

/// Whether what the manager shows is all there is: at its start, and until the backend has answered, it is not.
pub(super) fn has_looked(snapshot: &Snapshot) -> Result<()> {
    if snapshot.synced {
        return Ok(());
    }
    Err(Error::new(Kind::BackendUnavailable, "the manager has not seen what runs yet")
        .remedy("try again shortly; GET /ready says what it waits for"))
}

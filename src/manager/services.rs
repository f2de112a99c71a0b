//! Changes to services: create, apply, patch, start, stop, restart, delete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::request::{PatchRequest, ServiceRequest, say_template};
use super::views::ServiceDetail;
use super::wait::{Outcome, Patience, Wait};
use super::{Manager, host_paths};
use crate::backend::{Change, Places};
use crate::domain::access::{Actor, Operation};
use crate::domain::name::ServiceName;
use crate::domain::spec::{self, ServiceSpec};
use crate::domain::status::{Desired, Phase, Record, ServiceState, Snapshot};
use crate::domain::template::TemplateReference;
use crate::domain::{fields, shown};
use crate::error::{Error, FieldError, Kind, Result};

/// How often a change is tried again when another one came in between.
const ATTEMPTS: usize = 5;

impl Manager {
    /// Creates a service. `AlreadyExists` when there is one of that name.
    pub async fn create_service(
        self: &Arc<Self>,
        actor: &Actor,
        request: ServiceRequest,
        wait: impl Into<Patience>,
    ) -> Result<ServiceDetail> {
        let (name, patience) = (request.name(None)?, wait.into());
        let manager = self.clone();
        let target = name.clone();
        let work = async move { manager.create(&name, request, patience).await };
        self.perform(actor, Operation::ServiceCreate, target.as_str(), work).await
    }

    /// Makes a service be as `request` says: creates it, changes it, or leaves it alone. `outcome` says which.
    pub async fn apply_service(
        self: &Arc<Self>,
        actor: &Actor,
        name: &ServiceName,
        request: ServiceRequest,
        wait: impl Into<Patience>,
    ) -> Result<ServiceDetail> {
        let (manager, owned, patience) = (self.clone(), name.clone(), wait.into());
        let work = async move {
            let Ok(current) = manager.service(&owned) else { return manager.create(&owned, request, patience).await };
            let (spec, template) = manager.resolve(request).await?;
            if *current.record.spec == spec && current.record.template == template {
                return manager.answer(&owned, "unchanged");
            }
            let desired = current.record.desired;
            manager
                .change(&owned, patience, move |_| Change { spec: Arc::new(spec.clone()), template: template.clone(), desired })
                .await
        };
        self.perform(actor, Operation::ServiceApply, name.as_str(), work).await
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
            let current = manager.service(&owned)?;
            let spec = manager.patched(&current.record, &patch)?;
            if *current.record.spec == spec {
                return manager.answer(&owned, "unchanged");
            }
            let apply = move |record: &Record| Change {
                spec: Arc::new(spec.clone()),
                template: record.template.clone(),
                desired: record.desired,
            };
            manager.change(&owned, patience, apply).await
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
        let (manager, owned, patience) = (self.clone(), name.clone(), wait.into());
        let work =
            async move {
                match (manager.service(&owned), request) {
                    (Err(_), Some(request)) => manager.create(&owned, request, patience).await,
                    (Err(missing), None) => Err(missing
                        .remedy(format!("create it: POST /containers, or send a spec with POST /containers/{owned}/start"))),
                    (Ok(current), request) => {
                        if let Some(request) = request {
                            manager.agree(&current, request).await?;
                        }
                        manager.set_desired(&owned, Desired::Running, patience).await
                    }
                }
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
                manager.tasks.spawn("restart", async move {
                    if let Err(error) = backend.restart(&owned).await {
                        tracing::warn!(service = %owned, %error, "a restart that nobody waited for failed");
                    }
                });
                return manager.answer(&current.record.name, "changed");
            }
            manager.backend.restart(&owned).await?;
            let limit = current.record.spec.start_timeout.duration();
            match manager.wait_for(&owned, current.record.generation, &patience, limit).await {
                Outcome::Failed(error) => Err(error),
                Outcome::Gone => Err(gone(&owned)),
                _ => manager.answer(&owned, "changed"),
            }
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

    fn answer(&self, name: &ServiceName, outcome: &str) -> Result<ServiceDetail> {
        let service = self.service(name).map_err(|_| gone(name))?;
        Ok(ServiceDetail { outcome: Some(outcome.to_owned()), ..self.detail(&service) })
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

    async fn create(self: &Arc<Self>, name: &ServiceName, request: ServiceRequest, patience: Patience) -> Result<ServiceDetail> {
        self.is_free(name)?;
        let (spec, template) = self.resolve(request).await?;
        let limit = spec.start_timeout.duration();
        let places = self.backend.places().await?;
        let recorded = || places.at_present(&self.snapshot());
        let reservation = self.capacity.reserve(recorded, name, spec.most_replicas())?;
        let change = Change { spec: Arc::new(spec), template, desired: Desired::Running };
        let record = self.backend.create(name, change).await?;
        drop((reservation, places));
        match self.wait_for(name, record.generation, &patience, limit).await {
            Outcome::Failed(error) => {
                // A failed creation leaves nothing: its caller has the reason, so the record is of no more use.
                if let Err(left) = self.backend.remove(name, false).await
                    && left.kind != Kind::NotFound
                {
                    tracing::error!(service = %name, error = %left, "what a failed creation left could not be removed");
                }
                Err(error)
            }
            Outcome::Gone => Err(gone(name)),
            Outcome::Reached | Outcome::NotReached | Outcome::Overtaken => self.answer(name, "created"),
        }
    }

    /// Records a change, waits for it, and puts the former state back when it cannot be carried out.
    async fn change(
        self: &Arc<Self>,
        name: &ServiceName,
        patience: Patience,
        edit: impl Fn(&Record) -> Change + Send,
    ) -> Result<ServiceDetail> {
        let (before, record) = self.record_change(name, edit).await?;
        let limit = self.change_limit(&record);
        match self.wait_for(name, record.generation, &patience, limit).await {
            Outcome::Failed(error) => {
                let former = Change { spec: before.spec.clone(), template: before.template.clone(), desired: before.desired };
                if let Err(stuck) = self.backend.update(name, record.generation, former).await {
                    tracing::error!(service = %name, error = %stuck, "the former state could not be put back after a failed change");
                }
                Err(error)
            }
            Outcome::Gone => Err(gone(name)),
            _ => self.answer(name, "changed"),
        }
    }

    /// A change may stop the old containers before it starts the new ones.
    fn change_limit(&self, record: &Record) -> Duration {
        let each = record.spec.start_timeout.duration() + record.spec.stop_timeout.duration();
        each.saturating_mul(record.spec.replicas.max(1)).min(self.settings.max_wait)
    }

    async fn record_change(
        &self,
        name: &ServiceName,
        edit: impl Fn(&Record) -> Change + Send,
    ) -> Result<(Arc<Record>, Arc<Record>)> {
        for _ in 1..ATTEMPTS {
            let current = self.service(name)?.record.clone();
            let change = edit(&current);
            // Who takes no further places need not wait for a turn.
            let (wanted, had) = (change.spec.most_replicas(), current.spec.most_replicas());
            let grows = wanted > had;
            let places = if grows { self.backend.places().await? } else { Places::of(&self.snapshot()) };
            let reservation = self.capacity.reserve(|| places.at_present(&self.snapshot()), name, wanted.max(had))?;
            match self.backend.update(name, current.generation, change).await {
                Err(error) if error.kind == Kind::Conflict => {
                    drop((reservation, places));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => return other.map(|record| (current, record)),
            }
        }
        Err(Error::new(Kind::Conflict, format!("'{name}' is being changed by others all the time")).remedy("try again"))
    }

    async fn set_desired(self: &Arc<Self>, name: &ServiceName, desired: Desired, patience: Patience) -> Result<ServiceDetail> {
        let current = self.service(name)?;
        let again = current.phase == Phase::Failed && desired == Desired::Running;
        let ended = matches!(current.phase, Phase::Exited | Phase::CrashLoop) && desired == Desired::Running;
        if ended && current.record.desired == desired {
            // It ended by itself; starting it is what a restart does.
            self.backend.restart(name).await?;
        }
        let mut outcome = "unchanged";
        let mut generation = current.record.generation;
        if current.record.desired != desired || again {
            let edit = |record: &Record| Change { spec: record.spec.clone(), template: record.template.clone(), desired };
            generation = self.record_change(name, edit).await?.1.generation;
            outcome = "changed";
        }
        let spec = &current.record.spec;
        let waited = if desired == Desired::Stopped {
            // Stopping takes at most the stop timeout and the engine's own time.
            let limit = spec.stop_timeout.duration() + Duration::from_secs(20);
            let stopped = |service: &ServiceState| (service.phase == Phase::Stopped).then_some(Outcome::Reached);
            if patience.wait == Wait::None { Outcome::Reached } else { self.wait_until(name, &patience, limit, stopped).await }
        } else {
            self.wait_for(name, generation, &patience, spec.start_timeout.duration()).await
        };
        match waited {
            Outcome::Failed(error) => Err(error),
            Outcome::Gone => Err(gone(name)),
            _ => self.answer(name, outcome),
        }
    }

    /// Template and request together, checked against the machine.
    pub(super) async fn resolve(&self, request: ServiceRequest) -> Result<(ServiceSpec, Option<TemplateReference>)> {
        let environment = |name: &str| (self.environment)(name);
        let defaults = &self.settings.defaults;
        let (mut spec, template) = if let Some(reference) = &request.template {
            let template = self.registry.get(reference)?;
            let made_from = TemplateReference { pinned: reference.contains('@'), ..template.reference() };
            (template.instantiate(request.spec, defaults, &environment)?, Some(made_from))
        } else {
            let spec = spec::resolve(request.spec, defaults, &[], &environment).map_err(|mut errors| {
                say_template(&mut errors);
                Error::invalid("the service cannot be created", errors)
            })?;
            (spec, None)
        };
        host_paths::pin(&mut spec, &defaults.allowed_host_paths).await?;
        Ok((spec, template))
    }

    /// `Conflict`, with the fields, when a service is not what a request says of it.
    async fn agree(&self, current: &ServiceState, request: ServiceRequest) -> Result<()> {
        let record = &current.record;
        let (said, says_template) = (request.spec.clone(), request.template.clone());
        let mut request = request;
        if request.template.is_none() && said.image.is_none() {
            request.spec.image = Some(record.spec.image.clone());
        }
        let (wanted, template) = self.resolve(request).await?;
        let mut fields = spec::differences(&said, &wanted, &record.spec);
        if let (Some(reference), Some(wanted)) = (says_template, template) {
            let made_from = record.template.as_ref();
            let says_version = reference.contains('@');
            let is_made_from =
                |made: &TemplateReference| made.name == wanted.name && (!says_version || made.version == wanted.version);
            if !made_from.is_some_and(is_made_from) {
                let is = made_from.map_or_else(|| "none".to_owned(), |made| format!("{}@{}", made.name, made.version));
                let message = format!("is {is} in the service");
                fields.insert(0, FieldError::new("template", message, "leave it out, or change the service"));
            }
        }
        if fields.is_empty() {
            return Ok(());
        }
        let name = &record.name;
        let differing = fields.iter().map(|field| field.field.as_str()).collect::<Vec<_>>().join(", ");
        Err(Error { fields, ..Error::new(Kind::Conflict, format!("'{name}' exists and differs in {differing}")) }
            .remedy(format!("change it with PUT /containers/{name}, or start it as it is, without a body")))
    }

    /// The spec of `current` with the fields of `patch`, under the same rules as a new service.
    fn patched(&self, current: &Record, patch: &PatchRequest) -> Result<ServiceSpec> {
        let changes = patch.environment.clone().unwrap_or_default();
        let mut spec = ServiceSpec::clone(&current.spec);
        let input = patch.input(spec.image.clone());
        let (set, mut errors) = match spec::resolve(input, &self.settings.defaults, &[], &|_| None) {
            Ok(checked) => (checked.environment, Vec::new()),
            Err(errors) => (BTreeMap::new(), errors),
        };
        if let Some(replicas) = patch.replicas {
            if replicas > 1 && !spec.ports.is_empty() {
                let remedy = "keep one replica, or apply the service without 'ports'";
                errors.push(FieldError::new("replicas", "fixed host ports cannot be shared by replicas", remedy));
            }
            if let Some(autoscaling) = spec.autoscaling.as_ref().filter(|one| !(one.min..=one.max).contains(&replicas)) {
                let message = format!("is not within the service's autoscaling, {} to {}", autoscaling.min, autoscaling.max);
                errors.push(FieldError::new("replicas", message, "apply the service with another 'autoscaling'"));
            }
            spec.replicas = replicas;
        }
        // A version that is not there any more requires nothing.
        let template = current.template.as_ref();
        let template = template.and_then(|from| self.registry.get(&format!("{}@{}", from.name, from.version)).ok());
        for (name, value) in changes {
            let field = format!("environment.{}", shown(&name));
            if spec.secrets.contains_key(&name) {
                let remedy = "change the secret, or apply the service without it";
                errors.push(FieldError::new(field, "is filled from a secret", remedy));
                continue;
            }
            if value.is_some() {
                // What breaks a rule is among the errors.
                spec.environment.extend(set.get(&name).cloned().map(|value| (name, value)));
                continue;
            }
            if let Some(template) = template.as_ref().filter(|template| template.required_env_vars.contains(&name)) {
                let message = format!("is required by the template '{}'", template.name);
                errors.push(FieldError::new(field, message, "set it to another value instead"));
            }
            spec.environment.remove(&name);
        }
        spec.memory_limit = patch.memory_limit.unwrap_or(spec.memory_limit);
        spec.cpu_limit = patch.cpu_limit.unwrap_or(spec.cpu_limit);
        spec.pids_limit = patch.pids_limit.unwrap_or(spec.pids_limit);
        spec.storage_limit = patch.storage_limit.or(spec.storage_limit);
        if errors.is_empty() {
            errors.extend(spec::too_large(&spec));
        }
        if errors.is_empty() { Ok(spec) } else { Err(Error::invalid("the change is not valid", fields::bounded(errors))) }
    }
}

fn gone(name: &ServiceName) -> Error {
    Error::new(Kind::Cancelled, format!("'{name}' was deleted while the request waited for it"))
        .remedy("create it again if it is still wanted")
}

/// Whether what the manager shows is all there is: at its start, and until the backend has answered, it is not.
pub(super) fn has_looked(snapshot: &Snapshot) -> Result<()> {
    if snapshot.synced {
        return Ok(());
    }
    Err(Error::new(Kind::BackendUnavailable, "the manager has not seen what runs yet")
        .remedy("try again shortly; GET /ready says what it waits for"))
}

//! What creating or changing a service would do, without doing it. The checks are those of the real thing, and the backend
//! says what it would make; how long it takes and whether it gets healthy nobody knows before.

use std::sync::Arc;

use super::changes::{CHANGED, CREATED, RETRIED, UNCHANGED, has_failed};
use super::request::ServiceRequest;
use super::views::ServicePlan;
use super::{Manager, redact};
use crate::backend::Places;
use crate::domain::access::{Actor, Operation};
use crate::domain::name::ServiceName;
use crate::domain::status::Desired;
use crate::error::Result;

/// What a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A new service: `AlreadyExists` when there is one of that name.
    Create,
    /// A service as described, whether there is one of that name or not.
    Apply,
}

impl Manager {
    /// What [`Manager::create_service`] or [`Manager::apply_service`] would do. Nothing is written, and nothing audited.
    pub async fn plan_service(
        self: &Arc<Self>,
        actor: &Actor,
        name: &ServiceName,
        request: ServiceRequest,
        purpose: Purpose,
    ) -> Result<ServicePlan> {
        self.readable(&request)?;
        let (manager, owned) = (self.clone(), name.clone());
        // A request holds a whole spec.
        let work = Box::pin(async move { manager.plan(&owned, request, purpose).await });
        self.perform(actor, Operation::ServicePlan, name.as_str(), work).await
    }

    async fn plan(&self, name: &ServiceName, request: ServiceRequest, purpose: Purpose) -> Result<ServicePlan> {
        let current = self.service(name).ok().filter(|_| purpose == Purpose::Apply);
        if current.is_none() {
            self.is_free(name)?;
        }
        let wanted = self.resolve(name, request).await?;
        let spec = &wanted.spec;
        let had = current.as_ref().map_or(0, |service| service.record.spec.most_replicas());
        self.capacity.has_room(&Places::of(&self.snapshot()).replicas, name, spec.most_replicas().max(had))?;
        let record = current.as_ref().map(|service| service.record.clone());
        let is_same = record.as_ref().is_some_and(|record| wanted.is_in(record));
        let outcome = match &current {
            Some(service) if is_same && has_failed(service) => RETRIED,
            Some(_) if is_same => UNCHANGED,
            Some(_) => CHANGED,
            None => CREATED,
        };
        let desired = record.map_or(Desired::Running, |record| record.desired);
        let mut plan = if outcome == UNCHANGED {
            crate::backend::Plan::default()
        } else {
            self.backend.plan(name, wanted.change(desired)).await?
        };
        let secrets: Vec<&str> = spec.secrets.keys().map(String::as_str).collect();
        for definition in plan.objects.iter_mut().filter_map(|object| object.definition.as_mut()) {
            redact::inspection(definition, &secrets);
        }
        Ok(ServicePlan {
            name: name.to_string(),
            outcome: outcome.to_owned(),
            url: spec.port.map(|_| self.url(name.as_str())),
            template: wanted.template.clone(),
            plan,
            loosened: spec.loosened(),
            spec: redact::spec(spec),
        })
    }
}

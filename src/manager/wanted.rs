//! What a request wants: template and request together, under all rules and checked against the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::request::{PatchRequest, ServiceRequest, Unreadable, say_template};
use super::{Manager, host_paths};
use crate::backend::Change;
use crate::domain::name::ServiceName;
use crate::domain::spec::{self, EnvironmentValue, ServiceSpec, Volumes};
use crate::domain::status::{Desired, Record, ServiceState};
use crate::domain::template::TemplateReference;
use crate::domain::{fields, shown};
use crate::error::{Error, FieldError, Kind, Result};

/// How a service is to run, and which template that comes from.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) spec: Arc<ServiceSpec>,
    pub(super) template: Option<TemplateReference>,
}

impl Wanted {
    /// Whether a record says just this.
    pub(super) fn is_in(&self, record: &Record) -> bool {
        *record.spec == *self.spec && record.template == self.template
    }

    /// The change that makes a record say this.
    pub(super) fn change(&self, desired: Desired) -> Change {
        Change { spec: self.spec.clone(), template: self.template.clone(), desired }
    }
}

impl Manager {
    /// The name in a request, if nothing is wrong with what could not be read.
    pub fn name_in(&self, request: &ServiceRequest) -> Result<ServiceName> {
        self.readable(request)?;
        request.name(None)
    }

    /// Everything that is wrong with a request of which something could not be read: that, and the rules that the rest of
    /// it breaks, with its template and on this machine. A request that could be read is judged when it is resolved.
    pub(super) fn readable(&self, request: &ServiceRequest) -> Result<()> {
        let mut errors = request.wrong.errors.clone();
        if errors.is_empty() {
            return Ok(());
        }
        if errors.len() <= fields::MAX_ERRORS {
            let more = self.violations(request);
            // One error of a field is enough: it may be the reason of the other.
            let told: BTreeSet<String> = errors.iter().map(|error| error.field.clone()).collect();
            errors.extend(more.into_iter().filter(|error| !told.contains(&error.field)));
        }
        Err(Error::invalid("the request is not valid", fields::bounded(errors)))
    }

    /// Rules that what could be read of a request breaks.
    fn violations(&self, request: &ServiceRequest) -> Vec<FieldError> {
        let Unreadable { unread, is_whole, .. } = &request.wrong;
        let (defaults, environment) = (&self.settings.defaults, |name: &str| (self.environment)(name));
        let mut errors = Vec::new();
        let mut input = request.spec.clone();
        let template = match request.template.as_ref().map(|reference| self.registry.get(reference)) {
            Some(Ok(template)) => Some(template),
            Some(Err(Error { detail, remedy, .. })) => {
                errors.push(FieldError { remedy, ..FieldError::new("template", detail, "") });
                None
            }
            None => None,
        };
        if let Some(template) = &template {
            let missing = template.lacks(&input);
            // Of what cannot be read at all, it is not known what it gives.
            let is_lost = |member: &str| request.wrong.errors.iter().any(|error| error.field == member);
            errors.extend(missing.into_iter().filter(|_| !is_lost("environment") && !is_lost("secrets")));
            input = template.spec.clone().overlaid(input);
        } else if !is_whole || !errors.is_empty() || unread.contains("template") {
            // What is not said is in the service, or in the template that was meant.
            input.leave_to_others();
        }
        let allowed = template.as_ref().map_or(&[][..], |template| &template.allowed_env);
        errors.extend(spec::violations(input, defaults, allowed, &environment, unread));
        say_template(&mut errors);
        errors
    }

    /// Template and request together, checked against the machine.
    pub(super) async fn resolve(&self, name: &ServiceName, request: ServiceRequest) -> Result<Wanted> {
        let environment = |name: &str| (self.environment)(name);
        let defaults = &self.settings.defaults;
        let mut volumes = request.spec.volumes.as_ref().map(Volumes::fields);
        let (mut spec, template) = if let Some(reference) = &request.template {
            let template = self.registry.get(reference)?;
            volumes = volumes.or_else(|| template.spec.volumes.as_ref().map(Volumes::fields));
            let made_from = TemplateReference { pinned: reference.contains('@'), ..template.reference() };
            (template.instantiate(request.spec, defaults, &environment)?, Some(made_from))
        } else {
            let spec = spec::resolve(request.spec, defaults, &[], &environment).map_err(|mut errors| {
                say_template(&mut errors);
                Error::invalid("the service cannot be created", errors)
            })?;
            (spec, None)
        };
        let of_others = spec::labels_of_others(&spec.labels, name.as_str());
        if !of_others.is_empty() {
            return Err(Error::invalid("the service cannot be created", of_others));
        }
        host_paths::pin(&mut spec, &defaults.allowed_host_paths, &volumes.unwrap_or_default()).await?;
        Ok(Wanted { spec: Arc::new(spec), template })
    }

    /// `Conflict`, with the fields, when a service is not what a request says of it.
    pub(super) async fn agree(&self, current: &ServiceState, request: ServiceRequest) -> Result<()> {
        let record = &current.record;
        let (said, says_template) = (request.spec.clone(), request.template.clone());
        let mut request = request;
        if request.template.is_none() && said.image.is_none() {
            request.spec.image = Some(record.spec.image.clone());
        }
        if request.template.is_none() && said.port.is_none() {
            request.spec.port = record.spec.port;
        }
        let Wanted { spec: wanted, template } = self.resolve(&record.name, request).await?;
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
    pub(super) fn patched(&self, current: &Record, patch: &PatchRequest) -> Result<ServiceSpec> {
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
            let required = template.as_ref().filter(|template| template.required_env_vars.contains(&name));
            if let Some(template) = required.filter(|_| value.as_ref().is_none_or(|EnvironmentValue(text)| text.is_empty())) {
                let removed = if value.is_some() { "is empty and " } else { "" };
                let message = format!("{removed}is required by the template '{}'", template.name);
                errors.push(FieldError::new(field, message, "set it to another value instead"));
                continue;
            }
            if value.is_some() {
                // What breaks a rule is among the errors.
                spec.environment.extend(set.get(&name).cloned().map(|value| (name, value)));
                continue;
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

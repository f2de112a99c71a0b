//! What a change would do, as the API server itself says: each object that would be written is sent to it as a dry run,
//! so that its defaults, its rules and those of admission hold. What becomes of the pods is not part of it: quotas and Pod
//! Security meet them only when the cluster makes them, but for what the server warns of.

use std::sync::Arc;

use http::header::WARNING;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams, Request, ValidationDirective};
use kube::client::Body;
use kube::core::{ApiResource, Status};
use kube::{Client, Resource as _};
use serde_json::Value;

use super::plan::Action;
use super::reconcile::{self, Lacking, in_time};
use super::root::{self, Root};
use super::shared::{FIELD_MANAGER, Shared, patching};
use super::world::Objects;
use super::{kinds, names};
use crate::backend::{Change, Plan, PlannedAction, PlannedObject};
use crate::domain::name::ServiceName;
use crate::domain::spec::REDACTED;
use crate::error::{Error, Kind, Result};

/// The plan of a change to a service, or of a new one.
pub(super) async fn plan(shared: &Shared, name: &ServiceName, change: Change) -> Result<Plan> {
    let known = shared.objects(name).unwrap_or_default();
    let asked = Asked { shared, warnings: Vec::new() };
    asked.plan(name, known, change).await
}

/// What the server was asked so far.
struct Asked<'a> {
    shared: &'a Shared,
    warnings: Vec<String>,
}

impl Asked<'_> {
    async fn plan(mut self, name: &ServiceName, known: Objects, change: Change) -> Result<Plan> {
        let mut objects = Vec::new();
        let (root, written) = self.root(name, known.root.as_ref(), change).await?;
        objects.push(written);
        let known = Objects { root: Some(root.clone()), ..known };
        let Lacking { actions, claims } = reconcile::lacking(self.shared, &root, &known).await?;
        for (claim, json) in claims {
            objects.extend(self.claim(&claim, json).await?);
        }
        for action in actions {
            objects.push(self.action(&known, action).await?);
        }
        if root.record.spec.port.is_some() {
            self.warnings.extend(self.shared.look(|world| world.lack().map(|lack| lack.reason().detail)));
        }
        self.warnings.sort();
        self.warnings.dedup();
        Ok(Plan { accepted_by_engine: true, objects, warnings: self.warnings })
    }

    /// The root object of the change, as it would be.
    async fn root(&mut self, name: &ServiceName, now: Option<&Root>, change: Change) -> Result<(Root, PlannedObject)> {
        let names = &self.shared.names;
        let (action, record, request) = if let Some(now) = now {
            let record = change.after(&now.record);
            let patch = Patch::Merge(root::change(&now.version, &record)?);
            (
                PlannedAction::Change,
                record,
                self.requests(&kinds::root()).patch(&names.object(name.as_str()), &applying(), &patch),
            )
        } else {
            let record = change.first(name);
            let text = root::new(names, &record)?.to_string();
            (PlannedAction::Create, record, self.requests(&kinds::root()).create(&creating(), text.into_bytes()))
        };
        let object = self.ask(request, "write the record").await?;
        let root = Root {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            version: object.metadata.resource_version.clone().unwrap_or_default(),
            deleting: false,
            record: Arc::new(record),
            refusal: None,
        };
        Ok((root, planned(action, &kinds::root(), object)))
    }

    /// A claim that may be there already.
    async fn claim(&mut self, name: &str, json: Value) -> Result<Option<PlannedObject>> {
        let resource = kinds::claims();
        let request = self.requests(&resource).create(&creating(), json.to_string().into_bytes());
        match self.ask(request, &format!("create the {} {name}", resource.kind)).await {
            Ok(object) => Ok(Some(planned(PlannedAction::Create, &resource, object))),
            Err(error) if error.kind == Kind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn action(&mut self, known: &Objects, action: Action) -> Result<PlannedObject> {
        match action {
            Action::Apply(object) => {
                let there = known.written.contains_key(&(object.kind, object.name.clone()));
                let resource = object.kind.resource();
                let parameters = PatchParams { force: true, field_validation: Some(ValidationDirective::Strict), ..applying() };
                let request = self.requests(&resource).patch(&object.name, &parameters, &Patch::Apply(&object.json));
                let written = self.ask(request, &format!("write the {}", resource.kind)).await?;
                Ok(planned(if there { PlannedAction::Change } else { PlannedAction::Create }, &resource, written))
            }
            Action::Scale(kind, name, _) => Ok(PlannedObject::new(PlannedAction::Change, &kind.resource().kind, name)),
            Action::Delete(kind, name) => Ok(PlannedObject::new(PlannedAction::Delete, &kind.resource().kind, name)),
        }
    }

    fn requests(&self, resource: &ApiResource) -> Request {
        Request::new(DynamicObject::url_path(resource, Some(&self.shared.names.namespace)))
    }

    /// Sends a dry run and keeps what the server warns of, which its client would drop.
    async fn ask(
        &mut self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
        doing: &str,
    ) -> Result<DynamicObject> {
        let request = request.map_err(|error| Error::internal(format!("cannot {doing}"), error))?;
        let (object, warnings) = in_time(answer(self.shared.client(), request), doing).await?;
        self.warnings.extend(warnings);
        Ok(object)
    }
}

async fn answer(client: Client, request: http::Request<Vec<u8>>) -> Result<(DynamicObject, Vec<String>), kube::Error> {
    let response = client.send(request.map(Body::from)).await?;
    let said = response.headers().get_all(WARNING).iter().filter_map(|value| value.to_str().ok());
    let warnings = said.map(|value| words(value).to_owned()).collect();
    let is_done = response.status().is_success();
    let body = response.into_body().collect_bytes().await?;
    if is_done {
        return Ok((serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?, warnings));
    }
    let status: Status = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
    Err(kube::Error::Api(Box::new(status)))
}

/// The words of a warning, which the header has between a code and an agent before them, in quotes.
fn words(header: &str) -> &str {
    header.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map_or(header, |(words, _)| words)
}

fn creating() -> PostParams {
    PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) }
}

fn applying() -> PatchParams {
    PatchParams { dry_run: true, ..patching() }
}

/// An object as it is shown: without what is the server's own, without the record, which the answer tells in its own
/// words, and without values of secrets.
fn planned(action: PlannedAction, resource: &ApiResource, mut object: DynamicObject) -> PlannedObject {
    let metadata = &mut object.metadata;
    metadata.managed_fields = None;
    metadata.uid = None;
    metadata.owner_references = None;
    metadata.annotations.get_or_insert_default().remove(names::RECORD);
    if let Some(data) = object.data.get_mut("data").and_then(Value::as_object_mut).filter(|_| resource.kind == "Secret") {
        data.values_mut().for_each(|value| *value = REDACTED.into());
    }
    let name = object.metadata.name.clone().unwrap_or_default();
    let definition = serde_json::to_value(object).ok();
    PlannedObject { definition, ..PlannedObject::new(action, &resource.kind, name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_its_words() {
        let header = "299 - \"would violate PodSecurity \"restricted:latest\": seccompProfile\"";
        assert_eq!(words(header), "would violate PodSecurity \"restricted:latest\": seccompProfile");
        assert_eq!(words("strange"), "strange");
    }
}

//! What callers ask for, read from JSON with every wrong field reported.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::domain::fields;
use crate::domain::name::{self, ServiceName};
use crate::domain::quantity::{Bytes, MilliCpu};
use crate::domain::spec::{self, EnvironmentValue, SpecInput, also_named};
use crate::error::{Error, FieldError, Result};

/// A service as asked for: from a template, inline, or a template with changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema, JsonSchema)]
#[schemars(transform = also_named("service_name", "name"))]
pub struct ServiceRequest {
    /// Name of the service: 1 to 40 lower-case letters, digits and '-'. Its URL is `http://NAME.localhost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"echo", transform = spec::says(json!({"pattern": name::pattern(), "not": {"enum": name::RESERVED}})))]
    pub service_name: Option<String>,
    /// Template it is started from, `NAME` or `NAME@VERSION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"echo")]
    pub template: Option<String>,
    /// How to run it; on top of the template, where there is one.
    #[serde(flatten)]
    pub spec: SpecInput,
    /// What of it could not be read.
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) wrong: Unreadable,
}

/// What is wrong with a request before anything is made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) errors: Vec<FieldError>,
    /// The fields that have errors.
    pub(super) unread: BTreeSet<String>,
    /// What the request does not say is not there; else it is as it is in the service.
    pub(super) is_whole: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Header {
    #[serde(default, alias = "name")]
    service_name: Option<String>,
    #[serde(default)]
    template: Option<String>,
}

impl ServiceRequest {
    /// A request that is made here.
    #[must_use]
    pub fn new(service_name: String, template: Option<String>, spec: SpecInput) -> Self {
        Self { service_name: Some(service_name), template, spec, wrong: Unreadable::default() }
    }

    /// Reads a request; `path_name` is the name in the address, when it stands there. Fields that cannot be read are kept
    /// as such: the manager tells them, with the rules that the rest breaks.
    pub fn read(document: &Value, path_name: Option<&ServiceName>) -> Result<Self> {
        Self::read_as(document, path_name, true)
    }

    /// The same for a service that may be there already, so that nothing is missing in what is said of it.
    pub fn read_about(document: &Value, path_name: &ServiceName) -> Result<Self> {
        Self::read_as(document, Some(path_name), false)
    }

    fn read_as(document: &Value, path_name: Option<&ServiceName>, is_whole: bool) -> Result<Self> {
        let mut object = Cow::Borrowed(as_object(document)?);
        let mut twice = Vec::new();
        let is_named_twice = object.contains_key("service_name") && object.contains_key("name");
        if is_named_twice {
            // Both are one field: with the two of them nothing beside them could be read.
            object.to_mut().remove("name");
            twice.push(FieldError::new("service_name", "is given twice, as 'name' too", "give it once"));
        }
        let (header, spec) = fields::read_both::<Header, SpecInput>(&object, &spec::PARTS);
        let errors = [twice, header.errors, spec.errors].concat();
        let mut unread = spec.unread;
        unread.extend(header.unread);
        let wrong = Unreadable { errors, unread, is_whole };
        let Header { service_name, template } = header.value;
        let mut request = Self { service_name, template, spec: spec.value, wrong };
        let Unreadable { errors, unread, .. } = &mut request.wrong;
        match (path_name, &request.service_name) {
            (Some(path), Some(body)) if path.as_str() != body && !is_named_twice => {
                let message = format!("says '{}', the address says '{path}'", body.escape_debug());
                errors.push(FieldError::new("service_name", message, "leave it out, or make them agree"));
            }
            // What was said of the name more than once, or not as a name, is among the errors already.
            _ if unread.contains("service_name") || unread.contains("name") || is_named_twice => {}
            _ => {
                let wrong = request.name(path_name).err().into_iter().flat_map(|error| error.fields);
                request.wrong.errors.extend(wrong);
            }
        }
        Ok(request)
    }

    /// The same with further errors, found where it was read from.
    #[must_use]
    pub fn but(mut self, errors: Vec<FieldError>) -> Self {
        self.wrong.errors.splice(0..0, errors);
        self
    }

    /// All that is wrong with it wherever it is sent: what cannot be read, and rules that the rest breaks with every template
    /// and on every machine.
    #[must_use]
    pub fn wrong_anywhere(&self) -> Vec<FieldError> {
        let mut errors = self.wrong.errors.clone();
        let mut input = self.spec.clone();
        if self.template.is_some() || self.wrong.unread.contains("template") {
            input.leave_to_others();
        }
        let mut violations = spec::violations_anywhere(input, &[], &self.wrong.unread);
        say_template(&mut violations);
        violations.retain(|violation| errors.iter().all(|error| error.field != violation.field));
        errors.append(&mut violations);
        errors
    }

    /// What cannot be read of it.
    #[must_use]
    pub fn unreadable(&self) -> &[FieldError] {
        &self.wrong.errors
    }

    /// The service's name: from the address where there is one, else from the body.
    pub fn name(&self, path_name: Option<&ServiceName>) -> Result<ServiceName> {
        match (path_name, &self.service_name) {
            (Some(name), _) => Ok(name.clone()),
            (None, Some(name)) => name.parse(),
            (None, None) => Err(Error::invalid_field("service_name", "is missing", "give the service a name, e.g. \"echo\"")),
        }
    }
}

/// A change to some fields of a service; a field that is null says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchRequest {
    /// How many containers run it.
    #[serde(default, deserialize_with = "spec::replicas", skip_serializing_if = "Option::is_none")]
    #[schemars(transform = spec::within(spec::REPLICAS))]
    pub replicas: Option<u32>,
    /// Limit of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = spec::within(spec::MEMORY))]
    pub memory_limit: Option<Bytes>,
    /// Limit of CPU time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = spec::within(spec::CPU))]
    pub cpu_limit: Option<MilliCpu>,
    /// Limit of processes and threads.
    #[serde(default, deserialize_with = "spec::pids", skip_serializing_if = "Option::is_none")]
    #[schemars(transform = spec::within(spec::PIDS))]
    pub pids_limit: Option<u32>,
    /// Limit of the container's writable layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = spec::within(spec::STORAGE))]
    pub storage_limit: Option<Bytes>,
    /// Environment variables to set; `null` removes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, Value>>)]
    pub environment: Option<BTreeMap<String, Option<EnvironmentValue>>>,
}

impl PatchRequest {
    /// Reads a change.
    pub fn read(document: &Value) -> Result<Self> {
        let fields::Reading { value: patch, mut errors, unread } =
            fields::read_part::<Self>(as_object(document)?, &|_| true, &spec::PARTS);
        if !errors.is_empty() {
            if errors.len() <= fields::MAX_ERRORS {
                errors.extend(spec::violations_anywhere(patch.input("image".to_owned()), &[], &unread));
            }
            return Err(Error::invalid("the change is not valid", fields::bounded(errors)));
        }
        if patch == Self::default() {
            let known = fields::field_names::<Self>().join(", ");
            return Err(Error::invalid_field("", "nothing to change", format!("give at least one of {known}")));
        }
        Ok(patch)
    }

    /// What it sets, as a spec of the image.
    pub(super) fn input(&self, image: String) -> SpecInput {
        let set = self.environment.iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        SpecInput {
            image: Some(image),
            replicas: self.replicas,
            memory_limit: self.memory_limit,
            cpu_limit: self.cpu_limit,
            pids_limit: self.pids_limit,
            storage_limit: self.storage_limit,
            environment: Some(set.collect()),
            ..SpecInput::default()
        }
    }
}

/// A service without an image may be meant to come from a template.
pub(super) fn say_template(errors: &mut [FieldError]) {
    for error in errors.iter_mut().filter(|error| error.field == "image" && error.message == "is missing") {
        error.remedy = Some("name an image, e.g. docker.io/library/nginx:latest, or a 'template'".to_owned());
    }
}

pub(super) fn as_object(document: &Value) -> Result<&Map<String, Value>> {
    document.as_object().ok_or_else(|| Error::invalid_field("", "the body is not a JSON object", "send {\"service_name\": …}"))
}

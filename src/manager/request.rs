//! What callers ask for, read from JSON with every wrong field reported.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::domain::fields;
use crate::domain::name::ServiceName;
use crate::domain::quantity::{Bytes, MilliCpu};
use crate::domain::spec::{self, EnvironmentValue, SpecInput, also_named};
use crate::error::{Error, FieldError, Result};

/// A service as asked for: from a template, inline, or a template with changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema, JsonSchema)]
#[schemars(transform = also_named("service_name", "name"))]
pub struct ServiceRequest {
    /// Name of the service: 1 to 40 lower-case letters, digits and '-'. Its URL is `http://NAME.localhost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    #[schema(example = "echo", max_length = 40, pattern = "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
    pub service_name: Option<String>,
    /// Template it is started from, `NAME` or `NAME@VERSION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "echo")]
    pub template: Option<String>,
    /// How to run it; on top of the template, where there is one.
    #[serde(flatten)]
    pub spec: SpecInput,
}

#[derive(Debug, Default, Deserialize)]
struct Header {
    #[serde(default, alias = "name")]
    service_name: Option<String>,
    #[serde(default)]
    template: Option<String>,
}

impl ServiceRequest {
    /// Reads a request; `path_name` is the name in the address, when it stands there. When something cannot be read, the
    /// rules that the rest breaks are told with it, as far as they need no look at the template and the machine.
    pub fn read(document: &Value, path_name: Option<&ServiceName>) -> Result<Self> {
        Self::read_as(document, path_name, true)
    }

    /// The same for a service that may be there already, so that nothing is missing in what is said of it.
    pub fn read_about(document: &Value, path_name: &ServiceName) -> Result<Self> {
        Self::read_as(document, Some(path_name), false)
    }

    fn read_as(document: &Value, path_name: Option<&ServiceName>, is_whole: bool) -> Result<Self> {
        let object = as_object(document)?;
        let is_named_twice = object.contains_key("service_name") && object.contains_key("name");
        let (header, spec) = fields::read_both::<Header, SpecInput>(object, &spec::MAPS);
        let mut errors = [header.errors, spec.errors].concat();
        let mut unread = spec.unread;
        unread.extend(header.unread);
        let request = Self { service_name: header.value.service_name, template: header.value.template, spec: spec.value };
        match (path_name, &request.service_name) {
            (Some(path), Some(body)) if path.as_str() != body => {
                let message = format!("says '{}', the address says '{path}'", body.escape_debug());
                errors.push(FieldError::new("service_name", message, "leave it out, or make them agree"));
            }
            // What was said of the name more than once, or not as a name, is among the errors already.
            _ if unread.contains("service_name") || unread.contains("name") || is_named_twice => {}
            _ => errors.extend(request.name(path_name).err().into_iter().flat_map(|error| error.fields)),
        }
        if errors.is_empty() {
            return Ok(request);
        }
        if errors.len() <= fields::MAX_ERRORS {
            let is_whole = is_whole && request.template.is_none() && !unread.contains("template");
            errors.extend(request.violations(is_whole, &unread));
        }
        Err(Error::invalid("the request is not valid", fields::bounded(errors)))
    }

    /// Rules that the spec breaks; when it is not the whole, those alone that no template could change.
    fn violations(&self, is_whole: bool, unread: &BTreeSet<String>) -> Vec<FieldError> {
        let mut input = self.spec.clone();
        if !is_whole {
            input.image.get_or_insert_with(|| "image".to_owned());
            input.port.get_or_insert(1);
            // Which of the manager's variables may be referred to is the template's to say.
            let values = input.environment.iter_mut().flat_map(BTreeMap::values_mut);
            values.filter(|EnvironmentValue(text)| text.contains("${")).for_each(|EnvironmentValue(text)| text.clear());
        }
        let mut errors = spec::violations(input, &[], unread);
        say_template(&mut errors);
        errors
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

/// A change to some fields of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchRequest {
    /// How many containers run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: Option<u32>,
    /// Limit of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Bytes>,
    /// Limit of CPU time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<MilliCpu>,
    /// Limit of processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    #[schemars(range(min = 1))]
    pub pids_limit: Option<u32>,
    /// Limit of the container's writable layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
            fields::read_part::<Self>(as_object(document)?, &|_| true, &spec::MAPS);
        if !errors.is_empty() {
            if errors.len() <= fields::MAX_ERRORS {
                errors.extend(spec::violations(patch.input("image".to_owned()), &[], &unread));
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

//! Templates: JSON documents that say how to run one kind of service, in either of two shapes.
//!
//! The flat shape has the spec's fields beside `name`; the nested one has them in `default_config`, beside
//! `required_env_vars` and `capabilities`. Both may be mixed; what stands outside `default_config` is the default of
//! what stands inside. Files, folders and watching are the [`crate::registry`]'s.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::fields;
use super::spec::schema;
use super::spec::{self, Defaults, EnvironmentValue, ServiceSpec, SpecInput, member};
use crate::error::{Error, FieldError, Result};

/// Longest names, versions, descriptions and capabilities in bytes.
const MAX_NAME: usize = 63;
const MAX_VERSION: usize = 64;
const MAX_DESCRIPTION: usize = 4096;
const MAX_CAPABILITY: usize = 256;

/// What a template says about itself, beside how to run it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateHeader {
    /// Where the JSON Schema of this document is; ignored.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Name of the template: lower-case letters, digits, '-', '_' and '.'; the file's name when absent.
    #[schemars(regex(pattern = format!("^[a-z0-9][a-z0-9_.-]{{0,{}}}$", MAX_NAME - 1)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Version, e.g. `1.2.0`. Several versions may stand side by side; the newest is the default.
    #[schemars(regex(pattern = format!("^[0-9A-Za-z._+-]{{1,{MAX_VERSION}}}$")))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::line(MAX_DESCRIPTION))]
    pub description: Option<String>,
    /// Environment variables that a service must be given, with a value that is not empty, here or in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::variables)]
    pub required_env_vars: Option<Vec<String>>,
    /// Variables of the manager's own environment that values may reference as `${NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::variables)]
    pub allowed_env: Option<Vec<String>>,
    /// What the server can do, in words for people and agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::lines(MAX_CAPABILITY))]
    pub capabilities: Option<Vec<String>>,
    /// How to run it (nested shape).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_config: Option<SpecInput>,
}

/// A valid template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// Its version, `0` when the document names none.
    pub version: String,
    /// One sentence for people.
    pub description: Option<String>,
    /// Environment variables that a service must be given.
    pub required_env_vars: Vec<String>,
    /// Variables of the manager's own environment that values may reference.
    pub allowed_env: Vec<String>,
    /// What the server can do.
    pub capabilities: Vec<String>,
    /// How to run it.
    pub spec: SpecInput,
    /// The document as it was written.
    pub document: Value,
    /// Digest of what services are made of: neither the description nor white space and the order of keys change it.
    pub digest: String,
}

/// Which template a service came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct TemplateReference {
    /// Name of the template.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Digest of what services are made of it.
    #[serde(default)]
    pub digest: String,
    /// This version was asked for, so that a newer one makes the service no older.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

impl Template {
    /// Reads a template document; all errors at once. `fallback_name` names it when the document does not.
    pub fn from_document(document: &Value, fallback_name: Option<&str>) -> Result<Self, Vec<FieldError>> {
        let Value::Object(object) = document else {
            return Err(vec![FieldError::new("", "is not a JSON object", "write {\"name\": …, \"image\": …}")]);
        };
        let (header, flat) = fields::read_both::<TemplateHeader, SpecInput>(object, &spec::PARTS);
        let mut errors = header.errors;
        errors.extend(flat.errors);
        let mut unread = header.unread;
        unread.extend(flat.unread);
        if let Some(nested) = object.get(NESTED).and_then(Value::as_object) {
            // Lists are replaced by those inside, together with what is wrong with their elements.
            unread.retain(|path| !path.contains('[') || !nested.contains_key(member(path)));
        }
        let TemplateHeader { name, version, description, required_env_vars, allowed_env, capabilities, default_config, .. } =
            header.value;
        let name = name.or_else(|| fallback_name.map(str::to_owned)).unwrap_or_default();
        let version = version.unwrap_or_else(|| "0".to_owned());
        let spec = flat.value.overlaid(default_config.unwrap_or_else(|| {
            // The errors in it are known; what is right in it is still looked at.
            let nested = object.get(NESTED).and_then(Value::as_object);
            let nested = nested.map(|nested| fields::read_part::<SpecInput>(nested, &|_| true, &spec::PARTS)).unwrap_or_default();
            unread.extend(nested.unread);
            nested.value
        }));
        let mut template = Self {
            name,
            version,
            description,
            required_env_vars: required_env_vars.unwrap_or_default(),
            allowed_env: allowed_env.unwrap_or_default(),
            capabilities: capabilities.unwrap_or_default(),
            spec,
            digest: String::new(),
            document: document.clone(),
        };
        template.digest = template.made_of();
        if errors.len() <= fields::MAX_ERRORS {
            errors.extend(spec::believed(template.header_violations(), &unread));
            let violations = template.spec_violations(object, &unread);
            let hidden = template.hidden_violations(object, &violations);
            errors.extend(violations.into_iter().chain(hidden));
        }
        if errors.is_empty() { Ok(template) } else { Err(fields::bounded(errors)) }
    }

    /// Digest of all that decides how a service starts. `serde_json` maps are sorted by key, so equal values print equally.
    fn made_of(&self) -> String {
        use sha2::{Digest, Sha256};
        let made_of = json!([self.spec, self.allowed_env, self.required_env_vars]);
        super::hex(&Sha256::digest(made_of.to_string())[..8])
    }

    /// Rules of what a template says about itself.
    fn header_violations(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.name.is_empty() {
            errors.push(FieldError::new("name", "is missing", "give the template a name"));
        } else if !is_template_name(&self.name) {
            let remedy = "use 1 to 63 lower-case letters, digits, '-', '_' or '.', starting with a letter or digit";
            errors.push(FieldError::new("name", "is not a template name", remedy));
        }
        if !is_version(&self.version) {
            let remedy = "write digits, letters, '.', '-', '_' and '+', e.g. 1.2.0; 64 characters at most";
            errors.push(FieldError::new("version", "is not a version", remedy));
        }
        let plain = |text: &str, length: usize| text.len() <= length && !text.chars().any(char::is_control);
        if self.description.as_deref().is_some_and(|text| !plain(text, MAX_DESCRIPTION)) {
            let remedy = "write one line of at most 4096 bytes";
            errors.push(FieldError::new("description", "is too long or has control characters", remedy));
        }
        let mut list = |field: &str, list: &[String], right: &dyn Fn(&str) -> bool, remedy: &str| {
            if list.len() > spec::MAX_ENTRIES {
                errors.push(FieldError::new(field, "has more than 1000 entries", "use fewer"));
            }
            for (index, _) in list.iter().take(spec::MAX_ENTRIES).enumerate().filter(|(_, text)| !right(text)) {
                errors.push(FieldError::new(format!("{field}[{index}]"), "cannot be used", remedy));
            }
        };
        let variable = "write the name of an environment variable";
        list("required_env_vars", &self.required_env_vars, &spec::is_variable, variable);
        list("allowed_env", &self.allowed_env, &spec::is_variable, variable);
        list("capabilities", &self.capabilities, &|text| plain(text, MAX_CAPABILITY) && !text.is_empty(), "write a short word");
        errors
    }

    /// Rules of a spec that this template alone already breaks. Host paths and the manager's variables are left to the
    /// moment of use: a template may be valid on one machine and not allowed on another.
    fn spec_violations(&self, object: &Map<String, Value>, unread: &BTreeSet<String>) -> Vec<FieldError> {
        let mut errors = spec::violations_anywhere(self.spec.clone(), &self.allowed_env, unread);
        for error in &mut errors {
            if stands_nested(object, &error.field) {
                error.field = format!("{NESTED}.{}", error.field);
            }
        }
        errors
    }

    /// Rules that members outside of `default_config` break, each by itself, beside those that are `told` already: it may
    /// lie on top of them, and they are wrong all the same.
    fn hidden_violations(&self, object: &Map<String, Value>, told: &[FieldError]) -> Vec<FieldError> {
        if !object.get(NESTED).is_some_and(Value::is_object) {
            return Vec::new();
        }
        let mut errors = Vec::new();
        for member in fields::field_names::<SpecInput>().iter().filter(|member| object.contains_key(**member)) {
            let alone = fields::read_part::<SpecInput>(object, &|key| key == *member, &spec::PARTS);
            let mut input = alone.value;
            input.leave_to_others();
            errors.extend(spec::violations_anywhere(input, &self.allowed_env, &alone.unread));
        }
        let is_new = |error: &FieldError| !error.field.is_empty() && told.iter().all(|told| told.field != error.field);
        errors.retain(is_new);
        errors
    }

    /// The required variables that `request` leaves without a value.
    #[must_use]
    pub fn lacks(&self, request: &SpecInput) -> Vec<FieldError> {
        let given = |name: &str| {
            let in_secrets = |input: &SpecInput| input.secrets.as_ref().is_some_and(|secrets| secrets.contains_key(name));
            let value = |input: &SpecInput| input.environment.as_ref()?.get(name).map(|EnvironmentValue(text)| !text.is_empty());
            // A value of the request hides the template's.
            match value(request).or_else(|| value(&self.spec)) {
                Some(true) => Ok(()),
                _ if in_secrets(request) || in_secrets(&self.spec) => Ok(()),
                Some(false) => Err("is empty and "),
                None => Err(""),
            }
        };
        let lacking = self.required_env_vars.iter().filter_map(|name| Some((name, given(name).err()?)));
        lacking.map(|(name, how)| self.required(name, how)).collect()
    }

    fn required(&self, name: &str, how: &str) -> FieldError {
        let message = format!("{how}is required by the template '{}'", self.name);
        FieldError::new(format!("environment.{name}"), message, "give it a value in 'environment' or 'secrets'")
    }

    /// The service that this template and `request` make together.
    pub fn instantiate(&self, request: SpecInput, defaults: &Defaults, variables: spec::Variables<'_>) -> Result<ServiceSpec> {
        let mut errors = self.lacks(&request);
        let input = self.spec.clone().overlaid(request);
        match spec::resolve(input, defaults, &self.allowed_env, variables) {
            Ok(spec) if errors.is_empty() => {
                // A variable of the manager may be empty.
                let is_empty = |name: &&String| spec.environment.get(*name).is_some_and(String::is_empty);
                let empty: Vec<_> = self.required_env_vars.iter().filter(is_empty).collect();
                errors.extend(empty.into_iter().map(|name| self.required(name, "is empty and ")));
                if errors.is_empty() { Ok(spec) } else { Err(Error::invalid("the service cannot be created", errors)) }
            }
            Ok(_) => Err(Error::invalid("the service cannot be created", errors)),
            Err(more) => {
                errors.extend(more);
                Err(Error::invalid("the service cannot be created", errors))
            }
        }
    }

    /// What a service remembers of this template.
    #[must_use]
    pub fn reference(&self) -> TemplateReference {
        TemplateReference { name: self.name.clone(), version: self.version.clone(), digest: self.digest.clone(), pinned: false }
    }
}

/// The field of the nested shape.
const NESTED: &str = "default_config";

/// Whether what `path` speaks of was written in `default_config`, which lies on top of what stands outside of it.
fn stands_nested(object: &Map<String, Value>, path: &str) -> bool {
    let Some(nested) = object.get(NESTED).and_then(Value::as_object) else { return false };
    let inside = |object: &Map<String, Value>| {
        let value = object.get(member(path))?;
        let entry = path.split_once('.').map(|(_, entry)| entry);
        // Maps are merged by key, so both places may have the member, and one of them the entry.
        // Names of entries are told as they are shown.
        let has = |entry: &str| value.as_object().is_some_and(|map| map.keys().any(|key| super::shown(key) == entry));
        Some(entry.is_some_and(has))
    };
    match (inside(nested), inside(object)) {
        (Some(entry), Some(other)) => entry || !other,
        (there, _) => there.is_some(),
    }
}

/// Whether `text` may name a template.
#[must_use]
pub fn is_template_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

fn is_version(text: &str) -> bool {
    (1..=MAX_VERSION).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+_".contains(&byte))
}

/// The JSON Schema of a template document (draft 2020-12), in both shapes.
#[must_use]
pub fn json_schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = schema_with(&mut generator);
    schema["$schema"] = SchemaSettings::draft2020_12().meta_schema.into();
    schema["$id"] = "urn:mcp-manager:template".into();
    schema["title"] = "mcp-manager template".into();
    schema["$defs"] = generator.take_definitions(true).into();
    schema
}

/// The same without references and without a name, to stand inside of another schema, and without saying all fields
/// twice: agents pay for every word of it.
#[must_use]
pub fn inline_json_schema() -> schemars::Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = schema_with(&mut settings.into_generator());
    let description = "How to run it (nested shape): the fields of a spec that may also stand beside it.";
    schema["properties"][NESTED] = json!({"type": ["object", "null"], "description": description});
    schema.try_into().unwrap_or_default()
}

/// The same for a document that has the definitions of `generator`.
pub fn schema_with(generator: &mut SchemaGenerator) -> Value {
    let mut schema = TemplateHeader::json_schema(generator).to_value();
    let spec = SpecInput::json_schema(generator).to_value();
    if let (Some(Value::Object(into)), Some(Value::Object(from))) = (schema.get_mut("properties"), spec.get("properties")) {
        into.extend(from.clone());
    }
    schema["description"] = "How to run one kind of service.".into();
    let has_image = json!({"type": "object", "required": ["image"], "properties": {"image": {"type": "string"}}});
    schema["anyOf"] = json!([has_image, {"required": [NESTED], "properties": {NESTED: has_image}}]);
    schema
}

#[cfg(test)]
mod tests;

//! Templates: JSON documents that say how to run one kind of service, in either of two shapes.
//!
//! The flat shape has the spec's fields beside `name`; the nested one has them in `default_config`, beside
//! `required_env_vars` and `capabilities`. Both may be mixed; what stands outside `default_config` is the default of
//! what stands inside. Files, folders and watching are the [`crate::registry`]'s.

use std::cmp::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::fields;
use super::spec::{self, Defaults, ServiceSpec, SpecInput};
use crate::error::{Error, FieldError, Result};

/// What a template says about itself, beside how to run it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateHeader {
    /// Where the JSON Schema of this document is; ignored.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Name of the template: lower-case letters, digits and '-'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Version, e.g. `1.2.0`. Several versions may stand side by side; the newest is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Environment variables that a service must be given, here or in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_env_vars: Option<Vec<String>>,
    /// Variables of the manager's own environment that values may reference as `${NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_env: Option<Vec<String>>,
    /// What the server can do, in words for people and agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// Digest of the document's meaning: white space and key order do not change it.
    pub digest: String,
}

/// Which template a service came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct TemplateReference {
    /// Name of the template.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Digest of the document.
    #[serde(default)]
    pub digest: String,
}

impl Template {
    /// Reads a template document; all errors at once. `fallback_name` names it when the document does not.
    pub fn from_document(document: &Value, fallback_name: Option<&str>) -> Result<Self, Vec<FieldError>> {
        let Value::Object(object) = document else {
            return Err(vec![FieldError::new("", "is not a JSON object", "write {\"name\": …, \"image\": …}")]);
        };
        let header_fields = fields::field_names::<TemplateHeader>();
        let spec_fields = fields::field_names::<SpecInput>();
        let (header, rest): (Map<_, _>, Map<_, _>) = object.clone().into_iter().partition(|(key, _)| header_fields.contains(key));
        let (flat, unknown): (Map<_, _>, Map<_, _>) = rest.into_iter().partition(|(key, _)| spec_fields.contains(key));
        let known = header_fields.iter().chain(&spec_fields).map(String::as_str);
        let mut errors: Vec<FieldError> =
            unknown.keys().take(fields::MAX_ERRORS).map(|key| fields::unknown_field(key, known.clone())).collect();
        let header = fields::read::<TemplateHeader>(&header).map_err(|more| errors.extend(more)).unwrap_or_default();
        let flat = fields::read::<SpecInput>(&flat).map_err(|more| errors.extend(more)).unwrap_or_default();
        let nested = header.default_config.unwrap_or_default();
        let name = header.name.as_deref().or(fallback_name).unwrap_or_default().to_owned();
        if !is_template_name(&name) {
            errors.push(FieldError::new(
                "name",
                "is not a template name",
                "use 1 to 63 lower-case letters, digits, '-', '_' or '.'",
            ));
        }
        let version = header.version.unwrap_or_else(|| "0".to_owned());
        if !is_version(&version) {
            errors.push(FieldError::new("version", "is not a version", "write digits, letters, '.', '-' and '+', e.g. 1.2.0"));
        }
        let template = Self {
            name,
            version,
            description: header.description,
            required_env_vars: header.required_env_vars.unwrap_or_default(),
            allowed_env: header.allowed_env.unwrap_or_default(),
            capabilities: header.capabilities.unwrap_or_default(),
            spec: flat.overlaid(nested),
            digest: digest(document),
            document: document.clone(),
        };
        if errors.is_empty() {
            errors.extend(template.rule_violations());
        }
        if errors.is_empty() { Ok(template) } else { Err(errors) }
    }

    /// Rules of a spec that this template alone already breaks. Host paths and the manager's variables are left to the
    /// moment of use: a template may be valid on one machine and not allowed on another.
    fn rule_violations(&self) -> Vec<FieldError> {
        let anywhere = Defaults { allowed_host_paths: vec!["/".to_owned()], ..Defaults::default() };
        let set = |_: &str| Some(String::new());
        spec::resolve(self.spec.clone(), &anywhere, &self.allowed_env, &set).err().unwrap_or_default()
    }

    /// The service that this template and `request` make together.
    pub fn instantiate(&self, request: SpecInput, defaults: &Defaults, variables: spec::Variables<'_>) -> Result<ServiceSpec> {
        let input = self.spec.clone().overlaid(request);
        let mut errors = Vec::new();
        for name in &self.required_env_vars {
            let in_environment = input.environment.as_ref().is_some_and(|environment| environment.contains_key(name));
            let in_secrets = input.secrets.as_ref().is_some_and(|secrets| secrets.contains_key(name));
            if !in_environment && !in_secrets {
                let message = format!("is required by the template '{}'", self.name);
                errors.push(FieldError::new(format!("environment.{name}"), message, "give it in 'environment' or 'secrets'"));
            }
        }
        match spec::resolve(input, defaults, &self.allowed_env, variables) {
            Ok(spec) if errors.is_empty() => Ok(spec),
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
        TemplateReference { name: self.name.clone(), version: self.version.clone(), digest: self.digest.clone() }
    }
}

/// Orders versions: number by number, a shorter one first, text parts after numbers (`1.10` > `1.9` > `1.9-rc1`).
#[must_use]
pub fn compare_versions(left: &str, right: &str) -> Ordering {
    let split = |version: &str| {
        let (core, pre) = version.split_once('-').map_or((version, None), |(core, pre)| (core, Some(pre.to_owned())));
        let core: Vec<(u64, String)> = core
            .split('.')
            .map(|part| part.parse().map_or_else(|_| (0, part.to_owned()), |number| (number, String::new())))
            .collect();
        (core, pre)
    };
    let ((left_core, left_pre), (right_core, right_pre)) = (split(left), split(right));
    // A version with a pre-release part comes before the one without.
    left_core.cmp(&right_core).then_with(|| match (left_pre, right_pre) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => left.cmp(&right),
    })
}

/// Whether `text` may name a template.
#[must_use]
pub fn is_template_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

fn is_version(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+_".contains(&byte))
}

/// Digest of a document's meaning. `serde_json` maps are sorted by key, so equal documents print equally.
fn digest(document: &Value) -> String {
    use sha2::{Digest, Sha256};
    let text = document.to_string();
    Sha256::digest(text.as_bytes()).iter().take(8).fold(String::new(), |digest, byte| format!("{digest}{byte:02x}"))
}

/// The JSON Schema of a template document (draft 2020-12), in both shapes.
#[must_use]
pub fn json_schema() -> Value {
    let generator = || schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let header = generator().into_root_schema_for::<TemplateHeader>().to_value();
    let spec = generator().into_root_schema_for::<SpecInput>().to_value();
    let mut schema = header;
    for part in ["properties", "$defs"] {
        if let (Some(Value::Object(into)), Some(Value::Object(from))) = (schema.get_mut(part), spec.get(part)) {
            into.extend(from.clone());
        }
    }
    schema["title"] = "mcp-manager template".into();
    schema["description"] = "How to run one kind of service.".into();
    schema["$id"] = "urn:mcp-manager:template".into();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_shapes_make_the_same_service() {
        let flat = json!({"name": "x", "image": "i:1", "port": 8000, "environment": {"A": "1"}, "memory_limit": "64m"});
        let nested = json!({"name": "x", "image": "i:1", "default_config": {"port": 8000, "environment": {"A": "1"}, "memory_limit": "64m"},
            "required_env_vars": ["A"], "capabilities": ["c"]});
        let make = |document: &Value| {
            let template = Template::from_document(document, None).unwrap();
            template.instantiate(SpecInput::default(), &Defaults::default(), &|_| None).unwrap()
        };
        assert_eq!(make(&flat), make(&nested));
    }

    #[test]
    fn all_errors_of_a_template_are_listed() {
        let errors = Template::from_document(&json!({"nme": "x", "prot": 1, "port": "x", "version": "a b"}), None).unwrap_err();
        insta::assert_snapshot!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn a_required_variable_must_be_given() {
        let template = Template::from_document(&json!({"name": "x", "image": "i", "required_env_vars": ["KEY"]}), None).unwrap();
        let error = template.instantiate(SpecInput::default(), &Defaults::default(), &|_| None).unwrap_err();
        assert_eq!(error.fields[0].field, "environment.KEY");
    }

    #[test]
    fn versions_are_ordered_by_number() {
        let mut versions = ["1.10", "1.9", "0", "1.9-rc1", "2"];
        versions.sort_by(|left, right| compare_versions(left, right));
        assert_eq!(versions, ["0", "1.9-rc1", "1.9", "1.10", "2"]);
    }
}

//! What the API tells about templates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::templates::{Entry, Templates};
use crate::domain::spec::{SpecInput, Transport};
use crate::error::{FieldError, Result};

/// A template, or a template file with errors, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, JsonSchema)]
pub struct TemplateSummary {
    /// Its name.
    pub name: String,
    /// Its version; absent when the file never was valid and names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The image its services run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Port on which its services listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How clients talk to its services.
    pub transport: Transport,
    /// What the server can do.
    pub capabilities: Vec<String>,
    /// Environment variables that a service must be given.
    pub required_env_vars: Vec<String>,
    /// Its name without a version means this one.
    pub default: bool,
    /// All usable versions of the name, newest first.
    pub versions: Vec<String>,
    /// Its file inside the templates directory.
    pub file: String,
    /// Services can be started from it.
    pub usable: bool,
    /// Its file has errors; this is what it last said without any.
    pub stale: bool,
    /// All that is wrong with its file.
    pub errors: Vec<FieldError>,
}

/// A template with its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, JsonSchema)]
pub struct TemplateDetail {
    /// The template in short.
    #[serde(flatten)]
    pub summary: TemplateSummary,
    /// The document in use; absent when the file never was valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Value>,
    /// What a request is laid over: both shapes of the document brought into one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<SpecInput>,
}

impl Templates {
    /// Every template and every template file with errors, in short.
    #[must_use]
    pub fn summaries(&self) -> Vec<TemplateSummary> {
        self.entries().iter().map(|entry| self.summary(entry)).collect()
    }

    /// All about the template that `reference` names (`NAME` or `NAME@VERSION`), also when its file has errors.
    pub fn detail(&self, reference: &str) -> Result<TemplateDetail> {
        let entry = self.entry(reference)?;
        let document = entry.template.as_ref().map(|template| template.document.clone());
        let spec = entry.template.as_ref().map(|template| template.spec.clone());
        Ok(TemplateDetail { summary: self.summary(entry), document, spec })
    }

    fn summary(&self, entry: &Entry) -> TemplateSummary {
        let template = entry.template.as_deref();
        let versions: Vec<String> = self.versions(&entry.name).map(str::to_owned).collect();
        TemplateSummary {
            name: entry.name.clone(),
            version: entry.version.clone(),
            description: template.and_then(|template| template.description.clone()),
            image: template.and_then(|template| template.spec.image.clone()),
            port: template.and_then(|template| template.spec.port),
            transport: template.and_then(|template| template.spec.transport).unwrap_or_default(),
            capabilities: template.map(|template| template.capabilities.clone()).unwrap_or_default(),
            required_env_vars: template.map(|template| template.required_env_vars.clone()).unwrap_or_default(),
            default: template.is_some() && versions.first() == entry.version.as_ref(),
            versions,
            file: entry.file.clone(),
            usable: template.is_some(),
            stale: entry.stale,
            errors: entry.errors.clone(),
        }
    }
}

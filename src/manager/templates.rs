//! Templates, as the API offers them; files and watching are the registry's.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Manager;
use crate::domain::access::{Actor, Operation};
use crate::error::Result;
use crate::registry::{Registry, TemplateDetail, TemplateSummary};

/// Answer of `POST /templates/validate` for a template that may be used; others get the list of their errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, JsonSchema)]
pub struct TemplateCheck {
    /// Always true.
    pub valid: bool,
    /// Name of the template.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// All templates.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema, JsonSchema)]
pub struct TemplateList {
    /// The templates by name and version; files that hold no valid template are among them, with their errors.
    pub templates: Vec<TemplateSummary>,
}

impl Manager {
    /// All templates, those with errors included.
    pub async fn list_templates(self: &Arc<Self>, actor: &Actor) -> Result<TemplateList> {
        let manager = self.clone();
        let work = async move { Ok(TemplateList { templates: manager.registry.list().summaries() }) };
        self.perform(actor, Operation::TemplateList, "", work).await
    }

    /// One template: `NAME` for its newest version, or `NAME@VERSION`.
    pub async fn get_template(self: &Arc<Self>, actor: &Actor, reference: &str) -> Result<TemplateDetail> {
        let (manager, owned) = (self.clone(), reference.to_owned());
        let work = async move { manager.registry.list().detail(&owned) };
        self.perform(actor, Operation::TemplateGet, reference, work).await
    }

    /// Checks a document without keeping it.
    pub async fn validate_template(self: &Arc<Self>, actor: &Actor, document: Value) -> Result<TemplateCheck> {
        let check = async move {
            let template = Registry::validate(&document)?;
            Ok(TemplateCheck { valid: true, name: template.name, version: template.version })
        };
        self.perform(actor, Operation::TemplateValidate, "", check).await
    }

    /// Writes a template into the templates' directory; `name` must agree with the document's. True when it is new.
    pub async fn put_template(
        self: &Arc<Self>,
        actor: &Actor,
        name: Option<&str>,
        document: Value,
    ) -> Result<(TemplateDetail, bool)> {
        let (manager, owned) = (self.clone(), name.map(str::to_owned));
        let target = name.or_else(|| document.get("name").and_then(Value::as_str)).unwrap_or_default().to_owned();
        let work = async move { manager.registry.put(owned.as_deref(), document).await };
        self.perform(actor, Operation::TemplatePut, &target, work).await
    }

    /// Deletes a template's file; running services go on.
    pub async fn delete_template(self: &Arc<Self>, actor: &Actor, reference: &str) -> Result<()> {
        let (manager, owned) = (self.clone(), reference.to_owned());
        let work = async move { manager.registry.delete(&owned).await };
        self.perform(actor, Operation::TemplateDelete, reference, work).await
    }
}

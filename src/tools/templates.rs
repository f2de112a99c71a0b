//! Tools for templates.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Call, read};
use crate::domain::template;
use crate::error::{Error, Result};
pub(super) use crate::manager::{TemplateCheck as Valid, TemplateDetail as Shown, TemplateList as Listed};

/// A template's name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    /// NAME for the newest version of a template, or NAME@VERSION.
    #[schemars(required)]
    name: Option<String>,
}

/// A template's document.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    /// The template as it is written, in either shape.
    #[schemars(required, schema_with = "document_schema")]
    template: Option<Value>,
}

/// A template that has been written.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Written {
    /// It is new; otherwise it replaced the same version.
    created: bool,
    #[serde(flatten)]
    detail: Shown,
}

fn document_schema(_: &mut SchemaGenerator) -> Schema {
    template::inline_json_schema()
}

impl read::Arguments for Named {
    fn read(arguments: &Map<String, Value>) -> Result<Self> {
        read::plain(arguments)
    }
}

impl read::Arguments for Document {
    fn read(arguments: &Map<String, Value>) -> Result<Self> {
        read::plain(arguments)
    }
}

impl Document {
    fn document(self) -> Result<Value> {
        let missing =
            || Error::invalid_field("template", "is missing", "give the template's document: {\"name\": …, \"image\": …}");
        self.template.ok_or_else(missing)
    }
}

pub(super) async fn list(call: Call, _: super::system::Nothing) -> Result<Listed> {
    call.manager.list_templates(&call.actor).await
}

pub(super) async fn get(call: Call, named: Named) -> Result<Shown> {
    let missing = || Error::invalid_field("name", "is missing", "name a template; template_list tells which there are");
    call.manager.get_template(&call.actor, &named.name.ok_or_else(missing)?).await
}

pub(super) async fn validate(call: Call, document: Document) -> Result<Valid> {
    call.manager.validate_template(&call.actor, document.document()?).await
}

pub(super) async fn create(call: Call, document: Document) -> Result<Written> {
    let (detail, created) = call.manager.put_template(&call.actor, None, document.document()?).await?;
    Ok(Written { created, detail })
}

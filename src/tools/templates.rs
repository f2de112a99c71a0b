//! Tools for templates.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Call, read};
use crate::domain::template::{self, Template};
use crate::error::{Error, FieldError, Result};
pub(super) use crate::manager::{TemplateCheck as Valid, TemplateDetail as Shown, TemplateList as Listed};

/// A template's name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    /// NAME for the newest version of a template, or NAME@VERSION.
    #[schemars(required)]
    name: Option<String>,
}

/// A template's document.
#[derive(Debug, Default, Deserialize, JsonSchema)]
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

impl read::Plain for Named {
    fn violations(&self) -> Vec<FieldError> {
        self.name.is_none().then(no_name).into_iter().collect()
    }
}

impl read::Arguments for Named {
    fn read(arguments: &Map<String, Value>, twice: Vec<FieldError>) -> Result<Self> {
        read::plain(arguments, &twice)
    }
}

impl read::Plain for Document {
    fn violations(&self) -> Vec<FieldError> {
        self.template.is_none().then(no_template).into_iter().collect()
    }
}

impl read::Arguments for Document {
    fn read(arguments: &Map<String, Value>, twice: Vec<FieldError>) -> Result<Self> {
        let document: Result<Self> = read::plain(arguments, &[]);
        if twice.is_empty() {
            return document;
        }
        // What is wrong inside of the template is told with the names that are given twice in it.
        let wrong = |document: Self| document.template.and_then(|template| Template::from_document(&template, None).err());
        let within = |error: FieldError| {
            let field = if error.field.is_empty() { "template".to_owned() } else { format!("template.{}", error.field) };
            FieldError { field, ..error }
        };
        let errors = match document {
            Ok(document) => wrong(document).into_iter().flatten().map(within).collect(),
            Err(error) => error.fields,
        };
        read::once(Err(errors), &twice)
    }
}

impl Document {
    fn document(self) -> Result<Value> {
        self.template.ok_or_else(|| Error::invalid("the request is not valid", vec![no_template()]))
    }
}

fn no_name() -> FieldError {
    FieldError::new("name", "is missing", "name a template; template_list tells which there are")
}

fn no_template() -> FieldError {
    FieldError::new("template", "is missing", "give the template's document: {\"name\": …, \"image\": …}")
}

pub(super) async fn list(call: Call, _: super::system::Nothing) -> Result<Listed> {
    call.manager.list_templates(&call.actor).await
}

pub(super) async fn get(call: Call, named: Named) -> Result<Shown> {
    let missing = || Error::invalid("the request is not valid", vec![no_name()]);
    call.manager.get_template(&call.actor, &named.name.ok_or_else(missing)?).await
}

pub(super) async fn validate(call: Call, document: Document) -> Result<Valid> {
    call.manager.validate_template(&call.actor, document.document()?).await
}

pub(super) async fn create(call: Call, document: Document) -> Result<Written> {
    let (detail, created) = call.manager.put_template(&call.actor, None, document.document()?).await?;
    Ok(Written { created, detail })
}

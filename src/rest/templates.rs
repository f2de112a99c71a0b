//! `/templates`: list, look at, check, write and delete.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use super::extract::{Body, Caller, NoBody, NoParameters, Segment, Written};
use super::problem::{Answer, ProblemDocument};
use crate::domain::spec::SpecInput;
use crate::domain::template::{Template, TemplateHeader, json_schema};
use crate::error::Result;
use crate::manager::{TemplateCheck, TemplateDetail, TemplateList};

/// A template as it is written, for the OpenAPI document; it is read by [`crate::domain::template`], in both shapes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a shape to be described, never made")]
pub struct TemplateDocument {
    #[serde(flatten)]
    header: TemplateHeader,
    /// How to run it (flat shape).
    #[serde(flatten)]
    spec: SpecInput,
}

/// List templates, with the errors of those that have some.
#[utoipa::path(get, path = "/templates", tag = "templates", responses((status = 200, body = TemplateList),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn list(State(api): State<Api>, Caller(actor): Caller, _: NoParameters) -> Answer<Json<TemplateList>> {
    Ok(Json(api.manager.list_templates(&actor).await?))
}

/// Write a new template, or replace the same version of one.
#[utoipa::path(post, path = "/templates", tag = "templates", request_body = TemplateDocument, responses(
    (status = 200, body = TemplateDetail), (status = 201, body = TemplateDetail),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn create(State(api): State<Api>, Caller(actor): Caller, _: NoParameters, Body(document): Body) -> Answer<Response> {
    let (detail, created) = api.manager.put_template(&actor, None, once(document, None)?).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(detail)).into_response())
}

/// Check a template without keeping it.
#[utoipa::path(post, path = "/templates/validate", tag = "templates", request_body = TemplateDocument, responses(
    (status = 200, body = TemplateCheck),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn validate(
    State(api): State<Api>,
    Caller(actor): Caller,
    _: NoParameters,
    Body(document): Body,
) -> Answer<Json<TemplateCheck>> {
    Ok(Json(api.manager.validate_template(&actor, once(document, None)?).await?))
}

/// One template: `NAME` for its newest version, or `NAME@VERSION`.
#[utoipa::path(get, path = "/templates/{name}", tag = "templates", params(("name" = String, Path, description = "NAME or NAME@VERSION")),
    responses((status = 200, body = TemplateDetail), (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"), (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn get(
    State(api): State<Api>,
    Caller(actor): Caller,
    Segment(name): Segment,
    _: NoParameters,
) -> Answer<Json<TemplateDetail>> {
    Ok(Json(api.manager.get_template(&actor, &name).await?))
}

/// Write a template under its name.
#[utoipa::path(put, path = "/templates/{name}", tag = "templates", params(("name" = String, Path, description = "Name of the template")),
    request_body = TemplateDocument, responses((status = 200, body = TemplateDetail), (status = 201, body = TemplateDetail),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn put(
    State(api): State<Api>,
    Caller(actor): Caller,
    Segment(name): Segment,
    _: NoParameters,
    Body(document): Body,
) -> Answer<Response> {
    let (detail, created) = api.manager.put_template(&actor, Some(&name), once(document, Some(&name))?).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(detail)).into_response())
}

/// Delete a template; running services go on.
#[utoipa::path(delete, path = "/templates/{name}", tag = "templates", params(("name" = String, Path, description = "NAME or NAME@VERSION")),
    responses((status = 204), (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"), (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn delete(
    State(api): State<Api>,
    Caller(actor): Caller,
    Segment(name): Segment,
    _: NoParameters,
    _: NoBody,
) -> Answer<StatusCode> {
    api.manager.delete_template(&actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A document that gives no name twice.
fn once(document: Written, name: Option<&str>) -> Result<Value> {
    let name = name.map(|name| name.split_once('@').map_or(name, |(name, _)| name));
    document.once(|value| Template::from_document(value, name).err().unwrap_or_default())
}

/// The JSON Schema of templates.
#[utoipa::path(get, path = "/template.schema.json", tag = "templates", responses((status = 200, body = Object)))]
pub async fn schema() -> Json<Value> {
    Json(json_schema())
}

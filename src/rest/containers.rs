//! `/containers`: services, all but their streams.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::Api;
use super::extract::{Body, Caller, Name, NoBody, NoParameters, OptionalBody, Parameters, Rules, Written};
use super::problem::{Answer, ProblemDocument};
use crate::domain::status::ReplicaStats;
use crate::error::{Error, FieldError};
use crate::manager::views::{ServiceDetail, ServiceList, ServicePlan};
use crate::manager::{ListRequest, PatchRequest, Purpose, ServiceRequest, Wait};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitParameters {
    /// When to answer: at once, when its processes run, or when it is healthy (or its start timeout ends).
    #[serde(default)]
    #[param(inline)]
    wait: Wait,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChangeParameters {
    /// When to answer: at once, when its processes run, or when it is healthy (or its start timeout ends).
    #[serde(default)]
    #[param(inline)]
    wait: Wait,
    /// Change nothing, and answer with what would be done; a cluster's API server is asked whether it takes it.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteParameters {
    /// Delete its named volumes with their data, too.
    #[serde(default)]
    volumes: bool,
}

impl Rules for WaitParameters {}
impl Rules for ChangeParameters {}
impl Rules for DeleteParameters {}

impl Rules for ListRequest {
    fn violations(&self) -> Vec<FieldError> {
        Self::violations(self)
    }
}

/// What became of a service, or with `dry_run=true` what would.
#[derive(utoipa::ToSchema, serde::Serialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "it stands in the OpenAPI document alone")]
pub enum ServiceDetailOrPlan {
    Detail(Box<ServiceDetail>),
    Plan(Box<ServicePlan>),
}

/// List services.
#[utoipa::path(get, path = "/containers", tag = "containers", params(ListRequest), responses(
    (status = 200, body = ServiceList), (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub async fn list(
    State(api): State<Api>,
    Caller(actor): Caller,
    Parameters(request): Parameters<ListRequest>,
) -> Answer<Json<ServiceList>> {
    Ok(Json(api.manager.list_services(&actor, request.query()?).await?))
}

/// Create a service from a template, from an inline spec, or from a template with changes.
///
/// Answers 201 when it is healthy or its start timeout has ended (`wait` changes that), with what it is like then. A
/// client that goes away cancels nothing. With `dry_run=true` the answer is a plan, and nothing is done.
#[utoipa::path(post, path = "/containers", tag = "containers", params(ChangeParameters), request_body = ServiceRequest, responses(
    (status = 200, body = ServicePlan, description = "What would be done, with dry_run=true"),
    (status = 201, body = ServiceDetail, headers(("Location" = String, description = "Where the service is"))),
    (status = 202, body = ServiceDetail, description = "Accepted, with wait=none"),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub async fn create(
    State(api): State<Api>,
    Caller(actor): Caller,
    Parameters(parameters): Parameters<ChangeParameters>,
    Body(body): Body,
) -> Answer<Response> {
    let request = ServiceRequest::read(&body.value, None)?.but(body.twice);
    if parameters.dry_run {
        let name = api.manager.name_in(&request)?;
        return Ok(Json(api.manager.plan_service(&actor, &name, request, Purpose::Create).await?).into_response());
    }
    // A request holds a whole spec, and what is done with it several.
    let created = Box::pin(api.manager.create_service(&actor, request, parameters.wait)).await?;
    Ok(answer(created, parameters.wait))
}

/// Everything about a service.
#[utoipa::path(get, path = "/containers/{name}", tag = "containers", params(("name" = String, Path, description = "Name of the service")),
    responses((status = 200, body = ServiceDetail), (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"), (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn get(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    _: NoParameters,
) -> Answer<Json<ServiceDetail>> {
    Ok(Json(api.manager.get_service(&actor, &name).await?))
}

/// Everything about a service; the same as `GET /containers/{name}`.
#[utoipa::path(get, path = "/containers/{name}/status", tag = "containers", params(("name" = String, Path, description = "Name of the service")),
    responses((status = 200, body = ServiceDetail), (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"), (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn status(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    _: NoParameters,
) -> Answer<Json<ServiceDetail>> {
    Ok(Json(api.manager.get_service(&actor, &name).await?))
}

/// Make a service be as described: it is created, changed, tried again if it failed, or left alone; `outcome` says which.
///
/// With `dry_run=true` the answer is a plan, and nothing is done.
#[utoipa::path(put, path = "/containers/{name}", tag = "containers", params(("name" = String, Path, description = "Name of the service"), ChangeParameters),
    request_body = ServiceRequest, responses(
    (status = 200, body = ServiceDetailOrPlan), (status = 201, body = ServiceDetail), (status = 202, body = ServiceDetail),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub async fn apply(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    Parameters(parameters): Parameters<ChangeParameters>,
    Body(body): Body,
) -> Answer<Response> {
    let request = ServiceRequest::read(&body.value, Some(&name))?.but(body.twice);
    if parameters.dry_run {
        return Ok(Json(api.manager.plan_service(&actor, &name, request, Purpose::Apply).await?).into_response());
    }
    Ok(answer(Box::pin(api.manager.apply_service(&actor, &name, request, parameters.wait)).await?, parameters.wait))
}

/// Change replicas, limits or environment of a service.
#[utoipa::path(patch, path = "/containers/{name}", tag = "containers", params(("name" = String, Path, description = "Name of the service"), WaitParameters),
    request_body = PatchRequest, responses(
    (status = 200, body = ServiceDetail), (status = 202, body = ServiceDetail),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub async fn patch(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    Parameters(parameters): Parameters<WaitParameters>,
    Body(body): Body,
) -> Answer<Response> {
    let patch = body.read(PatchRequest::read)?;
    Ok(answer(api.manager.patch_service(&actor, &name, patch, parameters.wait).await?, parameters.wait))
}

/// Delete a service and everything that belongs to it; named volumes stay unless asked for. Also ends a creation.
#[utoipa::path(delete, path = "/containers/{name}", tag = "containers", params(("name" = String, Path, description = "Name of the service"), DeleteParameters),
    responses((status = 204), (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"), (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn delete(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    Parameters(parameters): Parameters<DeleteParameters>,
    _: NoBody,
) -> Answer<StatusCode> {
    api.manager.delete_service(&actor, &name, parameters.volumes).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Start a stopped service; with a body, create it first when it does not exist.
#[utoipa::path(post, path = "/containers/{name}/start", tag = "containers", params(("name" = String, Path, description = "Name of the service"), WaitParameters),
    request_body = Option<ServiceRequest>, responses(
    (status = 200, body = ServiceDetail), (status = 201, body = ServiceDetail), (status = 202, body = ServiceDetail),
    (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub async fn start(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    Parameters(parameters): Parameters<WaitParameters>,
    OptionalBody(body): OptionalBody,
) -> Answer<Response> {
    let read = |body: Written| Ok::<_, Error>(ServiceRequest::read_about(&body.value, &name)?.but(body.twice));
    let request = body.map(read).transpose()?;
    Ok(answer(api.manager.start_service(&actor, &name, request, parameters.wait).await?, parameters.wait))
}

/// Stop a service; it stays stopped until it is started.
#[utoipa::path(post, path = "/containers/{name}/stop", tag = "containers", params(("name" = String, Path, description = "Name of the service"), WaitParameters),
    responses((status = 200, body = ServiceDetail), (status = 202, body = ServiceDetail), (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"), (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn stop(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    Parameters(parameters): Parameters<WaitParameters>,
    _: NoBody,
) -> Answer<Response> {
    Ok(answer(api.manager.stop_service(&actor, &name, parameters.wait).await?, parameters.wait))
}

/// Restart a service, one replica after the other.
#[utoipa::path(post, path = "/containers/{name}/restart", tag = "containers", params(("name" = String, Path, description = "Name of the service"), WaitParameters),
    responses((status = 200, body = ServiceDetail), (status = 202, body = ServiceDetail), (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"), (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn restart(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    Parameters(parameters): Parameters<WaitParameters>,
    _: NoBody,
) -> Answer<Response> {
    Ok(answer(api.manager.restart_service(&actor, &name, parameters.wait).await?, parameters.wait))
}

/// What each running replica uses.
#[utoipa::path(get, path = "/containers/{name}/stats", tag = "containers", params(("name" = String, Path, description = "Name of the service")),
    responses((status = 200, body = Vec<ReplicaStats>), (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"), (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn stats(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    _: NoParameters,
) -> Answer<Json<Vec<ReplicaStats>>> {
    Ok(Json(api.manager.service_stats(&actor, &name).await?))
}

/// The engine's own description of each replica; secret values are replaced.
#[utoipa::path(get, path = "/containers/{name}/inspect", tag = "containers", params(("name" = String, Path, description = "Name of the service")),
    responses((status = 200, body = Vec<Object>), (status = "4XX", body = ProblemDocument, content_type = "application/problem+json"), (status = "5XX", body = ProblemDocument, content_type = "application/problem+json")))]
pub async fn inspect(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    _: NoParameters,
) -> Answer<Json<Vec<Value>>> {
    Ok(Json(api.manager.inspect_service(&actor, &name).await?))
}

/// 201 for what was created, 202 for what nobody waited for, 200 else.
fn answer(detail: ServiceDetail, wait: Wait) -> Response {
    let created = detail.outcome.as_deref() == Some("created");
    let unchanged = detail.outcome.as_deref() == Some("unchanged");
    let status = match wait {
        Wait::None if !unchanged => StatusCode::ACCEPTED,
        _ if created => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    let location: [(HeaderName, String); 1] = [(header::LOCATION, format!("/containers/{}", detail.summary.name))];
    if created { (status, location, Json(detail)).into_response() } else { (status, Json(detail)).into_response() }
}

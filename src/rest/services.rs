//! MCP endpoints of services by path: one service's own at `/mcp/s/NAME`, and all at once at `/mcp/all` and
//! `/mcp/g/GROUP`. Who asks is found out here; everything else is the gateway's.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::any;

use super::Api;
use super::extract::{Caller, Name, Segment};
use super::problem::{Answer, Problem};
use crate::domain::access::CALLER_HEADER;
use crate::domain::aggregate::Scope;
use crate::error::{Error, Kind};
use crate::gateway::Gateway;
use crate::gateway::mcp::Hub;

/// The way to services.
#[derive(Clone)]
pub struct Services {
    /// To one of them.
    pub gateway: Arc<Gateway>,
    /// To all of them.
    pub hub: Arc<Hub>,
}

pub(super) fn router() -> Router<Api> {
    Router::new().route("/mcp/s/{name}", any(one)).route("/mcp/all", any(all)).route("/mcp/g/{group}", any(group))
}

async fn one(
    State(api): State<Api>,
    Caller(actor): Caller,
    Name(name): Name,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Answer<Response> {
    api.manager.authorise_use(&actor, name.as_str()).await?;
    let Services { gateway, hub } = services(&api)?;
    if let Some(refused) = hub.strange_page(request.headers()) {
        return Ok(refused);
    }
    take_key_away(&api, &mut request);
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = gateway.mcp_path(name.as_str()) + &query;
    *request.uri_mut() = path.parse().map_err(|error| Error::internal("a service's path is no path", error))?;
    if let Ok(host) = gateway.host(name.as_str()).parse() {
        request.headers_mut().insert(header::HOST, host);
    }
    // The page was found to be allowed; a service knows its own host names only and would refuse it.
    request.headers_mut().remove(header::ORIGIN);
    request.headers_mut().remove(CALLER_HEADER);
    if api.authenticator.is_on() && gateway.is_bridged(name.as_str()) {
        let caller = HeaderValue::from_str(&actor.name).map_err(|error| Error::internal("a caller's name is odd", error))?;
        request.headers_mut().insert(CALLER_HEADER, caller);
    }
    let client = gateway.client(peer);
    Ok(gateway.forward(name.as_str(), request, &client).await.map(Body::new))
}

async fn all(State(api): State<Api>, Caller(actor): Caller, request: Request) -> Answer<Response> {
    api.manager.authorise_use(&actor, "all").await?;
    Ok(services(&api)?.hub.answer(Scope::All, &actor.name, request).await)
}

async fn group(State(api): State<Api>, Caller(actor): Caller, Segment(group): Segment, request: Request) -> Answer<Response> {
    api.manager.authorise_use(&actor, &group).await?;
    let scope = Scope::Group(group);
    let services = services(&api)?;
    if !services.hub.has(&scope) {
        let error = Error::new(Kind::NotFound, "there is no group of that name");
        return Err(Problem(error.remedy("name it in the setting aggregate.groups")));
    }
    Ok(services.hub.answer(scope, &actor.name, request).await)
}

fn services(api: &Api) -> Answer<Services> {
    api.services.clone().ok_or_else(|| {
        let error = Error::new(Kind::NotFound, "the gateway is turned off");
        Problem(error.remedy("set gateway.enabled to reach services through the manager"))
    })
}

/// A key that was meant for the manager is not for services to see.
fn take_key_away(api: &Api, request: &mut Request) {
    if api.authenticator.is_on() {
        request.headers_mut().remove(header::AUTHORIZATION);
        request.headers_mut().remove("x-api-key");
    }
}

//! The listener from which Traefik's HTTP provider fetches its routes. It has an address of its own, so that the
//! document cannot be reached through Traefik or through the API's listener.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::body::Body;
use super::{Settings, connections, hosts};
use crate::domain::status::Snapshot;
use crate::lifecycle::Tasks;
use crate::problem::Problem;
use crate::routing::{self, traefik_document};

/// Serves the document at `/` until `tasks` stop. Until everything that runs has been seen once, the answer is 503, so
/// that Traefik keeps the routes it has.
pub async fn serve_provider(
    listener: TcpListener,
    settings: Settings,
    routing: routing::Settings,
    view: watch::Receiver<Arc<Snapshot>>,
    tasks: Tasks,
) {
    let site = Arc::new((hosts::Allowed::new(&settings), routing, view));
    connections::accept(listener, settings, tasks, move |_| {
        let site = Arc::clone(&site);
        move |request| {
            let (allowed, routing, view) = &*site;
            let response = answer(&request, allowed, routing, &view.borrow());
            async move { Ok(response) }
        }
    })
    .await;
}

fn answer(request: &Request<Incoming>, allowed: &hosts::Allowed, routing: &routing::Settings, view: &Snapshot) -> Response<Body> {
    let host = match hosts::host(request) {
        Ok(host) => host,
        Err(problem) => return problem.into_response(),
    };
    if !allowed.contains(&host) {
        return hosts::misdirected(&host).into_response();
    }
    if request.uri().path() != "/" {
        return Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", "there is one document here")
            .remedy("get /")
            .into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            "the document can only be read",
        )
        .remedy("get /")
        .into_response();
    }
    if !view.synced {
        return Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "manager-starting",
            "The manager is starting",
            "what runs is not known yet",
        )
        .remedy("keep the routes there are and ask again in a moment")
        .into_response();
    }
    let document = traefik_document(view, routing).to_string();
    let mut response = Response::new(Body::from(bytes::Bytes::from(document)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

//! The listener from which Traefik's HTTP provider fetches its routes. It has an address of its own, so that the
//! document cannot be reached through Traefik or through the API's listener.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::body::Body;
use super::{Refusals, Settings, connections, hosts, request_id};
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
    let site = Arc::new((hosts::Allowed::new(&settings), Refusals(settings.metrics.clone()), routing, view));
    connections::accept(listener, settings, tasks, move |_| {
        let site = Arc::clone(&site);
        move |mut request: Request<Incoming>| {
            let (allowed, refusals, routing, view) = &*site;
            let id = request_id::ensure(request.headers_mut());
            let answered = answer(&request, allowed, routing, &view.borrow());
            let mut response = answered.unwrap_or_else(|problem| refusals.answer(&request, &id, *problem));
            response.headers_mut().insert(request_id::HEADER, id);
            async move { Ok(response) }
        }
    })
    .await;
}

fn answer<B>(
    request: &Request<B>,
    allowed: &hosts::Allowed,
    routing: &routing::Settings,
    view: &Snapshot,
) -> Result<Response<Body>, Box<Problem>> {
    let host = hosts::host(request)?;
    let refused = |status, slug: &str, title: &str, detail: &str, remedy: &str| {
        Err(Problem::new(status, slug, title, detail).remedy(remedy).into())
    };
    if !allowed.contains(&host) {
        return Err(hosts::misdirected(&host).into());
    }
    if request.uri().path() != "/" {
        return refused(StatusCode::NOT_FOUND, "not-found", "Not found", "there is one document here", "get /");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let slug = "method-not-allowed";
        return refused(StatusCode::METHOD_NOT_ALLOWED, slug, "Method not allowed", "the document can only be read", "get /");
    }
    if !view.synced {
        let (slug, title) = ("manager-starting", "The manager is starting");
        let remedy = "keep the routes there are and ask again in a moment";
        return refused(StatusCode::SERVICE_UNAVAILABLE, slug, title, "what runs is not known yet", remedy);
    }
    let document = traefik_document(view, routing).to_string();
    let mut response = Response::new(Body::from(bytes::Bytes::from(document)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

//! Kinds of routes that a cluster has only where somebody has installed them. The one that is asked for is looked for, and
//! watched once it is there and may be written; of the others what a former setting has left is told once, so that it goes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use kube::Client;
use kube::api::ListParams;
use kube::core::ApiResource;
use kube::runtime::watcher::Event;

use super::examine::may;
use super::kinds::Owned;
use super::observed::RouteObject;
use super::reconcile::in_time;
use super::shared::Shared;
use super::unrouted::{Lack, Offer};
use super::watch::Events;
use crate::error::{Kind, Result};

/// How often a kind that is asked for and missing is looked for.
const LOOK: Duration = Duration::from_secs(10);
/// What is done with routes.
const WRITE: [&str; 5] = ["list", "watch", "create", "patch", "delete"];
/// What is done with those that are not asked for any more.
const TAKE_AWAY: [&str; 2] = ["list", "delete"];

/// What is told of the routes of a kind, of which `watch` begins a watch. Where the cluster lacks the kind there are none.
/// It ends when the cluster cannot be asked.
pub(super) fn events(
    shared: Arc<Shared>,
    kind: Owned,
    watch: impl FnOnce() -> Events<RouteObject> + Send + 'static,
) -> Events<RouteObject> {
    let begin = async move {
        if shared.settings.extension() == Some(kind) { wanted(shared, kind, watch).await } else { left(&shared, kind).await }
    };
    stream::once(begin).flatten().boxed()
}

/// What keeps routes of this kind from being written in the namespace, if anything does.
pub(super) async fn lack(client: &Client, namespace: &str, kind: Owned) -> Result<Option<Lack>> {
    let resource = kind.resource();
    match is_served(client, &resource).await {
        Ok(true) => {}
        Ok(false) => return Ok(Some(Lack::of_kind(kind))),
        Err(error) if error.kind == Kind::BackendUnavailable => return Err(error),
        Err(error) => return Ok(Some(Lack::of_sight(kind, &error.detail))),
    }
    let missing = missing(client, namespace, &resource, &WRITE).await?;
    Ok((!missing.is_empty()).then(|| Lack::of_rights(kind, &missing)))
}

async fn wanted(
    shared: Arc<Shared>,
    kind: Owned,
    watch: impl FnOnce() -> Events<RouteObject> + Send + 'static,
) -> Events<RouteObject> {
    match lack(&shared.client_to_watch(), &shared.names.namespace, kind).await {
        Err(error) => unanswered(kind, &error),
        Ok(None) => {
            shared.offer(Offer::Here);
            watch()
        }
        Ok(Some(lack)) => {
            shared.offer(Offer::Lacking(lack));
            let appears = async move {
                appears(&shared, kind).await;
                watch()
            };
            told(Vec::new()).chain(stream::once(appears).flatten()).boxed()
        }
    }
}

/// Waits until routes of this kind can be written.
async fn appears(shared: &Shared, kind: Owned) {
    loop {
        tokio::time::sleep(LOOK).await;
        match lack(&shared.client_to_watch(), &shared.names.namespace, kind).await {
            Ok(None) => return shared.offer(Offer::Here),
            Ok(Some(lack)) => shared.offer(Offer::Lacking(lack)),
            Err(error) => tracing::debug!(?kind, %error, "the kind could not be looked for"),
        }
    }
}

/// What a former setting has left, as far as the account may see it and take it away.
async fn left(shared: &Shared, kind: Owned) -> Events<RouteObject> {
    match found(shared, kind).await {
        Err(error) if error.kind == Kind::BackendUnavailable => unanswered(kind, &error),
        Err(error) => {
            tracing::debug!(?kind, %error, "what a former setting has left could not be looked for");
            told(Vec::new()).chain(stream::pending()).boxed()
        }
        Ok(found) => told(found).chain(stream::pending()).boxed(),
    }
}

async fn found(shared: &Shared, kind: Owned) -> Result<Vec<RouteObject>> {
    let (client, resource) = (shared.client_to_watch(), kind.resource());
    if !is_served(&client, &resource).await?
        || !missing(&client, &shared.names.namespace, &resource, &TAKE_AWAY).await?.is_empty()
    {
        return Ok(Vec::new());
    }
    let ours = ListParams::default().labels(&shared.names.selector());
    let listed = in_time(shared.api_of::<RouteObject>(&resource).list(&ours), "look for what a former setting has left").await?;
    Ok(listed.items)
}

async fn is_served(client: &Client, resource: &ApiResource) -> Result<bool> {
    match in_time(client.list_api_group_resources(&resource.api_version), "ask which kinds the cluster has").await {
        Ok(served) => Ok(served.resources.iter().any(|kind| kind.name == resource.plural)),
        Err(error) if error.kind == Kind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Which of the rights the account lacks.
async fn missing(client: &Client, namespace: &str, resource: &ApiResource, verbs: &[&str]) -> Result<Vec<String>> {
    let asked = verbs.iter().map(|verb| may(client, namespace, (&resource.group, &resource.plural, verb)));
    join_all(asked).await.into_iter().filter_map(Result::transpose).collect()
}

/// Everything there is.
fn told(found: Vec<RouteObject>) -> Events<RouteObject> {
    let all = found.into_iter().map(Event::InitApply);
    stream::iter([Event::Init].into_iter().chain(all).chain([Event::InitDone]).map(Ok)).boxed()
}

fn unanswered(kind: Owned, error: &crate::error::Error) -> Events<RouteObject> {
    tracing::debug!(?kind, %error, "the kind could not be looked for");
    stream::empty().boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_what_the_overlays_and_the_chart_grant() {
        let chart = include_str!("../../../k8s/helm/mcp-manager/templates/rbac.yaml");
        let overlays = [
            (Owned::IngressRoute, include_str!("../../../k8s/overlays/ingressroute/kustomization.yaml")),
            (Owned::HttpRoute, include_str!("../../../k8s/overlays/httproute/kustomization.yaml")),
        ];
        for (kind, overlay) in overlays {
            let (resource, verbs) = (kind.resource(), WRITE.join(", "));
            let (group, plural) = (resource.group, resource.plural);
            let rule = format!("{{apiGroups: [{group}], resources: [{plural}], verbs: [{verbs}]}}");
            assert!(overlay.contains(&rule), "{rule} is missing in {overlay}");
            let rule = format!("  - apiGroups: [{group}]\n    resources: [{plural}]\n    verbs: [{verbs}]\n");
            assert!(chart.contains(&rule), "{rule} is missing in {chart}");
        }
    }
}

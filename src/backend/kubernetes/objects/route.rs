//! The way to a service from outside, at `NAME.DOMAIN`: an Ingress, or by setting Traefik's IngressRoute or the Gateway API's
//! HTTPRoute. All lead to the service's own Service. Whether the cluster has the kind is `extension`'s.

use serde_json::{Value, json};

use super::super::kinds::Owned;
use super::super::settings::{Gateway, Route};
use super::{Context, Object};

/// What Traefik tells its routes from those of another Traefik by.
const CLASS: &str = "kubernetes.io/ingress.class";

/// The route of a service with a port.
pub(super) fn route(context: &Context<'_>) -> Option<Object> {
    let (settings, record) = (context.settings, context.record);
    if !settings.ingress || record.spec.port.is_none() {
        return None;
    }
    let host = format!("{}.{}", record.name, settings.domain);
    let (kind, spec) = match &settings.route {
        Route::Ingress => (Owned::Ingress, ingress(context, &host)),
        Route::IngressRoute { entry_points } => (Owned::IngressRoute, ingress_route(context, &host, entry_points)),
        Route::HttpRoute(gateway) => (Owned::HttpRoute, http_route(context, &host, gateway)),
    };
    let body = json!({"spec": spec});
    let class = settings.ingress_class.as_ref().filter(|_| kind == Owned::IngressRoute);
    Some(match class {
        Some(class) => context.annotated(kind, &context.name(), body, CLASS, class),
        None => context.object(kind, &context.name(), body),
    })
}

fn ingress(context: &Context<'_>, host: &str) -> Value {
    let backend = json!({"service": {"name": context.name(), "port": {"name": "http"}}});
    let mut spec = json!({
        "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
    });
    if let Some(class) = &context.settings.ingress_class {
        spec["ingressClassName"] = json!(class);
    }
    if let Some(secret) = &context.settings.ingress_tls_secret {
        spec["tls"] = json!([{"hosts": [host], "secretName": secret}]);
    }
    spec
}

fn ingress_route(context: &Context<'_>, host: &str, entry_points: &[String]) -> Value {
    let services = json!([{"name": context.name(), "port": "http"}]);
    let mut spec = json!({"routes": [{"kind": "Rule", "match": format!("Host(`{host}`)"), "services": services}]});
    if !entry_points.is_empty() {
        spec["entryPoints"] = json!(entry_points);
    }
    if let Some(secret) = &context.settings.ingress_tls_secret {
        spec["tls"] = json!({"secretName": secret});
    }
    spec
}

fn http_route(context: &Context<'_>, host: &str, gateway: &Gateway) -> Value {
    let mut parent = json!({"name": gateway.name});
    if let Some(namespace) = &gateway.namespace {
        parent["namespace"] = json!(namespace);
    }
    if let Some(section) = &gateway.section {
        parent["sectionName"] = json!(section);
    }
    let backends = json!([{"name": context.name(), "port": super::SERVICE_PORT}]);
    json!({"parentRefs": [parent], "hostnames": [host], "rules": [{"backendRefs": backends}]})
}

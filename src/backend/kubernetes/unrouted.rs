//! Why a service with a port has no way in from outside although one is asked for: its cluster has no routes of the kind, or
//! whoever is to follow its route does not. Pure. Neither keeps the service from running, and both pass once that is mended.

use super::kinds::Owned;
use super::observed::Condition;
use super::reasons::{Reason, reason};
use crate::error::Kind;

/// Whether routes of the kind that is asked for can be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Offer {
    /// They can.
    #[default]
    Here,
    /// Nobody has looked yet.
    Unknown,
    /// They cannot.
    Lacking(Lack),
}

/// What keeps all services from having routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lack {
    kind: Owned,
    /// What there is not.
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Lack {
    /// The cluster does not have the kind.
    pub(super) fn of_kind(kind: Owned) -> Self {
        let resource = kind.resource();
        let whose = if kind == Owned::IngressRoute { "Traefik's definitions" } else { "the definitions of the Gateway API" };
        Self {
            kind,
            what: format!("the cluster does not have the kind {} of {}", resource.kind, resource.api_version),
            remedy: format!("install {whose} and their controller, or set kubernetes.route_kind to ingress"),
        }
    }

    /// The manager's account may not do this.
    pub(super) fn of_rights(kind: Owned, rights: &[String]) -> Self {
        let overlay = if kind == Owned::IngressRoute { "ingressroute" } else { "httproute" };
        Self {
            kind,
            what: format!("the manager's account may not: {}", rights.join(", ")),
            remedy: format!("give its Role the rule of k8s/overlays/{overlay}, or set kubernetes.route_kind to ingress"),
        }
    }

    /// It cannot be found out.
    pub(super) fn of_sight(kind: Owned, said: &str) -> Self {
        let remedy = "let the manager's account see which kinds the cluster has, as every account usually may";
        Self { kind, what: said.to_owned(), remedy: remedy.to_owned() }
    }

    /// The reason of a service.
    pub(super) fn reason(&self) -> Reason {
        let kind = self.kind.resource().kind;
        let detail = format!("it has no {kind}, so nothing but the manager leads to it: {}", self.what);
        reason("route_missing", Kind::NotSupported, false, detail, self.remedy.clone())
    }
}

/// The reason of a service whose route is not followed, as the controller says.
pub(super) fn unfollowed(condition: &Condition) -> Reason {
    let word = condition.reason.as_deref().unwrap_or_default();
    let remedy = match word {
        "NotAllowedByListeners" => "let the Gateway's listener take routes of the services' namespace (allowedRoutes)",
        "NoMatchingListenerHostname" => "give the Gateway a listener for the hosts *.DOMAIN",
        "NoMatchingParent" => "correct kubernetes.gateway_section: the Gateway has no such listener",
        _ => "look at the Gateway and at its controller; the words say what it lacks",
    };
    let said = condition.message.as_deref().filter(|said| !said.is_empty()).map(|said| format!(", {said}"));
    let detail = format!(
        "nothing but the manager leads to it: its HTTPRoute is not followed ({}: {word}{})",
        condition.kind,
        said.unwrap_or_default()
    );
    reason("route_refused", Kind::NotSupported, false, detail, remedy)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::observed::{self, RouteObject};
    use super::*;

    fn route(conditions: &serde_json::Value) -> RouteObject {
        let status = json!({"parents": [{"parentRef": {"name": "front"}, "conditions": conditions}]});
        serde_json::from_value(json!({"metadata": {"name": "mcp-echo"}, "spec": {}, "status": status})).unwrap()
    }

    #[test]
    fn a_route_that_is_not_followed_says_why_and_what_to_do() {
        let table = [
            ("Accepted", "NotAllowedByListeners", "allowedRoutes"),
            ("Accepted", "NoMatchingListenerHostname", "*.DOMAIN"),
            ("Accepted", "NoMatchingParent", "gateway_section"),
            ("ResolvedRefs", "BackendNotFound", "controller"),
        ];
        for (kind, word, remedy) in table {
            let against = json!({"type": kind, "status": "False", "reason": word, "message": "said so"});
            let other = json!({"type": "Programmed", "status": "False", "reason": "Pending"});
            let found = observed::unfollowed(&route(&json!([other, against]))).unwrap();
            let reason = unfollowed(&found);
            assert!(reason.detail.contains(word) && reason.detail.contains("said so"), "{}", reason.detail);
            assert!(reason.remedy.contains(remedy) && !reason.hard, "{}", reason.remedy);
        }
    }

    #[test]
    fn a_route_that_is_followed_or_not_looked_at_yet_is_no_reason() {
        let followed = json!([{"type": "Accepted", "status": "True"}, {"type": "ResolvedRefs", "status": "True"}]);
        assert_eq!(observed::unfollowed(&route(&followed)), None);
        let fresh: RouteObject = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"routes": []}})).unwrap();
        assert_eq!(observed::unfollowed(&fresh), None);
    }

    #[test]
    fn what_is_lacking_names_the_kind_and_the_way_out() {
        let lack = Lack::of_kind(Owned::HttpRoute);
        assert!(lack.what.contains("HTTPRoute of gateway.networking.k8s.io/v1"), "{}", lack.what);
        let reason = Lack::of_rights(Owned::IngressRoute, &["create ingressroutes.traefik.io".to_owned()]).reason();
        assert!(reason.detail.contains("it has no IngressRoute") && reason.detail.contains("create ingressroutes"), "{reason:?}");
        assert!(reason.remedy.contains("k8s/overlays/ingressroute") && !reason.hard, "{reason:?}");
    }
}

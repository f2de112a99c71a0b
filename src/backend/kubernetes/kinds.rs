//! The kinds of objects that a service consists of, and how the API is asked for them. Pure.

use kube::core::{ApiResource, GroupVersionKind};

/// A kind of object that belongs to a service's root object and goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Owned {
    ServiceAccount,
    Secret,
    Service,
    NetworkPolicy,
    Deployment,
    StatefulSet,
    PodDisruptionBudget,
    Ingress,
    /// Traefik's own kind of route.
    IngressRoute,
    /// The route of the Gateway API.
    HttpRoute,
    HorizontalPodAutoscaler,
}

impl Owned {
    /// Every kind, in the order in which they are written: what pods need stands before them.
    pub(super) const ALL: [Self; 11] = [
        Self::ServiceAccount,
        Self::Secret,
        Self::NetworkPolicy,
        Self::Service,
        Self::Deployment,
        Self::StatefulSet,
        Self::PodDisruptionBudget,
        Self::Ingress,
        Self::IngressRoute,
        Self::HttpRoute,
        Self::HorizontalPodAutoscaler,
    ];

    pub(super) fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::Ingress => ("networking.k8s.io", "v1", "Ingress", "ingresses"),
            Self::IngressRoute => ("traefik.io", "v1alpha1", "IngressRoute", "ingressroutes"),
            Self::HttpRoute => ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
            Self::HorizontalPodAutoscaler => ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
        };
        resource(group, version, kind, plural)
    }

    /// Whether it makes pods.
    pub(super) const fn is_workload(self) -> bool {
        matches!(self, Self::Deployment | Self::StatefulSet)
    }

    /// Whether clusters have it only where somebody has installed it.
    pub(super) const fn is_extension(self) -> bool {
        matches!(self, Self::IngressRoute | Self::HttpRoute)
    }
}

/// The root object: its annotation is the record, its deletion is the service's.
pub(super) fn root() -> ApiResource {
    resource("", "v1", "ConfigMap", "configmaps")
}

pub(super) fn pods() -> ApiResource {
    resource("", "v1", "Pod", "pods")
}

pub(super) fn claims() -> ApiResource {
    resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
}

pub(super) fn events() -> ApiResource {
    resource("", "v1", "Event", "events")
}

pub(super) fn pod_metrics() -> ApiResource {
    resource("metrics.k8s.io", "v1beta1", "PodMetrics", "pods")
}

pub(super) fn leases() -> ApiResource {
    resource("coordination.k8s.io", "v1", "Lease", "leases")
}

pub(super) fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

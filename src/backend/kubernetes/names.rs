//! What things are called in the cluster: objects, labels, annotations. Pure.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::domain::hex;
use crate::domain::name::ServiceName;

/// Label: which installation owns it.
pub(super) const OWNER: &str = "io.mcp-manager.owner";
/// Label: which service it belongs to.
pub(super) const SERVICE: &str = "io.mcp-manager.service";
/// Annotation of the root object: the service's record, as JSON.
pub(super) const RECORD: &str = "io.mcp-manager.record";
/// Annotation of the root object: the template and its version, for people.
pub(super) const TEMPLATE: &str = "io.mcp-manager.template";
/// Annotation of the root object: why the objects of which generation of its record could not be written, as JSON.
pub(super) const REFUSED: &str = "io.mcp-manager.refused";
/// Annotation: digest of the spec that a pod was made from.
pub(super) const DIGEST: &str = "io.mcp-manager.spec-digest";
/// Annotation: digest of what an object was written from; it is written again when that differs.
pub(super) const APPLIED: &str = "io.mcp-manager.applied";
/// Annotation of the Lease of turns: version of the root object that was written last in one of them.
pub(super) const RECORDED: &str = "io.mcp-manager.recorded";
/// Annotation of a workload: how many replicas its record asked for when it was written last.
pub(super) const REPLICAS: &str = "io.mcp-manager.replicas";
/// Annotation of pods: keyed digest of the secret values that they were started with.
pub(super) const SECRETS: &str = "io.mcp-manager.secrets-digest";
/// Annotation of pods: when a restart was asked for. It is the one that `kubectl rollout restart` writes.
pub(super) const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// Longest name of an object: a controller appends to it and uses the result as a label's value.
const MAX_NAME: usize = 52;
const DIGEST_LENGTH: usize = 8;

/// The names of one installation in one namespace.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) instance: String,
    pub(super) namespace: String,
}

impl Names {
    /// What the managers of the installation share: their Lease, and the Secret with the key of their sessions. No service
    /// has this name.
    pub(super) fn managers(&self) -> String {
        format!("{}-manager", self.instance)
    }

    /// The Lease by which the managers of the installation take turns at recording services.
    pub(super) fn places(&self) -> String {
        format!("{}-places", self.instance)
    }

    /// The objects of a service.
    pub(super) fn object(&self, service: &str) -> String {
        short(&format!("{}-{service}", self.instance))
    }

    /// The name without a cluster address behind which a StatefulSet's pods have names of their own.
    pub(super) fn headless(&self, service: &str) -> String {
        short(&format!("{}-{service}-pods", self.instance))
    }

    /// The claim of a named volume.
    pub(super) fn claim(&self, volume: &str) -> String {
        let plain = volume.to_ascii_lowercase().replace(['_', '.'], "-");
        let name = format!("{}-{}", self.instance, plain.trim_matches('-'));
        // Two volumes whose names differ in what a claim's name cannot hold get different claims all the same.
        if plain == volume { short(&name) } else { with_digest(&name, volume) }
    }

    /// Selects everything of this installation.
    pub(super) fn selector(&self) -> String {
        format!("{OWNER}={}", self.instance)
    }

    /// Selects everything of a service.
    pub(super) fn service_selector(&self, service: &ServiceName) -> String {
        format!("{OWNER}={},{SERVICE}={service}", self.instance)
    }

    /// The labels of everything that belongs to a service. Its name stands in none that others select by: policies let the
    /// manager's pods in by theirs.
    pub(super) fn labels(&self, service: &ServiceName) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/managed-by", "mcp-manager"),
            ("app.kubernetes.io/name", "mcp-service"),
            ("app.kubernetes.io/instance", service.as_str()),
            (OWNER, &self.instance),
            (SERVICE, service.as_str()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// The labels by which a service's pods are selected.
    pub(super) fn pod_selector(&self, service: &ServiceName) -> BTreeMap<String, String> {
        [(OWNER, self.instance.as_str()), (SERVICE, service.as_str())]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

/// A digest as objects carry it: 16 hexadecimal digits.
pub(super) fn digest(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}

fn short(name: &str) -> String {
    if name.len() <= MAX_NAME { name.to_owned() } else { with_digest(name, name) }
}

fn with_digest(name: &str, of: &str) -> String {
    let head: String = name.chars().take(MAX_NAME - DIGEST_LENGTH - 1).collect();
    format!("{}-{}", head.trim_end_matches('-'), &digest(of)[..DIGEST_LENGTH])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { instance: "mcp".into(), namespace: "default".into() }
    }

    #[test]
    fn names_stay_below_what_controllers_append_to() {
        let (long, other) = (names().object(&"x".repeat(60)), names().object(&format!("{}y", "x".repeat(59))));
        assert!(long.len() <= MAX_NAME && long != other, "{long} {other}");
        assert_eq!(names().object("echo"), "mcp-echo");
    }

    #[test]
    fn volumes_of_different_names_have_different_claims() {
        let claims: std::collections::BTreeSet<_> =
            ["data", "Data", "da_ta", "da.ta", "da-ta"].into_iter().map(|volume| names().claim(volume)).collect();
        assert_eq!(claims.len(), 5, "{claims:?}");
        let valid = |name: &String| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        assert!(claims.iter().all(valid), "{claims:?}");
    }
}

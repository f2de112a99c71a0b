//! What the engine on this machine can enforce, read once from its own description. Pure but for its input.

use std::collections::BTreeMap;

use podman_api::models::Info;

use crate::backend::BackendInfo;
use crate::domain::spec::ServiceSpec;
use crate::error::{Error, FieldError, Result};

/// What the engine runs on and can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    pub(super) version: String,
    pub(super) architecture: String,
    pub(super) rootless: bool,
    /// Limit to the reason why nothing enforces it.
    pub(super) unenforced: BTreeMap<String, String>,
    pub(super) details: BTreeMap<String, String>,
}

const MEMORY: &str = "memory_limit";
const CPU: &str = "cpu_limit";
const PIDS: &str = "pids_limit";
const STORAGE: &str = "storage_limit";
const LIMITS: [&str; 4] = [MEMORY, CPU, PIDS, STORAGE];

impl Abilities {
    pub(super) fn of(info: Info) -> Self {
        let version = info.version.and_then(|version| version.version).unwrap_or_default();
        // An engine that says nothing of itself is not known to enforce anything.
        let (Some(host), Some(store)) = (info.host, info.store) else {
            let unknown = |limit: &str| (limit.to_owned(), "the engine does not say what it can enforce".to_owned());
            return Self { version, rootless: true, unenforced: LIMITS.into_iter().map(unknown).collect(), ..Self::default() };
        };
        let rootless = host.security.as_ref().and_then(|security| security.rootless).unwrap_or_default();
        let cgroups = host.cgroup_version.clone().unwrap_or_default();
        let controllers = host.cgroup_controllers.clone().unwrap_or_default();
        let mut unenforced = BTreeMap::new();
        for (limit, controller) in [(MEMORY, "memory"), (CPU, "cpu"), (PIDS, "pids")] {
            if cgroups == "v1" && rootless {
                let reason = "this machine has control groups version 1, which a user without root rights cannot use";
                unenforced.insert(limit.to_owned(), reason.to_owned());
            } else if cgroups != "v1" && !controllers.iter().any(|present| present == controller) {
                let reason = format!("the control group controller '{controller}' is not delegated to the engine's user");
                unenforced.insert(limit.to_owned(), reason);
            }
        }
        let backing = store.graph_status.as_ref().and_then(|status| status.get("Backing Filesystem")).cloned();
        if rootless || backing.as_deref() != Some("xfs") {
            let reason = "the engine's storage has no quotas (they need root rights and an XFS file system with pquota)";
            unenforced.insert(STORAGE.to_owned(), reason.to_owned());
        }
        let runtime = host.oci_runtime.and_then(|runtime| runtime.name);
        let facts = [
            ("cgroup_version", host.cgroup_version),
            ("cgroup_controllers", (!controllers.is_empty()).then(|| controllers.join(" "))),
            ("oci_runtime", runtime),
            ("network_backend", host.network_backend),
            ("storage_driver", store.graph_driver_name),
            ("storage_file_system", backing),
            ("storage_root", store.graph_root),
            ("kernel", host.kernel),
            ("event_logger", host.event_logger),
        ];
        let details = facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Self { version, architecture: host.arch.unwrap_or_default(), rootless, unenforced, details }
    }

    /// Whether changes at a commit are read as the words of a Dockerfile, with quotes and escapes: since Podman 5.
    pub(super) fn reads_changes_as_words(&self) -> bool {
        self.major().is_some_and(|major| major >= 5)
    }

    pub(super) fn major(&self) -> Option<u32> {
        self.version.split('.').next()?.parse().ok()
    }

    pub(super) fn enforces(&self, limit: &str) -> bool {
        !self.unenforced.contains_key(limit)
    }

    pub(super) fn enforces_memory(&self) -> bool {
        self.enforces(MEMORY)
    }

    pub(super) fn enforces_cpu(&self) -> bool {
        self.enforces(CPU)
    }

    pub(super) fn enforces_pids(&self) -> bool {
        self.enforces(PIDS)
    }

    pub(super) fn enforces_storage(&self) -> bool {
        self.enforces(STORAGE)
    }

    /// The limits of `spec` that nothing enforces here, with the reasons.
    pub(super) fn missing_for<'a>(&'a self, spec: &ServiceSpec) -> impl Iterator<Item = (&'a str, &'a str)> {
        let wants_storage = spec.storage_limit.is_some();
        let unenforced = self.unenforced.iter().map(|(limit, reason)| (limit.as_str(), reason.as_str()));
        unenforced.filter(move |(limit, _)| *limit != STORAGE || wants_storage)
    }

    /// One sentence for each reason why limits of `spec` are not enforced.
    pub(super) fn warnings_for(&self, spec: &ServiceSpec) -> Vec<String> {
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (limit, reason) in self.missing_for(spec) {
            by_reason.entry(reason).or_default().push(limit);
        }
        by_reason.into_iter().map(|(reason, limits)| format!("{} not enforced: {reason}", limits.join(", "))).collect()
    }

    /// An error that names every limit of `spec` that nothing enforces.
    pub(super) fn require_for(&self, spec: &ServiceSpec) -> Result<()> {
        let remedy = "run on a machine that enforces it, or set require_limits to false";
        let wrong = |(limit, reason): (&str, &str)| FieldError::new(limit, format!("cannot be enforced: {reason}"), remedy);
        let fields: Vec<_> = self.missing_for(spec).map(wrong).collect();
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid("limits are required here", fields)) }
    }

    pub(super) fn to_info(&self) -> BackendInfo {
        BackendInfo {
            kind: "podman",
            version: self.version.clone(),
            architecture: self.architecture.clone(),
            rootless: self.rootless,
            unenforced_limits: self.unenforced.clone(),
            details: self.details.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::quantity::Bytes;

    fn info(json: serde_json::Value) -> Abilities {
        Abilities::of(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn control_groups_of_version_1_enforce_nothing_without_root() {
        let abilities = info(serde_json::json!({"host": {"cgroupVersion": "v1", "security": {"rootless": true}}, "store": {}}));
        assert!(!abilities.enforces_memory() && !abilities.enforces_cpu() && !abilities.enforces_pids());
        let warnings = abilities.warnings_for(&ServiceSpec::default());
        assert_eq!(warnings.len(), 1, "one reason, one warning: {warnings:?}");
        assert!(warnings[0].starts_with("cpu_limit, memory_limit, pids_limit not enforced"));
    }

    #[test]
    fn a_controller_that_is_not_delegated_is_named() {
        let json = serde_json::json!({"host": {
            "cgroupVersion": "v2", "cgroupControllers": ["memory", "pids"], "security": {"rootless": true}
        }, "store": {}});
        let abilities = info(json);
        assert!(abilities.enforces_memory() && abilities.enforces_pids() && !abilities.enforces_cpu());
        let error = abilities.require_for(&ServiceSpec::default()).unwrap_err();
        assert_eq!(error.fields.len(), 1);
        assert_eq!(error.fields[0].field, "cpu_limit");
    }

    #[test]
    fn a_storage_limit_counts_only_for_those_who_ask_for_one() {
        let json = serde_json::json!({"host": {
            "cgroupVersion": "v2", "cgroupControllers": ["memory", "pids", "cpu"], "security": {"rootless": true}
        }, "store": {}});
        let abilities = info(json);
        assert!(abilities.require_for(&ServiceSpec::default()).is_ok());
        let spec = ServiceSpec { storage_limit: Some(Bytes(1 << 30)), ..ServiceSpec::default() };
        assert!(abilities.require_for(&spec).is_err());
    }
}

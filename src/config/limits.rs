//! Section `limits`: what services get by default, and what they may have at most.

use std::path::{Component, PathBuf};

use super::section::{Check, section};
use crate::domain::quantity::{Bytes, MilliCpu};

section! {
    /// What services get by default, and what they may have at most.
    pub struct Limits in "limits" {
        /// Most containers at once, over all services and replicas.
        max_containers: u32 = 100, also "MAX_CONTAINERS";
        /// Memory of a service whose template and request say nothing.
        default_memory_limit: Bytes = Bytes(512 << 20), also "DEFAULT_MEMORY_LIMIT";
        /// CPUs of a service whose template and request say nothing.
        default_cpu_limit: MilliCpu = MilliCpu(500), also "DEFAULT_CPU_LIMIT";
        /// Processes and threads of a service whose template and request say nothing.
        default_pids_limit: u32 = 256;
        /// Directories of the host below which services may mount; none forbids host mounts.
        allowed_host_paths: Vec<PathBuf> = Vec::new(), also "ALLOWED_HOST_PATHS";
    }
}

impl Limits {
    fn validate(&self, check: &mut Check) {
        let range = 1..=10_000;
        check.that(range.contains(&self.max_containers), "max_containers", "is out of range", "use 1 to 10000");
        check.that(self.default_memory_limit.0 >= 6 << 20, "default_memory_limit", "is below 6m", "use at least 6m");
        check.that(self.default_cpu_limit.0 >= 10, "default_cpu_limit", "is below 0.01", "use at least 0.01");
        check.that(self.default_pids_limit >= 1, "default_pids_limit", "is 0", "allow at least one process");
        for path in &self.allowed_host_paths {
            let plain = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
            let message = format!("'{}' is not an absolute and plain path", path.display().to_string().escape_debug());
            check.that(plain, "allowed_host_paths", message, "write e.g. /srv/data");
        }
    }
}

//! Section `limits`: what services get by default, and what they may have at most.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Component, PathBuf};

use super::section::{Check, section};
use crate::domain::quantity::{Bytes, MilliCpu};
use crate::domain::spec::{CPU, MEMORY, PIDS};

section! {
    /// What services get by default, and what they may have at most.
    pub struct Limits in "limits" {
        /// Most containers at once, over all services and replicas.
        max_containers: u32 = 100, also "MAX_CONTAINERS", within "a whole number from 1 to 10000";
        /// Memory of a service whose template and request say nothing.
        default_memory_limit: Bytes = Bytes(512 << 20), also "DEFAULT_MEMORY_LIMIT";
        /// CPUs of a service whose template and request say nothing.
        default_cpu_limit: MilliCpu = MilliCpu(500), also "DEFAULT_CPU_LIMIT";
        /// Processes and threads of a service whose template and request say nothing.
        default_pids_limit: u32 = 256, within "a whole number from 1 to 4194304";
        /// Directories of the host below which services may mount; none forbids host mounts.
        allowed_host_paths: Vec<PathBuf> = Vec::new(), also "ALLOWED_HOST_PATHS";
    }
}

impl Limits {
    fn validate(&self, check: &mut Check) {
        let range = 1..=10_000;
        check.that(range.contains(&self.max_containers), "max_containers", "is out of range", "use 1 to 10000");
        // What a service may not ask for is no default either.
        within(check, "default_memory_limit", &self.default_memory_limit, &MEMORY);
        within(check, "default_cpu_limit", &self.default_cpu_limit, &CPU);
        within(check, "default_pids_limit", &self.default_pids_limit, &PIDS);
        for path in &self.allowed_host_paths {
            let plain = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
            let message = format!("'{}' is not an absolute and plain path", path.display().to_string().escape_debug());
            check.that(plain, "allowed_host_paths", message, "write e.g. /srv/data");
        }
    }
}

fn within<T: PartialOrd + Display>(check: &mut Check, field: &str, value: &T, range: &RangeInclusive<T>) {
    let remedy = format!("use {} to {}", range.start(), range.end());
    check.that(range.contains(value), field, format!("is {value}"), &remedy);
}

//! The rules of files: volumes, host paths and in-memory directories.

use std::collections::BTreeMap;

use super::rules::{Check, MAX_ENTRIES, NAME_REMEDY, TMPFS, is_plain_name};
use super::values::{Mount, MountSource};
use super::{Defaults, Volumes};
use crate::domain::quantity::Bytes;
use crate::domain::shown;

pub(super) const MAX_VOLUMES: usize = 100;
pub(super) const MAX_PATH: usize = 4096;

/// What `/tmp` gets when the spec does not say: the root file system is read-only, and most programs need some place.
const DEFAULT_TMPFS: (&str, Bytes) = ("/tmp", Bytes(64 << 20));

impl Check {
    pub(super) fn volumes(&mut self, volumes: Volumes, defaults: &Defaults) -> Vec<Mount> {
        self.that(volumes.0.len() <= MAX_VOLUMES, "volumes", "has more than 100 entries", "use fewer");
        let mut mounts: Vec<Mount> = Vec::new();
        let fields = volumes.fields();
        for (field, volume) in fields.into_iter().zip(volumes.0).take(MAX_VOLUMES) {
            let (Some(source), Some(target)) = (volume.host_path, volume.container_path) else {
                self.wrong(field, "lacks host_path or container_path", "set both");
                continue;
            };
            let target = self.target(&field, &target);
            let twice = mounts.iter().any(|mount| mount.target == target);
            self.that(!twice, &field, "the container path is used twice", "use another");
            if let Some(source) = self.mount_source(&field, &source, defaults) {
                mounts.push(Mount { source, target, read_only: volume.read_only.unwrap_or(false) });
            }
        }
        mounts
    }

    /// A path inside the container on which something is mounted.
    fn target(&mut self, field: &str, target: &str) -> String {
        let target = target.strip_suffix('/').unwrap_or(target);
        self.that(is_plain_path(target), field, "the container path is not absolute and plain", "write e.g. /data");
        let system = ["/proc", "/sys", "/dev"].iter().any(|system| is_below(target, system));
        self.that(!system, field, "the container path belongs to the system", "mount somewhere else, e.g. /data");
        target.to_owned()
    }

    fn mount_source(&mut self, field: &str, source: &str, defaults: &Defaults) -> Option<MountSource> {
        let is_path = source.starts_with(['.', '~']) || source.contains('/');
        if !is_path {
            self.that(is_plain_name(source), field, "is neither a host path nor the name of a volume", NAME_REMEDY);
            return Some(MountSource::Volume(source.to_owned()));
        }
        let usable = !source.starts_with('~') && !source.chars().any(char::is_control) && source.len() < MAX_PATH;
        if !self.that(usable, field, "the host path cannot be used", "write an absolute path, e.g. /srv/data") {
            return None;
        }
        let path = normalised(source, &defaults.working_directory);
        if !defaults.allowed_host_paths.iter().any(|root| is_below(&path, root.trim_end_matches('/'))) {
            let remedy = if defaults.allowed_host_paths.is_empty() {
                "host mounts are off: use a named volume, or list directories in the setting ALLOWED_HOST_PATHS".to_owned()
            } else {
                format!("mount below one of {} (setting ALLOWED_HOST_PATHS)", defaults.allowed_host_paths.join(", "))
            };
            self.wrong(field, format!("the host path {} is not allowed", shown(&path)), remedy);
            return None;
        }
        Some(MountSource::Host(path))
    }

    pub(super) fn tmpfs(&mut self, tmpfs: BTreeMap<String, Bytes>, volumes: &[Mount]) -> BTreeMap<String, Bytes> {
        self.count("tmpfs", tmpfs.len());
        let mut read: BTreeMap<String, Bytes> = BTreeMap::new();
        for (written, size) in tmpfs.into_iter().take(MAX_ENTRIES) {
            let field = format!("tmpfs.{}", shown(&written));
            let target = self.target(&field, &written);
            self.within(&field, size, TMPFS);
            let is_volume = volumes.iter().any(|mount| mount.target == target);
            self.that(!is_volume, &field, "a volume is mounted there", "keep one of the two");
            let twice = read.insert(target, size).is_some();
            self.that(!twice, &field, "is given twice in different spellings", "keep one");
        }
        // A volume mounted on the default /tmp is what the user wants there.
        if !volumes.iter().any(|mount| mount.target == DEFAULT_TMPFS.0) {
            read.entry(DEFAULT_TMPFS.0.to_owned()).or_insert(DEFAULT_TMPFS.1);
        }
        read
    }
}

/// Whether `path` is `root` or below it.
fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether `path` is absolute and has no `.`, `..` or empty parts and no control characters.
pub(super) fn is_plain_path(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.len() < MAX_PATH
        && !path.chars().any(char::is_control)
        && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain))
}

/// `path` made absolute against `base`, with `.` and `..` resolved as text.
fn normalised(path: &str, base: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

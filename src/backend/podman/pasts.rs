//! Where the managers of an engine keep what has become of its containers: a file for each, beside the engine's socket.
//!
//! The engine would have been the place, but it keeps nothing of a container that can be changed, and its events are soon
//! gone: Podman keeps a megabyte of them at most where they go to a file, which is a few minutes on a busy machine, or
//! none at all. Only managers start these containers, so nothing happens to one that none of them sees.
//!
//! There is no lock. Who does something writes it down first, and what managers merely see gives the same text whoever
//! writes it. A file takes the place of the former one whole.

use std::fs::{self, OpenOptions};
use std::io::{Result, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::past::Past;

const PAST: &str = "past";
/// A container may be younger than the list that it is missing from.
const YOUNG: Duration = Duration::from_mins(1);

/// The files of one installation.
#[derive(Debug)]
pub(super) struct Pasts {
    folder: PathBuf,
    instance: String,
    told: AtomicBool,
}

impl Pasts {
    /// `folder` is that of the engine's socket.
    pub(super) fn new(folder: &Path, instance: &str) -> Self {
        Self { folder: folder.to_owned(), instance: instance.to_owned(), told: AtomicBool::new(false) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{}.{name}.{PAST}", self.instance))
    }

    /// What is kept of a container.
    pub(super) fn of(&self, container: &str) -> Option<Past> {
        let text = fs::read(self.file(container)).ok()?;
        serde_json::from_slice(&text).inspect_err(|error| tracing::debug!(container, %error, "its past cannot be read")).ok()
    }

    /// Keeps what has become of a container; `kept` is what was kept before.
    pub(super) fn keep(&self, container: &str, past: &Past, kept: Option<&Past>) {
        let is_needed = kept.map_or(!past.is_plain(), |kept| kept != past);
        if !is_needed {
            return;
        }
        let Err(error) = self.write(container, past) else { return };
        // What is not so any more is worse than nothing, which other managers fill in by what they know.
        self.forget(container);
        if !self.told.swap(true, Ordering::Relaxed) {
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "restarts cannot be kept beside the engine's socket; each manager counts for itself");
        }
    }

    fn write(&self, container: &str, past: &Past) -> Result<()> {
        let unfinished = self.file(&format!("{container}.{:016x}", rand::random::<u64>()));
        let text = serde_json::to_vec(past)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o660).open(&unfinished)?;
        let written = file.write_all(&text).and_then(|()| fs::rename(&unfinished, self.file(container)));
        written.inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
        })
    }

    /// The container is gone.
    pub(super) fn forget(&self, container: &str) {
        let _ = fs::remove_file(self.file(container));
    }

    /// Takes away what was kept of containers that are gone, though no manager saw them go, and what was not finished.
    pub(super) fn tidy(&self, exists: impl Fn(&str) -> bool) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let container = name.to_str().and_then(|name| {
                name.strip_prefix('.')?.strip_prefix(&self.instance)?.strip_prefix('.')?.strip_suffix(PAST)?.strip_suffix('.')
            });
            let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
            if container.is_some_and(|container| !exists(container)) && age().is_some_and(|age| age > YOUNG) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use jiff::Timestamp;

    use super::*;

    fn past(failures: i64) -> Past {
        let mut past = Past::default();
        (0..failures).for_each(|second| past.refuse(Timestamp::from_second(second).unwrap()));
        past
    }

    #[test]
    fn one_manager_knows_what_the_other_has_written() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Pasts::new(folder.path(), "mcp"), Pasts::new(folder.path(), "mcp"));
        one.keep("a", &past(0), None);
        assert_eq!((other.of("a"), fs::read_dir(folder.path()).unwrap().count()), (None, 0), "there is nothing to say");
        for failures in 1..3 {
            one.keep("a", &past(failures), one.of("a").as_ref());
            assert_eq!(other.of("a"), Some(past(failures)));
        }
        assert_eq!(Pasts::new(folder.path(), "else").of("a"), None, "installations do not share");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        other.forget("a");
        assert_eq!(one.of("a"), None);
    }

    #[test]
    fn what_is_kept_goes_with_its_container() {
        let folder = tempfile::tempdir().unwrap();
        let pasts = Pasts::new(folder.path(), "mcp");
        let old = SystemTime::now() - YOUNG - Duration::from_secs(1);
        for name in ["there", "gone", "gone.0123456789abcdef", "new"] {
            pasts.keep(name, &past(1), None);
            if name != "new" {
                File::open(pasts.file(name)).unwrap().set_modified(old).unwrap();
            }
        }
        let others = folder.path().join(".mcp.leader");
        File::create(&others).unwrap().set_modified(old).unwrap();
        pasts.tidy(|id| id == "there");
        let is_kept = |name| pasts.of(name).is_some();
        assert!(is_kept("there") && is_kept("new") && others.exists());
        assert!(!is_kept("gone") && !is_kept("gone.0123456789abcdef"));
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let nowhere = Pasts::new(Path::new("/nonexistent"), "mcp");
        nowhere.keep("a", &past(1), None);
        nowhere.tidy(|_| false);
        assert_eq!(nowhere.of("a"), None);
    }
}

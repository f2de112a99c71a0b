//! When to look at the templates directory again: at its events, and from time to time anyway.
//!
//! Events only wake a scan up; what has changed is found by looking. So a lost, merged or misread event costs time and
//! never correctness, and file systems that report no events work too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Registry;

/// Time between two looks into a directory that reports events.
const REGULAR: Duration = Duration::from_secs(5);

/// Time between two looks at which directory the path means, of which no event tells when the path is a link, or leads
/// through one, that is turned to another directory; and into a directory that is missing or cannot be watched.
const FREQUENT: Duration = Duration::from_millis(500);

/// A burst of changes is read after this many times the quiet time, whether it has ended or not.
const PATIENCE: u32 = 10;

/// Keeps the registry up to date until `stopping`.
pub(super) async fn follow(registry: Arc<Registry>, stopping: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let mut watched: Option<Watched> = None;
    let mut failing = false;
    loop {
        // Watching starts before reading, so that no change falls between the two.
        let identity = Identity::of(&registry.settings.dir);
        if watched.as_ref().map(|watched| watched.identity) != identity {
            watched = identity.and_then(|identity| Watched::new(&registry.settings.dir, identity, &changed));
        }
        match registry.reload().await {
            Ok(_) => failing = false,
            Err(error) if !failing => {
                tracing::error!("{error}; the templates stay as they were");
                failing = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = due(&registry.settings.dir, watched.as_ref()) => {}
            () = changed.notified() => quiet(&changed, registry.settings.debounce).await,
        }
    }
}

/// Returns when it is time to look without having been told of a change.
async fn due(dir: &Path, watched: Option<&Watched>) {
    let latest = Instant::now() + REGULAR;
    loop {
        tokio::time::sleep(FREQUENT).await;
        let unchanged = watched.is_some_and(|watched| Identity::of(dir) == Some(watched.identity));
        if !unchanged || Instant::now() >= latest {
            return;
        }
    }
}

/// Returns when nothing has changed for `debounce`, or has been changing for long enough.
async fn quiet(changed: &Notify, debounce: Duration) {
    let latest = Instant::now() + debounce * PATIENCE;
    while Instant::now() < latest {
        if tokio::time::timeout(debounce, changed.notified()).await.is_err() {
            return;
        }
    }
}

/// Which directory a path means at present; another one may take its place at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(dir: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(dir).ok().filter(std::fs::Metadata::is_dir)?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// A watch on the directory that the path meant when it was set up.
struct Watched {
    identity: Identity,
    _watcher: RecommendedWatcher,
}

impl Watched {
    fn new(dir: &Path, identity: Identity, changed: &Arc<Notify>) -> Option<Self> {
        let changed = changed.clone();
        let report = move |event: notify::Result<notify::Event>| {
            // Reading the files must not count as a change of them.
            let harmless =
                |kind: EventKind| matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write));
            if !event.is_ok_and(|event| harmless(event.kind)) {
                changed.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(report).and_then(|mut watcher| {
            watcher.watch(dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => Some(Self { identity, _watcher: watcher }),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the templates directory cannot be watched; it is looked at twice a second");
                None
            }
        }
    }
}

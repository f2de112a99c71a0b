//! Several managers on one engine: whose decisions come first, and whose turn it is to take places or to make what a
//! service lacks.
//!
//! Whoever shares an engine shares the folder of its socket, so locks on files there say both. The kernel gives them
//! back when their holder dies, however it dies. Where the folder cannot be written, each manager counts as the only one.
//! What is decided under these locks, and what names and generations already settle without them, is not known here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::domain::name::ServiceName;

/// How long the end of one turn is waited for. A manager that was halted with the lock in its hands must not stop the
/// others, and one that is slow on a busy machine must not be taken for halted.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether a turn has ended.
const PAUSE: Duration = Duration::from_millis(3);
/// So often a manager that makes something gives a sign of life, and so long after the last one it is waited for: a pull
/// may take minutes, and a manager that was halted must not stop the others.
const SIGN: Duration = Duration::from_millis(500);
const HALTED: Duration = Duration::from_secs(3);
/// Between two looks whether it is done.
const LOOK: Duration = Duration::from_millis(100);
const LEADER: &str = "leader";
const TURN: &str = "turn";
const SESSIONS: &str = "sessions";
const MAKING: &str = "making";

/// The locks of one installation's managers.
#[derive(Debug)]
pub(super) struct Turns {
    folder: PathBuf,
    instance: String,
    leader: PathBuf,
    turn: PathBuf,
    /// Held from the moment it could be had.
    leading: Mutex<Option<File>>,
    /// Requests of this manager take turns among themselves first. Says when the last of these turns ended.
    here: Arc<AsyncMutex<Option<Instant>>>,
}

/// Where managers that share an engine, whose socket is in `folder`, keep the key of their sessions. It goes with the folder.
#[must_use]
pub fn session_key_file(folder: &Path, instance: &str) -> PathBuf {
    folder.join(format!(".{instance}.{SESSIONS}"))
}

/// What managers leave in a folder that goes away. Where containers stay, so does what has become of them, and the folder
/// with it: the next manager goes on from there.
pub(super) fn remove_files(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let ours =
            entry.path().extension().is_some_and(|ending| [LEADER, TURN, SESSIONS, MAKING].iter().any(|own| ending == *own));
        if ours {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    file: Option<File>,
    here: OwnedMutexGuard<Option<Instant>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.file.take());
        *self.here = Some(Instant::now());
    }
}

/// The turn to make what one service lacks; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Making {
    file: Option<File>,
    next_sign: Instant,
}

impl Making {
    fn of(file: Option<File>) -> Self {
        let mut making = Self { file, next_sign: Instant::now() };
        making.give_sign();
        making
    }

    /// When the others are to see again that this manager goes on.
    pub(super) const fn next_sign(&self) -> Instant {
        self.next_sign
    }

    /// Shows the others that this manager goes on, if it is time for that.
    pub(super) fn give_sign(&mut self) {
        let now = Instant::now();
        if self.next_sign <= now {
            self.next_sign = now + SIGN;
            let _ = self.file.as_ref().map(|file| file.set_modified(SystemTime::now()));
        }
    }
}

impl Turns {
    /// `folder` is that of the engine's socket.
    pub(super) fn new(folder: &Path, instance: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            instance: instance.to_owned(),
            leader: folder.join(format!(".{instance}.{LEADER}")),
            turn: folder.join(format!(".{instance}.{TURN}")),
            leading: Mutex::default(),
            here: Arc::default(),
        }
    }

    /// Whether this manager decides first. One of all that share an engine does, for as long as it lives.
    pub(super) fn leads(&self) -> bool {
        let mut leading = self.leading.lock().unwrap_or_else(PoisonError::into_inner);
        if leading.is_some() {
            return true;
        }
        let Some(file) = lock_file(&self.leader) else { return true };
        let first = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if first {
            tracing::info!("this manager decides first on restarts");
            *leading = Some(file);
        }
        first
    }

    /// Waits until no other manager is in between.
    pub(super) async fn wait(&self) -> Turn {
        let here = self.here.clone().lock_owned().await;
        if let Some(ended) = *here {
            // Who has just had a turn leaves the next to a manager that waits: those look at intervals and would else
            // come too late as long as this one has requests.
            tokio::time::sleep_until((ended + PAUSE * 2).into()).await;
        }
        let file = lock_file(&self.turn);
        if let Some(file) = &file {
            let (mut turn, mut since) = (beginning(file), Instant::now());
            while flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
                let current = beginning(file);
                if turn != current {
                    (turn, since) = (current, Instant::now());
                }
                if since.elapsed() > PATIENCE {
                    tracing::warn!("another manager holds up the others; this one goes on without waiting for it");
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            let _ = file.set_modified(SystemTime::now());
        }
        Turn { file, here }
    }

    fn making_file(&self, service: &ServiceName) -> PathBuf {
        self.folder.join(format!(".{}.{service}.{MAKING}", self.instance))
    }

    /// The turn to make something for a service, unless another manager has it.
    pub(super) fn make_at_once(&self, service: &ServiceName) -> Option<Making> {
        let file = lock_file(&self.making_file(service));
        let is_free = file.as_ref().is_none_or(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok());
        is_free.then(|| Making::of(file))
    }

    /// Waits until no other manager makes anything for a service.
    pub(super) async fn make(&self, service: &ServiceName) -> Making {
        let file = lock_file(&self.making_file(service));
        if let Some(file) = &file {
            while flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
                // Without a time, or with one that is still to come, the clock has been set: the next look will tell.
                let silent = beginning(file).and_then(|sign| sign.elapsed().ok());
                if silent.is_some_and(|silent| silent > HALTED) {
                    tracing::warn!(%service, "another manager holds up what is made for a service; this one goes on without waiting");
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Making::of(file)
    }

    /// Nothing is left of a service.
    pub(super) fn forget(&self, service: &ServiceName) {
        let path = self.making_file(service);
        // Another manager may be at work for a new service of that name.
        let free = File::open(&path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if free {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// When the turn began that is under way, or that was the last: each is marked on the lock's file.
fn beginning(file: &File) -> Option<SystemTime> {
    file.metadata().and_then(|about| about.modified()).ok()
}

fn lock_file(path: &Path) -> Option<File> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = open(path, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP);
    opened.inspect_err(|error| tracing::debug!(path = %path.display(), %error, "no lock can be had")).ok().map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_manager_leads_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Turns::new(folder.path(), "mcp"), Turns::new(folder.path(), "mcp"));
        assert!(one.leads() && one.leads());
        assert!(!other.leads());
        assert!(Turns::new(folder.path(), "else").leads(), "installations do not share");
        drop(one);
        assert!(other.leads());
    }

    #[tokio::test]
    async fn turns_do_not_overlap() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Turns::new(folder.path(), "mcp"), Turns::new(folder.path(), "mcp"));
        let turn = one.wait().await;
        let early = tokio::time::timeout(Duration::from_millis(50), other.wait()).await;
        assert!(early.is_err());
        drop(turn);
        other.wait().await;
    }

    #[tokio::test]
    async fn a_manager_with_many_requests_lets_others_in_between() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Turns::new(folder.path(), "mcp"), Turns::new(folder.path(), "mcp"));
        let many = async {
            for _ in 0..1000 {
                let _turn = one.wait().await;
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            biased;
            _ = other.wait() => {}
            () = many => panic!("it never had its turn"),
        }
        drop(one.wait().await);
    }

    #[tokio::test]
    async fn what_a_service_lacks_is_made_by_one_manager_at_a_time_as_long_as_that_one_gives_signs() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Turns::new(folder.path(), "mcp"), Turns::new(folder.path(), "mcp"));
        let (echo, second) = ("echo".parse().unwrap(), "second".parse().unwrap());
        let making = one.make_at_once(&echo).unwrap();
        assert!(other.make_at_once(&echo).is_none() && other.make_at_once(&second).is_some());
        other.forget(&echo);
        assert!(other.make_at_once(&echo).is_none(), "what is in use stays");
        let early = tokio::time::timeout(Duration::from_millis(50), other.make(&echo)).await;
        assert!(early.is_err());
        let silent = SystemTime::now() - HALTED - Duration::from_secs(1);
        making.file.as_ref().unwrap().set_modified(silent).unwrap();
        let in_its_place = other.make(&echo).await;
        drop((making, in_its_place));
        drop(one.make_at_once(&echo).unwrap());
        one.forget(&echo);
        assert!(!one.making_file(&echo).exists());
    }

    #[tokio::test]
    async fn without_a_folder_a_manager_is_alone() {
        let nowhere = Turns::new(Path::new("/nonexistent"), "mcp");
        assert!(nowhere.leads());
        nowhere.wait().await;
        let echo = "echo".parse().unwrap();
        let _both = (nowhere.make_at_once(&echo).unwrap(), nowhere.make(&echo).await);
    }
}

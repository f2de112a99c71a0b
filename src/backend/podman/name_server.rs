//! What Podman left its name server (aardvark-dns) of containers that are gone.
//!
//! Netavark keeps a file for each network: on the first line the address where the name server listens, then a line for
//! each container. A container that ends uncleanly leaves its line. Such a line gives a name an address where nobody is;
//! it outlives the network, so that one made anew under the same name inherits an address where nobody asks; and it
//! keeps the name server running when all containers have ended and their network namespace is given up, so that those
//! which come later, in a new one, find no names at all. So the lines of containers that do not exist are taken out, in
//! the way netavark does it itself: under its lock, and with a SIGHUP afterwards.
//!
//! Only for an engine of the same user on this machine, and only for the networks of this installation.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::lost_network::{self, Namespace};

/// How long netavark may keep its lock, and the name server may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);
/// Beside the files of the networks.
const PID_FILE: &str = "aardvark.pid";

/// The ids of all containers that the name server knows in these networks.
pub(super) fn known(folder: &Path, networks: &[&str]) -> HashSet<String> {
    let texts = files(folder, networks).into_iter().filter_map(|file| std::fs::read_to_string(file).ok());
    texts.flat_map(|text| text.lines().skip(1).filter_map(id).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Takes out the lines of `gone` containers. That it can't is told, and is no error: names may be wrong then, and
/// everything else goes on.
pub(super) async fn forget(folder: &Path, networks: &[&str], gone: HashSet<String>) {
    let (folder, files) = (folder.to_owned(), files(folder, networks));
    if !files.iter().any(|file| file.is_file()) {
        return;
    }
    let done = tokio::task::spawn_blocking(move || forget_in(&folder, &files, &gone)).await;
    match done.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(0) => {}
        Ok(lines) => tracing::info!(lines, "the name server has forgotten containers that are gone"),
        Err(error) => tracing::warn!(%error, "the name server may give addresses of containers that are gone"),
    }
}

/// What stays of a file without the lines of `gone` containers: `None` when that is all of it, nothing when no container
/// stays. Also the number of lines that go.
fn rest(text: &str, gone: &HashSet<String>) -> (Option<String>, usize) {
    let mut lines = text.lines();
    let listens = lines.next().unwrap_or_default();
    let (go, stay): (Vec<_>, Vec<_>) = lines.partition(|line| id(line).is_some_and(|id| gone.contains(id)));
    let rest = match (go.as_slice(), stay.as_slice()) {
        ([], _) => None,
        (_, []) => Some(String::new()),
        (_, stay) => Some(format!("{listens}\n{}\n", stay.join("\n"))),
    };
    (rest, go.len())
}

fn id(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

/// Newer versions mark the file of an internal network with `%int`.
fn files(folder: &Path, networks: &[&str]) -> Vec<PathBuf> {
    networks.iter().flat_map(|network| [folder.join(network), folder.join(format!("{network}%int"))]).collect()
}

fn forget_in(folder: &Path, files: &[PathBuf], gone: &HashSet<String>) -> Result<usize> {
    let _lock = locked(&folder.with_file_name("aardvark.lock"))?;
    let mut lines = 0;
    let mut changed = false;
    for file in files {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            text => text?,
        };
        let (rest, count) = rest(&text, gone);
        lines += count;
        changed |= rest.is_some();
        match rest.as_deref() {
            None => {}
            Some("") => std::fs::remove_file(file)?,
            Some(rest) => std::fs::write(file, rest)?,
        }
    }
    if changed {
        tell(folder)?;
    }
    Ok(lines)
}

/// Holds netavark's lock for as long as the answer lives.
fn locked(path: &Path) -> Result<File> {
    let file = File::create(path)?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if Instant::now() > deadline {
            return Err(error.into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(file)
}

/// Has the name server read its files anew. One that finds nothing there ends, which is waited for.
fn tell(folder: &Path) -> Result<()> {
    let Some(server) = running(folder) else { return Ok(()) };
    kill_process(server, Signal::HUP)?;
    if !std::fs::read_dir(folder)?.flatten().any(|entry| entry.file_name() != PID_FILE) {
        await_end(server);
    }
    Ok(())
}

/// The name server's process.
fn running(folder: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(folder.join(PID_FILE)).ok()?;
    text.trim().parse().ok().and_then(Pid::from_raw).filter(|server| runs(*server))
}

/// The number may be another program's by now.
fn runs(server: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.as_raw_nonzero())).unwrap_or_default();
    // One that has ended stays a zombie where nobody waits for it.
    stat.contains("(aardvark-dns) ") && !stat.contains("(aardvark-dns) Z")
}

/// Until it has ended netavark would take it for one that runs.
fn await_end(server: Pid) {
    let deadline = Instant::now() + PATIENCE;
    while runs(server) && Instant::now() < deadline {
        std::thread::sleep(PAUSE);
    }
}

/// Takes away the number of a name server that has ended. Netavark would send its signal to whichever process has that
/// number by now, which ends most of them (a port forwarder, say), and would start no name server.
pub(super) fn forget_ended(folder: &Path) {
    let file = folder.join(PID_FILE);
    let names_none =
        || std::fs::read_to_string(&file).is_ok_and(|text| !text.trim().parse().ok().and_then(Pid::from_raw).is_some_and(runs));
    // Twice, since one that is just being started writes its own number there.
    if names_none() && names_none() {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, "the number of a name server that has ended stays");
            }
            _ => {}
        }
    }
}

/// Whether the name server runs in an earlier namespace of the networks than the present one, or in one that was given up.
/// Those that come later are not found there.
pub(super) fn is_left_behind(folder: &Path, namespace: &Path) -> bool {
    left_behind(folder, namespace).is_some()
}

fn left_behind(folder: &Path, namespace: &Path) -> Option<Pid> {
    let server = running(folder)?;
    let started = Timestamp::try_from(std::fs::metadata(folder.join(PID_FILE)).ok()?.modified().ok()?).ok()?;
    match lost_network::namespace(namespace)? {
        Namespace::Made(at) if at <= started => None,
        Namespace::Made(_) | Namespace::GivenUp => Some(server),
    }
}

/// Ends such a name server: the next container that gets a network brings a new one.
pub(super) async fn end_left_behind(folder: &Path, namespace: &Path) {
    let (folder, namespace) = (folder.to_owned(), namespace.to_owned());
    let ended = tokio::task::spawn_blocking(move || -> Result<bool> {
        let _lock = locked(&folder.with_file_name("aardvark.lock"))?;
        let Some(server) = left_behind(&folder, &namespace) else { return Ok(false) };
        kill_process(server, Signal::TERM)?;
        await_end(server);
        // Netavark asks the process of this number only whether it is there.
        match std::fs::remove_file(folder.join(PID_FILE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        }
    });
    match ended.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(true) => tracing::info!("a name server that was left in a namespace without use has ended"),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "names of services may not be found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "10.89.0.1\naa 10.89.0.2  one,echo\nbb 10.89.0.3  two,echo\n";

    fn gone(ids: &[&str]) -> HashSet<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_lines_of_containers_that_are_gone_go() {
        assert_eq!(rest(TEXT, &gone(&["cc"])), (None, 0));
        assert_eq!(rest(TEXT, &gone(&["aa", "cc"])), (Some("10.89.0.1\nbb 10.89.0.3  two,echo\n".to_owned()), 1));
        assert_eq!(rest(TEXT, &gone(&["aa", "bb"])), (Some(String::new()), 2), "without containers there is no file");
        assert_eq!(rest(TEXT, &gone(&["10.89.0.1"])), (None, 0), "the first line is no container's");
        assert_eq!(rest("", &gone(&["aa"])), (None, 0));
    }

    #[test]
    fn a_number_that_is_no_name_servers_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(PID_FILE);
        forget_ended(folder.path());
        for text in [std::process::id().to_string(), "4194304999".to_owned(), String::new()] {
            std::fs::write(&file, text).unwrap();
            forget_ended(folder.path());
            assert!(!file.exists());
        }
    }

    #[tokio::test]
    async fn the_files_of_other_networks_stay() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("aardvark-dns");
        std::fs::create_dir(&folder).unwrap();
        for network in ["ours", "ours%int", "theirs"] {
            std::fs::write(folder.join(network), TEXT).unwrap();
        }
        assert_eq!(known(&folder, &["ours"]), ["aa", "bb"].map(str::to_owned).into());
        forget(&folder, &["ours"], gone(&["aa"])).await;
        assert_eq!(known(&folder, &["ours"]), ["bb".to_owned()].into());
        forget(&folder, &["ours"], gone(&["bb"])).await;
        assert!(!folder.join("ours").exists() && !folder.join("ours%int").exists());
        assert_eq!(std::fs::read_to_string(folder.join("theirs")).unwrap(), TEXT);
        forget(&root.path().join("nowhere"), &["ours"], gone(&["aa"])).await;
    }
}

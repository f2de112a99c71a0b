//! The key that managers sign session ids with: the same for all that share an engine, made by whoever comes first, and kept
//! where all of them look: in a file, or in Redis where they share no folder.

use std::fs::Permissions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::{random, whole_file};

/// Longest time that Redis may take at the start of a manager.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);
/// A shorter key is no key.
const SHORTEST: usize = 16;

/// Where the key is.
#[derive(Debug, Clone)]
pub enum Place {
    /// With this manager alone, for sessions that no other could know.
    Here,
    /// A file, which is made when it is missing.
    File(PathBuf),
    /// A Redis server, under this name.
    Redis {
        /// Its address: `redis://…` or `unix://…`.
        url: String,
        /// What the key is called there.
        name: String,
    },
}

/// The key of that place.
pub async fn shared(place: &Place) -> Result<Vec<u8>> {
    match place {
        Place::Here => Ok(random::key().into_bytes()),
        Place::File(path) => of_file(path),
        Place::Redis { url, name } => of_redis(url, name).await,
    }
}

fn of_file(path: &Path) -> Result<Vec<u8>> {
    let fault = |error: std::io::Error| {
        Error::new(Kind::Invalid, format!("the key of sessions {} cannot be had: {error}", path.display()))
            .remedy("make its folder writable for the manager, or name another file (setting peers.key_file)")
            .because(error)
    };
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let owner = file.metadata()?.uid();
        if owner != 0 && owner != rustix::process::getuid().as_raw() {
            return Err(std::io::Error::new(ErrorKind::PermissionDenied, format!("it is user {owner}'s")));
        }
        let mut key = Vec::new();
        file.read_to_end(&mut key)?;
        Ok(key)
    };
    match read() {
        Ok(key) => return checked(&key, || path.display().to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(fault(error)),
    }
    // It appears whole, and the first one stays.
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
    match whole_file::write_new(path, random::key().as_bytes(), Some(Permissions::from_mode(0o600))) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(fault(error)),
        _ => {}
    }
    checked(&read().map_err(fault)?, || path.display().to_string())
}

fn checked(key: &[u8], place: impl Fn() -> String) -> Result<Vec<u8>> {
    if key.trim_ascii().len() >= SHORTEST {
        return Ok(key.trim_ascii().to_vec());
    }
    Err(Error::new(Kind::Invalid, format!("the key of sessions in {} has fewer than {SHORTEST} bytes", place()))
        .remedy("remove it, so that a new one is made"))
}

/// Redis may start together with the managers, so it is waited for.
async fn of_redis(url: &str, name: &str) -> Result<Vec<u8>> {
    let began = tokio::time::Instant::now();
    loop {
        let error = match tokio::time::timeout(PATIENCE, ask_redis(url, name)).await {
            Ok(Ok(key)) => return checked(&key, || "Redis".to_owned()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if began.elapsed() >= PATIENCE {
            return Err(Error::new(Kind::Invalid, format!("Redis does not give the key of sessions: {error}"))
                .remedy("see that it runs at REDIS_URL, or set ENABLE_REDIS=false"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask_redis(url: &str, name: &str) -> redis::RedisResult<Vec<u8>> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let (_, key): (bool, Vec<u8>) =
        redis::pipe().cmd("SETNX").arg(name).arg(random::key()).cmd("GET").arg(name).query_async(&mut connection).await?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_in_a_file_is_everybodys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/key");
        let keys: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn({
                    let path = path.clone();
                    move || of_file(&path).unwrap()
                })
            })
            .collect();
        let keys: Vec<Vec<u8>> = keys.into_iter().map(|key| key.join().unwrap()).collect();
        assert!(keys[0].len() == 64 && keys.iter().all(|key| *key == keys[0]));
        assert_eq!(std::fs::read_dir(folder.path().join("new")).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_short_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "short\n").unwrap();
        assert!(of_file(&path).unwrap_err().detail.contains("fewer than"));
    }
}

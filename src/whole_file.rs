//! Writing a file whole or not at all: whoever reads it meanwhile, or after a power cut, finds what it was or what it is to
//! be. What the text is, and whose file it may replace, is its callers' affair.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Result, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Ending of files that are being written; hidden, so that nobody takes one for what it will be.
const UNFINISHED: &str = ".mcp-manager-unfinished";

/// Puts `bytes` into the file at `path`, whatever was there, with these permissions or those that every new file gets. Its
/// folder must be there.
pub fn write(path: &Path, bytes: &[u8], permissions: Option<Permissions>) -> Result<()> {
    put(path, bytes, permissions, |unfinished| fs::rename(unfinished, path))
}

/// The same for a file that must not be there: of several that write it one succeeds, and the others get `AlreadyExists`.
pub fn write_new(path: &Path, bytes: &[u8], permissions: Option<Permissions>) -> Result<()> {
    put(path, bytes, permissions, |unfinished| {
        fs::hard_link(unfinished, path)?;
        fs::remove_file(unfinished)
    })
}

/// Makes the folder that a file is to be in, and those above it.
pub fn make_folder_of(path: &Path) -> Result<()> {
    fs::create_dir_all(folder_of(path))
}

/// Whether a file of this name is one that was being written, which a program that was killed leaves behind.
#[must_use]
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(UNFINISHED)
}

fn put(path: &Path, bytes: &[u8], permissions: Option<Permissions>, place: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    // The name is unguessable and opened with `create_new`, so nobody can lay a link in the way.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_file_name(format!(".{name}.{:016x}{UNFINISHED}", rand::random::<u64>()));
    let written = || -> Result<()> {
        let mode = if permissions.is_some() { 0o600 } else { 0o666 };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
        file.write_all(bytes)?;
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)?;
        }
        file.sync_all()?;
        place(&unfinished)?;
        File::open(folder_of(path))?.sync_all()
    };
    written().inspect_err(|_| {
        // It may not exist at all; then there is nothing to take away.
        let _ = fs::remove_file(&unfinished);
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_has_what_was_written_and_its_mode_and_nothing_lies_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file");
        make_folder_of(&path).unwrap();
        for (text, mode) in [("first", 0o644), ("second", 0o600)] {
            write(&path, text.as_bytes(), Some(Permissions::from_mode(mode))).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_take_the_place_of_something_else_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("taken/by-a-folder")).unwrap();
        for put in [write, write_new] {
            put(&folder.path().join("taken"), b"text", None).unwrap_err();
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn of_several_that_write_a_new_file_the_first_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_new(&path, b"first", Some(Permissions::from_mode(0o600))).unwrap();
        let second = write_new(&path, b"second", Some(Permissions::from_mode(0o600)));
        assert_eq!(second.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

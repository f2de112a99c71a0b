//! Writing a file of the user's whole or not at all: whoever reads it meanwhile, or after a power cut, finds what it was or
//! what it is to be. What the text is, and whose file it may replace, is its callers' affair.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Result, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Puts `bytes` into the file at `path`, whose folder is made when it is missing.
pub fn write(path: &Path, bytes: &[u8], permissions: Permissions) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".mcp-manager-{:08x}", rand::random::<u32>()));
    let unfinished = path.with_file_name(name);
    let written = || -> Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.set_permissions(permissions)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(folder)?.sync_all()
    };
    written().inspect_err(|_| {
        let _ = fs::remove_file(&unfinished);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_has_what_was_written_and_its_mode_and_nothing_lies_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file");
        for (text, mode) in [("first", 0o644), ("second", 0o600)] {
            write(&path, text.as_bytes(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_take_the_place_of_something_else_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("taken/by-a-folder")).unwrap();
        write(&folder.path().join("taken"), b"text", Permissions::from_mode(0o600)).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

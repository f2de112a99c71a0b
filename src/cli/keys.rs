//! `mcp-manager auth key`: makes a key, shows it once, and adds its line to the file of keys.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;

use super::arguments::{Key, Settings};
use super::exit::Outcome;
use super::output::Output;
use super::settings;
use crate::config::auth;
use crate::error::{Error, Kind, Result};

/// Makes a key.
pub fn make(output: &Output, arguments: &Key) -> Outcome {
    if !auth::is_key_name(&arguments.name) {
        let message = format!("'{}' cannot name a key", arguments.name.escape_debug());
        return Err(Error::invalid_field("NAME", message, auth::KEY_NAME_REMEDY).into());
    }
    let role = auth::read_role(&arguments.role).ok_or_else(|| {
        let message = format!("'{}' is not a role", arguments.role.escape_debug());
        Error::invalid_field("ROLE", message, "use viewer, operator or admin")
    })?;
    let file = match &arguments.file {
        Some(file) => file.clone(),
        None => settings::load(&Settings::default())?.auth.keys_file,
    };
    let secret = format!("mcpm_{}", crate::random::key());
    add_line(&file, &arguments.name, &auth::key_line(&arguments.name, role, &secret))?;
    output.note(&format!(
        "added to {}; restart the manager with ENABLE_AUTH=true to make it count. The key is shown this once:",
        file.display()
    ));
    // One value, to be put into a variable by scripts: text unless JSON was asked for.
    if output.explicit_json {
        return output.document(&json!({"name": arguments.name, "role": arguments.role, "key": secret, "file": file}));
    }
    output.text(&secret)
}

/// Appends to the file, which is made readable by its owner only. It is not replaced as a whole: it may be a link, or somebody
/// else's, and of two that add to it at once neither may take the other's line away.
fn add_line(path: &Path, name: &str, line: &str) -> Result<()> {
    let fault = |error: std::io::Error| {
        Error::new(Kind::Invalid, format!("the file of keys {} cannot be written: {error}", path.display()))
            .remedy("name another one with --file")
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(fault)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(fault)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(fault)?;
    if text.lines().any(|line| line.split(':').next() == Some(name)) {
        return Err(Error::new(Kind::AlreadyExists, format!("there is a key '{name}' in {} already", path.display()))
            .remedy("use another name, or remove its line first"));
    }
    file.seek(SeekFrom::End(0)).map_err(fault)?;
    let start = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    file.write_all(format!("{start}{line}\n").as_bytes()).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_added_once_each_to_a_private_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/keys");
        add_line(&path, "a", "a:admin:00").unwrap();
        add_line(&path, "b", "b:viewer:00").unwrap();
        assert_eq!(add_line(&path, "a", "a:admin:01").unwrap_err().kind, Kind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a:admin:00\nb:viewer:00\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

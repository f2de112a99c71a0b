//! Section `auth`: who may call the API, and the file of API keys.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::section::{Check, section};
use super::value::SettingValue;
use crate::auth::Key;
use crate::domain::access::Role;
use crate::error::{Error, FieldError, Kind, Result};

section! {
    /// Who may call the API.
    pub struct Auth in "auth" {
        /// Ask every caller for an API key.
        enabled: bool = false, also "ENABLE_AUTH";
        /// File of API keys, one `NAME:ROLE:SHA256` a line; `mcp-manager auth key` makes such lines. Unless set: `keys`
        /// in the directory of settings.
        keys_file: PathBuf = PathBuf::new();
    }
}

/// The line of `secret`, the key of `name`, in the file of keys.
#[must_use]
pub fn key_line(name: &str, role: Role, secret: &str) -> String {
    let digest = crate::domain::hex(&Sha256::digest(secret));
    format!("{name}:{}:{digest}", role_name(role))
}

/// The roles that a key can have, by name.
const ROLES: [(&str, Role); 3] = [("viewer", Role::Viewer), ("operator", Role::Operator), ("admin", Role::Admin)];

fn role_name(role: Role) -> &'static str {
    ROLES.iter().find(|(_, known)| *known == role).map_or("nobody", |(name, _)| name)
}

impl Auth {
    // Whether there are keys is checked by [`Auth::keys`], so that `config show` and `auth key` work before there are any.
    fn validate(&self, check: &mut Check) {
        check.that(!self.keys_file.as_os_str().is_empty(), "keys_file", "is empty", "name a file");
    }

    /// The keys of all callers; none when authentication is off. All wrong lines at once.
    pub fn keys(&self) -> Result<Vec<Key>> {
        if !self.enabled {
            return Ok(Vec::new());
        }
        let file = self.keys_file.to_json();
        let file = file.as_str().unwrap_or_default();
        let remedy = "make a key with 'mcp-manager auth key NAME admin', or set ENABLE_AUTH=false";
        let text = std::fs::read_to_string(&self.keys_file).map_err(|error| {
            let detail = format!("authentication is on, and the file of keys {file} cannot be read: {error}");
            Error::new(Kind::Invalid, detail).remedy(remedy)
        })?;
        let mut keys: Vec<Key> = Vec::new();
        let mut errors = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match read_key(line) {
                Ok(key) if keys.iter().any(|known| known.name == key.name) => {
                    let error = FieldError::new(key.name, "stands in the file twice", "give each key a name of its own");
                    errors.push(FieldError { line: Some(index + 1), ..error });
                }
                Ok(key) => keys.push(key),
                Err(error) => errors.push(FieldError { line: Some(index + 1), ..error }),
            }
        }
        if !errors.is_empty() {
            return Err(Error::invalid(&format!("the file of keys {file}"), errors));
        }
        if keys.is_empty() {
            return Err(Error::new(Kind::Invalid, format!("authentication is on, and {file} holds no key")).remedy(remedy));
        }
        Ok(keys)
    }
}

/// Reads `NAME:ROLE:SHA256`. The line itself is not repeated in errors: somebody may have put the key there.
fn read_key(line: &str) -> Result<Key, FieldError> {
    let wrong = |message: &str, remedy: &str| Err(FieldError::new("", message, remedy));
    let parts: Vec<&str> = line.split(':').collect();
    let &[name, role, digest] = parts.as_slice() else {
        return wrong("is not NAME:ROLE:SHA256", "make the line with 'mcp-manager auth key NAME ROLE'");
    };
    if !is_key_name(name) {
        return wrong("the name is not usable", KEY_NAME_REMEDY);
    }
    let Some(role) = read_role(role) else {
        return wrong("the role is not known", "use viewer, operator or admin");
    };
    let bytes: Option<Vec<u8>> = (0..digest.len())
        .step_by(2)
        .map(|at| digest.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    match bytes.and_then(|bytes| bytes.try_into().ok()) {
        Some(digest) => Ok(Key { name: name.to_owned(), role, digest }),
        None => {
            wrong("the digest is not a SHA-256 in 64 hexadecimal digits", "make the line with 'mcp-manager auth key NAME ROLE'")
        }
    }
}

/// What a key's name may be.
pub const KEY_NAME_REMEDY: &str = "use 1 to 63 letters, digits, '.', '_', '@' and '-'";

/// Whether `name` may name a key.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte))
}

/// The role of that name.
#[must_use]
pub fn read_role(text: &str) -> Option<Role> {
    ROLES.iter().find(|(name, _)| *name == text).map(|(_, role)| *role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Authenticator;

    fn keys(text: &str) -> Result<Vec<Key>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Auth { enabled: true, keys_file: file.path().to_owned() }.keys()
    }

    #[test]
    fn a_made_line_is_read_back_and_matches_its_key_only() {
        let line = key_line("ci", Role::Operator, "open sesame");
        let keys = Authenticator::Keys(keys(&format!("# keys\n\n{line}\n")).unwrap());
        let actor = keys.actor(Some("open sesame"), None).unwrap();
        assert_eq!((actor.name.as_str(), actor.role), ("ci", Role::Operator));
        assert!(keys.actor(Some("open sesame "), None).is_err());
    }

    #[test]
    fn all_wrong_lines_are_reported_and_none_is_repeated() {
        let good = key_line("a", Role::Admin, "x");
        let error = keys(&format!("{good}\nhunter2\na b:admin:00\nb:king:00\nc:admin:zz\n{good}\n")).unwrap_err();
        assert_eq!(error.fields.iter().filter_map(|field| field.line).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn authentication_without_keys_does_not_start() {
        assert!(keys("# nothing\n").unwrap_err().to_string().contains("mcp-manager auth key"));
        let missing = Auth { enabled: true, keys_file: "/nonexistent/keys".into() };
        assert!(missing.keys().unwrap_err().to_string().contains("/nonexistent/keys"));
        assert_eq!(Auth { enabled: false, ..missing }.keys().unwrap(), []);
    }
}

//! Section `secrets`: where the values of secrets come from. Specs name them; values stay in files and variables.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::environment::Environment;
use super::section::{Check, section};
use crate::domain::spec::secret_variable;
use crate::error::{Error, Result};

section! {
    /// Where the values of secrets come from. A variable `MCP_MANAGER_SECRET_NAME` holds the secret `name`.
    pub struct Secrets in "secrets" {
        /// Directory with one file a secret, named as the secret. Unless set: `secrets` in the directory of settings.
        dir: PathBuf = PathBuf::new();
    }
}

impl Secrets {
    fn validate(&self, check: &mut Check) {
        check.that(!self.dir.as_os_str().is_empty(), "dir", "is empty", "name a directory");
    }
}

/// The value of a secret; printing it shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// The value itself. Hand it to the engine and to nobody else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretValue")
    }
}

/// Looks up secrets: a variable of the manager first, then a file.
#[derive(Debug, Clone)]
pub struct SecretSource {
    pub(super) directory: PathBuf,
    pub(super) environment: Environment,
}

impl SecretSource {
    /// The value of the secret `name`; an error that says where to put it when there is none. One line end at the end of a
    /// file is not part of the value. Reads a file: call it where blocking is allowed.
    pub fn get(&self, name: &str) -> Result<SecretValue> {
        let plain = !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !plain {
            return Err(Error::invalid_field(
                "secrets",
                format!("'{}' is not the name of a secret", name.escape_debug()),
                "use letters, digits, '.', '_' and '-', a letter or digit first",
            ));
        }
        let variable = secret_variable(name);
        if let Some(value) = self.environment.get(&variable) {
            return Ok(SecretValue(value.to_owned()));
        }
        let path = self.directory.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let value = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
                Ok(SecretValue(value.to_owned()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::invalid_field(
                "secrets",
                format!("there is no secret '{name}'"),
                format!("write its value into {} or set {variable} where the manager runs", path.display()),
            )),
            Err(error) => Err(Error::internal(format!("the secret '{name}' cannot be read from {}", path.display()), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_goes_before_the_file_and_a_missing_secret_says_where_to_put_it() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("api-key"), "from the file\n").unwrap();
        let source = |variables: &[(&str, &str)]| SecretSource {
            directory: directory.path().to_owned(),
            environment: variables.iter().copied().collect(),
        };
        assert_eq!(source(&[]).get("api-key").unwrap().reveal(), "from the file");
        assert_eq!(source(&[("MCP_MANAGER_SECRET_API_KEY", "x")]).get("api-key").unwrap().reveal(), "x");
        let error = source(&[]).get("other").unwrap_err().to_string();
        assert!(error.contains("MCP_MANAGER_SECRET_OTHER"), "{error}");
        for path in ["../api-key", "/etc/passwd", "", ".hidden", "a/b"] {
            assert!(source(&[]).get(path).is_err(), "{path}");
        }
    }

    #[test]
    fn printing_a_secret_does_not_show_it() {
        assert!(!format!("{:?}", SecretValue("hunter2".to_owned())).contains("hunter2"));
    }
}

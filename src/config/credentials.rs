//! Credentials for image registries, out of a file as `podman login` and `docker login` write it.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::{Error, Kind, Result};

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: HashMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    auth: String,
}

/// User name and password for the registry of `image`, the most specific entry of the file; `None` when it has none.
///
/// The file is read anew each time, since logins change while the manager runs. Call it where blocking is allowed.
pub fn registry_credentials(file: &Path, image: &str) -> Result<Option<(String, String)>> {
    let wrong = |message: String| {
        Error::new(Kind::Invalid, format!("the file of registry credentials {} {message}", file.display()))
            .remedy("write it with 'podman login --authfile FILE REGISTRY', or leave backend.registry_credentials_file unset")
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    // The parser's message may repeat a piece of the file, and so a secret; the position is enough.
    let read: AuthFile =
        serde_json::from_str(&text).map_err(|error| wrong(format!("is not of that kind (line {})", error.line())))?;
    let name = full_name(image);
    let matching = read.auths.iter().filter(|(registry, _)| {
        let registry = registry_name(registry);
        name.strip_prefix(registry).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
    });
    let Some((registry, login)) = matching.max_by_key(|(registry, _)| registry_name(registry).len()) else { return Ok(None) };
    let decoded = STANDARD.decode(&login.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    match pair {
        Some((user, password)) => Ok(Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))),
        None => Err(wrong(format!("holds no usable login for {registry}"))),
    }
}

/// `https://index.docker.io/v1/` and `docker.io` are one.
fn registry_name(entry: &str) -> &str {
    let entry = entry.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    match entry {
        "index.docker.io/v1" | "index.docker.io" => "docker.io",
        entry => entry,
    }
}

/// The image with its registry: what names none comes from Docker Hub.
fn full_name(image: &str) -> String {
    let first = image.split('/').next().unwrap_or_default();
    let has_registry = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    if has_registry { image.to_owned() } else { format!("docker.io/{image}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(image: &str) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let login = |text: &str| serde_json::json!({"auth": STANDARD.encode(text)});
        let document = serde_json::json!({"auths": {
            "https://index.docker.io/v1/": login("hub:a"), "127.0.0.1:5000": login("local:b"),
            "127.0.0.1:5000/team": login("team:c:d"),
        }});
        std::fs::write(file.path(), document.to_string()).unwrap();
        registry_credentials(file.path(), image).unwrap().map(|(user, password)| format!("{user} {password}"))
    }

    #[test]
    fn the_most_specific_login_is_taken() {
        assert_eq!(find("nginx:latest").as_deref(), Some("hub a"));
        assert_eq!(find("library/nginx").as_deref(), Some("hub a"));
        assert_eq!(find("127.0.0.1:5000/x:1").as_deref(), Some("local b"));
        assert_eq!(find("127.0.0.1:5000/team/x@sha256:0").as_deref(), Some("team c:d"));
        assert_eq!(find("127.0.0.1:5000/teams/x").as_deref(), Some("local b"));
        assert_eq!(find("ghcr.io/x/y"), None);
    }

    #[test]
    fn a_broken_file_is_told_without_repeating_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"auths\": {\"x\": {\"auth\": hunter2}}}").unwrap();
        let error = registry_credentials(file.path(), "x/y").unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
    }
}

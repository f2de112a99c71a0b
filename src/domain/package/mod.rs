//! Packages as servers: what `npm:NAME@VERSION` and its like mean, the recipe of an image for one, and the template that
//! runs it. All pure; building is the backend's, asking for it the manager's.

pub mod failure;
pub mod import;
mod inputs;
pub mod known;
pub mod lock;
pub mod recipe;
pub mod said;
pub mod server_json;
pub mod shipped;
pub mod template;

use std::fmt;
use std::str::FromStr;

use super::shown;
use crate::error::{Error, Result};

/// Where a server comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A package that an image is made for.
    Package(Package),
    /// An image that exists.
    Image(String),
}

/// A package of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its registry.
    pub ecosystem: Ecosystem,
    /// Its name there.
    pub name: String,
    /// The version that is asked for; the registry's newest when absent.
    pub version: Option<String>,
}

/// A registry of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ecosystem {
    /// Packages of Node.
    Npm,
    /// Packages of Python.
    Pypi,
}

const REMEDY: &str = "write npm:NAME[@VERSION], pypi:NAME[@VERSION] or image:REFERENCE";

impl Source {
    /// Whether a text looks like a source, so that it is not taken for a name.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        ["npm:", "pypi:", "image:"].iter().any(|kind| text.starts_with(kind))
    }

    /// A name for a service that runs it: the last part of its name, as a DNS label.
    #[must_use]
    pub fn service_name(&self) -> String {
        let name = match self {
            Self::Package(package) => package.name.as_str(),
            Self::Image(image) => {
                let name = image.split('@').next().unwrap_or(image);
                let last = name.rsplit('/').next().unwrap_or(name);
                last.split(':').next().unwrap_or(last)
            }
        };
        label(name.rsplit('/').next().unwrap_or(name))
    }
}

/// A text as a DNS label of at most 40 characters; `server` when nothing of it is left.
#[must_use]
pub fn label(text: &str) -> String {
    let mut label = String::new();
    for letter in text.chars() {
        let letter = letter.to_ascii_lowercase();
        if letter.is_ascii_lowercase() || letter.is_ascii_digit() {
            label.push(letter);
        } else if !label.ends_with('-') && !label.is_empty() {
            label.push('-');
        }
    }
    label.truncate(40);
    let label = label.trim_end_matches('-');
    if label.is_empty() { "server".to_owned() } else { label.to_owned() }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |message: String| Error::invalid_field("source", message, REMEDY);
        let (kind, rest) = text.split_once(':').ok_or_else(|| wrong(format!("'{}' names no registry", shown(text))))?;
        match kind {
            "npm" => package(Ecosystem::Npm, rest).map(Self::Package),
            "pypi" => package(Ecosystem::Pypi, rest).map(Self::Package),
            "image" if super::spec::is_image(rest) => Ok(Self::Image(rest.to_owned())),
            "image" => Err(wrong(format!("'{}' is not an image reference", shown(rest)))),
            other => Err(wrong(format!("'{}' is not a registry that is known here", shown(other)))),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(package) => package.fmt(formatter),
            Self::Image(image) => write!(formatter, "image:{image}"),
        }
    }
}

impl fmt::Display for Package {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.ecosystem.as_str(), self.name)?;
        self.version.as_ref().map_or(Ok(()), |version| write!(formatter, "@{version}"))
    }
}

impl Ecosystem {
    /// Its name in sources.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pypi => "pypi",
        }
    }
}

/// Whether a text names a further package to be installed: `NAME@VERSION` of npm, `NAME<2` and the like of `PyPI`.
#[must_use]
pub fn is_with(ecosystem: Ecosystem, text: &str) -> bool {
    match ecosystem {
        Ecosystem::Npm => package(ecosystem, text).is_ok(),
        Ecosystem::Pypi => {
            let name = distribution(text);
            let rest = &text[name.len()..];
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"<>=!~,.*+-_[]".contains(&byte);
            package(ecosystem, name).is_ok() && text.len() <= 200 && rest.bytes().all(allowed)
        }
    }
}

/// The name in what [`is_with`] allows.
#[must_use]
pub fn distribution(text: &str) -> &str {
    let end = |letter: char| !(letter.is_ascii_alphanumeric() || "._-".contains(letter));
    text.split(end).next().unwrap_or(text)
}

/// Whether a text is the name of a package of a distribution.
#[must_use]
pub fn is_system_package(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=100).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.bytes().all(|byte| letter(byte) || b"+-.".contains(&byte))
}

/// Names and versions become words of a command, so nothing but their own characters is let through.
fn package(ecosystem: Ecosystem, text: &str) -> Result<Package> {
    let wrong = |what: &str| {
        let message = format!("'{}' has {what}", shown(text));
        Error::invalid_field("source", message, REMEDY)
    };
    let (scope, rest) = match (ecosystem, text.strip_prefix('@')) {
        (Ecosystem::Npm, Some(scoped)) => {
            let (scope, rest) = scoped.split_once('/').ok_or_else(|| wrong("a scope and no name"))?;
            (Some(scope), rest)
        }
        _ => (None, text),
    };
    let (name, version) = match rest.split_once("==").filter(|_| ecosystem == Ecosystem::Pypi) {
        Some((name, version)) => (name, Some(version)),
        None => rest.split_once('@').map_or((rest, None), |(name, version)| (name, Some(version))),
    };
    let word = |text: &str| {
        let bytes = text.as_bytes();
        !text.is_empty()
            && text.len() <= 200
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
            && bytes[0].is_ascii_alphanumeric()
    };
    if !word(name) || !scope.is_none_or(word) {
        return Err(wrong("a name that no package has"));
    }
    let right = |version: &str| {
        let bytes = version.as_bytes();
        !version.is_empty()
            && version.len() <= 64
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._+-!".contains(byte))
            && bytes[0].is_ascii_alphanumeric()
    };
    // A tag of npm; `uvx` reads it so, too, and pip knows no such thing.
    let version = version.filter(|version| ecosystem == Ecosystem::Npm || *version != "latest");
    if !version.is_none_or(right) {
        return Err(wrong("a version that is not one; ranges are not taken, for they mean something else every day"));
    }
    let name = scope.map_or_else(|| name.to_owned(), |scope| format!("@{scope}/{name}"));
    Ok(Package { ecosystem, name, version: version.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_read_is_one_word_and_is_written_as_it_is_read(text in "(npm|pypi|image):\\PC{0,20}|(npm|pypi):@?[a-z./@=-]{0,12}") {
            if let Ok(source) = text.parse::<Source>() {
                let written = source.to_string();
                prop_assert_eq!(written.parse::<Source>().unwrap(), source);
                prop_assert!(written.bytes().all(|byte| byte.is_ascii_graphic() && !b"'\"`$;&|<>(){}".contains(&byte)), "{}", written);
            }
        }

        #[test]
        fn what_may_be_added_is_no_option_and_no_address(text in "\\PC{0,16}|[a-z:/@<=.-]{0,12}") {
            for ecosystem in [Ecosystem::Npm, Ecosystem::Pypi] {
                prop_assert!(!is_with(ecosystem, &text) || (!text.starts_with('-') && !text.contains(':')), "{}", text);
            }
        }
    }

    #[test]
    fn packages_that_may_be_added() {
        for text in ["mcp<2", "mcp[cli]>=1,<2", "a==1.0", "b"] {
            assert!(is_with(Ecosystem::Pypi, text), "{text}");
        }
        for text in ["git+https://x", "a @ https://x", "-r", "", "a;b", "./a"] {
            assert!(!is_with(Ecosystem::Pypi, text), "{text}");
        }
        assert!(is_with(Ecosystem::Npm, "@a/b@1") && !is_with(Ecosystem::Npm, "a/b") && !is_with(Ecosystem::Npm, "a@^1"));
        assert!(is_system_package("git") && !is_system_package("--x") && !is_system_package("Git"));
    }

    #[test]
    fn sources_are_read_and_written_alike() {
        for text in [
            "npm:server",
            "npm:@modelcontextprotocol/server-everything",
            "npm:@a/b@1.2.3-beta.1",
            "npm:b@latest",
            "pypi:mcp-server-time",
            "pypi:a.b_c@1!2.0+local",
            "image:docker.io/library/nginx:latest",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        assert_eq!("pypi:x==1.0".parse::<Source>().unwrap().to_string(), "pypi:x@1.0");
        assert_eq!("pypi:x@latest".parse::<Source>().unwrap().to_string(), "pypi:x", "pip knows no version of that name");
    }

    #[test]
    fn what_could_be_more_than_a_name_is_refused() {
        for text in [
            "server",
            "npm:",
            "npm:@a",
            "npm:a b",
            "npm:a;b",
            "npm:-g",
            "npm:a@-1",
            "npm:a@^1",
            "npm:a@$(x)",
            "npm:../x",
            "npm:a/b",
            "pypi:a[b]",
            "pypi:a@",
            "image:",
            "image:a b",
            "cargo:x",
            "npm:a@1 2",
            "npm:file:x",
            "pypi:a'b",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }

    #[test]
    fn services_are_named_after_their_source() {
        let name = |text: &str| text.parse::<Source>().unwrap().service_name();
        assert_eq!(name("npm:@modelcontextprotocol/server-everything@1.0.0"), "server-everything");
        assert_eq!(name("pypi:MCP_Server.Time"), "mcp-server-time");
        assert_eq!(name("image:ghcr.io/a/my_server:1.0"), "my-server");
        assert_eq!(label("--"), "server");
        assert_eq!(label(&"x".repeat(90)).len(), 40);
    }
}

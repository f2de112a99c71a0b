//! The versions that were installed with a package, as its image says them. What says it is an installer's output, or an
//! image that somebody else may have made: only what registries have as names and versions is taken, and not more than
//! images have.

use std::collections::BTreeMap;

/// Versions by name.
pub type Lock = BTreeMap<String, String>;

/// Longest text that is read, in bytes: far more than the largest servers have, and little enough for an engine's request.
const MAX_TEXT: usize = 256 << 10;

/// Most packages, and the longest name and version of one. npm's names say where a package is within others.
const MAX_PACKAGES: usize = 5_000;
const MAX_NAME: usize = 1_024;
const MAX_VERSION: usize = 128;

/// Reads a JSON object from names to versions; nothing where any of it is something else.
#[must_use]
pub fn read(text: &str) -> Option<Lock> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let lock: Lock = serde_json::from_str(text).ok()?;
    (lock.len() <= MAX_PACKAGES && lock.iter().all(|(name, version)| is_name(name) && is_version(version))).then_some(lock)
}

/// Whether a registry could have this name, or npm this place. Old names of npm have more signs than new ones.
fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"@/._~!()*'-".contains(&byte);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(letter)
}

/// Whether it is a version. Packages within others of npm may say none.
fn is_version(text: &str) -> bool {
    text.len() <= MAX_VERSION && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+!-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_registries_have_is_read() {
        let lock = json!({"@a/b": "1.0.0-beta.1+x", "x/node_modules/@a/b": "", "zope.interface": "1!2.0.post1"});
        assert_eq!(serde_json::to_value(read(&lock.to_string()).unwrap()).unwrap(), lock);
        assert_eq!(read("{}"), Some(Lock::new()));
    }

    #[test]
    fn what_is_something_else_or_too_much_is_not_read() {
        let large: Lock = (0..=MAX_PACKAGES).map(|number| (number.to_string(), "1".to_owned())).collect();
        let long = |length: usize| "x".repeat(length);
        for hostile in [
            json!([]),
            json!({"a": 1}),
            json!({"a": null}),
            json!({"": "1"}),
            json!({"a b": "1"}),
            json!({"a\nb": "1"}),
            json!({"a": "1\u{1b}[2J"}),
            json!({"a": "$(x)"}),
            json!({"a\" evil=\"": "1"}),
            json!({(long(MAX_NAME + 1)): "1"}),
            json!({"a": long(MAX_VERSION + 1)}),
            json!(large),
        ] {
            assert_eq!(read(&hostile.to_string()), None, "{hostile}");
        }
        assert_eq!(read(&format!("{{}}{}", " ".repeat(MAX_TEXT))), None);
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_plain_words(name in "\\PC{0,12}|[a-z@/.-]{0,12}", version in "\\PC{0,12}|[0-9a-z.+!-]{0,12}", rest in "\\PC{0,4}") {
            let text = format!("{}{rest}", json!({(name.as_str()): version}));
            if let Some(lock) = read(&text) {
                let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\$`;&|<>{}".contains(&byte));
                prop_assert!(lock.iter().all(|(name, version)| plain(name) && plain(version)), "{:?}", lock);
            }
        }
    }
}

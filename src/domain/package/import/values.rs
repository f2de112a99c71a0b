//! What a value or an argument of a client's file says of itself: that it stands for another one, that it is a path of the
//! client's machine, that it is secret.

use crate::domain::secret::{self, looks_secret};
use crate::domain::spec::REDACTED;

/// Whether a value stands for one that the client knew: `${input:x}`, `${env:X}`, `{env:X}` and `{file:x}` anywhere, or `$X`
/// alone.
pub(super) fn is_placeholder(value: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let opened = |opening: &str| value.split_once(opening).is_some_and(|(_, rest)| rest.contains('}'));
    ["${", "{env:", "{file:"].into_iter().any(opened) || value.strip_prefix('$').is_some_and(is_name)
}

/// Whether an argument names a file by its whole path: `/home/me/x`, `~/x`, `C:\x`, also behind `--option=`.
pub(super) fn is_path_of_machine(word: &str) -> bool {
    let path = word.split_once('=').filter(|(option, _)| option.starts_with('-')).map_or(word, |(_, value)| value);
    let drive = || path.get(1..3).is_some_and(|rest| rest == ":\\" || rest == ":/") && path.as_bytes()[0].is_ascii_alphabetic();
    path.starts_with('/') || path.starts_with("~/") || drive()
}

/// The argument that holds a secret: `--token VALUE`, `--api-key=VALUE`, or a value that says so itself. Not its value.
pub(super) fn secret_argument(words: &[String]) -> Option<String> {
    let shown = secret::arguments(words);
    words.iter().zip(&shown).enumerate().find_map(|(index, (word, shown))| {
        let value = word.split_once('=').map_or(word.as_str(), |(_, value)| value);
        match shown.as_str() {
            REDACTED => Some(words[index.checked_sub(1)?].clone()),
            shown if shown != word => Some(shown.to_owned()),
            _ => looks_secret(value).then(|| "(a value)".to_owned()),
        }
    })
}

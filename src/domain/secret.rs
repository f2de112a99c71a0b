//! What is secret by its name or by what it says, for all who must not show or write it.

use super::spec::REDACTED;

const SECRET_PARTS: [&str; 10] =
    ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "APIKEY", "API_KEY", "PRIVATE_KEY", "CREDENTIAL", "ACCESS_KEY"];

/// Short words that say so where they stand alone: `GITHUB_PAT`, and not `PATH`.
const SECRET_WORDS: [&str; 5] = ["PASS", "PWD", "PAT", "AUTH", "DSN"];

/// How tokens of well-known services begin.
const TOKENS: [&str; 12] =
    ["ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "sk-", "sk_live_", "xoxb-", "xoxp-", "npm_", "pypi-", "AKIA"];

/// Whether a variable or argument of this name holds something secret.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    // A shell keeps its directory in PWD.
    let worded = || name != "PWD" && name.split('_').any(|word| SECRET_WORDS.contains(&word));
    name.ends_with("_KEY") || name == "KEY" || SECRET_PARTS.iter().any(|part| name.contains(part)) || worded()
}

/// Arguments with secret values replaced: `--token=VALUE`, and what follows `--token`.
#[must_use]
pub fn arguments<T: AsRef<str>>(words: &[T]) -> Vec<String> {
    let is_named = |word: &str| word.starts_with('-') && !word.contains(['=', ' ']) && is_secret(word);
    let mut follows = false;
    let one = |word: &T| {
        let word = word.as_ref();
        let named = std::mem::replace(&mut follows, is_named(word));
        if named && !word.starts_with('-') { REDACTED.to_owned() } else { shown_value(word) }
    };
    words.iter().map(one).collect()
}

/// The value of a variable as it may be shown.
#[must_use]
pub fn shown(name: &str, value: &str) -> String {
    if is_secret(name) && !is_switch(value) { REDACTED.to_owned() } else { shown_value(value) }
}

/// Whether a value only says whether something is asked for, which is no secret: `ENABLE_AUTH=true`.
#[must_use]
pub fn is_switch(value: &str) -> bool {
    matches!(value, "true" | "false")
}

/// Whether a value itself says that it is a secret: an address with a password, a header that names who asks, pairs with a
/// password among them, or one of the tokens that begin in a way of their own.
#[must_use]
pub fn looks_secret(value: &str) -> bool {
    let is_token = |prefix: &&str| value.strip_prefix(*prefix).is_some_and(|rest| rest.len() >= 12);
    shown_value(value) != value || TOKENS.iter().any(is_token)
}

/// A value without what says by itself that it is secret. The rest of it is kept.
fn shown_value(value: &str) -> String {
    let value = without_header(&without_bearer(&without_password(value)));
    let between = |letter: char| letter.is_whitespace() || matches!(letter, ';' | '&' | '?' | ',');
    value.split_inclusive(between).map(without_pair).collect()
}

/// `user:password@` inside a URL.
fn without_password(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{scheme}://{user}:{REDACTED}@{host}{}", &rest[authority.len()..]),
        None => value.to_owned(),
    }
}

/// `Bearer TOKEN`, as headers have it.
fn without_bearer(value: &str) -> String {
    const WORD: &str = "bearer ";
    let Some(start) = value.to_ascii_lowercase().find(WORD).map(|at| at + WORD.len()) else { return value.to_owned() };
    let end = value[start..].find(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'')).map(|at| start + at);
    format!("{}{REDACTED}{}", &value[..start], end.map_or("", |end| &value[end..]))
}

/// `X-API-Key: VALUE`, as headers have it, also behind an option's name. What has been found in it already stays as it is.
fn without_header(value: &str) -> String {
    let Some((head, said)) = value.split_once(':') else { return value.to_owned() };
    let name = head.rsplit(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').next().unwrap_or_default();
    let is_one = said.starts_with(' ') && (is_secret(name) || name.eq_ignore_ascii_case("authorization"));
    if is_one && !said.contains(REDACTED) { format!("{head}: {REDACTED}") } else { value.to_owned() }
}

/// `Password=VALUE` of a text that consists of such pairs, up to the end of the piece.
fn without_pair(piece: &str) -> String {
    match piece.split_once('=') {
        Some((name, value)) if is_secret(name) && !value.is_empty() => {
            let end = value.trim_end_matches(|letter: char| letter.is_whitespace() || matches!(letter, ';' | '&' | '?' | ','));
            format!("{name}={REDACTED}{}", &value[end.len()..])
        }
        // `--env=API_KEY=VALUE`
        Some((name, value)) if value.contains('=') => format!("{name}={}", without_pair(value)),
        _ => piece.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_of_secrets_are_known_and_words_like_them_are_not() {
        for name in ["MY_PWD", "PASSPHRASE", "GITHUB_PAT", "AUTH", "BASIC_AUTH", "SENTRY_DSN", "DB_PASS", "--api-key", "KEY"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["PATH", "PWD", "OLDPWD", "AUTHOR", "COMPASS", "KEYBOARD", "PASSIVE", "TZ", "--patch"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn values_that_say_themselves_that_they_are_secret_are_replaced_and_the_rest_is_kept() {
        for (value, expected) in [
            ("--env=API_KEY=abc", "--env=API_KEY=[redacted]"),
            ("Bearer abc", "Bearer [redacted]"),
            ("Authorization: bearer abc 'x'", "Authorization: bearer [redacted] 'x'"),
            ("Server=h;User Id=u;Password=p;Encrypt=true", "Server=h;User Id=u;Password=[redacted];Encrypt=true"),
            ("https://h/?api_key=abc&lang=de", "https://h/?api_key=[redacted]&lang=de"),
            ("postgres://u:p@h/d", "postgres://u:[redacted]@h/d"),
            ("--header=X-API-Key: abc", "--header=X-API-Key: [redacted]"),
            ("Authorization: Basic abc=", "Authorization: [redacted]"),
            ("Accept: text/html", "Accept: text/html"),
            ("a=b c, d?e&f;\n", "a=b c, d?e&f;\n"),
        ] {
            assert_eq!(shown("CONN", value), expected);
        }
        assert_eq!((shown("ENABLE_AUTH", "true").as_str(), shown("BASIC_AUTH", "me").as_str()), ("true", REDACTED));
    }

    #[test]
    fn values_that_are_secrets_are_told_from_others() {
        for value in [
            "postgres://me:pw@host/db",
            "ghp_0123456789abcdef",
            "sk-0123456789abcdef",
            "Server=h;Password=p;",
            "Authorization: Bearer abc",
            "X-API-Key: abc",
        ] {
            assert!(looks_secret(value), "{value}");
        }
        for value in ["https://host/a@b:c", "postgres://me@host/db", "sk-1", "x", "Accept: text/html", "12:30", "a: b"] {
            assert!(!looks_secret(value), "{value}");
        }
    }
}

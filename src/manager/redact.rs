//! Keeps secret values out of what is shown: by the name of the variable or argument, and wherever an engine repeats them.

use serde_json::Value;

pub use crate::domain::spec::REDACTED;
use crate::domain::spec::ServiceSpec;

const SECRET_PARTS: [&str; 10] =
    ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "APIKEY", "API_KEY", "PRIVATE_KEY", "CREDENTIAL", "ACCESS_KEY"];

/// Short words that say so where they stand alone: `GITHUB_PAT`, and not `PATH`.
const SECRET_WORDS: [&str; 5] = ["PASS", "PWD", "PAT", "AUTH", "DSN"];

/// Names of lists of arguments in engines' descriptions.
const ARGUMENTS: [&str; 5] = ["cmd", "command", "args", "entrypoint", "createcommand"];

/// Whether a variable or argument of this name holds something secret.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    // A shell keeps its directory in PWD.
    let worded = || name != "PWD" && name.split('_').any(|word| SECRET_WORDS.contains(&word));
    name.ends_with("_KEY") || name == "KEY" || SECRET_PARTS.iter().any(|part| name.contains(part)) || worded()
}

/// A spec as it may be shown.
#[must_use]
pub fn spec(spec: &ServiceSpec) -> ServiceSpec {
    ServiceSpec {
        environment: spec.environment.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect(),
        command: arguments(&spec.command),
        entrypoint: spec.entrypoint.as_deref().map(arguments),
        ..spec.clone()
    }
}

/// Arguments with secret values replaced: `--token=VALUE`, and what follows `--token`.
fn arguments<T: AsRef<str>>(words: &[T]) -> Vec<String> {
    let is_named = |word: &str| word.starts_with('-') && !word.contains(['=', ' ']) && is_secret(word);
    let mut follows = false;
    let one = |word: &T| {
        let word = word.as_ref();
        let named = std::mem::replace(&mut follows, is_named(word));
        if named && !word.starts_with('-') { REDACTED.to_owned() } else { shown_value(word) }
    };
    words.iter().map(one).collect()
}

fn shown(name: &str, value: &str) -> String {
    // Whether something is asked for is no secret: `ENABLE_AUTH=true`.
    let is_switch = matches!(value, "true" | "false");
    if is_secret(name) && !is_switch { REDACTED.to_owned() } else { shown_value(value) }
}

/// A value without what says by itself that it is secret. The rest of it is kept.
fn shown_value(value: &str) -> String {
    let value = without_bearer(&without_password(value));
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

/// An engine's own description of a container, without secret values: entries of every `Env` list, `NAME=VALUE` or
/// objects with `name` and `value`, are redacted by name, or all of them when named in `secret_variables`, arguments as in a
/// spec; the manager's own record is left out.
pub fn inspection(document: &mut Value, secret_variables: &[&str]) {
    match document {
        Value::Object(object) => {
            object.remove("io.mcp-manager.record");
            for (key, value) in object {
                match value {
                    Value::Array(entries) if key.eq_ignore_ascii_case("env") => {
                        for entry in entries {
                            redact_entry(entry, secret_variables);
                        }
                    }
                    Value::Array(words) if ARGUMENTS.iter().any(|known| key.eq_ignore_ascii_case(known)) => {
                        let texts: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
                        match texts {
                            Some(texts) => *words = arguments(&texts).into_iter().map(Value::from).collect(),
                            None => words.iter_mut().for_each(|value| inspection(value, secret_variables)),
                        }
                    }
                    value if is_secret(key) && value.is_string() => *value = REDACTED.into(),
                    value => inspection(value, secret_variables),
                }
            }
        }
        Value::Array(array) => array.iter_mut().for_each(|value| inspection(value, secret_variables)),
        _ => {}
    }
}

fn redact_entry(entry: &mut Value, secret_variables: &[&str]) {
    let safe = |name: &str, value: &str| {
        if secret_variables.contains(&name) { REDACTED.to_owned() } else { shown(name, value) }
    };
    if let Some((name, value)) = entry["name"].as_str().zip(entry["value"].as_str()) {
        entry["value"] = safe(name, value).into();
    } else if let Some((name, value)) = entry.as_str().and_then(|text| text.split_once('=')) {
        *entry = format!("{name}={}", safe(name, value)).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_replaced_wherever_an_engine_repeats_them() {
        let mut document = json!({"Config": {"Env": ["A=1", "GITHUB_TOKEN=abc", "X=named", "DB=postgres://u:p@h/d"],
            "Labels": {"io.mcp-manager.record": "{}", "other": "x"}}});
        inspection(&mut document, &["X"]);
        let env = ["A=1", "GITHUB_TOKEN=[redacted]", "X=[redacted]", "DB=postgres://u:[redacted]@h/d"];
        assert_eq!(document, json!({"Config": {"Env": env, "Labels": {"other": "x"}}}));
        // As a cluster has them.
        let mut pod = json!({"env": [{"name": "A", "value": "1"}, {"name": "GITHUB_TOKEN", "value": "abc"},
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]});
        inspection(&mut pod, &["X"]);
        assert_eq!((&pod["env"][0]["value"], &pod["env"][1]["value"]), (&json!("1"), &json!("[redacted]")));
        assert_eq!(pod["env"][2]["valueFrom"]["secretKeyRef"]["name"], "s");
    }
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
            ("a=b c, d?e&f;\n", "a=b c, d?e&f;\n"),
        ] {
            assert_eq!(shown("CONN", value), expected);
        }
        assert_eq!((shown("ENABLE_AUTH", "true").as_str(), shown("BASIC_AUTH", "me").as_str()), ("true", REDACTED));
    }

    #[test]
    fn secret_arguments_are_replaced_in_specs_and_inspections() {
        let command = ["serve", "--api-key=abc", "--token", "abc", "--password", "--port=80", "-c", "run --secret=x --fast"];
        let expected = [
            "serve",
            "--api-key=[redacted]",
            "--token",
            REDACTED,
            "--password",
            "--port=80",
            "-c",
            "run --secret=[redacted] --fast",
        ];
        let spec = ServiceSpec { command: command.map(str::to_owned).into(), ..ServiceSpec::default() };
        assert_eq!(super::spec(&spec).command, expected);
        let mut document = json!({"Config": {"Cmd": command}, "Args": command, "spec": {"containers": [{"args": command}]}});
        inspection(&mut document, &[]);
        let shown = json!(expected);
        assert_eq!(document, json!({"Config": {"Cmd": shown}, "Args": shown, "spec": {"containers": [{"args": shown}]}}));
    }
}

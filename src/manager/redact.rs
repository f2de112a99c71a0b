//! Keeps secret values out of what is shown: by the name of the variable, and wherever an engine repeats the environment.

use std::collections::BTreeMap;

use serde_json::Value;

/// What stands in the place of a secret value.
pub const REDACTED: &str = "[redacted]";

const SECRET_PARTS: [&str; 9] =
    ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "APIKEY", "API_KEY", "PRIVATE_KEY", "CREDENTIAL", "ACCESS_KEY"];

/// Whether a variable of this name holds something secret.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name.ends_with("_KEY") || name == "KEY" || SECRET_PARTS.iter().any(|part| name.contains(part))
}

/// The environment with secret values replaced. A URL keeps all but its password.
#[must_use]
pub fn environment(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    environment.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
}

fn shown(name: &str, value: &str) -> String {
    if is_secret(name) {
        return REDACTED.to_owned();
    }
    // user:password@ inside a URL.
    let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{scheme}://{user}:{REDACTED}@{host}{}", &rest[authority.len()..]),
        None => value.to_owned(),
    }
}

/// An engine's own description of a container, without secret values: entries of every `Env` list, `NAME=VALUE` or
/// objects with `name` and `value`, are redacted by name, or all of them when named in `secret_variables`; the manager's own
/// record is left out.
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
}

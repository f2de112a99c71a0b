//! Keeps secret values out of what is shown: in specs, and wherever an engine repeats them. What is secret, the domain says.

use serde_json::Value;

use crate::domain::secret::{arguments, is_secret, shown};
pub use crate::domain::spec::REDACTED;
use crate::domain::spec::ServiceSpec;

/// Names of lists of arguments in engines' descriptions.
const ARGUMENTS: [&str; 5] = ["cmd", "command", "args", "entrypoint", "createcommand"];

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

//! Whether a service is what somebody says of it. What is not said is not compared: a request that names an image and a
//! port says nothing about limits that the service got from its template.

use serde_json::Value;

use super::{ServiceSpec, SpecInput};
use crate::domain::shown;
use crate::error::FieldError;

/// Fields that may hold secrets.
const PRIVATE: [&str; 4] = ["environment", "command", "args", "entrypoint"];

/// The fields that `said` names and that are not so in `current`. `wanted` is what `said` resolves to. Values of the
/// environment and arguments are not told, for they may be nobody's business.
#[must_use]
pub fn differences(said: &SpecInput, wanted: &ServiceSpec, current: &ServiceSpec) -> Vec<FieldError> {
    let json = |spec: &ServiceSpec| serde_json::to_value(spec).unwrap_or_default();
    let (wanted, current) = (json(wanted), json(current));
    let said = serde_json::to_value(said).unwrap_or_default();
    let mut found = Vec::new();
    for (field, value) in said.as_object().into_iter().flatten() {
        for (name, path) in compared(field, value) {
            let at = |spec: &Value| path.iter().try_fold(spec.clone(), |inner, step| inner.get(*step).cloned());
            let (wanted, current) = (at(&wanted), at(&current));
            if wanted == current || field == "image" && is_same_image(wanted.as_ref(), current.as_ref()) {
                continue;
            }
            let message = match current {
                None => "is not set in the service".to_owned(),
                Some(_) if PRIVATE.contains(&field.as_str()) => "is something else in the service".to_owned(),
                Some(current) => format!("is {} in the service", shown(current.as_str().unwrap_or(&current.to_string()))),
            };
            found.push(FieldError::new(name, message, "leave it out, or change the service"));
        }
    }
    found
}

/// The names of what a field says, and where each stands in a spec.
fn compared<'a>(field: &'a str, value: &'a Value) -> Vec<(String, Vec<&'a str>)> {
    let members = || value.as_object().into_iter().flat_map(|members| members.keys());
    let inside = |key: &str| format!("{field}.{}", shown(key));
    match field {
        "environment" | "labels" | "secrets" => members().map(|key| (inside(key), vec![field, key.as_str()])).collect(),
        "autoscaling" | "kubernetes" => members().map(|key| (inside(key), vec![field, key.as_str()])).collect(),
        "health_check" => {
            let place = |key: &'a str| if ["path", "command"].contains(&key) { "probe" } else { key };
            members().map(|key| (inside(key), vec![field, place(key)])).collect()
        }
        "health_check_path" => vec![(field.to_owned(), vec!["health_check", "probe"])],
        "health_check_interval" => vec![(field.to_owned(), vec!["health_check", "interval"])],
        "args" => vec![(field.to_owned(), vec!["command"])],
        "network" => vec![(field.to_owned(), vec!["networks"])],
        _ => vec![(field.to_owned(), vec![field])],
    }
}

/// A name without a registry is the same image in any: engines look for it among the images at hand, wherever those
/// came from. `latest` is what a name without a tag means.
fn is_same_image(wanted: Option<&Value>, current: Option<&Value>) -> bool {
    let (Some(wanted), Some(current)) = (wanted.and_then(Value::as_str), current.and_then(Value::as_str)) else { return false };
    let tagged = |image: &str| {
        let has_tag = image.contains('@') || image.rsplit('/').next().is_some_and(|last| last.contains(':'));
        if has_tag { image.to_owned() } else { format!("{image}:latest") }
    };
    let (wanted, current) = (tagged(wanted), tagged(current));
    let registry = |image: &str| {
        image
            .split_once('/')
            .map(|(first, _)| first.to_owned())
            .filter(|first| first.contains(['.', ':']) || first == "localhost")
    };
    if registry(&wanted).is_some() {
        return wanted == current;
    }
    let short = match registry(&current) {
        Some(first) => current[first.len() + 1..].to_owned(),
        None => current,
    };
    short == wanted || short.strip_prefix("library/") == Some(wanted.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::samples::spec_document;
    use crate::domain::spec::{Defaults, resolve};

    fn input(document: Value) -> SpecInput {
        serde_json::from_value(document).unwrap()
    }

    fn spec(document: Value) -> ServiceSpec {
        resolve(input(document), &Defaults::default(), &[], &|_| None).unwrap()
    }

    fn told(said: &Value, current: Value) -> Vec<String> {
        let errors = differences(&input(said.clone()), &spec(said.clone()), &spec(current));
        errors.into_iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
    }

    #[test]
    fn what_is_not_said_is_not_compared() {
        let current = json!({"image": "localhost/mcp/echo:latest", "port": 8000, "memory_limit": "64m",
            "environment": {"MCP_SERVICE_NAME": "echo", "MORE": "1"}, "health_check": {"path": "/health", "interval": "10s"}});
        let said = json!({"image": "mcp/echo", "port": 8000, "environment": {"MCP_SERVICE_NAME": "echo"}});
        assert_eq!(told(&said, current), [""; 0]);
    }

    #[test]
    fn what_is_said_and_not_so_is_named_without_secrets() {
        let current = json!({"image": "i:1", "port": 8000, "environment": {"KEY": "secret"}, "memory_limit": "64m",
            "command": ["--key=secret"]});
        let said = json!({"image": "i:2", "port": 8000, "environment": {"KEY": "other", "NEW": 1}, "memory_limit": "128m",
            "health_check_path": "/", "command": ["--key=other"]});
        let expected = [
            "command: is something else in the service",
            "environment.KEY: is something else in the service",
            "environment.NEW: is not set in the service",
            "health_check_path: is tcp in the service",
            "image: is i:1 in the service",
            "memory_limit: is 64m in the service",
        ];
        assert_eq!(told(&said, current), expected);
    }

    #[test]
    fn a_name_without_a_registry_is_the_image_at_hand() {
        let same = |wanted: &str, current: &str| is_same_image(Some(&wanted.into()), Some(&current.into()));
        assert!(
            same("nginx", "docker.io/library/nginx:latest") && same("a/b:1", "localhost:5000/a/b:1") && same("a", "a:latest")
        );
        assert!(
            !same("localhost/a:1", "docker.io/a:1") && !same("a:1", "a:2") && !same("a", "b/a") && !same("a:1", "a@sha256:1")
        );
    }

    proptest! {
        #[test]
        fn a_service_is_what_it_was_made_from(document in spec_document()) {
            let said = input(document);
            let variables = |_: &str| Some("value".to_owned());
            if let Ok(spec) = resolve(said.clone(), &Defaults::default(), &["HOME_DIR".into(), "UNSET".into()], &variables) {
                prop_assert_eq!(differences(&said, &spec, &spec), vec![]);
                let another = ServiceSpec { image: "another".into(), ..spec.clone() };
                prop_assert_eq!(differences(&said, &spec, &another).len(), 1);
            }
        }
    }
}

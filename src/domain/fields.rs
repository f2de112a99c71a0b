//! Reading JSON objects into types with *every* wrong field reported, not the first only.
//!
//! serde stops at the first error. [`read`] first tries the whole document; when that fails it probes each part on
//! its own, down to the smallest part that cannot be read, and reports each. The types stay the only description of
//! what is allowed. This needs input types whose fields are all optional, which they are: what is required is a rule
//! of [`crate::domain::spec`], with a message of its own.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::domain::nearest;
use crate::error::FieldError;

/// At most this many errors are listed; a document with more is not worth reading further.
pub const MAX_ERRORS: usize = 100;

/// Reads `object` as `T`; on failure every unknown or unreadable field is in the list.
pub fn read<T: DeserializeOwned + JsonSchema>(object: &Map<String, Value>) -> Result<T, Vec<FieldError>> {
    let known = field_names::<T>();
    let mut errors = unknown_fields(object, &known);
    let known_part: Map<String, Value> =
        object.iter().filter(|(key, _)| known.contains(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    match serde_json::from_value::<T>(Value::Object(known_part.clone())) {
        Ok(read) if errors.is_empty() => return Ok(read),
        Ok(_) => {}
        Err(whole) => {
            let before = errors.len();
            for (key, value) in &known_part {
                let wrap = |part: Value| Value::Object(Map::from_iter([(key.clone(), part)]));
                probe::<T>(value, key, &wrap, &mut errors);
            }
            if errors.len() == before {
                errors.push(field_error("", &whole.to_string()));
            }
        }
    }
    errors.truncate(MAX_ERRORS);
    Err(errors)
}

/// The names of `T`'s fields, as its schema lists them.
#[must_use]
pub fn field_names<T: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T);
    schema.get("properties").and_then(Value::as_object).map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
}

/// An error for each key of `object` that is not in `known`, with the nearest known name.
#[must_use]
pub fn unknown_fields(object: &Map<String, Value>, known: &[String]) -> Vec<FieldError> {
    let unknown = object.keys().filter(|key| !known.contains(key));
    unknown.take(MAX_ERRORS).map(|key| unknown_field(key, known.iter().map(String::as_str))).collect()
}

/// The error for one unknown field.
#[must_use]
pub fn unknown_field<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> FieldError {
    let remedy = match nearest(key, known.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("known fields: {}", known.collect::<Vec<_>>().join(", ")),
    };
    FieldError::new(key.escape_debug().to_string(), "unknown field", remedy)
}

/// Reports the smallest parts of `value` that `T` cannot hold; `wrap` puts a part back where it stood.
fn probe<T: DeserializeOwned>(value: &Value, path: &str, wrap: &dyn Fn(Value) -> Value, errors: &mut Vec<FieldError>) {
    if errors.len() >= MAX_ERRORS {
        return;
    }
    let Err(error) = serde_json::from_value::<T>(wrap(value.clone())) else {
        return;
    };
    let before = errors.len();
    match value {
        Value::Object(object) => {
            for (key, part) in object {
                let wrap = |inner: Value| wrap(Value::Object(Map::from_iter([(key.clone(), inner)])));
                probe::<T>(part, &format!("{path}.{}", key.escape_debug()), &wrap, errors);
            }
        }
        Value::Array(array) => {
            for (index, part) in array.iter().enumerate() {
                probe::<T>(part, &format!("{path}[{index}]"), &|inner| wrap(Value::Array(vec![inner])), errors);
            }
        }
        _ => {}
    }
    if errors.len() == before {
        errors.push(field_error(path, &error.to_string()));
    }
}

/// Turns serde's message into a field error; what follows `; ` in messages of our own types is the remedy.
fn field_error(path: &str, message: &str) -> FieldError {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let name = rest.split('`').next().unwrap_or_default();
        let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
        let inner = unknown_field(name, known.into_iter());
        // The path already ends in the unknown name when its part was probed alone.
        return FieldError { field: path.to_owned(), ..inner };
    }
    let (message, remedy) = match message.split_once("; ") {
        Some((message, remedy)) => (message, Some(remedy.to_owned())),
        None => (message, None),
    };
    FieldError { field: path.to_owned(), message: plain(message), remedy, line: None }
}

/// serde's message with the names of Rust's types put into words.
fn plain(message: &str) -> String {
    const WORDS: [(&str, &str); 7] = [
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected u64", "expected a whole number"),
        ("invalid type: sequence", "invalid type: list"),
        ("invalid type: map", "invalid type: object"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected an object"),
    ];
    WORDS.iter().fold(message.to_owned(), |message, (rust, words)| message.replace(rust, words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::SpecInput;
    use serde_json::json;

    fn errors(document: Value) -> Vec<String> {
        let Value::Object(object) = document else { panic!("not an object") };
        read::<SpecInput>(&object).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_wrong_field_is_reported_at_once_with_its_remedy() {
        let found = errors(json!({
            "imge": "x", "port": 99999, "memory_limit": "512q", "environment": {"A": "1", "B": [1], "C": null},
            "health_check": {"intervall": 3, "timeout": "soon"}, "volumes": [{"host_path": 3}]
        }));
        insta::assert_snapshot!(found.join("\n"));
    }

    #[test]
    fn a_right_document_is_read() {
        let Value::Object(object) = json!({"image": "nginx", "port": 80, "environment": {"A": 1, "B": true}}) else { panic!() };
        let read = read::<SpecInput>(&object).unwrap();
        assert_eq!(read.port, Some(80));
        assert_eq!(read.environment.unwrap()["B"].0, "true");
    }
}

//! JSON Schemas of tools, from the types that are read and written.
//!
//! Hosts check arguments and answers with validators of all ages, and give the schemas to models. So they stand on
//! their own (no references), hold no words that only some validators know (`format`), and say `null` nowhere that
//! leaving out says the same.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::problem::Problem;

/// The schema of arguments. Unknown ones are errors.
pub(super) fn input<T: JsonSchema>() -> Map<String, Value> {
    let mut schema = plain::<T>(SchemaSettings::draft2020_12().for_deserialize());
    without_null(&mut schema);
    schema["additionalProperties"] = false.into();
    let mut object = object(schema);
    object.remove("description");
    object
}

/// The schema of answers: what is given, or a problem document. The structured content of an error must agree with it, too.
pub(super) fn output<T: JsonSchema>() -> Map<String, Value> {
    let mut given = plain::<T>(SchemaSettings::draft2020_12().for_serialize());
    shorten(&mut given);
    let problem = plain::<Problem>(SchemaSettings::draft2020_12().for_serialize());
    object(json!({"type": "object", "anyOf": [given, problem]}))
}

fn plain<T: JsonSchema>(mut settings: SchemaSettings) -> Value {
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    simplify(&mut schema);
    schema
}

fn object(schema: Value) -> Map<String, Value> {
    let Value::Object(mut object) = schema else { return Map::new() };
    object.entry("properties").or_insert_with(|| json!({}));
    object
}

/// Takes away what validators know in different ways, and names of types, which are nobody's business.
fn simplify(schema: &mut Value) {
    each(schema, &|object| {
        object.remove("format");
        object.remove("title");
        object.remove("default");
        object.remove("examples");
    });
}

/// How a container runs is described where it is written; in every answer it would be most of what a model has to read.
fn shorten(schema: &mut Value) {
    each(schema, &|object| {
        let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
        if let Some(spec) = properties.get_mut("spec") {
            *spec = json!({"type": ["object", "null"], "description": spec["description"]});
        }
    });
}

/// A member that may be left out need not be `null`, too.
fn without_null(schema: &mut Value) {
    each(schema, &|object| {
        let required = object.get("required").cloned().unwrap_or_default();
        let is_required = |name: &str| required.as_array().is_some_and(|list| list.iter().any(|one| one == name));
        let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
        for (_, property) in properties.iter_mut().filter(|(name, _)| !is_required(name)) {
            let Value::Object(property) = property else { continue };
            if let Some(Value::Array(types)) = property.get_mut("type") {
                types.retain(|one| one != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    property.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(values)) = property.get_mut("enum") {
                values.retain(|one| !one.is_null());
            }
            let Some(Value::Array(choices)) = property.get_mut("anyOf") else { continue };
            choices.retain(|one| one != &json!({"type": "null"}));
            if let [Value::Object(only)] = choices.as_mut_slice() {
                let only = std::mem::take(only);
                property.remove("anyOf");
                for (word, value) in only {
                    // What is said of the member tells more than what is said of its type.
                    property.entry(word).or_insert(value);
                }
            }
        }
    });
}

/// Does something to every schema in a schema.
fn each(schema: &mut Value, change: &dyn Fn(&mut Map<String, Value>)) {
    let Value::Object(object) = schema else { return };
    change(object);
    for (word, value) in object {
        match (word.as_str(), value) {
            ("properties" | "patternProperties" | "$defs", Value::Object(members)) => {
                for member in members.values_mut() {
                    each(member, change);
                }
            }
            ("items" | "additionalProperties" | "not" | "propertyNames", inner) => each(inner, change),
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(list)) => {
                for one in list {
                    each(one, change);
                }
            }
            _ => {}
        }
    }
}

//! What JSON Schema can say of the rules: words that the fields of specs and templates add to their schemas, made of the
//! numbers and lists that the rules go by. They say less than the rules where more would not be simple, and never anything
//! that the rules do not.

use std::ops::RangeInclusive;

use schemars::{Schema, json_schema};
use serde_json::{Map, Number, Value, json};

use super::mounts::{MAX_PATH, MAX_VOLUMES};
use super::placement::{AFFINITIES, EFFECTS, OPERATORS};
use super::rules::{
    ALLOWED_CAPABILITIES, MAX_ENTRIES, MAX_IMAGE, MAX_NAME, MAX_TEXT, MAX_URL_PATH, MAX_USER, MAX_VARIABLE, NETWORK_MODES, PORTS,
};
use super::variables::OWN_LABELS;
use crate::domain::quantity::{Bytes, MilliCpu, Span};

/// Control characters, inside of brackets. Every dialect of regular expressions knows this spelling.
const CONTROL: &str = r"\x00-\x1f\x7f-\x9f";

/// A number that has bounds.
pub trait Bounded: Sized {
    /// The words that say them.
    fn bounds(range: RangeInclusive<Self>) -> [(&'static str, Value); 2];
}

macro_rules! bounded {
    ($($whole:ident)* ; $($quantity:ident in $unit:ident,)*) => {
        $( impl Bounded for $whole {
            fn bounds(range: RangeInclusive<Self>) -> [(&'static str, Value); 2] {
                [("minimum", (*range.start()).into()), ("maximum", (*range.end()).into())]
            }
        } )*
        /// Of a plain number, that is; the bounds of a text with a unit are no simple words. Fractions are rounded down.
        $( impl Bounded for $quantity {
            fn bounds(range: RangeInclusive<Self>) -> [(&'static str, Value); 2] {
                let (Self(least), Self(most)) = range.into_inner();
                [("minimum", $unit(least.into())), ("exclusiveMaximum", $unit(u64::from(most) + 1))]
            }
        } )*
    };
}
bounded! { u16 u32; Bytes in ones, MilliCpu in thousandths, Span in thousandths, }

fn ones(number: u64) -> Value {
    number.into()
}

fn thousandths(number: u64) -> Value {
    let text = format!("{}.{:03}", number / 1000, number % 1000);
    let plain = text.trim_end_matches('0').trim_end_matches('.');
    // Digits and a point always are a number.
    plain.parse().map_or(Value::Null, |number: Number| Value::Number(number))
}

/// Tells the schema of a number its bounds.
pub fn within<N: Bounded + Clone>(range: RangeInclusive<N>) -> impl FnMut(&mut Schema) {
    move |schema| N::bounds(range.clone()).into_iter().for_each(|(word, value)| drop(schema.insert(word.to_owned(), value)))
}

/// Adds words to a schema.
fn say(schema: &mut Schema, words: Value) {
    schema.ensure_object().extend(object(words));
}

/// Adds words to the schema of the elements (`items`) or entries (`additionalProperties`) of a list or map.
fn say_inside(schema: &mut Schema, part: &str, words: Value) {
    if let Some(inner) = schema.get_mut(part) {
        extend(inner, words);
    }
}

fn extend(schema: &mut Value, words: Value) {
    if let Value::Object(schema) = schema {
        schema.extend(object(words));
    }
}

fn object(words: Value) -> Map<String, Value> {
    if let Value::Object(words) = words { words } else { Map::new() }
}

/// Tells the schema of a map how its entries are named, and how many there may be.
fn say_names(schema: &mut Schema, names: Value) {
    schema.insert("propertyNames".to_owned(), names);
    say(schema, json!({"maxProperties": MAX_ENTRIES}));
}

fn variable() -> Value {
    json!({"pattern": format!("^[!-<>-~]{{1,{MAX_VARIABLE}}}$")})
}

fn plain_name() -> Value {
    json!({"pattern": format!("^{}$", plain_name_pattern())})
}

fn plain_name_pattern() -> String {
    format!("[A-Za-z0-9][A-Za-z0-9._-]{{0,{}}}", MAX_NAME - 1)
}

fn network_name() -> Value {
    json!({"pattern": plain_name()["pattern"], "not": {"enum": NETWORK_MODES}})
}

pub(super) fn port_number() -> Schema {
    let mut schema = json_schema!({"type": ["integer", "string"], "pattern": "^0*[1-9][0-9]*$", "maxLength": 5});
    within(PORTS)(&mut schema);
    schema
}

/// A list of words or one text.
pub(super) fn words() -> Schema {
    let mut word = json!({"type": ["string", "integer", "boolean"]});
    extend(&mut word, plain_text());
    json_schema!({
        "oneOf": [{"type": "string"}, {"type": "array", "items": word, "maxItems": MAX_ENTRIES}],
        "description": "A list of words, or one string that is split into words."
    })
}

/// A text without NUL characters.
fn plain_text() -> Value {
    json!({"maxLength": MAX_TEXT, "pattern": r"^[^\x00]*$"})
}

pub(super) fn image(schema: &mut Schema) {
    say(schema, json!({"pattern": "^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$", "maxLength": MAX_IMAGE}));
}

pub(super) fn some_words(schema: &mut Schema) {
    say(schema, json!({"minLength": 1, "minItems": 1}));
}

pub(super) fn working_dir(schema: &mut Schema) {
    say(schema, json!({"pattern": format!("^/([^/{CONTROL}]+(/[^/{CONTROL}]+)*)?$"), "maxLength": MAX_PATH - 1}));
}

pub(super) fn user(schema: &mut Schema) {
    say(schema, json!({"pattern": format!("^[A-Za-z0-9._:-]{{1,{MAX_USER}}}$")}));
}

pub(super) fn ports(schema: &mut Schema) {
    say_names(schema, json!({"pattern": "^[0-9]{1,5}(/tcp)?$", "not": {"pattern": "^0+(/tcp)?$"}}));
}

pub(super) fn environment(schema: &mut Schema) {
    say_names(schema, variable());
}

pub(super) fn secrets(schema: &mut Schema) {
    environment(schema);
    say_inside(schema, "additionalProperties", plain_name());
}

pub(super) fn labels(schema: &mut Schema) {
    let own = format!("^{}", OWN_LABELS.replace('.', r"\."));
    say_names(schema, json!({"pattern": variable()["pattern"], "not": {"pattern": own}}));
    say_inside(schema, "additionalProperties", plain_text());
}

pub(super) fn tmpfs(schema: &mut Schema) {
    say_names(schema, json!({"pattern": format!("^{}$", target("")), "maxLength": MAX_PATH}));
    let bounds = Bytes::bounds(super::rules::TMPFS).map(|(word, value)| (word.to_owned(), value));
    say_inside(schema, "additionalProperties", Value::Object(Map::from_iter(bounds)));
}

/// A path inside of the container on which something may be mounted, without the letters `but`.
fn target(but: &str) -> String {
    format!("(/[^/{but}{CONTROL}]+)+/?")
}

/// Volumes, in each of their forms.
pub(super) fn volumes() -> Schema {
    let mode = "(:(ro|rw))?";
    let host = format!(r"\.[^{CONTROL}]*|([^~{CONTROL}][^{CONTROL}]*)?/[^{CONTROL}]*");
    let source = json!({"type": "string", "pattern": format!("^({}|{host})$", plain_name_pattern()), "maxLength": MAX_PATH - 1});
    let path = json!({"type": "string", "pattern": format!("^{}$", target("")), "maxLength": MAX_PATH});
    let one_of = |names: &[&str]| json!({"oneOf": names.iter().map(|name| json!({"required": [name]})).collect::<Vec<_>>()});
    json_schema!({
        "oneOf": [
            {
                "type": "object", "propertyNames": {"pattern": source["pattern"], "maxLength": source["maxLength"]},
                "additionalProperties": {"type": "string", "pattern": format!("^{}{mode}$", target(":"))},
                "maxProperties": MAX_VOLUMES
            },
            {"type": "array", "maxItems": MAX_VOLUMES, "items": {"oneOf": [
                {"type": "string", "pattern": format!("^[^:]+:{}{mode}$", target(":"))},
                {
                    "type": "object", "additionalProperties": false, "properties": {
                        "host_path": source, "source": source, "name": source,
                        "container_path": path, "target": path, "read_only": {"type": ["boolean", "null"]}
                    },
                    "allOf": [one_of(&["host_path", "source", "name"]), one_of(&["container_path", "target"])]
                }
            ]}}
        ],
        "description": "A map of host path or volume name to container path, or a list of SOURCE:TARGET[:ro] or objects."
    })
}

pub(super) fn url_path(schema: &mut Schema) {
    say(schema, json!({"pattern": "^/[!-~]*$", "maxLength": MAX_URL_PATH}));
}

pub(super) fn network(schema: &mut Schema) {
    say(schema, network_name());
}

pub(super) fn networks(schema: &mut Schema) {
    say(schema, json!({"maxItems": MAX_ENTRIES}));
    say_inside(schema, "items", network_name());
}

/// The names as they should be written, and all other ways to write them that are read.
pub(super) fn capabilities(schema: &mut Schema) {
    let in_any_case = |text: &str| -> String {
        let letter = |letter: char| match letter {
            '_' => "_".to_owned(),
            letter => format!("[{letter}{}]", letter.to_ascii_lowercase()),
        };
        text.chars().map(letter).collect()
    };
    let names = ALLOWED_CAPABILITIES.map(in_any_case).join("|");
    let pattern = format!("^({})?({names})$", in_any_case("CAP_"));
    say(schema, json!({"maxItems": MAX_ENTRIES}));
    say_inside(schema, "items", json!({"anyOf": [{"enum": ALLOWED_CAPABILITIES}, {"pattern": pattern}]}));
}

pub(super) fn operator(schema: &mut Schema) {
    one_of(schema, &OPERATORS);
}

pub(super) fn effect(schema: &mut Schema) {
    one_of(schema, &EFFECTS);
}

/// One of these, or nothing.
fn one_of(schema: &mut Schema, values: &[&str]) {
    let values: Vec<Value> = values.iter().map(|value| Value::from(*value)).chain([Value::Null]).collect();
    say(schema, json!({"enum": values}));
}

pub(super) fn affinity(schema: &mut Schema) {
    say(schema, json!({"propertyNames": {"enum": AFFINITIES}}));
}

/// Names of environment variables.
pub(in crate::domain) fn variables(schema: &mut Schema) {
    say(schema, json!({"maxItems": MAX_ENTRIES}));
    say_inside(schema, "items", variable());
}

/// One line of at most so many bytes.
pub(in crate::domain) fn line(most: usize) -> impl FnMut(&mut Schema) {
    move |schema| say(schema, one_line(most))
}

/// Such lines, none of them empty.
pub(in crate::domain) fn lines(most: usize) -> impl FnMut(&mut Schema) {
    move |schema| {
        say(schema, json!({"maxItems": MAX_ENTRIES}));
        say_inside(schema, "items", one_line(most));
        say_inside(schema, "items", json!({"minLength": 1}));
    }
}

fn one_line(most: usize) -> Value {
    json!({"maxLength": most, "pattern": format!("^[^{CONTROL}]*$")})
}

/// Tells the schema of an object what it does not go without.
pub(super) fn requires(member: &'static str) -> impl FnMut(&mut Schema) {
    move |schema| say(schema, json!({"required": [member]}))
}

/// Adds words to a schema.
pub fn says(words: Value) -> impl FnMut(&mut Schema) {
    move |schema| say(schema, words.clone())
}

#[cfg(test)]
mod tests;

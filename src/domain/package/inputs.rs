//! Inputs of `server.json`: values that publishers fix or propose for arguments, variables and addresses, with the variables
//! in them. What they are for, `server_json` knows.

use serde_json::Value;

/// What a document says of an input. Both spellings of its fields are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input<'v> {
    /// Its value; nothing where the document has none for it, or for a variable in it.
    pub value: Option<String>,
    /// The value as it is written.
    pub pattern: Option<&'v str>,
    /// Variables in it that have no value.
    pub lacks: Vec<String>,
    /// It, or a variable of it, is a secret.
    pub secret: bool,
    /// It, or a variable that it lacks, has to be given.
    pub required: bool,
}

/// What is known of a name in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: it is no variable.
    Nothing,
    /// That it is a variable, and no value of it.
    Name,
    /// Its value.
    Value(String),
}

impl Known {
    /// A variable that has this value, if any.
    pub(super) fn variable(value: Option<String>) -> Self {
        value.map_or(Self::Name, Self::Value)
    }
}

/// Reads an input.
pub(super) fn input(input: &Value) -> Input<'_> {
    let variables = input["variables"].as_object();
    let pattern = own(input);
    let (value, lacks) = match pattern {
        Some(pattern) => substituted(pattern, |name| {
            let variable = variables.and_then(|variables| variables.get(name));
            variable.map_or(Known::Nothing, |variable| Known::variable(own(variable).map(str::to_owned)))
        }),
        None => (String::new(), Vec::new()),
    };
    let is_secret = |input: &Value| says(input, ["isSecret", "is_secret"]);
    let is_required = |input: &Value| says(input, ["isRequired", "is_required"]);
    let of = |name: &String| variables.and_then(|variables| variables.get(name));
    Input {
        secret: is_secret(input) || variables.is_some_and(|variables| variables.values().any(is_secret)),
        required: is_required(input) || lacks.iter().filter_map(of).any(is_required),
        value: pattern.filter(|_| lacks.is_empty()).map(|_| value),
        pattern,
        lacks,
    }
}

fn says(input: &Value, names: [&str; 2]) -> bool {
    names.iter().any(|name| input[*name] == true)
}

fn own(input: &Value) -> Option<&str> {
    input["value"].as_str().or_else(|| input["default"].as_str())
}

/// A text with its `{name}` replaced by what `of` says, and the names for which it has no value. A name that `of` does not
/// know stays as it is, braces and all, as the format wants it; what was put in is not looked at again.
pub(super) fn substituted(text: &str, of: impl Fn(&str) -> Known) -> (String, Vec<String>) {
    let (mut done, mut lacks) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        done.push_str(before);
        let named = after.split_once('}').map(|(name, after)| (name, of(name), after));
        rest = match named {
            Some((_, Known::Value(value), after)) => {
                done.push_str(&value);
                after
            }
            Some((name, Known::Name, after)) => {
                lacks.push(name.to_owned());
                after
            }
            Some((_, Known::Nothing, _)) | None => {
                done.push('{');
                after
            }
        };
    }
    (done + rest, lacks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_get_their_values_and_what_is_none_stays() {
        let said =
            json!({"value": "{{a} {b}{c} {", "variables": {"a": {"value": "{b}"}, "b": {"default": "2", "is_required": true}}});
        let read = input(&said);
        assert_eq!(read.value.as_deref(), Some("{{b} 2{c} {"));
        assert!(!read.required && !read.secret && read.lacks.is_empty());
    }

    #[test]
    fn an_input_is_as_secret_and_as_needed_as_its_variables() {
        for (said, secret, required, lacks) in [
            (json!({"value": "Bearer {t}", "variables": {"t": {"isSecret": true, "isRequired": true}}}), true, true, &["t"][..]),
            (json!({"value": "{place}", "variables": {"place": {}}}), false, false, &["place"]),
            (json!({"isRequired": true, "is_secret": true}), true, true, &[]),
        ] {
            let read = input(&said);
            assert_eq!((read.value, read.secret, read.required), (None, secret, required), "{said}");
            assert_eq!(read.lacks, lacks, "{said}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_variables_stays_as_it_is(text in "[a{}]{0,12}|\\PC*") {
            prop_assert_eq!(substituted(&text, |_| Known::Nothing), (text, Vec::new()));
        }

        #[test]
        fn whatever_is_put_in_stands_there_as_it_is(value in "[a{}]{0,8}") {
            let of = |name: &str| if name == "a" { Known::Value(value.clone()) } else { Known::Nothing };
            prop_assert_eq!(substituted("x{a}y{a}", of).0, format!("x{value}y{value}"));
        }
    }
}

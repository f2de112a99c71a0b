//! The error of [`super::reader`]: what is wrong in words for people, and where the reader stood.

use std::fmt;

use serde::de::{self, Expected, Unexpected};
use serde_json::map;

use crate::domain::{nearest, shown};
use crate::error::FieldError;

/// One thing that cannot be read.
#[derive(Debug)]
pub(super) struct Wrong<'a>(Box<Inner<'a>>);

#[derive(Debug)]
struct Inner<'a> {
    message: String,
    remedy: Option<String>,
    trail: Vec<Stop<'a>>,
    partial: bool,
}

/// One step of the way to what is wrong, and where to go on after it.
#[derive(Debug, Clone)]
pub(super) struct Stop<'a> {
    pub(super) step: Step<'a>,
    pub(super) rest: Rest<'a>,
}

/// One step into a document.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// What of an object or a list is still to be read: from what went wrong on if that was inside of it, else from behind.
#[derive(Debug, Clone)]
pub(super) enum Rest<'a> {
    Object(map::Iter<'a>),
    List { next: usize },
}

impl<'a> Wrong<'a> {
    fn new(message: impl Into<String>, remedy: Option<String>) -> Self {
        Self(Box::new(Inner { message: message.into(), remedy, trail: Vec::new(), partial: false }))
    }

    /// Adds the step that leads to it from the outside. The way is told backwards, from where it went wrong.
    pub(super) fn at(mut self, step: Step<'a>, rest: Rest<'a>) -> Self {
        self.0.trail.push(Stop { step, rest });
        self
    }

    /// Whether it was found inside of what `at` was told so far.
    pub(super) fn is_inside(&self) -> bool {
        !self.0.trail.is_empty()
    }

    /// Marks it as found in something that was not read from its beginning, so that it may not be true.
    pub(super) fn doubtful(mut self) -> Self {
        self.0.partial = true;
        self
    }

    /// The error for people, unless it is doubtful, and the way to it from the outside.
    pub(super) fn told(self) -> (Option<FieldError>, Vec<Stop<'a>>) {
        let Inner { message, remedy, mut trail, partial } = *self.0;
        trail.reverse();
        let mut field = String::new();
        for Stop { step, .. } in &trail {
            match step {
                Step::Key(key) => super::push_key(&mut field, key),
                Step::Index(index) => super::push_index(&mut field, *index),
            }
        }
        ((!partial).then_some(FieldError { field, message, remedy, line: None }), trail)
    }
}

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl std::error::Error for Wrong<'_> {}

impl de::Error for Wrong<'_> {
    /// Messages of our own types end in `; ` and the remedy.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        match text.rsplit_once("; ") {
            Some((message, remedy)) => Self::new(message, Some(remedy.to_owned())),
            None => Self::new(text, Some("see the documentation of this field".to_owned())),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("is {}", in_words(found)), Some(format!("write {}", expected_in_words(expected))))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("has {length} elements"), Some(format!("write {}", expected_in_words(expected))))
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        let remedy = match nearest(variant, known.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("use one of {}", known.join(", ")),
        };
        Self::new(format!("'{}' is not known", shown(variant)), Some(remedy))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let FieldError { message, remedy, .. } = super::unknown_field(field, known.iter().copied());
        Self::new(message, remedy)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("'{field}' is missing"), Some(format!("add '{field}'")))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("'{field}' is given twice, perhaps under another of its names"), Some("keep one".to_owned()))
    }
}

fn in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("{value}"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) => format!("the text \"{}\"", shown(text)),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        other => other.to_string(),
    }
}

/// What a type expects, with the names of Rust's types put into words.
fn expected_in_words(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    let words = match text.as_str() {
        // The only numbers of this type are ports.
        "u16" => "a whole number from 1 to 65535",
        // Those with bounds of their own say so themselves.
        "u32" | "u64" | "usize" => "a whole number",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list",
        "a map" => "an object",
        text if text.starts_with("struct ") => "an object",
        text if text.starts_with("enum ") || text == "variant identifier" => "one of the known words",
        other => other,
    };
    words.to_owned()
}

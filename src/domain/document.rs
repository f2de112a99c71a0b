//! JSON as people write it into files: syntax errors with their line, names given twice, and the line of each field.
//!
//! `serde_json` reads the document; its values know no lines and let the last of two equal names win. So the text is
//! walked a second time, when it is known to be right.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::fields::{MAX_ERRORS, push_index, push_key};
use crate::error::FieldError;

/// A document and the text it was written as.
#[derive(Debug)]
pub struct Document<'t> {
    /// What it says; of a name that is given twice, the last.
    pub value: Value,
    /// The names that are given twice.
    pub twice: Vec<FieldError>,
    text: &'t str,
}

impl<'t> Document<'t> {
    /// Reads a document that gives no name twice. The errors have lines; they are either one of syntax, or all the names
    /// that are given twice.
    pub fn parse(bytes: &'t [u8]) -> Result<Self, Vec<FieldError>> {
        let document = Self::read(bytes)?;
        if document.twice.is_empty() { Ok(document) } else { Err(document.twice) }
    }

    /// Reads a document; names that are given twice are told beside what it says. An error is one of syntax.
    pub fn read(bytes: &'t [u8]) -> Result<Self, Vec<FieldError>> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
            let error = FieldError::new("", "is not UTF-8 text here", "save it as UTF-8");
            vec![FieldError { line: Some(line), ..error }]
        })?;
        // Some editors begin a file with a mark that JSON does not know.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let value = serde_json::from_str(text).map_err(|error| vec![syntax_error(text, &error)])?;
        let mut walk = Walk::new(text, BTreeMap::new());
        walk.value(true);
        Ok(Self { value, twice: super::fields::bounded(walk.twice), text })
    }

    /// The errors with the line of the field they speak of, or of the nearest thing around it.
    #[must_use]
    pub fn with_lines(&self, mut errors: Vec<FieldError>) -> Vec<FieldError> {
        let around = errors.iter().flat_map(|error| paths_around(&error.field));
        let mut walk = Walk::new(self.text, around.map(|path| (path.to_owned(), None)).collect());
        walk.value(true);
        for error in errors.iter_mut().filter(|error| error.line.is_none()) {
            error.line = paths_around(&error.field).find_map(|path| walk.wanted.get(path).copied().flatten());
        }
        errors
    }
}

/// `a.b[0]`, `a.b`, `a` and the empty path of the whole.
fn paths_around(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| (!path.is_empty()).then(|| &path[..path.rfind(['.', '[']).unwrap_or(0)]))
}

fn syntax_error(text: &str, error: &serde_json::Error) -> FieldError {
    if text.trim().is_empty() {
        return FieldError { line: Some(1), ..FieldError::new("", "is empty", "write a JSON object") };
    }
    let whole = error.to_string();
    let message = whole.split(" at line ").next().unwrap_or(&whole);
    let (message, remedy) = match message {
        "recursion limit exceeded" => ("is nested more than 127 levels deep".to_owned(), "write it flatter"),
        "trailing comma" => (format!("has a comma too many at column {}", error.column()), "remove the last comma"),
        "number out of range" => (format!("has a number that is too large at column {}", error.column()), "write a smaller one"),
        message if error.is_eof() => {
            let inside = message.trim_start_matches("EOF while parsing ");
            (format!("ends too early, inside {inside}"), "close what was opened")
        }
        message => (format!("is not JSON at column {}: {message}", error.column()), "correct it there"),
    };
    FieldError { line: Some(error.line()), ..FieldError::new("", message, remedy) }
}

/// One walk over text that is known to be JSON, so that nothing has to be checked; its depth is bounded by the parser.
struct Walk<'t> {
    text: &'t str,
    at: usize,
    line: usize,
    path: String,
    /// The paths whose lines are wanted, with everything around them, and the lines found.
    wanted: BTreeMap<String, Option<usize>>,
    twice: Vec<FieldError>,
}

impl<'t> Walk<'t> {
    fn new(text: &'t str, wanted: BTreeMap<String, Option<usize>>) -> Self {
        Self { text, at: 0, line: 1, path: String::new(), wanted, twice: Vec::new() }
    }

    /// The next character that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                other => return Some(*other),
            }
            self.at += 1;
        }
        None
    }

    /// Walks over a value. `near` is whether a wanted path leads here; then its line is kept.
    fn value(&mut self, near: bool) {
        let first = self.peek();
        let near = near && self.note(self.line);
        match first {
            Some(b'{') => self.object(near),
            Some(b'[') => self.list(near),
            Some(b'"') => drop(self.string()),
            _ => {
                let rest = &self.text[self.at..];
                self.at += rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(rest.len());
            }
        }
    }

    /// Keeps the line of the present path when it is wanted.
    fn note(&mut self, line: usize) -> bool {
        let found = self.wanted.get_mut(&self.path);
        found.is_some_and(|wanted| {
            wanted.get_or_insert(line);
            true
        })
    }

    fn object(&mut self, near: bool) {
        let mut names: HashMap<Cow<'t, str>, usize> = HashMap::new();
        self.at += 1;
        while self.peek() != Some(b'}') && self.at < self.text.len() {
            let line = self.line;
            let name = self.string();
            let length = self.path.len();
            push_key(&mut self.path, &name);
            if near {
                self.note(line);
            }
            if let Some(before) = names.get(&name) {
                if self.twice.len() <= MAX_ERRORS {
                    let message = format!("is given twice, first in line {before}");
                    let error = FieldError::new(self.path.clone(), message, "keep one of them");
                    self.twice.push(FieldError { line: Some(line), ..error });
                }
            } else {
                names.insert(name, line);
            }
            self.peek();
            self.at += 1;
            self.value(near);
            self.path.truncate(length);
            if self.peek() == Some(b',') {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn list(&mut self, near: bool) {
        self.at += 1;
        let mut index = 0;
        while self.peek() != Some(b']') && self.at < self.text.len() {
            let length = self.path.len();
            push_index(&mut self.path, index);
            self.value(near);
            self.path.truncate(length);
            index += 1;
            if self.peek() == Some(b',') {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    /// Walks over a string and gives what it says.
    fn string(&mut self) -> Cow<'t, str> {
        let start = self.at;
        let mut escaped = false;
        for (offset, byte) in self.text.as_bytes()[start + 1..].iter().enumerate() {
            match byte {
                b'"' if !escaped => {
                    self.at = start + offset + 2;
                    break;
                }
                b'\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        let quoted = &self.text[start..self.at];
        let plain = &quoted[1..quoted.len().max(2) - 1];
        if !plain.contains('\\') {
            return Cow::Borrowed(plain);
        }
        serde_json::from_str(quoted).map_or(Cow::Borrowed(plain), Cow::Owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(errors: &[FieldError]) -> String {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_syntax_error_has_its_line_and_column() {
        let said = |text: &str| told(&Document::parse(text.as_bytes()).unwrap_err());
        insta::assert_snapshot!(
            ["", "{\n  \"a\": 1,\n}", "{\n  \"a\" 1}", "[1e999]", "{\"a\": [", "nil", &"[".repeat(200)].map(said).join("\n")
        );
        assert!(told(&Document::parse(b"{\n\"a\": \"\xff\"}").unwrap_err()).starts_with("line 2: is not UTF-8"));
    }

    #[test]
    fn names_given_twice_are_found_at_any_depth_and_in_any_spelling() {
        let text = "{\"a\": {\"x\": 1,\n \"\\u0078\": 2}, \"l\": [1, {\"b\": 1,\n\n\"b\": \"}\\\"{\"}],\n \"a\": 3}";
        insta::assert_snapshot!(told(&Document::parse(text.as_bytes()).unwrap_err()));
    }

    #[test]
    fn errors_get_the_line_of_their_field_or_of_what_is_around_it() {
        let text = "\u{feff}{\n \"a\": {\n  \"b\": [1,\n   {\"c\": 2}]},\n \"k.e\": 1\n}";
        let document = Document::parse(text.as_bytes()).unwrap();
        let errors = ["a", "a.b", "a.b[1].c", "a.b[1].missing", "a.b[7]", "k.e", "missing", ""];
        let errors = errors.map(|field| FieldError::new(field, "m", "r")).to_vec();
        let lines: Vec<_> = document.with_lines(errors).into_iter().map(|error| error.line.unwrap()).collect();
        assert_eq!(lines, [2, 3, 4, 4, 3, 5, 1, 1]);
    }

    #[test]
    fn a_byte_order_mark_is_no_error() {
        assert_eq!(Document::parse("\u{feff}{}".as_bytes()).unwrap().value, serde_json::json!({}));
    }

    proptest! {
        #[test]
        fn every_path_of_a_document_is_found_in_its_text(value in crate::domain::samples::any_json()) {
            fn paths(value: &Value, path: &str, name: Option<&str>, all: &mut Vec<(String, Option<String>)>) {
                all.push((path.to_owned(), name.map(|name| Value::from(name).to_string())));
                let mut step = |name: Option<&str>, value: &Value, add: &dyn Fn(&mut String)| {
                    let mut path = path.to_owned();
                    add(&mut path);
                    paths(value, &path, name, all);
                };
                match value {
                    Value::Object(object) => {
                        object.iter().for_each(|(key, value)| step(Some(key), value, &|path| push_key(path, key)));
                    }
                    Value::Array(list) => {
                        list.iter().enumerate().for_each(|(index, value)| step(None, value, &|path| push_index(path, index)));
                    }
                    _ => {}
                }
            }
            // Pretty printing gives each member a line of its own.
            let text = serde_json::to_string_pretty(&value).unwrap();
            let document = Document::parse(text.as_bytes()).unwrap();
            let mut all = Vec::new();
            paths(&value, "", None, &mut all);
            let errors = all.iter().map(|(path, _)| FieldError::new(path, "m", "r")).collect();
            for (error, (path, name)) in document.with_lines(errors).iter().zip(&all) {
                let line = text.lines().nth(error.line.unwrap() - 1).unwrap();
                // A name with a dot may look like two; such a path has the line of the first.
                let is_clear = all.iter().filter(|(other, _)| other == path).count() == 1;
                if let Some(name) = name.as_ref().filter(|_| is_clear) {
                    prop_assert!(line.trim_start().starts_with(name), "{} in {line}", path);
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\",:0-9a\\\\ \n]{0,60}") {
            let _ = (Document::parse(&bytes).is_ok(), Document::parse(text.as_bytes()).is_ok());
        }
    }
}

//! The TOML file of settings: read with the line of every value, unknown names refused with the nearest known one.

use std::collections::BTreeMap;
use std::path::Path;

use figment::value::{Dict, Empty, Tag, Value};
use toml::de::{DeTable, DeValue};

use super::section::Setting;
use crate::domain::fields::unknown_field;
use crate::error::FieldError;

/// What a file says.
#[derive(Debug, Default)]
pub struct File {
    /// Its known settings, by section.
    pub values: Dict,
    /// The line of each setting, by `section.field`.
    pub lines: BTreeMap<String, usize>,
    /// What is wrong with it.
    pub errors: Vec<FieldError>,
}

impl File {
    /// Reads the file at `path`; everything wrong with it is in `errors`, and the rest is read all the same.
    #[must_use]
    pub fn read(path: &Path, settings: &[Setting]) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path, settings),
            Err(error) => {
                let remedy = "check --config and MCP_MANAGER_CONFIG, or its permissions";
                let error = FieldError::new("", format!("{} cannot be read: {error}", path.display()), remedy);
                Self { errors: vec![error], ..Self::default() }
            }
        }
    }

    pub(super) fn parse(text: &str, path: &Path, settings: &[Setting]) -> Self {
        let mut file = Self::default();
        let line_of = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        let (table, syntax_errors) = DeTable::parse_recoverable(text);
        for error in syntax_errors {
            let line = error.span().map(|span| line_of(span.start));
            let message = format!("{} in {}", error.message(), path.display());
            file.errors.push(FieldError { line, ..FieldError::new("", message, "the file must be TOML") });
        }
        if !file.errors.is_empty() {
            // What the parser made of a broken file would only give errors that are none.
            return file;
        }
        for (section, content) in table.get_ref() {
            let name: &str = section.get_ref();
            let line = line_of(section.span().start);
            let known: Vec<&Setting> = settings.iter().filter(|setting| setting.section == name).collect();
            let place = |error: FieldError, line: usize| {
                let message = format!("{} in {}", error.message, path.display());
                FieldError { message, line: Some(line), ..error }
            };
            if known.is_empty() {
                file.errors.push(place(unknown_section(name, settings), line));
                continue;
            }
            let DeValue::Table(fields) = content.get_ref() else {
                file.errors.push(place(FieldError::new(name, "is not a table", format!("write [{name}]")), line));
                continue;
            };
            let mut values = Dict::new();
            for (field, content) in fields {
                let (field, line): (&str, _) = (field.get_ref(), line_of(field.span().start));
                if known.iter().any(|setting| setting.field == field) {
                    values.insert(field.to_owned(), value(content.get_ref()));
                    file.lines.insert(format!("{name}.{field}"), line);
                } else {
                    let error = unknown_field(field, known.iter().map(|setting| setting.field));
                    let path = format!("{name}.{}", error.field);
                    file.errors.push(place(FieldError { field: path, ..error }, line));
                }
            }
            file.values.insert(name.to_owned(), Value::from(values));
        }
        file
    }
}

/// The error for a name at the top of the file that is no section; a setting's name there is the likeliest slip.
fn unknown_section(name: &str, settings: &[Setting]) -> FieldError {
    let shown = name.escape_debug().to_string();
    if let Some(setting) = settings.iter().find(|setting| setting.field == name || setting.bare_variables.contains(&name)) {
        let remedy = format!("write '{}' below [{}]", setting.field, setting.section);
        return FieldError::new(shown, "stands outside its section", remedy);
    }
    let mut sections: Vec<&str> = settings.iter().map(|setting| setting.section).collect();
    sections.dedup();
    FieldError { message: "unknown section".to_owned(), ..unknown_field(name, sections.iter().copied()) }
}

/// A TOML value as a value of the layers.
fn value(toml: &DeValue<'_>) -> Value {
    match toml {
        DeValue::String(text) => Value::from(text.as_ref()),
        // Numbers keep their spelling: settings read them as text, which keeps 0.10 and 1_000 apart from rounding.
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| Value::from(number.as_str()), Value::from)
        }
        DeValue::Float(number) => Value::from(number.as_str()),
        DeValue::Boolean(truth) => Value::from(*truth),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(parts) => Value::Array(Tag::Default, parts.iter().map(|part| value(part.get_ref())).collect()),
        DeValue::Table(table) if table.is_empty() => Value::Empty(Tag::Default, Empty::None),
        DeValue::Table(table) => {
            Value::from(table.iter().map(|(key, part)| (key.get_ref().to_string(), value(part.get_ref()))).collect::<Dict>())
        }
    }
}

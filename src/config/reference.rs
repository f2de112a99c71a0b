//! The settings as a document: the tables of docs/configuration.md.

use std::fmt::Write as _;

use super::section::Setting;
use super::{settings, variables};

/// The tables of all settings, in Markdown, one a section.
#[must_use]
pub fn markdown() -> String {
    let settings = settings();
    let mut text = String::new();
    let mut section = "";
    for setting in &settings {
        if setting.section != section {
            section = setting.section;
            // Writing to a String cannot fail; the result is dropped for that reason, here and below.
            let _ = write!(text, "\n### `[{section}]`\n\n| name | variables | default | meaning |\n|---|---|---|---|\n");
        }
        let mut names: Vec<String> = setting.bare_variables.iter().map(|name| format!("`{name}`")).collect();
        names.extend(variables::names(setting, &settings).last().map(|name| format!("`{name}`")));
        let _ = writeln!(text, "| `{}` | {} | {} | {} |", setting.field, names.join(", "), default(setting), setting.meaning);
    }
    text.trim_start().to_owned()
}

fn default(setting: &Setting) -> String {
    match &setting.default {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) if text.is_empty() => "-".to_owned(),
        serde_json::Value::String(text) => format!("`{text}`"),
        serde_json::Value::Array(list) if list.is_empty() => "none".to_owned(),
        value => format!("`{value}`"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_of_the_settings_says_what_the_code_says() {
        let document = include_str!("../../docs/configuration.md");
        let (_, written) = document.split_once("<!-- From here on: mcp-manager config reference -->\n\n").unwrap();
        assert_eq!(written, super::markdown(), "write it again with: mcp-manager config reference");
    }
}

//! The tables of `docs/tools.md`, from the table of tools.

use std::fmt::Write as _;

use super::{TOOLS, compat};

/// The part of the document from its mark on.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "## Tools\n\n| tool | what it does | arguments | effect | least role | the same as |\n|---|---|---|---|---|---|\n",
    );
    for tool in TOOLS {
        let input = tool.input_schema();
        let names = input.get("properties").and_then(|properties| properties.as_object());
        let required = |name: &str| {
            input.get("required").and_then(|list| list.as_array()).is_some_and(|list| list.iter().any(|one| one == name))
        };
        let names: Vec<String> = names
            .into_iter()
            .flatten()
            .map(|(name, _)| if required(name) { format!("**`{name}`**") } else { format!("`{name}`") })
            .collect();
        // Those that describe a whole container have their arguments in another document.
        let arguments = match names.len() {
            0 => "none".to_owned(),
            1..=20 => names.join(", "),
            _ => {
                let wait = if names.iter().any(|name| name == "`wait`") { ", `wait`" } else { "" };
                format!("`service_name`, `template`{wait}, and the [fields of templates](templates.md#how-to-run-it)")
            }
        };
        let effect = match (tool.effect.reads_only(), tool.effect.is_destructive(), tool.effect.is_idempotent()) {
            (true, ..) => "reads",
            (_, false, true) => "adds, idempotent",
            (_, false, false) => "adds",
            (_, true, true) => "destructive, idempotent",
            (_, true, false) => "destructive",
        };
        let role = format!("{:?}", tool.operation.least_role()).to_lowercase();
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "| `{}` | {} | {arguments} | {effect} | {role} | `{}` |", tool.name, tool.description, tool.endpoint);
    }
    text.push_str("\n## Old names\n\n| old name | specification | tool | its arguments become |\n|---|---|---|---|\n");
    for alias in compat::ALIASES {
        let words = alias.words();
        let words = if words.is_empty() { "none".to_owned() } else { words.join(", ") };
        let _ = writeln!(text, "| `{}` | {} | `{}` | {words} |", alias.name, alias.source, alias.tool);
    }
    text
}

//! The command line as a document: docs/cli.md, from the same texts as `--help`.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use super::arguments::CommandLine;

/// Width of help texts in the document, whatever terminal made it.
const WIDTH: usize = 100;

/// The help of every command, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut root = CommandLine::command().term_width(WIDTH).color(clap::ColorChoice::Never);
    root.build();
    let mut text = String::new();
    section(&mut text, &mut root, "mcp-manager");
    text.trim_start().to_owned()
}

fn section(text: &mut String, command: &mut Command, path: &str) {
    // Common options and exit codes stand at the top, once.
    let top = path == "mcp-manager";
    let help = command.render_long_help().to_string();
    let help = if top { help.as_str() } else { help.split("\nCommon options:").next().unwrap_or(&help) };
    // Writing to a String cannot fail.
    let _ = write!(text, "\n## `{path}`\n\n```text\n");
    let mut lines = help.trim_end().lines();
    let _ = lines.try_for_each(|line| writeln!(text, "{}", line.trim_end()));
    text.push_str("```\n");
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
    let names: Vec<String> = shown.map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        if let Some(sub) = command.find_subcommand_mut(&name) {
            section(text, sub, &format!("{path} {name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_of_the_command_line_says_what_the_help_says() {
        let document = include_str!("../../docs/cli.md");
        let (_, written) = document.split_once("<!-- From here on: mcp-manager reference -->\n\n").unwrap();
        assert_eq!(written, super::markdown(), "write it again with: mcp-manager reference");
    }
}

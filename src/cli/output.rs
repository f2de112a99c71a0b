//! Where results go: tables and sentences for people, JSON for programs; notes and progress on standard error.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, Width};
use serde::Serialize;

use super::arguments::{Common, OutputFormat};
use super::exit::Outcome;
use crate::domain::status::Phase;

/// How results are written.
#[derive(Debug)]
pub struct Output {
    /// Results are JSON.
    pub json: bool,
    /// Nothing but results and errors.
    pub quiet: bool,
    /// The user said `--json`: so are errors, and what is text by default.
    pub explicit_json: bool,
    colour: anstream::ColorChoice,
}

impl Output {
    /// As the options and the terminal say.
    pub fn new(common: &Common) -> Self {
        let stdout = std::io::stdout();
        let json = match common.output {
            _ if common.json => true,
            // Who asks for less wants names, wherever they go.
            OutputFormat::Auto => !stdout.is_terminal() && !common.quiet,
            OutputFormat::Table => false,
            OutputFormat::Json => true,
        };
        // anstream knows NO_COLOR, CLICOLOR and what the terminal can do.
        let colour = anstream::AutoStream::choice(&stdout);
        Self { json, quiet: common.quiet, explicit_json: common.json, colour }
    }

    /// Whether somebody watches who wants to see progress.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// Writes lines of text, without what would do something to a terminal.
    pub fn text(&self, text: &str) -> Outcome {
        self.coloured(&harmless(text))
    }

    /// Writes what somebody else wrote: as it came, but on a terminal.
    pub fn content(&self, text: &str) -> Outcome {
        if std::io::stdout().is_terminal() { self.text(&text.replace("\r\n", "\n")) } else { self.coloured(text) }
    }

    /// Writes lines of text that have colours of our own and nothing of anybody else's but what is [`harmless`].
    pub fn coloured(&self, text: &str) -> Outcome {
        let mut stdout = anstream::AutoStream::new(std::io::stdout(), self.colour);
        writeln!(stdout, "{}", text.trim_end_matches('\n'))?;
        Ok(stdout.flush()?)
    }

    /// Writes a document.
    pub fn document<T: Serialize>(&self, value: &T) -> Outcome {
        self.coloured(&escaped(&serde_json::to_string_pretty(value).unwrap_or_default()))
    }

    /// Writes one line of a stream of documents.
    pub fn line<T: Serialize>(&self, value: &T) -> Outcome {
        self.coloured(&escaped(&serde_json::to_string(value).unwrap_or_default()))
    }

    /// Says something beside the result, on standard error. Nobody needs it, so nobody hears when it cannot be written.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{}", harmless(text));
        }
    }

    /// Writes a table; empty columns are left out.
    pub fn table(&self, header: &[&str], rows: Vec<Vec<Value>>) -> Outcome {
        let used: Vec<usize> =
            (0..header.len()).filter(|column| rows.iter().any(|row| !row[*column].text.is_empty()) || *column == 0).collect();
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if self.colour == anstream::ColorChoice::Never {
            table.force_no_tty();
        } else {
            table.enforce_styling();
        }
        table.set_header(used.iter().map(|column| Cell::new(header[*column])));
        for row in rows {
            table.add_row(used.iter().map(|column| row[*column].cell()));
        }
        wrap_last_column(&mut table);
        // Programs that cut columns expect no padding at the edges.
        let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
        self.coloured(&lines.join("\n"))
    }

    /// Writes pairs of name and value; pairs without a value are left out.
    pub fn pairs(&self, pairs: &[(&str, String)]) -> Outcome {
        use owo_colors::OwoColorize as _;
        let width = pairs.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            let name = format!("{name:width$}");
            let indented = harmless(value).replace('\n', &format!("\n{:width$}  ", ""));
            self.coloured(&format!("{}  {indented}", name.bold()))?;
        }
        Ok(())
    }
}

/// Fewer columns than this are not worth wrapping a text into.
const NARROW: u16 = 24;

/// Names and addresses are never broken, for they are copied; on a terminal with room for it, the last column, which holds
/// sentences, is wrapped into what is left.
fn wrap_last_column(table: &mut Table) {
    let Some(terminal) = table.width().filter(|_| std::io::stdout().is_terminal()) else { return };
    let widths = table.column_max_content_widths();
    // Two spaces stand between columns.
    let others: u16 = widths.iter().rev().skip(1).map(|width| width + 2).sum();
    let room = terminal.saturating_sub(others + 2);
    if let Some(column) = widths.len().checked_sub(1).filter(|_| room >= NARROW).and_then(|last| table.column_mut(last)) {
        column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(room)));
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
}

/// Text without the control characters that a service, an image or a registry may have put into it: they would move the
/// cursor of a terminal, change its colours or worse.
pub fn harmless(text: &str) -> String {
    let harmless = |letter: char| !letter.is_control() || matches!(letter, '\n' | '\t');
    text.chars().map(|letter| if harmless(letter) { letter } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// A value as one line, with its control characters written out.
pub fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, letter| {
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
        line
    })
}

/// JSON with those control characters escaped, too, that JSON lets stand.
pub fn escaped(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut text, letter| {
        if letter.is_control() && letter != '\n' {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\u{:04x}", u32::from(letter));
        } else {
            text.push(letter);
        }
        text
    })
}

/// `1 warning`, `2 warnings`.
pub fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A value in a table.
#[derive(Debug, Clone, Default)]
pub struct Value {
    text: String,
    colour: Option<Color>,
}

impl Value {
    /// In the terminal's own colour.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), colour: None }
    }

    /// Green when it is good, red when it is bad, yellow between.
    pub fn judged(text: impl Into<String>, judgement: Judgement) -> Self {
        let colour = match judgement {
            Judgement::Good => Color::Green,
            Judgement::Doubtful => Color::Yellow,
            Judgement::Bad => Color::Red,
        };
        Self { text: text.into(), colour: Some(colour) }
    }

    /// The name of a phase in its colour.
    pub fn phase(phase: Phase) -> Self {
        let judgement = match phase {
            Phase::Running => Judgement::Good,
            Phase::Unhealthy | Phase::CrashLoop | Phase::Exited | Phase::Failed => Judgement::Bad,
            Phase::Stopped => return Self::plain(phase.as_str()),
            _ => Judgement::Doubtful,
        };
        Self::judged(phase.as_str(), judgement)
    }

    fn cell(&self) -> Cell {
        let text = harmless(&self.text).replace('\t', " ");
        match self.colour {
            Some(colour) => Cell::new(text).fg(colour),
            None => Cell::new(text),
        }
    }
}

/// How good a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    Good,
    Doubtful,
    Bad,
}

/// How long ago, in the greatest whole unit: `5s`, `3m`, `2h`, `9d`.
pub fn age(since: jiff::Timestamp) -> String {
    let seconds = jiff::Timestamp::now().duration_since(since).as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_service_says_does_anything_to_a_terminal() {
        let said = "a\u{7}b\u{1b}[31mc\u{9b}2Jd\re\u{7f}";
        assert_eq!(harmless(said), "a\u{fffd}b\u{fffd}[31mc\u{fffd}2Jd\u{fffd}e\u{fffd}");
        assert_eq!(harmless("two\n\tlines ä"), "two\n\tlines ä");
        assert_eq!(one_line("two\nlines\u{1b} \\ ä"), "two\\nlines\\u{1b} \\ ä");
        let json = escaped(&serde_json::to_string_pretty(&serde_json::json!({"said": said})).unwrap());
        assert!(!json.contains(|letter: char| letter.is_control() && letter != '\n'), "{json:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["said"], said);
    }
}

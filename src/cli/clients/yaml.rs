//! Entries in YAML files: whole lines, put in after the last entry of the section and taken out again. The parser gives the
//! positions; the text is edited, so that everything else stays as somebody wrote it.

mod tree;

use super::format::{Read, Refusal, Section, Shape, indent_at, line_end};
use super::json::inline;
use super::node::Node;
use tree::{Content, Item, parse};

/// All that the text says.
pub fn whole(text: &str) -> Read<Node> {
    match parse(text)? {
        None => Ok(Node::Map(Vec::new())),
        Some(root) => match root.node() {
            Node::Null => Ok(Node::Map(Vec::new())),
            map @ Node::Map(_) => Ok(map),
            _ => Err(Refusal::at(text, root.start, "is no YAML map")),
        },
    }
}

/// Adds an entry at the end of the section.
pub fn insert(text: &str, section: Section, name: &str, entry: &Node) -> Read<String> {
    let end = line_end(text);
    let root = parse(text)?.filter(|root| root.node() != Node::Null);
    if root.as_ref().is_some_and(|root| root.flow) {
        return Err(Refusal::at(text, 0, "writes its map in braces, which is not edited here; write it in lines"));
    }
    let outer = root.as_ref().map(|root| indent_at(text, root.start)).unwrap_or_default();
    let unit = root.as_ref().map_or(2, |root| unit(text, root));
    let Some((key, value)) = root.as_ref().and_then(|root| root.pair(section.key)) else {
        let mut written = with_line_end(text, text.len(), end);
        written.push_str(&[outer, &scalar(section.key), ":", end].concat());
        written.push_str(&lines(section, name, entry, &format!("{outer}{}", " ".repeat(unit)), end));
        return Ok(written);
    };
    if value.flow && value.start + 2 < value.end && !value.is_empty() {
        let close = value.end - 1;
        let body = text[value.start + 1..close].trim_end();
        let lead = if body.ends_with(',') { " " } else { ", " };
        let written = match section.shape {
            Shape::Map => format!("{lead}{}: {}", inline(&Node::text(name)), inline(entry)),
            Shape::List(_) => format!("{lead}{}", inline(entry)),
        };
        let at = value.start + 1 + body.len();
        return Ok(format!("{}{written}{}", &text[..at], &text[at..]));
    }
    if value.is_empty() {
        // `key:`, `key: null` or `key: {}`; what stands there makes room for lines.
        let cut = format!("{}{}", text[..value.start].trim_end_matches(' '), &text[value.end..]);
        let at = cut[key.end..].find('\n').map_or(cut.len(), |line| key.end + line + 1);
        let indent = format!("{outer}{}", " ".repeat(unit));
        let after = cut[at..].to_owned();
        return Ok(format!("{}{}{after}", with_line_end(&cut, at, end), lines(section, name, entry, &indent, end)));
    }
    let indent = match (&value.content, section.shape) {
        (Content::Map(_), Shape::Map) => indent_at(text, value.start).to_owned(),
        (Content::List(items), Shape::List(_)) => match items.first().and_then(|first| dash(text, first)) {
            Some(dash) => indent_at(text, dash).to_owned(),
            None => return Err(Refusal::at(text, value.start, "has a list that is not edited here")),
        },
        _ => return Err(Refusal::at(text, value.start, format!("has something else under '{}'", section.key))),
    };
    let at = text[value.end..].find('\n').map_or(text.len(), |line| value.end + line + 1);
    Ok(format!("{}{}{}", with_line_end(text, at, end), lines(section, name, entry, &indent, end), &text[at..]))
}

/// Takes an entry out of the section.
pub fn remove(text: &str, section: Section, name: &str) -> Read<String> {
    let root = parse(text)?;
    let Some((key, value)) = root.as_ref().and_then(|root| root.pair(section.key)) else { return Ok(text.to_owned()) };
    let (start, end, count) = match (&value.content, section.shape) {
        (Content::Map(pairs), _) => {
            let entry = pairs.iter().find(|(key, _)| key.node().as_text() == Some(name));
            (entry.map(|(key, _)| key.start), entry.map(|(key, value)| value.end.max(key.end)), pairs.len())
        }
        (Content::List(items), Shape::List(field)) => {
            let entry = items.iter().find(|item| item.node().get(field).and_then(Node::as_text) == Some(name));
            let start = entry.and_then(|item| if value.flow { Some(item.start) } else { dash(text, item) });
            (start, entry.map(|item| item.end), items.len())
        }
        _ => (None, None, 0),
    };
    let (Some(start), Some(end)) = (start, end) else { return Ok(text.to_owned()) };
    if value.flow {
        return Ok(without_comma(text, start, end));
    }
    let start = text[..start].rfind('\n').map_or(0, |line| line + 1);
    let end = text[end..].find('\n').map_or(text.len(), |line| end + line + 1);
    let mut written = format!("{}{}", &text[..start], &text[end..]);
    if count == 1 {
        let empty = if section.shape == Shape::Map { " {}" } else { " []" };
        let colon = written[key.end..].find(':').map_or(key.end, |at| key.end + at + 1);
        written.insert_str(colon, empty);
    }
    Ok(written)
}

/// Takes the section out, if it stands in a line of its own with nothing in it and no comment behind it.
pub fn remove_section(text: &str, section: Section) -> Read<String> {
    let root = parse(text)?.filter(|root| !root.flow);
    let Some((key, value)) = root.as_ref().and_then(|root| root.pair(section.key)) else { return Ok(text.to_owned()) };
    let start = text[..key.start].rfind('\n').map_or(0, |line| line + 1);
    let end = text[key.end..].find('\n').map_or(text.len(), |line| key.end + line + 1);
    let alone = text[start..key.start].trim().is_empty()
        && value.is_empty()
        && value.end <= end
        && text[value.end.max(key.end)..end].trim_matches([':', ' ', '\t', '\r', '\n']).is_empty();
    Ok(if alone { format!("{}{}", &text[..start], &text[end..]) } else { text.to_owned() })
}

/// The text without a piece of a list or map in brackets, and without the comma beside it.
fn without_comma(text: &str, start: usize, end: usize) -> String {
    let (before, after) = (&text[..start], &text[end..]);
    match after.trim_start().strip_prefix(',') {
        Some(after) => format!("{before}{}", after.trim_start_matches(' ')),
        None => format!("{}{after}", before.trim_end().trim_end_matches(',')),
    }
}

/// The text up to `at`, with an end to its last line.
fn with_line_end(text: &str, at: usize, end: &str) -> String {
    let before = &text[..at];
    if before.is_empty() || before.ends_with('\n') { before.to_owned() } else { format!("{before}{end}") }
}

/// By how many spaces this document indents.
fn unit(text: &str, root: &Item) -> usize {
    let Content::Map(pairs) = &root.content else { return 2 };
    let outer = indent_at(text, root.start).len();
    let nested =
        pairs.iter().find(|(_, value)| matches!(&value.content, Content::Map(below) if !below.is_empty() && !value.flow));
    nested.map_or(2, |(_, value)| indent_at(text, value.start).len().saturating_sub(outer)).max(1)
}

/// Where the dash of an item stands.
fn dash(text: &str, item: &Item) -> Option<usize> {
    let before = text[..item.start].trim_end();
    before.ends_with('-').then(|| before.len() - 1)
}

/// The lines of an entry.
fn lines(section: Section, name: &str, entry: &Node, indent: &str, end: &str) -> String {
    let mut written = String::new();
    let Node::Map(pairs) = entry else { return written };
    match section.shape {
        Shape::Map => {
            written.push_str(&[indent, &scalar(name), ":", end].concat());
            map(&mut written, pairs, &format!("{indent}  "), end);
        }
        Shape::List(_) => {
            map(&mut written, pairs, &format!("{indent}  "), end);
            written.replace_range(indent.len()..=indent.len(), "-");
        }
    }
    written
}

fn map(written: &mut String, pairs: &[(String, Node)], indent: &str, end: &str) {
    for (name, value) in pairs {
        match value {
            Node::Map(below) if !below.is_empty() => {
                written.push_str(&[indent, &scalar(name), ":", end].concat());
                map(written, below, &format!("{indent}  "), end);
            }
            Node::Text(text) => written.push_str(&[indent, &scalar(name), ": ", &scalar(text), end].concat()),
            other => written.push_str(&[indent, &scalar(name), ": ", &inline(other), end].concat()),
        }
    }
}

/// A text, without quotes where nobody could take it for something else.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && tree::plain(text) == Node::text(text);
    if plain { text.to_owned() } else { inline(&Node::text(text)) }
}

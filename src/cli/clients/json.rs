//! Entries in JSON files, edited in place: a change touches the bytes of its entry and the comma beside it. Comments and
//! trailing commas are understood, since several clients write them; whether one does is its own business.

use std::borrow::Cow;
use std::fmt::Write as _;

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::Ranged as _;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::format::{Read, Refusal, Section, indent_at, line_end};
use super::node::Node;

/// What editors may put before the document.
const MARK: char = '\u{feff}';

const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
};

/// All that the text says.
pub fn whole(text: &str) -> Read<Node> {
    let (_, body) = split_mark(text);
    match root(&paired(body))? {
        Some(object) => Ok(map(body, &object)),
        None => Ok(Node::Map(Vec::new())),
    }
}

/// Adds an entry at the end of the section.
pub fn insert(text: &str, section: Section, name: &str, entry: &Node) -> Read<String> {
    let (mark, body) = split_mark(text);
    let paired = paired(body);
    let Some(object) = root(&paired)? else {
        let end = line_end(body);
        let lead = body.trim_end();
        let lead = if lead.is_empty() { String::new() } else { format!("{lead}{end}") };
        let value = Node::Map(vec![(section.key.to_owned(), Node::Map(vec![(name.to_owned(), entry.clone())]))]);
        return Ok(format!("{mark}{lead}{}{end}", render(&value, "", "  ", end)));
    };
    let Some(parent) = parent(&object, section) else {
        return Err(Refusal::at(body, 0, format!("has no map for '{}'", section.key)));
    };
    let changed = match find(parent, section.key) {
        None => {
            let servers = Node::Map(vec![(name.to_owned(), entry.clone())]);
            add(body, &object, parent, section.key, &servers)
        }
        Some(property) => match &property.value {
            Value::Object(servers) => add(body, &object, servers, name, entry),
            Value::NullKeyword(null) => {
                let servers = Node::Map(vec![(name.to_owned(), entry.clone())]);
                let indent = indent_at(body, property.range.start);
                let written = render(&servers, indent, unit(body, &object), line_end(body));
                splice(body, null.range.start, null.range.end, &written)
            }
            other => return Err(Refusal::at(body, other.range().start, format!("has no map under '{}'", section.key))),
        },
    };
    Ok(format!("{mark}{changed}"))
}

/// Takes an entry out of the section.
pub fn remove(text: &str, section: Section, name: &str) -> Read<String> {
    let (mark, body) = split_mark(text);
    let paired = paired(body);
    let object = root(&paired)?;
    let parent = object.as_ref().and_then(|object| parent(object, section));
    let servers = parent.and_then(|parent| find(parent, section.key)).and_then(|property| property.value.as_object());
    let Some(servers) = servers else { return Ok(text.to_owned()) };
    let Some(at) = servers.properties.iter().position(|property| property.name.as_str() == name) else {
        return Ok(text.to_owned());
    };
    Ok(format!("{mark}{}", take(body, servers, at)))
}

/// Takes the section out, if it is an object with nothing in it.
pub fn remove_section(text: &str, section: Section) -> Read<String> {
    let (mark, body) = split_mark(text);
    let paired = paired(body);
    let object = root(&paired)?;
    let Some(parent) = object.as_ref().and_then(|object| parent(object, section)) else { return Ok(text.to_owned()) };
    let at = parent.properties.iter().position(|property| property.name.as_str() == section.key);
    let blank = |property: &ObjectProp<'_>| {
        let servers = property.value.as_object().map(|servers| servers.range);
        servers.is_some_and(|range| body[range.start + 1..range.end - 1].trim().is_empty())
    };
    match at.filter(|at| blank(&parent.properties[*at])) {
        Some(at) => Ok(format!("{mark}{}", take(body, parent, at))),
        None => Ok(text.to_owned()),
    }
}

fn split_mark(text: &str) -> (&str, &str) {
    text.strip_prefix(MARK).map_or(("", text), |body| (&text[..MARK.len_utf8()], body))
}

/// The text with other characters in the place of the halves of surrogate pairs that stand alone, as programs in JavaScript
/// write them and the parser does not take them. Everything stands where it stood, and what stands in the text itself is
/// what counts: so they are neither read nor changed.
fn paired(body: &str) -> Cow<'_, str> {
    let half = |at: usize| {
        let digits = body.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok().filter(|half| (0xd800..0xe000).contains(half))
    };
    let mut changed = String::new();
    let (mut at, mut kept) = (0, 0);
    while let Some(found) = body[at..].find('\\') {
        at += found;
        at += match half(at) {
            Some(0xd800..0xdc00) if half(at + 6).is_some_and(|next| next >= 0xdc00) => 12,
            Some(alone) => {
                // Of the characters for private use, so that two that differ still do.
                changed.push_str(&body[kept..at]);
                // Writing to memory does not fail.
                let _ok = write!(changed, "\\u{:04x}", alone - 0xd800 + 0xe000);
                kept = at + 6;
                6
            }
            // The character behind it is no beginning of anything.
            None => 1 + body[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    if kept == 0 { Cow::Borrowed(body) } else { Cow::Owned(changed + &body[kept..]) }
}

/// The object that the document is; nothing when it is empty or all comments.
fn root(body: &str) -> Read<Option<Object<'_>>> {
    let parsed = parse_to_ast(body, &CollectOptions::default(), &OPTIONS)
        .map_err(|error| Refusal::at(body, error.range().start, format!("is not JSON: {}", error.kind())))?;
    match parsed.value {
        None => Ok(None),
        Some(Value::Object(object)) => {
            for (index, property) in object.properties.iter().enumerate() {
                let name = property.name.as_str();
                if object.properties[..index].iter().any(|earlier| earlier.name.as_str() == name) {
                    return Err(Refusal::at(body, property.range.start, format!("has '{name}' twice")));
                }
            }
            Ok(Some(object))
        }
        Some(other) => Err(Refusal::at(body, other.range().start, "is no JSON object")),
    }
}

/// The object in which the section stands.
fn parent<'o, 't>(object: &'o Object<'t>, section: Section) -> Option<&'o Object<'t>> {
    match section.within {
        None => Some(object),
        Some(outer) => find(object, outer)?.value.as_object(),
    }
}

fn find<'o, 't>(object: &'o Object<'t>, name: &str) -> Option<&'o ObjectProp<'t>> {
    object.properties.iter().find(|property| property.name.as_str() == name)
}

fn map(body: &str, object: &Object<'_>) -> Node {
    let pairs = object.properties.iter();
    Node::Map(pairs.map(|property| (property.name.as_str().to_owned(), node(body, &property.value))).collect())
}

fn node(body: &str, value: &Value<'_>) -> Node {
    match value {
        Value::NullKeyword(_) => Node::Null,
        Value::BooleanLit(value) => Node::Bool(value.value),
        Value::NumberLit(number) => Node::Plain(number.value.to_owned()),
        Value::StringLit(text) => {
            let written = &body[text.range.start..text.range.end];
            // What is no text anywhere else is kept as it is written.
            match paired(written) {
                Cow::Owned(_) => Node::Plain(written.to_owned()),
                Cow::Borrowed(_) => Node::text(text.value.as_ref()),
            }
        }
        Value::Array(array) => Node::List(array.elements.iter().map(|value| node(body, value)).collect()),
        Value::Object(object) => map(body, object),
    }
}

/// The document with a further property at the end of `target`.
fn add(body: &str, root: &Object<'_>, target: &Object<'_>, name: &str, value: &Node) -> String {
    let end = line_end(body);
    let inside = target.range.start + 1;
    let close = target.range.end - 1;
    let Some(last) = target.properties.last() else {
        let outer = indent_at(body, target.range.start);
        let indent = format!("{outer}{}", unit(body, root));
        let kept = body[inside..close].trim_end();
        let written = format!("{kept}{end}{indent}{}{end}{outer}", property(name, value, &indent, unit(body, root), end));
        return splice(body, inside, close, &written);
    };
    let after = last.range.end;
    let comma = comma_after(body, after);
    if !starts_line(body, last.range.start) {
        // The object stands in one line, and so does what is added.
        let at = comma.unwrap_or(after);
        let lead = if comma.is_some() { " " } else { ", " };
        let trail = if comma.is_some() { "," } else { "" };
        return splice(body, at, at, &format!("{lead}{}: {}{trail}", quoted(name), inline(value)));
    }
    let indent = indent_at(body, last.range.start);
    let at = end_of_line(body, comma.unwrap_or(after)).min(close);
    let trail = if comma.is_some() { "," } else { "" };
    let written = format!("{end}{indent}{}{trail}", property(name, value, indent, unit(body, root), end));
    let mut changed = splice(body, at, at, &written);
    if comma.is_none() {
        changed.insert(after, ',');
    }
    changed
}

/// The document without one property of `target`.
fn take(body: &str, target: &Object<'_>, at: usize) -> String {
    let property = &target.properties[at];
    let last = at + 1 == target.properties.len();
    let comma = comma_after(body, property.range.end);
    let mut start = property.range.start;
    if starts_line(body, start) {
        start = body[..start].rfind('\n').map_or(0, |line| if body[..line].ends_with('\r') { line - 1 } else { line });
    } else {
        start -= body[..start].len() - body[..start].trim_end_matches([' ', '\t']).len();
    }
    let mut changed = splice(body, start, comma.unwrap_or(property.range.end), "");
    if last && comma.is_none() && at > 0 {
        // The comma before it is one too many now.
        if let Some(comma) = comma_after(body, target.properties[at - 1].range.end) {
            changed.remove(comma - 1);
        }
    }
    if target.properties.len() == 1 {
        let close = changed.len() - (body.len() - (target.range.end - 1));
        if changed[target.range.start + 1..close].trim().is_empty() {
            changed.replace_range(target.range.start + 1..close, "");
        }
    }
    changed
}

fn splice(text: &str, start: usize, end: usize, with: &str) -> String {
    format!("{}{with}{}", &text[..start], &text[end..])
}

/// The offset behind the comma that follows, when one does.
fn comma_after(text: &str, mut at: usize) -> Option<usize> {
    loop {
        let rest = &text[at..];
        let skipped = rest.len() - rest.trim_start().len();
        at += skipped;
        let rest = &text[at..];
        if rest.starts_with(',') {
            return Some(at + 1);
        }
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else {
            return None;
        }
    }
}

/// The end of the line, if nothing but comments follows on it; else where the next thing begins.
fn end_of_line(text: &str, mut at: usize) -> usize {
    loop {
        let rest = &text[at..];
        let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let rest = &rest[blank..];
        if rest.starts_with("//") {
            let line = rest.find('\n').unwrap_or(rest.len());
            return at + blank + rest[..line].trim_end_matches('\r').len();
        }
        match rest.find("*/").filter(|_| rest.starts_with("/*")) {
            Some(end) if !rest[..end].contains('\n') => at += blank + end + 2,
            _ => return at,
        }
    }
}

/// Whether nothing but white space stands before it on its line.
fn starts_line(text: &str, at: usize) -> bool {
    text[..at].trim_end_matches([' ', '\t']).ends_with('\n')
}

/// By how much this document indents.
fn unit<'t>(body: &'t str, root: &Object<'_>) -> &'t str {
    let first = root.properties.first().map(|property| property.range.start).filter(|start| starts_line(body, *start));
    let inner = first.map(|start| indent_at(body, start)).unwrap_or_default();
    let outer = indent_at(body, root.range.start);
    inner.strip_prefix(outer).filter(|unit| !unit.is_empty()).unwrap_or("  ")
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn property(name: &str, value: &Node, indent: &str, unit: &str, end: &str) -> String {
    format!("{}: {}", quoted(name), render(value, indent, unit, end))
}

fn render(value: &Node, indent: &str, unit: &str, end: &str) -> String {
    let inner = format!("{indent}{unit}");
    match value {
        Node::Map(pairs) if !pairs.is_empty() => {
            let lines = pairs.iter().map(|(name, value)| format!("{inner}{}", property(name, value, &inner, unit, end)));
            format!("{{{end}{}{end}{indent}}}", lines.collect::<Vec<_>>().join(&format!(",{end}")))
        }
        Node::List(items) if items.len() > 1 => {
            let lines = items.iter().map(|item| format!("{inner}{}", render(item, &inner, unit, end)));
            format!("[{end}{}{end}{indent}]", lines.collect::<Vec<_>>().join(&format!(",{end}")))
        }
        other => inline(other),
    }
}

/// In one line; this is also what YAML and nobody else calls its flow style.
pub fn inline(value: &Node) -> String {
    match value {
        Node::Null => "null".to_owned(),
        Node::Bool(value) => value.to_string(),
        Node::Plain(text) => text.clone(),
        Node::Text(text) => quoted(text),
        Node::List(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Node::Map(pairs) if pairs.is_empty() => "{}".to_owned(),
        Node::Map(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| format!("{}: {}", quoted(name), inline(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

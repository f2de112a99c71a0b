//! Entries in TOML files: a table of its own at the end of the file, taken out again by the lines it stands in. Servers that
//! stand in an inline list or table are added to and taken from it there.

use std::ops::Range;

use toml_edit::{Array, Document, DocumentMut, InlineTable, Item, Key, Table, Value};

use super::format::{Read, Refusal, Section, Shape, line_end};
use super::node::Node;

/// All that the text says.
pub fn whole(text: &str) -> Read<Node> {
    Ok(table(parse(text)?.as_table()))
}

/// Adds an entry at the end of the section.
pub fn insert(text: &str, section: Section, name: &str, entry: &Node) -> Read<String> {
    let document = parse(text)?;
    if document.get(section.key).is_some_and(Item::is_value) {
        return Ok(inside(text, &document, section, |servers| match (servers, section.shape) {
            (Value::Array(list), Shape::List(_)) => list.push(value(entry)),
            (Value::InlineTable(servers), Shape::Map) => drop(servers.insert(name, value(entry))),
            _ => {}
        }));
    }
    let end = line_end(text);
    let header = match section.shape {
        Shape::Map => format!("[{}.{}]", key(section.key), key(name)),
        Shape::List(_) => format!("[[{}]]", key(section.key)),
    };
    let mut written = text.to_owned();
    if !text.is_empty() {
        // A blank line parts it from what stands before.
        written.push_str(&end.repeat(if text.ends_with('\n') { 1 } else { 2 }));
    }
    written.push_str(&header);
    written.push_str(end);
    let Node::Map(pairs) = entry else { return Ok(written) };
    for (name, what) in pairs.iter().filter(|(_, what)| *what != Node::Null) {
        written.push_str(&[&key(name), " = ", value(what).to_string().trim(), end].concat());
    }
    Ok(written)
}

/// Takes an entry out of the section.
pub fn remove(text: &str, section: Section, name: &str) -> Read<String> {
    let document = parse(text)?;
    let entry = match document.get(section.key) {
        Some(Item::Table(servers)) => servers.get(name).and_then(Item::as_table),
        Some(Item::ArrayOfTables(list)) => {
            let Shape::List(field) = section.shape else { return Ok(text.to_owned()) };
            list.iter().find(|table| table.get(field).and_then(Item::as_str) == Some(name))
        }
        Some(Item::Value(_)) => {
            return Ok(inside(text, &document, section, |servers| match (servers, section.shape) {
                (Value::Array(list), Shape::List(field)) => list.retain(|item| {
                    let named = item.as_inline_table().and_then(|table| table.get(field)).and_then(Value::as_str);
                    named != Some(name)
                }),
                (Value::InlineTable(servers), Shape::Map) => drop(servers.remove(name)),
                _ => {}
            }));
        }
        _ => return Ok(text.to_owned()),
    };
    let mut blocks = Vec::new();
    if !entry.is_some_and(|entry| blocks_of(text, entry, &mut blocks)) {
        let at = text.find(name).unwrap_or(0);
        return Err(Refusal::at(text, at, format!("writes '{}.{name}' without a table of its own", section.key)));
    }
    Ok(cut(text, blocks))
}

/// Takes the section out, if it is a table with a header of its own and nothing under it.
pub fn remove_section(text: &str, section: Section) -> Read<String> {
    let document = parse(text)?;
    let mut blocks = Vec::new();
    let table = document.get(section.key).and_then(Item::as_table).filter(|table| table.is_empty());
    Ok(if table.is_some_and(|table| blocks_of(text, table, &mut blocks)) { cut(text, blocks) } else { text.to_owned() })
}

/// The text without these lines, and without the blank one before each.
fn cut(text: &str, mut blocks: Vec<Range<usize>>) -> String {
    blocks.sort_by_key(|block| std::cmp::Reverse(block.start));
    let mut written = text.to_owned();
    for mut block in blocks {
        let follows_nothing = written[block.end..].is_empty() || written[block.end..].starts_with(['\n', '\r']);
        let before = &written[..block.start];
        if follows_nothing && (before.ends_with("\n\n") || before.ends_with("\r\n\r\n")) {
            block.start -= if before.ends_with("\r\n") { 2 } else { 1 };
        }
        written.replace_range(block, "");
    }
    written
}

fn parse(text: &str) -> Read<Document<&str>> {
    Document::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let message = error.message().lines().next().unwrap_or_default().to_owned();
        Refusal::at(text, start, format!("is not TOML: {message}"))
    })
}

/// Changes a section that is written as one value, and that value alone.
fn inside(text: &str, document: &Document<&str>, section: Section, change: impl FnOnce(&mut Value)) -> String {
    let span = document.get(section.key).and_then(Item::span);
    let editable: Result<DocumentMut, _> = text.parse();
    let (Some(span), Ok(mut editable)) = (span, editable) else { return text.to_owned() };
    let Some(servers) = editable.get_mut(section.key).and_then(Item::as_value_mut) else { return text.to_owned() };
    change(servers);
    // Blanks and the comment behind it stand in the text that is kept.
    servers.decor_mut().clear();
    format!("{}{}{}", &text[..span.start], servers.to_string().trim(), &text[span.end..])
}

/// The lines of a table and of the tables below it; false when one has no header of its own.
fn blocks_of(text: &str, table: &Table, blocks: &mut Vec<Range<usize>>) -> bool {
    let Some(header) = table.span().filter(|_| !table.is_dotted() && !table.is_implicit()) else { return false };
    let start = text[..header.start].rfind('\n').map_or(0, |at| at + 1);
    let mut end = header.end;
    for (_, item) in table {
        match item {
            Item::Table(below) if below.is_dotted() => end = end.max(last_of(below)),
            Item::Table(below) => {
                if !blocks_of(text, below, blocks) {
                    return false;
                }
            }
            Item::ArrayOfTables(list) => {
                if !list.iter().all(|below| blocks_of(text, below, blocks)) {
                    return false;
                }
            }
            other => end = end.max(other.span().map_or(0, |span| span.end)),
        }
    }
    let end = text[end..].find('\n').map_or(text.len(), |at| end + at + 1);
    blocks.push(start..end);
    true
}

/// The end of the last value of a table that is written with dotted names.
fn last_of(table: &Table) -> usize {
    let end = |item: &Item| match item {
        Item::Table(below) => last_of(below),
        other => other.span().map_or(0, |span| span.end),
    };
    table.iter().map(|(_, item)| end(item)).max().unwrap_or(0)
}

fn key(name: &str) -> String {
    Key::new(name).display_repr().into_owned()
}

fn value(node: &Node) -> Value {
    match node {
        // TOML knows no nothing; what has no value is not written.
        Node::Null => Value::from(""),
        Node::Bool(value) => Value::from(*value),
        Node::Plain(text) => text.parse().unwrap_or_else(|_| Value::from(text.as_str())),
        Node::Text(text) => Value::from(text.as_str()),
        Node::List(items) => Value::Array(items.iter().map(value).collect::<Array>()),
        Node::Map(pairs) => {
            let pairs = pairs.iter().filter(|(_, what)| *what != Node::Null);
            Value::InlineTable(pairs.map(|(name, what)| (name.as_str(), value(what))).collect::<InlineTable>())
        }
    }
}

fn table(table: &Table) -> Node {
    Node::Map(table.iter().map(|(name, item)| (name.to_owned(), node_of(item))).collect())
}

fn node_of(item: &Item) -> Node {
    match item {
        Item::None => Node::Null,
        Item::Value(value) => node(value),
        Item::Table(below) => table(below),
        Item::ArrayOfTables(list) => Node::List(list.iter().map(table).collect()),
    }
}

fn node(value: &Value) -> Node {
    match value {
        Value::String(text) => Node::text(text.value()),
        Value::Boolean(value) => Node::Bool(*value.value()),
        Value::Integer(number) => Node::Plain(number.value().to_string()),
        // A whole number is written with its point, without which it would be of another kind.
        Value::Float(number) => Node::Plain(number.display_repr().into_owned()),
        Value::Datetime(time) => Node::Plain(time.value().to_string()),
        Value::Array(list) => Node::List(list.iter().map(node).collect()),
        Value::InlineTable(table) => Node::Map(table.iter().map(|(name, value)| (name.to_owned(), node(value))).collect()),
    }
}

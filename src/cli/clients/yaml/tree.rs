//! A YAML document as a tree of values with their places in the text, out of the parser's events.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::super::format::{Read, Refusal};
use super::super::node::Node;

/// A value and where it stands, in bytes.
#[derive(Debug)]
pub struct Item {
    /// Its first byte; for a list in lines, that of its first item.
    pub start: usize,
    /// Behind its last byte; white space and comments after it do not count.
    pub end: usize,
    /// It is written in brackets.
    pub flow: bool,
    /// What it says.
    pub content: Content,
}

/// What a value says.
#[derive(Debug)]
pub enum Content {
    /// No list and no map.
    Scalar(Node),
    /// A list.
    List(Vec<Item>),
    /// A map.
    Map(Vec<(Item, Item)>),
}

impl Item {
    /// The value without its place.
    pub fn node(&self) -> Node {
        match &self.content {
            Content::Scalar(node) => node.clone(),
            Content::List(items) => Node::List(items.iter().map(Self::node).collect()),
            Content::Map(pairs) => Node::Map(pairs.iter().map(|(key, value)| (key.name(), value.node())).collect()),
        }
    }

    /// The key and value of this name.
    pub fn pair(&self, name: &str) -> Option<(&Self, &Self)> {
        match &self.content {
            Content::Map(pairs) => pairs.iter().find(|(key, _)| key.name() == name).map(|(key, value)| (key, value)),
            _ => None,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        match &self.content {
            Content::Scalar(node) => *node == Node::Null,
            Content::List(items) => items.is_empty(),
            Content::Map(pairs) => pairs.is_empty(),
        }
    }

    fn name(&self) -> String {
        match self.node() {
            Node::Text(text) | Node::Plain(text) => text,
            other => super::inline(&other),
        }
    }
}

/// The one document of the text, if there is one.
pub fn parse(text: &str) -> Read<Option<Item>> {
    let mut bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    bytes.push(text.len());
    let mut reader = Reader { text, bytes, events: Vec::new() };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => reader.events.push((event, span)),
            Err(error) => {
                return Err(Refusal {
                    message: format!("is not YAML: {}", error.info()),
                    line: Some(error.marker().line().max(1)),
                });
            }
        }
    }
    reader.events.reverse();
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.events.pop() {
        match event {
            Event::DocumentStart(_) => documents.push(reader.value()?),
            Event::DocumentEnd if text[reader.place(span)].starts_with('.') => {
                return Err(Refusal { message: "ends its document with '...'".to_owned(), line: Some(span.start.line()) });
            }
            _ => {}
        }
    }
    if documents.len() > 1 {
        return Err(Refusal { message: "holds more than one document".to_owned(), line: None });
    }
    Ok(documents.pop())
}

struct Reader<'t> {
    text: &'t str,
    /// The byte of each character.
    bytes: Vec<usize>,
    /// The next one is the last.
    events: Vec<(Event<'t>, Span)>,
}

impl Reader<'_> {
    fn value(&mut self) -> Read<Item> {
        let Some((event, span)) = self.events.pop() else {
            return Err(Refusal { message: "ends within a value".to_owned(), line: None });
        };
        let place = self.place(span);
        let flow = !place.is_empty();
        match event {
            Event::Scalar(value, style, _, tag) => {
                let node = match (style, tag) {
                    (_, Some(tag)) => Node::Plain(format!("{tag} {value}")),
                    (ScalarStyle::Plain, None) => plain(&value),
                    _ => Node::text(value),
                };
                // A text in lines counts the empty ones after it.
                let end = place.start + self.text[place.clone()].trim_end().len();
                Ok(Item { start: place.start, end, flow: false, content: Content::Scalar(node) })
            }
            Event::Alias(anchor) => {
                let content = Content::Scalar(Node::Plain(format!("*{anchor}")));
                Ok(Item { start: place.start, end: place.end, flow: false, content })
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                while !matches!(self.events.last(), Some((Event::SequenceEnd, _)) | None) {
                    items.push(self.value()?);
                }
                let end = self.end(flow, items.last().map_or(place.end, |last| last.end));
                Ok(Item { start: place.start, end, flow, content: Content::List(items) })
            }
            Event::MappingStart(..) => {
                let mut pairs = Vec::new();
                while !matches!(self.events.last(), Some((Event::MappingEnd, _)) | None) {
                    pairs.push((self.value()?, self.value()?));
                }
                let end = self.end(flow, pairs.last().map_or(place.end, |(key, value)| value.end.max(key.end)));
                Ok(Item { start: place.start, end, flow, content: Content::Map(pairs) })
            }
            _ => Err(Refusal { message: "has no value where one is expected".to_owned(), line: Some(span.start.line()) }),
        }
    }

    /// The end of a list or map, whose last event comes next: behind its bracket, or where its last value ends.
    fn end(&mut self, flow: bool, last: usize) -> usize {
        match self.events.pop() {
            // The parser counts a comment behind the bracket to it.
            Some((_, span)) if flow => self.place(span).start + 1,
            _ => last,
        }
    }

    fn place(&self, span: Span) -> Range<usize> {
        let byte = |index: usize| self.bytes.get(index).copied().unwrap_or(self.text.len());
        byte(span.start.index())..byte(span.end.index())
    }
}

/// What a text without quotes means.
pub fn plain(text: &str) -> Node {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Node::Null,
        "true" | "True" | "TRUE" => Node::Bool(true),
        "false" | "False" | "FALSE" => Node::Bool(false),
        // Older readers take these for yes and no.
        "y" | "Y" | "yes" | "Yes" | "YES" | "n" | "N" | "no" | "No" | "NO" | "on" | "On" | "ON" | "off" | "Off" | "OFF" => {
            Node::Plain(text.to_owned())
        }
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) && text.parse::<f64>().is_ok() => {
            Node::Plain(text.to_owned())
        }
        _ => Node::text(text),
    }
}

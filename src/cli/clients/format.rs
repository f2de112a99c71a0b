//! Changing entries in the text of a configuration file, whatever its format: everything around the entries stays as it is
//! written, and a change whose result would not say what was meant is refused.

use super::node::Node;
use super::{json, toml, yaml};

/// How a configuration file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON; comments and trailing commas are left alone where people or clients write them.
    Json,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
}

/// Where the entries stand in the file: under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// The name, e.g. `mcpServers`.
    pub key: &'static str,
    /// How the entries stand there.
    pub shape: Shape,
    /// The name of the map in which it stands; nothing at the top of the file. In JSON only.
    pub within: Option<&'static str>,
    /// Names in it that are no entries but hold other things of the client. They are never touched.
    pub holding: &'static [&'static str],
}

/// How entries stand in their section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A map from names to entries.
    Map,
    /// A list of entries, each with its name in this field.
    List(&'static str),
}

impl Section {
    /// A map of entries at the top of the file.
    pub const fn map(key: &'static str) -> Self {
        Self { key, shape: Shape::Map, within: None, holding: &[] }
    }

    /// A list of entries at the top of the file, with their names in `field`.
    pub const fn list(key: &'static str, field: &'static str) -> Self {
        Self { shape: Shape::List(field), ..Self::map(key) }
    }

    /// The same in a map called `outer`.
    pub const fn within(self, outer: &'static str) -> Self {
        Self { within: Some(outer), ..self }
    }

    /// The same, with these names that are no entries.
    pub const fn holding(self, names: &'static [&'static str]) -> Self {
        Self { holding: names, ..self }
    }

    /// Its value in a file.
    fn of(self, whole: &Node) -> Option<&Node> {
        match self.within {
            None => whole.get(self.key),
            Some(outer) => whole.get(outer)?.get(self.key),
        }
    }

    /// What the file says beside the entries.
    fn rest(self, whole: Node) -> Node {
        let kept = |name: &str| self.holding.contains(&name);
        match (whole, self.within) {
            (Node::Map(pairs), Some(outer)) => {
                let inner = Self { within: None, ..self };
                let pairs = pairs.into_iter();
                Node::Map(
                    pairs.map(|(name, value)| if name == outer { (name, inner.rest(value)) } else { (name, value) }).collect(),
                )
            }
            (Node::Map(mut pairs), None) => {
                for (_, value) in pairs.iter_mut().filter(|(name, _)| name == self.key) {
                    match value {
                        Node::Map(entries) => entries.retain(|(name, _)| kept(name)),
                        other => *other = Node::Map(Vec::new()),
                    }
                }
                pairs.retain(|(name, value)| name != self.key || *value != Node::Map(Vec::new()));
                Node::Map(pairs)
            }
            (other, _) => other,
        }
    }
}

/// Why a text was not read or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, as a continuation of "the file …".
    pub message: String,
    /// Line in the text, from 1.
    pub line: Option<usize>,
}

impl Refusal {
    /// A refusal about a place in the text.
    pub fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = text.get(..offset.min(text.len())).unwrap_or(text);
        Self { message: message.into(), line: Some(before.matches('\n').count() + 1) }
    }
}

/// Result of reading and changing texts.
pub type Read<T> = Result<T, Refusal>;

impl Format {
    /// All that the text says.
    pub fn whole(self, text: &str) -> Read<Node> {
        match self {
            Self::Json => json::whole(text),
            Self::Toml => toml::whole(text),
            Self::Yaml => yaml::whole(text),
        }
    }

    /// Whether the text has the section, with or without entries.
    pub fn has(self, text: &str, section: Section) -> Read<bool> {
        Ok(matches!(section.of(&self.whole(text)?), Some(Node::Map(_) | Node::List(_))))
    }

    /// Whether the text says anything of the section, be it that there is nothing in it.
    pub fn knows(self, text: &str, section: Section) -> Read<bool> {
        Ok(section.of(&self.whole(text)?).is_some())
    }

    /// The entry of this name.
    pub fn entry(self, text: &str, section: Section, name: &str) -> Read<Option<Node>> {
        Ok(self.entries(text, section)?.into_iter().find(|(other, _)| other == name).map(|(_, entry)| entry))
    }

    /// The entries of the section, by name, in their order.
    pub fn entries(self, text: &str, section: Section) -> Read<Vec<(String, Node)>> {
        let whole = self.whole(text)?;
        let wrong = |what: &str| Refusal { message: format!("has {what} under '{}'", section.key), line: None };
        match (section.of(&whole), section.shape) {
            (None | Some(Node::Null), _) => Ok(Vec::new()),
            (Some(Node::Map(pairs)), Shape::Map) => {
                Ok(pairs.iter().filter(|(name, _)| !section.holding.contains(&name.as_str())).cloned().collect())
            }
            (Some(Node::List(items)), Shape::List(field)) => {
                Ok(items.iter().filter_map(|item| Some((item.get(field)?.as_text()?.to_owned(), item.clone()))).collect())
            }
            (Some(_), Shape::Map) => Err(wrong("no map of servers")),
            (Some(_), Shape::List(_)) => Err(wrong("no list of servers")),
        }
    }

    /// The text with this entry: unchanged when it has it already, with the entry in the place of another of its name, or
    /// with it as the last one. In a list, the entry holds its name.
    pub fn with(self, text: &str, section: Section, name: &str, entry: &Node) -> Read<String> {
        let present = self.entries(text, section)?.into_iter().find(|(other, _)| other == name);
        let text = match present {
            Some((_, same)) if same == *entry => return Ok(text.to_owned()),
            Some(_) => &self.without(text, section, name)?,
            None => text,
        };
        let written = match self {
            Self::Json => json::insert(text, section, name, entry),
            Self::Toml => toml::insert(text, section, name, entry),
            Self::Yaml => yaml::insert(text, section, name, entry),
        }?;
        let mut meant = self.entries(text, section)?;
        meant.push((name.to_owned(), entry.clone()));
        self.check(text, &written, section, &meant)?;
        Ok(written)
    }

    /// The text without the entry of this name; comments around it stay.
    pub fn without(self, text: &str, section: Section, name: &str) -> Read<String> {
        let mut meant = self.entries(text, section)?;
        if !meant.iter().any(|(other, _)| other == name) {
            return Ok(text.to_owned());
        }
        meant.retain(|(other, _)| other != name);
        let written = match self {
            Self::Json => json::remove(text, section, name),
            Self::Toml => toml::remove(text, section, name),
            Self::Yaml => yaml::remove(text, section, name),
        }?;
        self.check(text, &written, section, &meant)?;
        Ok(written)
    }

    /// The text without the section, where nothing stands in it, no comment either; else as it is.
    pub fn without_section(self, text: &str, section: Section) -> Read<String> {
        let empty = match section.of(&self.whole(text)?) {
            Some(Node::Map(pairs)) => pairs.is_empty(),
            Some(Node::List(items)) => items.is_empty(),
            Some(Node::Null) => true,
            _ => false,
        };
        if !empty {
            return Ok(text.to_owned());
        }
        let written = match self {
            Self::Json => json::remove_section(text, section),
            Self::Toml => toml::remove_section(text, section),
            Self::Yaml => yaml::remove_section(text, section),
        }?;
        self.check(text, &written, section, &[])?;
        Ok(written)
    }

    /// A change may do nothing but what was meant. This is what stands between an unusual file and a broken one.
    fn check(self, before: &str, after: &str, section: Section, meant: &[(String, Node)]) -> Read<()> {
        let rest = |text: &str| Ok::<_, Refusal>(section.rest(self.whole(text)?));
        if self.entries(after, section).as_deref() == Ok(meant) && rest(before) == rest(after) {
            return Ok(());
        }
        Err(Refusal { message: format!("writes '{}' in a way that cannot be edited safely", section.key), line: None })
    }
}

/// The line end that the text uses.
pub fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// The white space at the start of the line in which `offset` lies.
pub fn indent_at(text: &str, offset: usize) -> &str {
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let line = &text[start..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

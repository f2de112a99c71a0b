//! A value of a configuration file in any of its formats: what an entry says, in the order in which it says it. It knows no
//! syntax.

/// A value. Order counts in maps, since people read what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number, a date, or whatever else stands without quotes, as it is written.
    Plain(String),
    /// A text.
    Text(String),
    /// Values in order.
    List(Vec<Node>),
    /// Names with values, in order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A list of texts.
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// The value under a name of a map.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(pairs) => pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether a text like this is one of the values of this map, or stands in a list that is. Maps below it are not looked
    /// into: what they say is not said by this one.
    pub fn says(&self, like: &impl Fn(&str) -> bool) -> bool {
        let Self::Map(pairs) = self else { return false };
        pairs.iter().any(|(_, value)| match value {
            Self::List(items) => items.iter().filter_map(Self::as_text).any(like),
            other => other.as_text().is_some_and(like),
        })
    }

    /// As a JSON value, for results of commands.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Plain(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
            Self::Text(text) => text.as_str().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(pairs) => pairs.iter().map(|(name, value)| (name.clone(), value.to_json())).collect(),
        }
    }
}

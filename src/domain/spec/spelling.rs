//! Readers for the parts of a spec that people spell in several ways: scalars, commands, ports, volumes.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, json_schema};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use crate::domain::quantity::TextOrNumber;
use crate::domain::shown;

/// The value of an environment variable or label; numbers and booleans are taken as their text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EnvironmentValue(pub String);

/// A command: a list of words, or one string that is split like a shell does, without running a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Words(pub Vec<String>);

/// A port number, written as number or text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PortNumber(pub u16);

/// One volume as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeInput {
    /// A path of the host (`/data`, `./data`) or the name of a volume.
    #[serde(default, alias = "source", alias = "name", skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// Absolute path inside the container.
    #[serde(default, alias = "target", skip_serializing_if = "Option::is_none")]
    pub container_path: Option<String>,
    /// The service may not write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// The key it was written under in a map.
    #[serde(skip)]
    pub(super) key: Option<String>,
}

/// Volumes: a map of host path or volume name to container path, or a list of `SOURCE:TARGET[:ro]` or objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Volumes(pub Vec<VolumeInput>);

impl Volumes {
    /// Where each of them was written, for errors: `volumes.data` in a map, `volumes[0]` in a list.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        let field = |(index, volume): (usize, &VolumeInput)| match &volume.key {
            Some(key) => format!("volumes.{}", shown(key)),
            None => format!("volumes[{index}]"),
        };
        self.0.iter().enumerate().map(field).collect()
    }
}

impl PortNumber {
    /// A port from 1 to 65535 in plain digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|port| plain && *port > 0).map(Self)
    }
}

impl FromStr for PortNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| format!("'{}' is not a port; use 1 to 65535", shown(text)))
    }
}

impl<'de> Deserialize<'de> for PortNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumber::new("a port from 1 to 65535"))
    }
}

impl<'de> Deserialize<'de> for EnvironmentValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = EnvironmentValue;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text, a whole number, true or false")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(EnvironmentValue(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(EnvironmentValue(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(EnvironmentValue(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(EnvironmentValue(value.to_string()))
            }

            /// A version `1.10` has become 1.1 on the way already, and what is beyond 64 bits has lost digits.
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
                Err(E::custom("is a number that is not kept digit by digit; write it as text, in quotes"))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordList { split: shlex::split })
    }
}

/// Reads a list of words, or one text that `split` makes words of.
struct WordList {
    split: fn(&str) -> Option<Vec<String>>,
}

impl<'de> Visitor<'de> for WordList {
    type Value = Words;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of words, or one text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
        (self.split)(text).map(Words).ok_or_else(|| E::custom("a quote is not closed; close it, or write a list of words"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
        let mut words = Vec::new();
        while let Some(EnvironmentValue(word)) = list.next_element()? {
            words.push(word);
        }
        Ok(Words(words))
    }
}

/// First word of a command that a shell reads, as Docker and Compose spell it.
pub(super) const FOR_A_SHELL: &str = "CMD-SHELL";

/// Reads the command of a health check: [`Words`], but a text that only a shell understands is meant for one.
pub(super) fn health_command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Words>, D::Error> {
    struct Command(Words);
    impl<'de> Deserialize<'de> for Command {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(WordList { split: health_words }).map(Self)
        }
    }
    Ok(Option::<Command>::deserialize(deserializer)?.map(|Command(words)| words))
}

fn health_words(text: &str) -> Option<Vec<String>> {
    let words = shlex::split(text)?;
    let text = text.trim();
    if !needs_shell(text) {
        return Some(words);
    }
    let text = text.strip_prefix(FOR_A_SHELL).filter(|rest| rest.starts_with(' ')).unwrap_or(text);
    Some(vec![FOR_A_SHELL.to_owned(), text.trim().to_owned()])
}

/// Whether a text has operators or expansions outside of the quotes that would hide them from a shell.
fn needs_shell(text: &str) -> bool {
    let (mut quote, mut escaped) = (None, false);
    for letter in text.chars() {
        match (quote, letter) {
            _ if escaped => escaped = false,
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => escaped = true,
            (None, '\'' | '"') => quote = Some(letter),
            (_, '$' | '`') | (None, '|' | '&' | ';' | '<' | '>' | '(' | ')' | '\n') => return true,
            _ => {}
        }
    }
    false
}

/// One element of a list of volumes.
#[derive(Deserialize)]
#[serde(transparent)]
struct VolumeElement(#[serde(deserialize_with = "volume_element")] VolumeInput);

fn volume_element<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VolumeInput, D::Error> {
    struct Element;
    impl<'de> Visitor<'de> for Element {
        type Value = VolumeInput;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("'SOURCE:TARGET[:ro]' or an object with host_path and container_path")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<VolumeInput, E> {
            let (source, target) = text
                .split_once(':')
                .ok_or_else(|| E::custom(format!("'{}' has no target; write SOURCE:TARGET or SOURCE:TARGET:ro", shown(text))))?;
            volume(source, target).map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<VolumeInput, A::Error> {
            VolumeInput::deserialize(de::value::MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(Element)
}

/// A volume from its source and its `TARGET[:ro|:rw]`.
fn volume(source: &str, target: &str) -> Result<VolumeInput, String> {
    let (target, read_only) = match target.split_once(':') {
        None => (target, None),
        Some((target, "ro")) => (target, Some(true)),
        Some((target, "rw")) => (target, Some(false)),
        Some((_, mode)) => {
            return Err(format!("'{}' is not a mode of a volume; use ro or rw", shown(mode)));
        }
    };
    if source.is_empty() || target.is_empty() {
        return Err("lacks its source or its target; write SOURCE:TARGET or SOURCE:TARGET:ro".to_owned());
    }
    Ok(VolumeInput { host_path: Some(source.to_owned()), container_path: Some(target.to_owned()), read_only, key: None })
}

/// The `TARGET[:ro|:rw]` that belongs to a source; read as a value of its own, so that errors know where they are.
struct Target<'s>(&'s str);

impl<'de> DeserializeSeed<'de> for Target<'_> {
    type Value = VolumeInput;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<VolumeInput, D::Error> {
        let target = String::deserialize(deserializer)?;
        volume(self.0, &target).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Volumes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VolumeList;
        impl<'de> Visitor<'de> for VolumeList {
            type Value = Volumes;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of host path or volume name to container path, or a list of volumes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Volumes, A::Error> {
                let mut volumes = Vec::new();
                while let Some(VolumeElement(element)) = list.next_element()? {
                    volumes.push(element);
                }
                Ok(Volumes(volumes))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Volumes, A::Error> {
                let mut volumes = Vec::new();
                while let Some(source) = map.next_key::<String>()? {
                    let volume = map.next_value_seed(Target(&source))?;
                    volumes.push(VolumeInput { key: Some(source), ..volume });
                }
                Ok(Volumes(volumes))
            }
        }
        deserializer.deserialize_any(VolumeList)
    }
}

/// Gives a type with a hand-written reader its schema. The OpenAPI document takes it over, too.
macro_rules! written_schema {
    ($type:ident, $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }

        impl ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
        }

        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::schema::Schema::default().into()
            }
        }
    };
}

written_schema!(EnvironmentValue, json_schema!({"type": ["string", "integer", "boolean"]}));
written_schema!(PortNumber, schema::port_number());
written_schema!(Words, schema::words());
written_schema!(Volumes, schema::volumes());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_digit_by_digit_or_refused() {
        let read = |text: &str| serde_json::from_str::<EnvironmentValue>(text).map(|EnvironmentValue(value)| value);
        for (written, value) in
            [("1", "1"), ("-15", "-15"), ("18446744073709551615", "18446744073709551615"), ("\"1.10\"", "1.10")]
        {
            assert_eq!(read(written).unwrap(), value);
        }
        for lossy in ["1.10", "2.0", "1e3", "18446744073709551616"] {
            let error = read(lossy).unwrap_err().to_string();
            assert!(error.contains("write it as text"), "{error}");
        }
    }
}

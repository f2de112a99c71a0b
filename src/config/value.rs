//! What a setting may hold, and how each kind of value is read from text (environment, flags) or TOML and shown again.
//!
//! Bounds between settings and rules of a section stand in its `validate`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use figment::value::Value;

use crate::domain::address_range::AddressRange;
use crate::domain::quantity::{Bytes, MilliCpu, Span};

/// A type that settings have.
pub trait SettingValue: Sized {
    /// What may be written, for error messages and the documentation: "true or false".
    const ALLOWED: &'static str;

    /// Reads the value as written in the environment or on the command line; what is wrong otherwise.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Reads the value as it stands in a layer of the configuration.
    fn from_value(value: &Value) -> Result<Self, String> {
        Self::from_text(&scalar(value)?)
    }

    /// The value for people and programs: `null` for what is not set.
    fn to_json(&self) -> serde_json::Value;
}

/// The text of a scalar: numbers and booleans may be written with or without quotes.
fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::String(_, text) => Ok(text.clone()),
        Value::Char(_, character) => Ok(character.to_string()),
        Value::Bool(_, truth) => Ok(truth.to_string()),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(number), ..) => Ok(number.to_string()),
            (_, Some(number), _) => Ok(number.to_string()),
            (_, _, Some(number)) => Ok(number.to_string()),
            _ => Err("is not a number".to_owned()),
        },
        Value::Array(..) => Err("is a list, where one value is wanted".to_owned()),
        Value::Dict(..) => Err("is a table, where one value is wanted".to_owned()),
        Value::Empty(..) => Err("is empty".to_owned()),
    }
}

/// "'TEXT' is not WHAT", with nothing in it that could disturb a terminal.
fn is_not(text: &str, what: &str) -> String {
    format!("'{}' is not {what}", text.escape_debug())
}

/// Settings whose type has a parser of its own.
macro_rules! parsed {
    ($( $type:ty, $what:literal, $allowed:literal, |$value:ident| $json:expr; )*) => { $(
        impl SettingValue for $type {
            const ALLOWED: &'static str = $allowed;

            fn from_text(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| is_not(text, $what))
            }

            fn to_json(&self) -> serde_json::Value {
                let $value = self;
                $json.into()
            }
        }
    )* };
}

parsed! {
    u16, "a whole number", "a whole number from 0 to 65535", |value| *value;
    u32, "a whole number", "a whole number from 0 to 4294967295", |value| *value;
    IpAddr, "an address", "an address, e.g. 127.0.0.1 or ::1", |value| value.to_string();
    SocketAddr, "an address with a port", "an address with a port, e.g. 127.0.0.1:8000 or [::1]:8000", |value| value.to_string();
    Bytes, "an amount of memory", "bytes, or with a unit: 512m, 1g, 1.5GiB", |value| value.to_string();
    MilliCpu, "an amount of CPU", "CPUs, or thousandths: 0.5, 2, 500m", |value| value.to_string();
    Span, "a length of time", "seconds, or with units: 30, 30s, 1m30s, 500ms", |value| value.to_string();
    String, "text", "text", |value| value.clone();
    PathBuf, "a path", "a path", |value| value.display().to_string();
}

impl SettingValue for AddressRange {
    const ALLOWED: &'static str = "an address or a range: 127.0.0.1, 10.0.0.0/8";

    fn from_text(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|()| format!("'{}' is not an address or a range of addresses", text.escape_debug()))
    }

    fn to_json(&self) -> serde_json::Value {
        self.to_string().into()
    }
}

impl SettingValue for bool {
    const ALLOWED: &'static str = "true or false";

    fn from_text(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(is_not(text, "true or false")),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        (*self).into()
    }
}

/// A setting that may be left out; an empty text leaves it out too.
impl<T: SettingValue> SettingValue for Option<T> {
    const ALLOWED: &'static str = T::ALLOWED;

    fn from_text(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() { Ok(None) } else { T::from_text(text).map(Some) }
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(_, text) => Self::from_text(text),
            Value::Empty(..) => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        self.as_ref().map_or(serde_json::Value::Null, SettingValue::to_json)
    }
}

/// A list: in text separated by commas, in TOML an array (or such a text).
macro_rules! lists {
    ($( $type:ty, $allowed:literal; )*) => { $(
        impl SettingValue for Vec<$type> {
            const ALLOWED: &'static str = $allowed;

            fn from_text(text: &str) -> Result<Self, String> {
                text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(<$type>::from_text).collect()
            }

            fn from_value(value: &Value) -> Result<Self, String> {
                match value {
                    Value::Array(_, parts) => parts.iter().map(<$type>::from_value).collect(),
                    value => Self::from_text(&scalar(value)?),
                }
            }

            fn to_json(&self) -> serde_json::Value {
                self.iter().map(SettingValue::to_json).collect()
            }
        }
    )* };
}

lists! {
    String, "a list of texts; as text separated by commas";
    PathBuf, "a list of paths; as text separated by commas";
    AddressRange, "a list of addresses and ranges; as text separated by commas: 127.0.0.1, 10.0.0.0/8";
}

/// A setting with a small closed set of values.
macro_rules! choice {
    ($(#[$meta:meta])* pub enum $type:ident, $allowed:literal { $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $( $(#[$variant_meta])* $variant, )* }

        impl $type {
            /// Its spelling in files, variables and flags.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $( Self::$variant => $text, )* } }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { formatter.write_str(self.as_str()) }
        }

        impl $crate::config::value::SettingValue for $type {
            const ALLOWED: &'static str = $allowed;

            fn from_text(text: &str) -> Result<Self, String> {
                match text.trim().to_ascii_lowercase().as_str() {
                    $( $text => Ok(Self::$variant), )*
                    _ => Err(format!("'{}' is not one of the choices", text.escape_debug())),
                }
            }

            fn to_json(&self) -> serde_json::Value { self.as_str().into() }
        }
    };
}
pub(super) use choice;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_value_reads_back_as_itself() {
        fn round_trip<T: SettingValue + PartialEq + std::fmt::Debug>(text: &str) {
            let read = T::from_text(text).unwrap();
            let printed = read.to_json();
            let value = Value::serialize(&printed).unwrap();
            assert_eq!(T::from_value(&value).unwrap(), read, "{text} became {printed}");
        }
        round_trip::<bool>("On");
        round_trip::<u16>("65535");
        round_trip::<Bytes>("1.5g");
        round_trip::<MilliCpu>("0.5");
        round_trip::<Span>("1m30s");
        round_trip::<SocketAddr>("[::1]:8000");
        round_trip::<Option<String>>("");
        round_trip::<Vec<String>>("a, b,,c");
        round_trip::<Vec<PathBuf>>("/a,/b");
    }

    #[test]
    fn toml_numbers_are_read_like_their_text() {
        let number = Value::serialize(0.5).unwrap();
        assert_eq!(MilliCpu::from_value(&number).unwrap(), MilliCpu(500));
        assert_eq!(Span::from_value(&Value::serialize(30).unwrap()).unwrap(), Span(30_000));
        assert!(u16::from_value(&Value::serialize(-1).unwrap()).is_err());
    }
}

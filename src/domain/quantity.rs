//! Quantities as people write them: `512m`, `1g`, `0.5` CPUs, `30s`.
//!
//! Each type reads a string or a number, keeps one exact unit inside, and prints the shortest form that reads back
//! as the same value.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shown;

/// An amount of memory or storage, in bytes. `512m` is 512 × 1024² bytes, as with Podman and Docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// An amount of CPU time, in thousandths of one CPU. `0.5`, `2` and `500m` are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MilliCpu(pub u32);

/// A length of time, in milliseconds. `30` (seconds), `30s`, `1m30s` and `500ms` are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Span {
    /// As the standard library's type.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

const BYTE_UNITS: [(&str, u64); 4] = [("t", 1 << 40), ("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)];
const SPAN_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Splits `12.5mb` into its number and its lower-case unit.
fn number_and_unit(text: &str) -> Option<(&str, String)> {
    let text = text.trim_ascii();
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (!number.is_empty()).then(|| (number, unit.trim_ascii().to_ascii_lowercase()))
}

/// Decimals that are looked at; more than that comes from computing with binary fractions, as in `0.30000000000000004`.
const DECIMALS: usize = 9;

/// `number` × `scale` as an integer, rounded down.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + decimals.len() == 0 || decimals.contains('.') {
        return None;
    }
    let decimals = decimals.get(..DECIMALS).unwrap_or(decimals);
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: u128 = if decimals.is_empty() { 0 } else { decimals.parse().ok()? };
    let divisor = 10_u128.pow(u32::try_from(decimals.len()).ok()?);
    let value = whole.checked_mul(u128::from(scale))?.checked_add(fraction * u128::from(scale) / divisor)?;
    u64::try_from(value).ok()
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{}' is not an amount of memory; write bytes or a unit: 512m, 1g, 1.5GiB", shown(text));
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let scale = match unit.strip_suffix('b').unwrap_or(&unit) {
            "" => 1,
            unit => BYTE_UNITS
                .iter()
                .find(|(name, _)| *name == unit.strip_suffix('i').unwrap_or(unit))
                .map(|(_, scale)| *scale)
                .ok_or_else(wrong)?,
        };
        scaled(number, scale).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = BYTE_UNITS.iter().find(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale));
        match unit {
            Some((name, scale)) => write!(formatter, "{}{name}", self.0 / scale),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl FromStr for MilliCpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{}' is not an amount of CPU; write CPUs or thousandths: 0.5, 2, 500m", shown(text));
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let scale = match unit.as_str() {
            "" => 1000,
            "m" => 1,
            _ => return Err(wrong()),
        };
        scaled(number, scale).and_then(|milli| u32::try_from(milli).ok()).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        formatter.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{}' is not a length of time; write seconds or units: 30, 30s, 1m30s, 500ms", shown(text));
        let mut rest = text.trim_ascii();
        let mut total = 0_u64;
        if rest.is_empty() {
            return Err(wrong());
        }
        if let Some(seconds) = rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| scaled(rest, 1000)) {
            return seconds.map(Self).ok_or_else(wrong);
        }
        while !rest.is_empty() {
            let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.').ok_or_else(wrong)?;
            let (number, after) = rest.split_at(digits);
            let letters = after.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(letters);
            let scale = SPAN_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale).ok_or_else(wrong)?;
            total = scaled(number, scale).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
            rest = after.trim_ascii_start();
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => formatter.write_str("0s"),
            milliseconds if milliseconds.is_multiple_of(3_600_000) => {
                write!(formatter, "{}h", milliseconds / 3_600_000)
            }
            milliseconds if milliseconds.is_multiple_of(60_000) => {
                write!(formatter, "{}m", milliseconds / 60_000)
            }
            milliseconds if milliseconds.is_multiple_of(1000) => {
                write!(formatter, "{}s", milliseconds / 1000)
            }
            milliseconds => write!(formatter, "{milliseconds}ms"),
        }
    }
}

/// Reads a text or a number, as JSON and TOML writers mix them.
pub(super) struct TextOrNumber<T> {
    expecting: &'static str,
    read: PhantomData<T>,
}

impl<T> TextOrNumber<T> {
    pub(super) const fn new(expecting: &'static str) -> Self {
        Self { expecting, read: PhantomData }
    }
}

impl<T: FromStr<Err = String>> Visitor<'_> for TextOrNumber<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! quantity_serde {
    ($type:ident, $description:literal, $example:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextOrNumber::new(concat!("a text or a number, e.g. \"", $example, "\"")))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            /// Answers say it as text only, under its name.
            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": ["string", "number"], "minimum": 0, "pattern": $pattern,
                    "description": $description, "examples": [$example]
                })
            }
        }

        impl utoipa::ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
        }

        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some($pattern))
                    .description(Some($description))
                    .examples([serde_json::json!($example)])
                    .into()
            }
        }
    };
}

quantity_serde!(
    Bytes,
    "An amount of memory or storage: bytes, or with a unit of 1024 (k, m, g, t).",
    "512m",
    r"^\s*[0-9.]+\s*[kmgtKMGT]?[iI]?[bB]?\s*$"
);
quantity_serde!(MilliCpu, "An amount of CPU: CPUs, or thousandths with the unit m.", "0.5", r"^\s*[0-9.]+\s*[mM]?\s*$");
quantity_serde!(
    Span,
    "A length of time: seconds, or with units (ms, s, m, h, d).",
    "30s",
    r"^\s*([0-9.]+|([0-9.]+(ms|s|m|h|d)\s*)+)\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_reads_what_people_write() {
        for (text, bytes) in [("512m", 512 << 20), ("1g", 1 << 30), ("1.5GiB", 3 << 29), ("64MB", 64 << 20), ("4096", 4096)] {
            assert_eq!(text.parse::<Bytes>().unwrap(), Bytes(bytes), "{text}");
        }
        for bad in ["", "m", "512q", "-1", "1..5g", "99999999999999999999g", "1 2g"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cpu_and_time_read_what_people_write() {
        assert_eq!("0.5".parse::<MilliCpu>().unwrap(), MilliCpu(500));
        assert_eq!("250m".parse::<MilliCpu>().unwrap(), MilliCpu(250));
        assert_eq!("1m30s".parse::<Span>().unwrap(), Span(90_000));
        assert_eq!("30".parse::<Span>().unwrap(), Span(30_000));
        assert_eq!("500ms".parse::<Span>().unwrap(), Span(500));
        assert!("soon".parse::<Span>().is_err());
    }

    proptest! {
        #[test]
        fn a_printed_quantity_reads_back_as_itself(number in 0_u64..u64::MAX / 4, milli in any::<u32>()) {
            prop_assert_eq!(Bytes(number).to_string().parse::<Bytes>().unwrap(), Bytes(number));
            prop_assert_eq!(Span(number).to_string().parse::<Span>().unwrap(), Span(number));
            prop_assert_eq!(MilliCpu(milli).to_string().parse::<MilliCpu>().unwrap(), MilliCpu(milli));
        }

        #[test]
        fn no_text_makes_a_quantity_panic(text in ".{0,40}") {
            let _ = (text.parse::<Bytes>(), text.parse::<MilliCpu>(), text.parse::<Span>());
        }
    }
}

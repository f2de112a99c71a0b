//! Whole numbers with bounds: what cannot be read as one is answered with the bounds, not with those of a type.
//!
//! A number outside of them is read all the same; that it is, is a rule like others.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{self, Deserializer, Unexpected, Visitor};

/// Reads a whole number, or nothing where it is null; for `deserialize_with`.
pub fn whole<'de, N, D>(deserializer: D, bounds: RangeInclusive<N>) -> Result<Option<N>, D::Error>
where
    N: TryFrom<u64> + fmt::Display,
    D: Deserializer<'de>,
{
    deserializer.deserialize_option(Whole(bounds))
}

struct Whole<N>(RangeInclusive<N>);

impl<'de, N: TryFrom<u64> + fmt::Display> Visitor<'de> for Whole<N> {
    type Value = Option<N>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a whole number from {} to {}", self.0.start(), self.0.end())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        N::try_from(number).map(Some).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        let read = u64::try_from(number).ok().and_then(|number| N::try_from(number).ok());
        read.map(Some).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    /// JSON knows one kind of number: 80.0 is 80.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        let read = number.to_string().parse().ok().and_then(|number: u64| N::try_from(number).ok());
        read.map(Some).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_u64(self)
    }
}

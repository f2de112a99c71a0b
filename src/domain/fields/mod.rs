//! Reading JSON objects into types with *every* wrong field reported, not the first only.
//!
//! The types stay the only description of what is allowed. They should be optional all over: what is required is a
//! rule of [`crate::domain::spec`] or of whoever reads, with a message of its own. The work is bounded: it is one walk
//! over the document, and at most [`MAX_ERRORS`] errors are listed.

mod reader;
#[cfg(test)]
mod tests;
mod whole;
mod wrong;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use crate::domain::{nearest, shown};
use crate::error::FieldError;

pub use whole::whole;
use wrong::Step;

/// At most this many errors are listed, and one that says so; a document with more is not worth reading further.
pub const MAX_ERRORS: usize = 100;

/// Reads `object` as `T`; on failure every unknown or unreadable field is in the list.
pub fn read<T: DeserializeOwned>(object: &Map<String, Value>) -> Result<T, Vec<FieldError>> {
    let mut errors = Vec::new();
    let read = reader::walk(object, &|_| true, &mut |error, _| {
        errors.push(error);
        errors.len() <= MAX_ERRORS
    });
    read.ok_or_else(|| bounded(errors))
}

/// What can be read of an object, and what is wrong with the rest.
#[derive(Debug, Default)]
pub struct Reading<T> {
    /// The object without the fields that have errors.
    pub value: T,
    /// All that is wrong.
    pub errors: Vec<FieldError>,
    /// The fields of `T` that `value` lacks, or has parts of only, because of errors in them; and the elements that lists
    /// lack, as `networks[1]`.
    pub unread: BTreeSet<String>,
}

/// Reads `object` as two types at once: each field goes where it is known. Unknown fields are among the first's errors.
/// `parts` is as with [`read_part`].
#[must_use]
pub fn read_both<A, B>(object: &Map<String, Value>, parts: &[&str]) -> (Reading<A>, Reading<B>)
where
    A: DeserializeOwned + Default,
    B: DeserializeOwned + Default,
{
    let (first, second) = (field_names::<A>(), field_names::<B>());
    let unknown = object.keys().filter(|key| !first.contains(&key.as_str()) && !second.contains(&key.as_str()));
    let known = first.iter().chain(second).copied();
    let unknown = unknown.take(MAX_ERRORS + 1).map(|key| {
        let mut path = String::new();
        push_key(&mut path, key);
        FieldError { field: path, ..unknown_field(key, known.clone()) }
    });
    let mut left = read_part(object, &|key| first.contains(&key), parts);
    left.errors.splice(0..0, unknown);
    (left, read_part(object, &|key| second.contains(&key), parts))
}

/// Reads what can be read of the fields of `object` that `keep` holds for. Of a field among `parts`, the entries and
/// elements without errors are kept; of others with errors, nothing.
pub fn read_part<T: DeserializeOwned + Default>(
    object: &Map<String, Value>,
    keep: &dyn Fn(&str) -> bool,
    parts: &[&str],
) -> Reading<T> {
    let mut reading = Reading::default();
    let mut wrong = Vec::new();
    let read = reader::walk(object, keep, &mut |error, place| {
        reading.errors.push(error);
        if let [Some(Step::Key(member)), entry] = place {
            reading.unread.insert(member.to_owned());
            wrong.push((member, entry));
        }
        reading.errors.len() <= MAX_ERRORS
    });
    let value = read.or_else(|| {
        let mut right = object.clone();
        let mut elements: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for (member, entry) in wrong {
            let part = right.get_mut(member).filter(|_| parts.contains(&member));
            match (part, entry) {
                (Some(Value::Object(map)), Some(Step::Key(entry))) => drop(map.remove(entry)),
                (Some(Value::Array(_)), Some(Step::Index(index))) => drop(elements.entry(member).or_default().insert(index)),
                _ => drop(right.remove(member)),
            }
        }
        for (member, wrong) in elements {
            let Some(Value::Array(list)) = right.get_mut(member) else { continue };
            let mut index = 0..;
            list.retain(|_| index.next().is_none_or(|index| !wrong.contains(&index)));
            reading.unread.extend(wrong.into_iter().map(|index| format!("{member}[{index}]")));
        }
        reader::walk(&right, keep, &mut |_, _| false)
    });
    Reading { value: value.unwrap_or_default(), ..reading }
}

/// The list, cut at [`MAX_ERRORS`], saying so where it was.
#[must_use]
pub fn bounded(mut errors: Vec<FieldError>) -> Vec<FieldError> {
    if errors.len() > MAX_ERRORS {
        errors.truncate(MAX_ERRORS);
        errors.push(FieldError::new("", "has more errors than are listed", "correct these first"));
    }
    errors
}

/// What was read, unless names are given twice: then the list of these and of all else that is wrong.
pub fn once<T>(read: Result<T, Vec<FieldError>>, twice: &[FieldError]) -> Result<T, Vec<FieldError>> {
    if twice.is_empty() {
        return read;
    }
    let others = read.err().unwrap_or_default().into_iter();
    // One error of a field is enough: it may be the reason of the other.
    let others = others.filter(|error| !twice.iter().any(|twice| twice.field == error.field));
    Err(bounded(twice.iter().cloned().chain(others).collect()))
}

/// The names that `T`'s fields may have, in the order of their declaration.
#[must_use]
pub fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It ends in an error on purpose: all that is wanted is what the type asks for.
    let _ = T::deserialize(Names(&mut names));
    names
}

/// The error for one unknown field.
#[must_use]
pub fn unknown_field<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> FieldError {
    let remedy = match nearest(key, known.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None if known.clone().next().is_none() => "leave it out: nothing is known here".to_owned(),
        None => format!("known fields: {}", known.collect::<Vec<_>>().join(", ")),
    };
    FieldError::new(shown(key), "unknown field", remedy)
}

/// Adds a step into an object to a path.
pub(super) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&shown(key));
}

/// Adds a step into a list to a path.
pub(super) fn push_index(path: &mut String, index: usize) {
    // Writing to a string cannot fail.
    let _ = write!(path, "[{index}]");
}

/// Learns which fields a struct asks for.
struct Names<'n>(&'n mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("only the names of the fields are wanted"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

//! A deserializer over JSON values that knows where it stands, and can go on behind what it could not read.
//!
//! serde gives up at the first error. This reader says where that was and what is left to be read; a second attempt
//! starts there. So all errors of a document are found in one walk over it, however many there are.

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, Visitor, value::BorrowedStrDeserializer};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Number, Value};

use super::wrong::{Rest, Step, Stop, Wrong};
use crate::error::FieldError;

/// Which members of the outermost object are looked at.
pub(super) type Keep<'k> = &'k dyn Fn(&str) -> bool;

/// Reads the members of `object` that `keep` holds for. Calls `wrong` for everything that `T` cannot hold, with the steps
/// to the member and to the entry or element of that member it is in, until that returns false. The value, if there was
/// nothing wrong.
pub(super) fn walk<'de, T: Deserialize<'de>>(
    object: &'de Map<String, Value>,
    keep: Keep<'_>,
    wrong: &mut dyn FnMut(FieldError, [Option<Step<'de>>; 2]) -> bool,
) -> Option<T> {
    let mut resume: Vec<Stop<'de>> = Vec::new();
    let mut found = false;
    loop {
        let error = match T::deserialize(Reader { place: Place::Root(object, keep), resume: &resume }) {
            Ok(value) => return (!found).then_some(value),
            Err(error) => error,
        };
        found = true;
        let whole = resume.is_empty();
        let (told, trail) = error.told();
        let step = |depth: usize| trail.get(depth).map(|stop| stop.step);
        let place = [step(0), step(1)];
        // An error of the whole that was not read from its beginning may come from that.
        let believed = told.filter(|_| whole || !trail.is_empty());
        let go_on = believed.is_none_or(|error| wrong(error, place));
        if !go_on || trail.is_empty() {
            return None;
        }
        resume = trail;
    }
}

/// Reads one part of a document. `resume` is the way from here to where an earlier attempt failed.
struct Reader<'de, 'r> {
    place: Place<'de, 'r>,
    resume: &'r [Stop<'de>],
}

#[derive(Clone, Copy)]
enum Place<'de, 'r> {
    Root(&'de Map<String, Value>, Keep<'r>),
    Value(&'de Value),
}

impl<'de, 'r> Reader<'de, 'r> {
    fn unexpected(&self) -> de::Unexpected<'de> {
        match self.place {
            Place::Root(..) | Place::Value(Value::Object(_)) => de::Unexpected::Map,
            Place::Value(Value::Null) => de::Unexpected::Unit,
            Place::Value(Value::Bool(value)) => de::Unexpected::Bool(*value),
            Place::Value(Value::Number(number)) => unexpected_number(number),
            Place::Value(Value::String(text)) => de::Unexpected::Str(text),
            Place::Value(Value::Array(_)) => de::Unexpected::Seq,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self.place, Place::Value(Value::Null))
    }

    fn entries(&self, object: &'de Map<String, Value>, keep: Keep<'r>) -> Entries<'de, 'r> {
        let (rest, resume) = match self.resume.split_first() {
            Some((Stop { rest: Rest::Object(rest), .. }, inner)) => (rest.clone(), Some(inner)),
            _ => (object.iter(), None),
        };
        Entries { before: rest.clone(), rest, keep, value: None, resume }
    }

    fn elements(&self, elements: &'de [Value]) -> Elements<'de, 'r> {
        match self.resume.split_first() {
            Some((Stop { rest: Rest::List { next }, .. }, inner)) => {
                Elements { list: elements, next: *next, resume: Some(inner) }
            }
            _ => Elements { list: elements, next: 0, resume: None },
        }
    }
}

fn unexpected_number<'de>(number: &Number) -> de::Unexpected<'de> {
    match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => de::Unexpected::Unsigned(number),
        (None, Some(number)) => de::Unexpected::Signed(number),
        (None, None) => de::Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
    }
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = Wrong<'de>;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong<'de>> {
        match self.place {
            Place::Root(object, keep) => visitor.visit_map(self.entries(object, keep)),
            Place::Value(Value::Object(object)) => visitor.visit_map(self.entries(object, &|_| true)),
            Place::Value(Value::Array(elements)) => visitor.visit_seq(self.elements(elements)),
            Place::Value(Value::Null) => visitor.visit_unit(),
            Place::Value(Value::Bool(value)) => visitor.visit_bool(*value),
            Place::Value(Value::String(text)) => visitor.visit_borrowed_str(text),
            Place::Value(Value::Number(number)) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong<'de>> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong<'de>> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong<'de>> {
        if let Place::Value(Value::String(text)) = self.place {
            return visitor.visit_enum(BorrowedStrDeserializer::new(text));
        }
        let expected = format!("one of {}", variants.join(", "));
        Err(de::Error::invalid_type(self.unexpected(), &expected.as_str()))
    }

    /// Structs are objects. A derived visitor would also read a list, by the order in which the fields are declared.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong<'de>> {
        match self.place {
            Place::Value(Value::Array(_)) => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong<'de>> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}

/// The members of an object. `resume` is there for the first of them when an earlier attempt failed in it or before it.
struct Entries<'de, 'r> {
    before: serde_json::map::Iter<'de>,
    rest: serde_json::map::Iter<'de>,
    keep: Keep<'r>,
    value: Option<(&'de str, &'de Value)>,
    resume: Option<&'r [Stop<'de>]>,
}

impl<'de> de::MapAccess<'de> for Entries<'de, '_> {
    type Error = Wrong<'de>;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong<'de>> {
        let (key, value) = loop {
            self.before = self.rest.clone();
            match self.rest.next() {
                Some((key, value)) if (self.keep)(key) => break (key, value),
                Some(_) => {}
                None => return Ok(None),
            }
        };
        self.value = Some((key, value));
        let read = seed.deserialize(BorrowedStrDeserializer::new(key));
        read.map(Some).map_err(|wrong: Wrong<'de>| wrong.at(Step::Key(key), Rest::Object(self.rest.clone())))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong<'de>> {
        let Some((key, value)) = self.value.take() else { return Err(de::Error::custom("a value without a key")) };
        let resume = self.resume.take().unwrap_or_default();
        seed.deserialize(Reader { place: Place::Value(value), resume }).map_err(|wrong| {
            let inside = wrong.is_inside();
            let wrong = if !inside && !resume.is_empty() { wrong.doubtful() } else { wrong };
            wrong.at(Step::Key(key), Rest::Object(if inside { self.before.clone() } else { self.rest.clone() }))
        })
    }
}

/// The elements of a list, likewise.
struct Elements<'de, 'r> {
    list: &'de [Value],
    next: usize,
    resume: Option<&'r [Stop<'de>]>,
}

impl<'de> de::SeqAccess<'de> for Elements<'de, '_> {
    type Error = Wrong<'de>;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong<'de>> {
        let Some(element) = self.list.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        let resume = self.resume.take().unwrap_or_default();
        seed.deserialize(Reader { place: Place::Value(element), resume }).map(Some).map_err(|wrong| {
            let inside = wrong.is_inside();
            let wrong = if !inside && !resume.is_empty() { wrong.doubtful() } else { wrong };
            let next = if inside { index } else { index + 1 };
            wrong.at(Step::Index(index), Rest::List { next })
        })
    }
}

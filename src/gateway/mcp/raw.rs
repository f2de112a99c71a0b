//! JSON that keeps what it does not understand: objects whose members stay the text they came as, in their order.
//!
//! Services' words pass through here to clients; typed models would drop the fields that they do not know.

use std::fmt;

use bytes::Bytes;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::rpc;

/// The member of `_meta` by which whoever asks wants news, and of the news themselves.
pub(super) const PROGRESS_TOKEN: &str = "progressToken";

/// The text of one JSON value.
pub(super) type Raw = Box<RawValue>;

/// An object as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Object(Vec<(String, Raw)>);

impl Object {
    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| &**value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The member as a type; `None` when it is absent or something else.
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<T> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.read(name)
    }

    pub(super) fn object(&self, name: &str) -> Option<Self> {
        self.read(name)
    }

    /// Sets the member where it stands, or adds it at the end.
    pub(super) fn set(&mut self, name: &str, value: Raw) {
        match self.0.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(super) fn put(&mut self, name: &str, value: &impl Serialize) {
        self.set(name, raw(value));
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn to_text(&self) -> String {
        // A map of texts always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A value of ours as text.
pub(super) fn raw(value: &impl Serialize) -> Raw {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(one, other)| one.0 == other.0 && one.1.get() == other.1.get())
    }
}

impl Eq for Object {}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Object::default();
                while let Some((name, value)) = map.next_entry::<String, Raw>()? {
                    // Of two members with one name most readers take the last; so does this.
                    members.set(&name, value);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// One JSON-RPC message.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) id: Option<Raw>,
    pub(super) method: Option<String>,
    pub(super) whole: Object,
}

impl Message {
    /// `None` when it is no JSON-RPC message; batches are none.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let whole: Object = serde_json::from_slice(text).ok()?;
        let id = whole.get("id").filter(|id| id.get() != "null").map(ToOwned::to_owned);
        let method = whole.text("method");
        let known =
            whole.text("jsonrpc").as_deref() == Some("2.0") && (method.is_some() || whole.has("result") || whole.has("error"));
        known.then_some(Self { id, method, whole })
    }

    pub(super) fn params(&self) -> Object {
        self.whole.object("params").unwrap_or_default()
    }

    pub(super) fn set_params(&mut self, params: &Object) {
        self.whole.put("params", params);
    }

    /// An answer to a request, rather than a request or a notification.
    pub(super) fn is_answer(&self) -> bool {
        self.method.is_none()
    }
}

/// The answer with a result.
pub(super) fn answer(id: &RawValue, result: &impl Serialize) -> Bytes {
    rpc::result(id.get().as_bytes(), raw(result).get().as_bytes())
}

/// The answer with an error.
pub(super) fn error(id: Option<&RawValue>, code: i32, message: &str, data: Option<&serde_json::Value>) -> Bytes {
    rpc::error(id.map(|id| id.get().as_bytes()), code, message, data.map(ToString::to_string).as_deref())
}

/// A request of the manager's own. No other request has its id: a session has none twice, its client's included.
pub(super) fn request(method: &str, params: &impl Serialize) -> Bytes {
    let id = rpc::quoted(&format!("mcp-manager-{}", crate::random::id()));
    rpc::request(id.as_bytes(), method, raw(params).get().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_understood_stays_as_it_came() {
        let text = r#"{"jsonrpc":"2.0","id":18446744073709551616,"method":"tools/call","params":{"z":1.50,"name":"a__b","a":"\u00e9😀"},"x":[1,  2]}"#;
        let mut message = Message::parse(text.as_bytes()).unwrap();
        assert_eq!(message.id.as_ref().unwrap().get(), "18446744073709551616");
        let mut params = message.params();
        params.put("name", &"b");
        message.set_params(&params);
        assert_eq!(message.whole.to_text(), text.replace("a__b", "b"));
    }

    #[test]
    fn what_is_no_message_is_not_taken_for_one() {
        for text in ["", "[]", "{}", "1", r#"{"jsonrpc":"2.0"}"#, r#"{"jsonrpc":"1.0","method":"a"}"#, r#"{"method":"a"}"#] {
            assert!(Message::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_object_that_is_only_read_is_written_as_it_came(members in prop::collection::vec(("[a-z]{1,6}", -1e9..1e9_f64), 0..6)) {
            let mut seen = std::collections::BTreeSet::new();
            let members: Vec<String> = members
                .into_iter()
                .filter(|(name, _)| seen.insert(name.clone()))
                .map(|(name, value)| format!("\"{name}\":{value:.3}"))
                .collect();
            let text = format!("{{{}}}", members.join(","));
            prop_assert_eq!(serde_json::from_str::<Object>(&text).unwrap().to_text(), text);
        }
    }
}

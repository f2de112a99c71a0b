//! Who wants to hear of changes at a server that several clients share: sessions of the earlier eras, and subscriptions of
//! the stateless one. Leaves out what belongs to a request.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use super::json::{self, Span};
use super::scan::Message;
use super::splice::{Edit, apply};
use super::stream::Stream;
use crate::rpc;
use crate::rpc::keys::SUBSCRIPTION;

/// The kinds of changes that one listener wants to hear of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `notifications/tools/list_changed`
    pub tools: bool,
    /// `notifications/prompts/list_changed`
    pub prompts: bool,
    /// `notifications/resources/list_changed`
    pub resources: bool,
    /// `notifications/resources/updated` of these URIs.
    pub uris: Vec<String>,
}

impl Wanted {
    /// All lists, no resources: what a session of the earlier eras gets before it subscribes to any.
    #[must_use]
    pub fn lists() -> Self {
        Self { tools: true, prompts: true, resources: true, uris: Vec::new() }
    }

    /// Adds a resource, if there is room for it.
    #[must_use]
    pub fn add(&mut self, uri: &str) -> bool {
        if self.uris.iter().any(|known| known == uri) {
            return true;
        }
        let has_room = rpc::has_room_for_subscription(self.uris.iter().map(String::len), uri.len());
        if has_room {
            self.uris.push(uri.to_owned());
        }
        has_room
    }

    fn wants(&self, text: &[u8], message: &Message) -> bool {
        match &*message.method(text) {
            "notifications/tools/list_changed" => self.tools,
            "notifications/prompts/list_changed" => self.prompts,
            "notifications/resources/list_changed" => self.resources,
            "notifications/resources/updated" => {
                let [uri] = message.params(text, ["uri"]);
                let uri = uri.and_then(|uri| json::string(text, uri));
                uri.is_some_and(|uri| self.uris.iter().any(|wanted| *wanted == uri))
            }
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Listener {
    stream: Weak<Stream>,
    wanted: Arc<Mutex<Wanted>>,
    /// The subscription's id, JSON, for clients of the stateless era.
    subscription: Option<Bytes>,
}

/// All listeners of one server.
#[derive(Debug, Default)]
pub struct Listeners {
    all: Mutex<Vec<Listener>>,
}

impl Listeners {
    /// Adds a listener for as long as its stream lives.
    pub fn add(&self, stream: &Arc<Stream>, wanted: Arc<Mutex<Wanted>>, subscription: Option<Bytes>) {
        self.all().push(Listener { stream: Arc::downgrade(stream), wanted, subscription });
    }

    /// Forgets the listener of this stream.
    pub fn remove(&self, stream: &Weak<Stream>) {
        self.all().retain(|listener| !listener.stream.ptr_eq(stream));
    }

    /// Whether nobody listens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let mut all = self.all();
        all.retain(|listener| listener.stream.strong_count() > 0);
        all.is_empty()
    }

    /// Whether anybody wants to hear of this resource.
    #[must_use]
    pub fn any_wants(&self, uri: &str) -> bool {
        let alive = |listener: &&Listener| listener.stream.strong_count() > 0;
        self.all().iter().filter(alive).any(|listener| lock(&listener.wanted).uris.iter().any(|wanted| wanted == uri))
    }

    /// All resources that anybody wants to hear of.
    #[must_use]
    pub fn wanted_uris(&self) -> BTreeSet<String> {
        let alive = |listener: &&Listener| listener.stream.strong_count() > 0;
        self.all().iter().filter(alive).flat_map(|listener| lock(&listener.wanted).uris.clone()).collect()
    }

    /// Brings a notification to everybody who wants it; to how many.
    pub fn tell(&self, text: &Bytes, message: &Message) -> usize {
        let mut told = 0;
        // Copied once, and not for each of them: it may wait for many slow readers.
        let text = &Bytes::copy_from_slice(text);
        self.all().retain(|listener| {
            let Some(stream) = listener.stream.upgrade() else { return false };
            if lock(&listener.wanted).wants(text, message) {
                let text = listener.subscription.as_ref().map_or_else(|| text.clone(), |id| tag(text, message, id));
                stream.push_shared(text);
                told += 1;
            }
            true
        });
        told
    }

    fn all(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The notification with its subscription's id.
fn tag(text: &Bytes, message: &Message, id: &[u8]) -> Bytes {
    let object = |span: &Span| text[span.start] == b'{';
    let meta_value = [b"{\"", SUBSCRIPTION.as_bytes(), b"\":", id, b"}"].concat();
    let edit = if let Some(params) = message.params.filter(object) {
        let [meta] = json::find(text, Some(params), ["_meta"]);
        match meta.filter(object) {
            Some(meta) => Edit::add_member(text, meta, SUBSCRIPTION, id),
            None => Edit::add_member(text, params, "_meta", &meta_value),
        }
    } else {
        let whole = Span { start: json::skip_white(text, 0), end: text.len() };
        Edit::add_member(text, whole, "params", &[b"{\"_meta\":", &meta_value[..], b"}"].concat())
    };
    apply(text, &mut [edit])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::scan::scan;
    use super::*;

    #[test]
    fn a_notification_is_tagged_wherever_its_meta_is() {
        for text in [
            r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"x":1,"_meta":{"y":2}}}"#,
        ] {
            let tagged = tag(&text.into(), &scan(text.as_bytes()).unwrap(), b"\"s\"");
            let value: serde_json::Value = serde_json::from_slice(&tagged).unwrap();
            assert_eq!(value["params"]["_meta"][SUBSCRIPTION], "s");
        }
    }

    #[test]
    fn there_is_room_for_so_many_resources_and_so_many_bytes_of_their_uris() {
        let mut wanted = Wanted::default();
        assert!((0..1000).all(|number| wanted.add(&format!("a:{number}"))));
        assert!(wanted.add("a:0") && !wanted.add("a:1000"), "one that is there needs no room");
        let mut wanted = Wanted::default();
        assert!(wanted.add(&"x".repeat(200 << 10)) && !wanted.add(&"y".repeat(57 << 10)) && wanted.add("a:1"));
    }

    #[test]
    fn only_what_is_wanted_is_told() {
        let limits = super::super::stream::Limits { unread: 1000, replay: 0, lossy: false, solo: false };
        let stream = Stream::new(0, limits);
        let listeners = Listeners::default();
        let wanted = Wanted { uris: vec!["a:b".into()], tools: true, ..Wanted::default() };
        listeners.add(&stream, Arc::new(Mutex::new(wanted)), None);
        for (method, params, told) in [
            ("notifications/tools/list_changed", "{}", 1),
            ("notifications/prompts/list_changed", "{}", 0),
            ("notifications/resources/updated", r#"{"uri":"a:b"}"#, 1),
            ("notifications/resources/updated", r#"{"uri":"a:c"}"#, 0),
        ] {
            let text = crate::rpc::notification(method, Some(params.as_bytes()));
            assert_eq!(listeners.tell(&text, &scan(&text).unwrap()), told, "{method}");
        }
    }
}

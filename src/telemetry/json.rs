//! A log line as one JSON object: time, level, the event's fields, its target, and what is known of the request.
//!
//! The id of a request stands at one place in every line, whoever wrote it: `request_id`, beside the event's own fields. The
//! other fields of the innermost span are in `span`.

use std::fmt;

use serde::Serializer as _;
use serde::ser::SerializeMap as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

const REQUEST_ID: &str = "request_id";

/// Writes events as JSON; fields of spans must be formatted as JSON, too.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let span = event.parent().and_then(|id| context.span(id)).or_else(|| context.lookup_current());
        let mut line = Vec::with_capacity(256);
        write(&mut line, &time, event, span.as_ref().map(known::<S, N>)).map_err(|_| fmt::Error)?;
        writer.write_str(std::str::from_utf8(&line).map_err(|_| fmt::Error)?)?;
        writer.write_char('\n')
    }
}

/// What is known of where an event happens.
struct Known {
    request_id: Option<Value>,
    span: Map<String, Value>,
}

fn known<S, N>(span: &SpanRef<'_, S>) -> Known
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let fields = |span: &SpanRef<'_, S>| {
        let extensions = span.extensions();
        let text = extensions.get::<FormattedFields<N>>().map_or("", |formatted| formatted.fields.as_str());
        // Spans without fields have no text at all.
        serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default()
    };
    let mut own = fields(span);
    let mut request_id = own.remove(REQUEST_ID);
    if request_id.is_none() {
        request_id = span.scope().skip(1).find_map(|outer| fields(&outer).remove(REQUEST_ID));
    }
    own.insert("name".to_owned(), span.name().into());
    Known { request_id, span: own }
}

fn write(line: &mut Vec<u8>, time: &str, event: &Event<'_>, known: Option<Known>) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::new(line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", time)?;
    map.serialize_entry("level", event.metadata().level().as_str())?;
    let mut fields = Fields { map, has_request_id: false, result: Ok(()) };
    event.record(&mut fields);
    let Fields { mut map, has_request_id, result } = fields;
    result?;
    map.serialize_entry("target", event.metadata().target())?;
    if let Some(Known { request_id, span }) = known {
        // An event that says whose request it is knows best.
        if let Some(id) = request_id.filter(|_| !has_request_id) {
            map.serialize_entry(REQUEST_ID, &id)?;
        }
        map.serialize_entry("span", &span)?;
    }
    map.end()
}

/// Writes the fields of an event into an object as they come.
struct Fields<M: serde::ser::SerializeMap> {
    map: M,
    has_request_id: bool,
    result: Result<(), M::Error>,
}

impl<M: serde::ser::SerializeMap> Fields<M> {
    fn put<T: serde::Serialize + ?Sized>(&mut self, field: &Field, value: &T) {
        self.has_request_id |= field.name() == REQUEST_ID;
        if self.result.is_ok() {
            // A name that is a word of Rust's, too, is written `r#type` in the source.
            let name = field.name();
            self.result = self.map.serialize_entry(name.strip_prefix("r#").unwrap_or(name), value);
        }
    }
}

impl<M: serde::ser::SerializeMap> Visit for Fields<M> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of what `work` says.
    fn lines(work: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().json().event_format(JsonLines).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn the_id_of_a_request_stands_beside_the_fields_of_every_line() {
        let said = lines(|| {
            let request = tracing::info_span!("request", request_id = "one", path = "/x\"");
            request.in_scope(|| {
                tracing::info!(count = 2_u64, share = 0.5, done = true, "plain");
                tracing::info!(request_id = "two", target_of = "x", "its own");
                tracing::info_span!("inside").in_scope(|| tracing::warn!(error = %io::Error::other("broke"), "deeper"));
                tracing::info_span!("request", request_id = "three").in_scope(|| tracing::info!("of another"));
            });
            tracing::info!("outside");
        });
        let ids: Vec<Option<&str>> = said.iter().map(|line| line["request_id"].as_str()).collect();
        assert_eq!(ids, [Some("one"), Some("two"), Some("one"), Some("three"), None]);
        assert!(said.iter().all(|line| line["span"].get("request_id").is_none()), "at one place only: {said:#?}");
        assert_eq!(said[0]["span"], serde_json::json!({"name": "request", "path": "/x\""}));
        assert_eq!((&said[0]["count"], &said[0]["share"], &said[0]["done"]), (&2.into(), &0.5.into(), &true.into()));
        assert_eq!((&said[2]["error"], &said[2]["level"]), (&"broke".into(), &"WARN".into()));
        assert!(said.iter().all(|line| line["timestamp"].is_string() && line["target"] == module_path!()));
    }
}

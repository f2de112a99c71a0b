//! Any bytes as a message for the bridge: its scanner takes what a JSON parser takes, finds the same members, and what
//! is put on one line or changed in places says the same as before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_manager::bridge::scan::{Refused, scan};
use mcp_manager::bridge::splice;
use serde_json::Value;

/// Nesting up to which both are asked; each has a limit of its own beyond.
const DEEP: usize = 100;

fuzz_target!(|bytes: &[u8]| {
    let parsed = serde_json::from_slice::<Value>(bytes);
    let is_deep = bytes.iter().filter(|byte| b"[{".contains(byte)).count() > DEEP;
    match scan(bytes) {
        Ok(message) => {
            let Ok(parsed) = parsed else {
                // A number may be beyond what the parser holds; the scanner has no need to hold it.
                assert!(is_deep || parsed.is_err_and(|error| error.to_string().contains("out of range")));
                return;
            };
            for (span, name) in [
                (message.id, "id"),
                (message.method, "method"),
                (message.params, "params"),
                (message.result, "result"),
                (message.error, "error"),
            ] {
                if let Some(span) = span {
                    assert_eq!(serde_json::from_slice::<Value>(span.of(bytes)).ok().as_ref(), parsed.get(name), "{name}");
                }
            }
            let line = splice::one_line(bytes.to_vec().into());
            assert!(!line.contains(&b'\n') && serde_json::from_slice::<Value>(&line).is_ok_and(|line| line == parsed));
            if let Some(id) = message.id {
                let changed = splice::apply(bytes, &mut [splice::Edit::replace(id, "7")]);
                let changed: Value = serde_json::from_slice(&changed).expect("still JSON");
                assert_eq!(changed["id"], 7);
            }
        }
        Err(Refused::Json(_)) => assert!(is_deep || parsed.is_err(), "the parser takes it: {parsed:?}"),
        Err(_) => {}
    }
});

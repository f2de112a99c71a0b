//! Any JSON as a spec: it is resolved, or every error has a remedy; a resolved spec survives its record, fits into a
//! label and is what it was made from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_manager::domain::fields::{self, MAX_ERRORS};
use mcp_manager::domain::spec::{Defaults, MountSource, ServiceSpec, SpecInput, differences, resolve};
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Value::Object(object)) = serde_json::from_slice(bytes) else { return };
    let defaults = Defaults { allowed_host_paths: vec!["/srv".to_owned()], ..Defaults::default() };
    let variables = |name: &str| (name.len() % 2 == 0).then(|| format!("$\"{name}\n"));
    let read = fields::read::<SpecInput>(&object);
    let resolved = read.clone().and_then(|input| resolve(input, &defaults, &["HOME".to_owned(), "A".to_owned()], &variables));
    match (read, resolved) {
        (Ok(said), Ok(spec)) => {
            assert_eq!(said.clone().overlaid(SpecInput::default()), said);
            assert_eq!(differences(&said, &spec, &spec), []);
            let record = serde_json::to_string(&spec).expect("a spec is plain values");
            assert!(record.len() <= 256 << 10);
            let again: ServiceSpec = serde_json::from_str(&record).expect("a record is read by who wrote it");
            assert_eq!(again, spec);
            for mount in &spec.volumes {
                if let MountSource::Host(path) = &mount.source {
                    assert!(path == "/srv" || path.starts_with("/srv/"), "{path}");
                    assert!(!path.split('/').any(|step| step == ".."), "{path}");
                }
            }
        }
        (_, Err(errors)) => {
            assert!(!errors.is_empty() && errors.len() <= MAX_ERRORS + 1);
            for error in errors {
                assert!(error.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty()), "{error}");
                assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            }
        }
        (Err(errors), Ok(_)) => panic!("resolved what was not read: {errors:?}"),
    }
});

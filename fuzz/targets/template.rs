//! Any bytes as a template's file: it is read, or every error has a remedy and a line; what was read can be used.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_manager::domain::document::Document;
use mcp_manager::domain::fields::MAX_ERRORS;
use mcp_manager::domain::spec::{Defaults, SpecInput};
use mcp_manager::domain::template::Template;

fuzz_target!(|bytes: &[u8]| {
    let document = match Document::parse(bytes) {
        Ok(document) => document,
        Err(errors) => {
            assert!(!errors.is_empty() && errors.iter().all(|error| error.line.is_some() && error.remedy.is_some()));
            return;
        }
    };
    match Template::from_document(&document.value, Some("fallback")) {
        Err(errors) => {
            assert!(!errors.is_empty() && errors.len() <= MAX_ERRORS + 1);
            for error in document.with_lines(errors) {
                assert!(error.line.is_some() && error.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty()), "{error}");
                assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            }
        }
        Ok(template) => {
            assert_eq!(
                Template::from_document(&template.document, Some("fallback")).as_ref(),
                Ok(&template),
                "it is read from its own document"
            );
            let defaults = Defaults { allowed_host_paths: vec!["/".to_owned()], ..Defaults::default() };
            if let Err(error) = template.instantiate(SpecInput::default(), &defaults, &|_| Some(String::new())) {
                let required = |field: &str| field.strip_prefix("environment.").is_some();
                assert!(error.fields.iter().all(|field| required(&field.field)), "a valid template cannot be used: {error}");
            }
        }
    }
});

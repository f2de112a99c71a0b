//! Any text as the file of settings and any variables (`NAME=VALUE`, one a line behind a zero byte): they are read, or
//! the error says what to do.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use mcp_manager::config::{Directories, Environment, Inputs, load};

/// A file of this process alone, below the folder for temporary files.
fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| std::env::temp_dir().join(format!("mcp-manager-fuzz-{}.toml", std::process::id())))
}

fuzz_target!(|bytes: &[u8]| {
    let (text, variables) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    std::fs::write(file(), text).expect("the folder for temporary files can be written");
    let variables = String::from_utf8_lossy(variables).into_owned();
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let environment: Environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let directories = Directories::new(&environment, PathBuf::from("/nowhere"), &PathBuf::from("/nowhere"));
    let inputs = Inputs { file: Some(file().clone()), flags: Vec::new(), environment, directories };
    match load(&inputs) {
        Ok(config) => drop(config.values()),
        Err(error) => assert!(error.remedy.is_some() || error.fields.iter().all(|field| field.remedy.is_some()), "{error}"),
    }
});

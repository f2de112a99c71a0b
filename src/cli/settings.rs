//! Settings on the command line: which flags set what, and the commands that show the result.

use serde_json::{Value as Json, json};

use super::arguments::{ConfigCommand, Settings};
use super::exit::Outcome;
use super::output::{Judgement, Output, Value};
use crate::config::{self, Config, Flag, Inputs, Origin};
use crate::error::{Error, FieldError, Result};

/// Reads all settings of this process.
pub fn load(arguments: &Settings) -> Result<Config> {
    config::load(&inputs(arguments)?)
}

/// The same, or the defaults with what is wrong with the settings.
pub fn load_in_any_case(arguments: &Settings) -> Result<(Config, Option<Error>)> {
    let inputs = inputs(arguments)?;
    match config::load(&inputs) {
        Ok(config) => Ok((config, None)),
        Err(error) => Ok((config::defaults(&inputs)?, Some(error))),
    }
}

fn inputs(arguments: &Settings) -> Result<Inputs> {
    Inputs::of_process(arguments.config.clone(), flags(arguments)?)
}

/// The settings given as flags; `--set` first, so that a flag of its own goes before it.
fn flags(arguments: &Settings) -> Result<Vec<Flag>> {
    let mut flags = Vec::new();
    let mut errors = Vec::new();
    for text in &arguments.set {
        if let Some((path, value)) = text.split_once('=') {
            flags.push(Flag { name: "--set".into(), path: path.trim().into(), value: value.into() });
        } else {
            let message = format!("'{}' has no value", text.escape_debug());
            errors.push(FieldError::new("--set", message, "write SECTION.NAME=VALUE, e.g. limits.max_containers=20"));
        }
    }
    let named = [
        ("--listen", "server.listen", &arguments.listen),
        ("--backend", "backend.kind", &arguments.backend),
        ("--templates", "templates.dir", &arguments.templates),
        ("--log-level", "telemetry.log_level", &arguments.log_level),
        ("--log-format", "telemetry.log_format", &arguments.log_format),
    ];
    for (name, path, value) in named {
        flags.extend(value.clone().map(|value| Flag { name: name.into(), path: path.into(), value }));
    }
    if errors.is_empty() { Ok(flags) } else { Err(Error::invalid("the command cannot be understood", errors)) }
}

/// `mcp-manager config …`.
pub fn command(output: &Output, command: &ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Show(arguments) => show(output, &load(arguments)?),
        ConfigCommand::Path(arguments) => path(output, &inputs(arguments)?),
        ConfigCommand::Reference => output.text(&config::reference::markdown()),
    }
}

fn show(output: &Output, config: &Config) -> Outcome {
    for warning in &config.warnings {
        output.note(&format!("warning: {warning}"));
    }
    let values = config.values().into_iter().map(|(setting, value, origin)| {
        let hidden = setting.secret && !value.is_null();
        (setting.path(), if hidden { "(secret)".into() } else { value }, origin)
    });
    if output.json {
        let object: serde_json::Map<String, Json> =
            values.map(|(path, value, origin)| (path, json!({"value": value, "source": origin.to_string()}))).collect();
        return output.document(&object);
    }
    let rows = values.map(|(path, value, origin)| {
        let value = match value {
            Json::Null => "-".to_owned(),
            Json::String(text) => text,
            Json::Array(list) if list.is_empty() => "-".to_owned(),
            Json::Array(list) => list
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join(", "),
            value => value.to_string(),
        };
        let source = origin.to_string();
        let source =
            if matches!(origin, Origin::Default) { Value::plain(source) } else { Value::judged(source, Judgement::Good) };
        vec![Value::plain(path), Value::plain(value), source]
    });
    output.table(&["SETTING", "VALUE", "FROM"], rows.collect())
}

fn path(output: &Output, inputs: &Inputs) -> Outcome {
    let (read, candidates) = (inputs.config_file(), inputs.directories.config_files());
    if output.json {
        return output.document(&json!({"file": read, "looked_for": candidates}));
    }
    if let Some(path) = read {
        return output.text(&path.display().to_string());
    }
    let candidates: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    output.note(&format!("no file of settings; it would be read from {}", candidates.join(", else ")));
    Ok(())
}

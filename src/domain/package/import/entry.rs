//! One server of a client's file: its command, in each of the forms that clients have, and its variables.

use serde_json::{Map, Value};

use super::super::Source;
use super::Imported;
use super::launcher::{self, file_name};
use super::values::{is_path_of_machine, is_placeholder, secret_argument};

/// Whether an object is a server, and not a list of servers by name.
pub(super) fn is_one(entry: &Map<String, Value>) -> bool {
    address(entry).is_some() || !command_line(entry).is_empty()
}

/// Reads a server, or says why it is left out.
pub(super) fn server(name: &str, entry: &Map<String, Value>) -> Result<Imported, String> {
    let says = |name: &str, value: bool| entry.get(name) == Some(&Value::Bool(value));
    if says("disabled", true) || says("enabled", false) {
        return Err("it is turned off there".to_owned());
    }
    if let Some(url) = address(entry) {
        return Err(format!("it runs elsewhere, at {url}"));
    }
    let mut server = launcher::read(name, &command_line(entry))?;
    let unsaid = server.without_value();
    for (variable, value) in variables(entry).filter(|(_, value)| !value.is_null()) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        server.variable(variable, Some(&value), false);
    }
    for variable in server.without_value().into_iter().filter(|variable| unsaid.contains(variable)) {
        server.notes.push(format!("{variable} came from where the client ran; give it to the service"));
    }
    if let Some(file) = entry.get("envFile").and_then(Value::as_str) {
        server.notes.push(format!("the variables in {file} (envFile) are left out; give them to the service"));
    }
    if let Some(folder) = entry.get("cwd").and_then(Value::as_str) {
        server.notes.push(format!("cwd {folder} is left out; the server starts in the folder that its image says"));
    }
    if let Some(word) = secret_argument(&server.arguments) {
        return Err(format!(
            "its argument '{word}' holds a secret, and arguments stand in templates for everybody to read; give it \
                            by a variable, where the server reads one"
        ));
    }
    // Of an image's arguments, paths are those in it.
    let of_machine = |word: &str| matches!(server.source, Source::Package(_)) && is_path_of_machine(word);
    let meant_there = server.arguments.iter().filter(|word| is_placeholder(word) || of_machine(word));
    let notes =
        meant_there.map(|word| format!("its argument '{word}' was meant for where the client ran; correct it in the template"));
    let notes: Vec<String> = notes.collect();
    server.notes.extend(notes);
    Ok(server)
}

fn address(entry: &Map<String, Value>) -> Option<&str> {
    ["url", "serverUrl", "httpUrl", "uri"].iter().find_map(|name| entry.get(*name)?.as_str())
}

/// The command and its arguments; none when there is no command.
fn command_line(entry: &Map<String, Value>) -> Vec<String> {
    let mut line = match entry.get("command") {
        Some(Value::String(command)) => vec![command.clone()],
        Some(list @ Value::Array(_)) => texts(Some(list)),
        // Zed's.
        Some(Value::Object(command)) => match command.get("path").and_then(Value::as_str) {
            Some(path) => [vec![path.to_owned()], texts(command.get("args"))].concat(),
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    if line.is_empty() {
        return line;
    }
    line.extend(texts(entry.get("args")));
    let mut line = split(line);
    // `cmd /c npx …` is how it is written on Windows.
    if file_name(&line[0]) == "cmd" && line.len() > 2 && line[1].eq_ignore_ascii_case("/c") {
        line.drain(..2);
        line = split(line);
    }
    line
}

/// A command that is one word with blanks, as a shell reads it. A path of Windows stays one word.
fn split(line: Vec<String>) -> Vec<String> {
    let [command] = line.as_slice() else { return line };
    if !command.contains(char::is_whitespace) || command.contains(":\\") {
        return line;
    }
    shlex::split(command).filter(|words| !words.is_empty()).unwrap_or(line)
}

fn variables(entry: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let of_command = entry.get("command").and_then(|command| command.get("env"));
    let of_entry = ["env", "environment", "envs"].into_iter().filter_map(|name| entry.get(name));
    of_command.into_iter().chain(of_entry).filter_map(Value::as_object).flatten()
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let texts = list.and_then(Value::as_array).into_iter().flatten().filter(|word| !word.is_null());
    texts.map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)).collect()
}

//! The MCP registry's `server.json`: read into a server that can be run here, and written for one that is.

use serde_json::{Value, json};

use super::import::{Import, Imported};
use super::inputs::{Input, Known, input, substituted};
use super::{Ecosystem, Package, Source, shown};
use crate::domain::mcp_path::{is_path, usual_path};
use crate::domain::secret::looks_secret;
use crate::domain::spec::Transport;
use crate::error::FieldError;

/// The revision of the format that is written.
const SCHEMA: &str = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json";

/// Both spellings of where arguments and variables of a package stand.
const ARGUMENTS: [&str; 2] = ["packageArguments", "package_arguments"];
const VARIABLES: [&str; 2] = ["environmentVariables", "environment_variables"];

/// Longest description that the registry takes, in characters.
const MAX_DESCRIPTION: usize = 100;

/// Whether a document looks like one, as it is or as the registry's API wraps it.
#[must_use]
pub fn is_one(document: &Value) -> bool {
    let document = inner(document);
    document["name"].is_string() && (document["packages"].is_array() || document["remotes"].is_array())
}

fn inner(document: &Value) -> &Value {
    document.get("server").filter(|server| server["name"].is_string()).unwrap_or(document)
}

/// Whether a text is a name as the registry has them: a reversed domain name, a slash, and a name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let word = |text: &str, more: &[u8]| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric();
        text.bytes().all(|byte| letter(byte) || more.contains(&byte))
            && text.bytes().next().is_some_and(letter)
            && text.bytes().last().is_some_and(letter)
    };
    text.len() <= 200 && text.split_once('/').is_some_and(|(space, name)| word(space, b".-") && word(name, b"._-"))
}

/// Reads a document: the first of its packages that can be run here. Both spellings of its fields are read.
pub fn read(document: &Value) -> Result<Import, Vec<FieldError>> {
    let document = inner(document);
    let name = document["name"].as_str().unwrap_or_default();
    let mut reasons = Vec::new();
    for (index, package) in document["packages"].as_array().into_iter().flatten().enumerate() {
        match one(name, document, package, &format!("packages[{index}]")) {
            Ok(server) => return Ok(Import { servers: vec![server], left_out: Vec::new() }),
            Err(reason) => reasons.push(reason),
        }
    }
    if let Some(url) = document["remotes"][0]["url"].as_str().filter(|_| reasons.is_empty()) {
        reasons.push(format!("it runs elsewhere, at {url}"));
    }
    if reasons.is_empty() {
        return Err(vec![FieldError::new("packages", "is empty", "name a package of npm, PyPI or an image")]);
    }
    Ok(Import { servers: Vec::new(), left_out: vec![(name.to_owned(), reasons.join("; "))] })
}

/// What a package would be here. `place` is where the document has it.
fn one(name: &str, document: &Value, package: &Value, place: &str) -> Result<Imported, String> {
    let text = |names: [&str; 2]| names.iter().find_map(|name| package[*name].as_str());
    let kind = text(["registryType", "registry_type"]).or_else(|| package["registry_name"].as_str()).unwrap_or_default();
    let identifier = text(["identifier", "name"]).unwrap_or_default();
    let version = package["version"].as_str().filter(|version| !version.is_empty());
    // A package of the same name elsewhere is another package.
    if let Some(url) =
        text(["registryBaseUrl", "registry_base_url"]).filter(|url| matches!(kind, "npm" | "pypi") && !url.contains(kind))
    {
        return Err(format!("it is in a registry of its own, at {url}"));
    }
    let source = match (kind, version) {
        ("npm" | "pypi", Some(version)) => format!("{kind}:{identifier}@{version}"),
        ("npm" | "pypi", None) => format!("{kind}:{identifier}"),
        // The older form names the version of an image beside it.
        ("oci" | "docker", Some(version)) if !identifier.contains([':', '@']) => format!("image:{identifier}:{version}"),
        ("oci" | "docker", _) => format!("image:{identifier}"),
        _ => return Err(format!("packages of the kind '{kind}' are not run here")),
    };
    let source: Source = source.parse().map_err(|error: crate::error::Error| error.detail)?;
    let mut server = Imported::of(name.rsplit('/').next().unwrap_or(name), source);
    server.description = document["description"].as_str().map(str::to_owned);
    server.transport = match package["transport"]["type"].as_str().unwrap_or("stdio") {
        "stdio" => Transport::Stdio,
        "sse" => Transport::Sse,
        _ => Transport::Http,
    };
    if server.transport != Transport::Stdio {
        let (port, path) = address(package)?;
        server.port = Some(port);
        server.path = path.filter(|path| path != usual_path(server.transport));
    }
    for header in package["transport"]["headers"].as_array().into_iter().flatten() {
        let read = input(header);
        if let Some(name) = header["name"].as_str().filter(|_| read.required || read.value.is_some()) {
            server.notes.push(format!("its clients have to send the header {} themselves", shown(name)));
        }
    }
    if list(package, ["runtimeArguments", "runtime_arguments"]).next().is_some() {
        server.notes.push("arguments of what starts it elsewhere are left out".to_owned());
    }
    for (index, argument) in list(package, ARGUMENTS).enumerate() {
        take_argument(&mut server, argument, &format!("{place}.packageArguments[{index}]"))?;
    }
    for variable in list(package, VARIABLES) {
        take_variable(&mut server, variable);
    }
    Ok(server)
}

/// Port and path of a server that listens. What its address names in braces are arguments and variables of the package.
fn address(package: &Value) -> Result<(u16, Option<String>), String> {
    let written = package["transport"]["url"].as_str().unwrap_or_default();
    let (url, lacks) = substituted(written, |name| named(package, name));
    if let Some(name) = lacks.first() {
        let (url, name) = (shown(written), shown(name));
        return Err(format!(
            "its address '{url}' needs a value for '{name}': write it into the file, as the value of that, or in its place"
        ));
    }
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let port = rest[..end].rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port = port.ok_or("it does not say on which port it listens")?;
    let path = rest[end..].split(['?', '#']).next().unwrap_or_default();
    match path {
        "" => Ok((port, None)),
        path if is_path(path) => Ok((port, Some(path.to_owned()))),
        path => Err(format!("its path '{}' has signs that paths have not here", shown(path))),
    }
}

/// The argument or the variable of that name, with its value if that may stand in a template.
fn named(package: &Value, name: &str) -> Known {
    let hint = |argument: &Value| argument["valueHint"] == name || argument["value_hint"] == name;
    let flag =
        |argument: &Value| argument["name"].as_str().is_some_and(|flag| [flag, flag.trim_start_matches('-')].contains(&name));
    let argument = list(package, ARGUMENTS).find(|argument| hint(argument) || flag(argument));
    let found = argument.or_else(|| list(package, VARIABLES).find(|variable| variable["name"] == name));
    found.map(input).map_or(Known::Nothing, |found| Known::variable(found.value.filter(|_| !found.secret)))
}

fn take_argument(server: &mut Imported, argument: &Value, place: &str) -> Result<(), String> {
    let Input { value, pattern, lacks, secret, required } = input(argument);
    let (kind, name) = (argument["type"].as_str(), argument["name"].as_str());
    let hint = argument["valueHint"].as_str().or_else(|| argument["value_hint"].as_str());
    let what = name.or(hint).map_or_else(|| "an argument".to_owned(), shown);
    let is_secret = secret || value.as_deref().map(said_by).is_some_and(looks_secret);
    if is_secret && (required || value.is_some()) {
        return Err(format!(
            "its argument {what} is a secret, and arguments stand in templates for everybody to read; give it by a variable, \
             where the server reads one"
        ));
    }
    match (kind, name, value) {
        (Some("named"), Some(name), Some(value)) => server.arguments.push(format!("{name}={value}")),
        (Some("named"), Some(name), None) if pattern.is_none() && argument["format"] == "boolean" => {
            server.arguments.push(name.to_owned());
        }
        (Some("positional"), _, Some(value)) => server.arguments.push(value),
        (_, _, Some(_)) => server.notes.push(format!("{what} is left out, since it is neither named nor positional")),
        (_, _, None) if required => {
            let variable = lacks.first().map(|name| format!(".variables.{}", shown(name))).unwrap_or_default();
            return Err(format!("its argument {what} needs a value: write it into the file, as {place}{variable}.value"));
        }
        (_, _, None) if is_secret => {
            server.notes.push(format!("{what} is a secret and is left out; give it by a variable, where the server reads one"));
        }
        (_, _, None) => {
            server.notes.push(format!("{what} has no value; add it to the template's 'command' where it is needed"));
        }
    }
    Ok(())
}

/// The value of an argument, also behind `--option=`, whose name alone makes no secret of it: a publisher says what is one.
fn said_by(argument: &str) -> &str {
    argument.split_once('=').filter(|(option, _)| option.starts_with('-')).map_or(argument, |(_, value)| value)
}

fn take_variable(server: &mut Imported, variable: &Value) {
    let Some(name) = variable["name"].as_str() else { return };
    let Input { value, pattern, secret, required, .. } = input(variable);
    if value.is_none() && !required {
        return;
    }
    if let (None, Some(pattern)) = (&value, pattern) {
        server.notes.push(format!("{name} is to be '{}', with values for what is in braces", shown(pattern)));
    }
    server.variable(name, value.as_deref(), secret);
}

fn list<'v>(package: &'v Value, names: [&str; 2]) -> impl Iterator<Item = &'v Value> {
    names.into_iter().find_map(|name| package[name].as_array()).into_iter().flatten()
}

/// Writes the document of a server. `name` is its name in the registry, e.g. `io.github.me/time`.
#[must_use]
pub fn write(name: &str, version: &str, server: &Imported) -> Value {
    let (kind, identifier, package_version) = match &server.source {
        Source::Package(Package { ecosystem, name, version }) => {
            let kind = if *ecosystem == Ecosystem::Npm { "npm" } else { "pypi" };
            (kind, name.clone(), version.clone())
        }
        Source::Image(image) => ("oci", image.clone(), None),
    };
    let transport = match (server.transport, server.port) {
        (Transport::Stdio, _) => json!({"type": "stdio"}),
        (transport, port) => {
            let kind = if transport == Transport::Sse { "sse" } else { "streamable-http" };
            let path = server.path.as_deref().unwrap_or(usual_path(transport));
            json!({"type": kind, "url": format!("http://localhost:{}{path}", port.unwrap_or(80))})
        }
    };
    let mut package = json!({"registryType": kind, "identifier": identifier, "transport": transport});
    if let Some(version) = package_version {
        package["version"] = version.into();
    }
    if !server.arguments.is_empty() {
        package["packageArguments"] =
            server.arguments.iter().map(|argument| json!({"type": "positional", "value": argument})).collect();
    }
    let plain = server.environment.iter().map(|(name, value)| json!({"name": name, "default": value}));
    // Their values are nobody's business.
    let secret = server.secrets.keys().map(|name| json!({"name": name, "isRequired": true, "isSecret": true}));
    let required = server.required.iter().map(|name| json!({"name": name, "isRequired": true}));
    let variables: Vec<Value> = plain.chain(secret).chain(required).collect();
    if !variables.is_empty() {
        package["environmentVariables"] = variables.into();
    }
    let description = server.description.clone().unwrap_or_else(|| server.source.description());
    let description: String = description.chars().take(MAX_DESCRIPTION).collect();
    json!({"$schema": SCHEMA, "name": name, "description": description, "version": version, "packages": [package]})
}

#[cfg(test)]
mod tests;

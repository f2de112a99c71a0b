//! The MCP registry's `server.json`: read into a server that can be run here, and written for one that is.

use serde_json::{Value, json};

use super::import::{Import, Imported};
use super::{Ecosystem, Package, Source};
use crate::domain::spec::Transport;
use crate::error::FieldError;

/// The revision of the format that is written.
const SCHEMA: &str = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json";

/// Whether a document looks like one.
#[must_use]
pub fn is_one(document: &Value) -> bool {
    document["name"].is_string() && (document["packages"].is_array() || document["remotes"].is_array())
}

/// Reads a document: the first of its packages that can be run here. Both spellings of its fields are read.
pub fn read(document: &Value) -> Result<Import, Vec<FieldError>> {
    let name = document["name"].as_str().unwrap_or_default();
    let mut reasons = Vec::new();
    for package in document["packages"].as_array().into_iter().flatten() {
        match one(name, document, package) {
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

fn one(name: &str, document: &Value, package: &Value) -> Result<Imported, String> {
    let text = |names: [&str; 2]| names.iter().find_map(|name| package[*name].as_str());
    let kind = text(["registryType", "registry_type"]).or_else(|| package["registry_name"].as_str()).unwrap_or_default();
    let identifier = text(["identifier", "name"]).unwrap_or_default();
    let version = package["version"].as_str().filter(|version| !version.is_empty());
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
        let url = package["transport"]["url"].as_str().unwrap_or_default();
        let port = url.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
        server.port = Some(port.ok_or("it does not say on which port it listens")?);
    }
    for argument in list(package, ["packageArguments", "package_arguments"]) {
        let value = argument["value"].as_str().or_else(|| argument["default"].as_str());
        let name = argument["name"].as_str();
        match (argument["type"].as_str(), name, value) {
            (Some("named"), Some(name), Some(value)) => server.arguments.push(format!("{name}={value}")),
            (Some("named"), Some(name), None) if argument["format"] == "boolean" => server.arguments.push(name.to_owned()),
            (Some("positional"), _, Some(value)) => server.arguments.push(value.to_owned()),
            (_, name, None) => {
                let what = name.or_else(|| argument["valueHint"].as_str()).unwrap_or("an argument");
                server.notes.push(format!("{what} has no value; add it to the template's 'command' where it is needed"));
            }
            _ => {}
        }
    }
    for variable in list(package, ["environmentVariables", "environment_variables"]) {
        let Some(name) = variable["name"].as_str() else { continue };
        let secret = variable["isSecret"] == true || variable["is_secret"] == true;
        let required = variable["isRequired"] == true || variable["is_required"] == true;
        let value = variable["value"].as_str().or_else(|| variable["default"].as_str()).filter(|value| !value.starts_with('{'));
        if value.is_some() || required {
            server.variable(name, value, secret);
        }
    }
    Ok(server)
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
            json!({"type": kind, "url": format!("http://localhost:{}/mcp", port.unwrap_or(80))})
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
    json!({"$schema": SCHEMA, "name": name, "description": description, "version": version, "packages": [package]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        json!({
            "$schema": SCHEMA, "name": "io.github.me/weather", "description": "Weather", "version": "1.0.2",
            "packages": [
                {"registryType": "mcpb", "identifier": "https://example.com/x.mcpb"},
                {"registryType": "npm", "identifier": "@me/weather", "version": "1.0.2", "transport": {"type": "stdio"},
                 "packageArguments": [
                    {"type": "positional", "value": "serve"},
                    {"type": "named", "name": "--unit", "default": "c"},
                    {"type": "named", "name": "--place", "isRequired": true}],
                 "environmentVariables": [
                    {"name": "WEATHER_API_KEY", "isRequired": true, "isSecret": true},
                    {"name": "LANG_CODE", "default": "en"},
                    {"name": "OPTIONAL"},
                    {"name": "REGION", "isRequired": true}]},
            ],
        })
    }

    #[test]
    fn the_first_package_that_can_be_run_is_taken() {
        let import = read(&document()).unwrap();
        let [server] = import.servers.as_slice() else { panic!("{import:?}") };
        assert_eq!((server.name.as_str(), server.source.to_string().as_str()), ("weather", "npm:@me/weather@1.0.2"));
        assert_eq!(server.arguments, ["serve", "--unit=c"]);
        assert_eq!(server.secrets.keys().collect::<Vec<_>>(), ["WEATHER_API_KEY"]);
        assert_eq!(server.environment["LANG_CODE"], "en");
        assert_eq!(server.required, ["REGION"]);
        assert_eq!(server.notes.len(), 1, "{:?}", server.notes);
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let mut server = read(&document()).unwrap().servers.remove(0);
        server.notes.clear();
        let written = write("io.github.me/weather", "1.0.2", &server);
        assert!(is_one(&written));
        assert_eq!(read(&written).unwrap().servers, [server]);
    }

    #[test]
    fn what_cannot_be_run_is_left_out_with_its_reason() {
        let remote = json!({"name": "a/b", "remotes": [{"type": "streamable-http", "url": "https://x/mcp"}]});
        assert_eq!(read(&remote).unwrap().left_out[0].1, "it runs elsewhere, at https://x/mcp");
        let silent = json!({"name": "a/b", "packages": [{"registryType": "oci", "identifier": "x:1", "transport": {"type": "streamable-http"}}]});
        assert!(read(&silent).unwrap().left_out[0].1.contains("port"));
    }
}

//! The MCP registry's `server.json`: read into a server that can be run here, and written for one that is.

use serde_json::{Value, json};

use super::import::{Import, Imported};
use super::{Ecosystem, Package, Source};
use crate::domain::spec::Transport;
use crate::error::FieldError;

/// The revision of the format that is written.
const SCHEMA: &str = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json";

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
        let url = package["transport"]["url"].as_str().unwrap_or_default();
        let port = url.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
        server.port = Some(port.ok_or("it does not say on which port it listens")?);
    }
    if list(package, ["runtimeArguments", "runtime_arguments"]).next().is_some() {
        server.notes.push("arguments of what starts it elsewhere are left out".to_owned());
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
        let hidden = |input: &Value| input["isSecret"] == true || input["is_secret"] == true;
        let parts = variable["variables"].as_object();
        let secret = hidden(variable) || parts.is_some_and(|parts| parts.values().any(hidden));
        let required = variable["isRequired"] == true || variable["is_required"] == true;
        let value = variable["value"].as_str().or_else(|| variable["default"].as_str()).filter(|value| !value.contains('{'));
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
    let description: String = description.chars().take(MAX_DESCRIPTION).collect();
    json!({"$schema": SCHEMA, "name": name, "description": description, "version": version, "packages": [package]})
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::import::tests::any_json;
    use super::*;

    proptest! {
        #[test]
        fn no_document_brings_the_reader_down(document in any_json()) {
            let _ = (is_one(&document), read(&document));
        }

        #[test]
        fn whatever_is_written_is_read_as_the_same(
            arguments in proptest::collection::vec("[a-z-]{1,8}(=[a-z0-9]{0,5})?", 0..4),
            environment in proptest::collection::btree_map("[B-D]{1,4}", "[a-z0-9 ]{1,8}", 0..3),
            required in proptest::collection::btree_set("[F-H]{1,4}", 0..3),
        ) {
            let mut server = Imported::of("a", "npm:@a/b@1.0.0".parse().unwrap());
            server.description = Some("A".to_owned());
            (server.arguments, server.environment, server.required) = (arguments, environment, required.into_iter().collect());
            server.secrets = [("X_TOKEN".to_owned(), None)].into();
            prop_assert_eq!(read(&write("x/a", "1.0.0", &server)).unwrap().servers, [server]);
        }
    }

    #[test]
    fn names_are_a_domain_and_a_word() {
        for name in ["io.github.me/weather", "a/b", "com.example-x/a_b.c"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["weather", "a/b/c", "/b", "a/", "a/-b", "a b/c"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn what_the_registry_s_api_wraps_is_read_and_another_registry_is_not_taken_for_the_usual_one() {
        let wrapped = json!({"server": document(), "_meta": {}});
        assert!(is_one(&wrapped));
        assert_eq!(read(&wrapped).unwrap(), read(&document()).unwrap());
        let other = json!({"name": "a/b", "packages": [{"registryType": "npm", "registryBaseUrl": "https://packages.example.com", "identifier": "b"}]});
        assert!(read(&other).unwrap().left_out[0].1.contains("registry of its own"));
    }

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

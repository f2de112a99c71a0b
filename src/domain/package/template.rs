//! The template of a server that comes from a package or an image: a document to be kept and edited.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Source;
use crate::domain::mcp_path::path_label;
use crate::domain::quantity::Bytes;
use crate::domain::spec::Transport;

/// Label of templates and services with where their server comes from.
pub const TEMPLATE_LABEL: &str = "mcp-package";

/// Label of templates and services with the version that was installed.
pub const VERSION_LABEL: &str = "mcp-package-version";

/// What a template is made of.
#[derive(Debug, Clone, Default)]
pub struct TemplateParts {
    /// Its name.
    pub name: String,
    /// One sentence for people.
    pub description: Option<String>,
    /// Where the server comes from.
    pub source: String,
    /// The version that was installed, of a package.
    pub version: Option<String>,
    /// The image.
    pub image: String,
    /// It is never pulled, since it was made here.
    pub made_here: bool,
    /// How clients talk to it.
    pub transport: Transport,
    /// Port on which it listens.
    pub port: Option<u16>,
    /// Its path there, where it is another than the usual one.
    pub path: Option<String>,
    /// Arguments after the image's program.
    pub arguments: Vec<String>,
    /// Variables with values.
    pub environment: BTreeMap<String, String>,
    /// Variables filled from secrets.
    pub secrets: BTreeMap<String, String>,
    /// Variables that each service has to be given.
    pub required: Vec<String>,
    /// Named volumes and where they are.
    pub volumes: BTreeMap<String, String>,
    /// Limit of its memory.
    pub memory_limit: Option<Bytes>,
    /// May open connections to the outside.
    pub egress: bool,
}

/// The template of a server: a document to be kept and edited.
#[must_use]
pub fn template(parts: &TemplateParts) -> Value {
    let mut document = Map::new();
    let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
    put("name", json!(parts.name));
    if let Some(description) = &parts.description {
        put("description", json!(description));
    }
    put("image", json!(parts.image));
    put("transport", json!(parts.transport));
    if parts.made_here {
        put("pull_policy", json!("never"));
    }
    if let Some(port) = parts.port {
        put("port", json!(port));
    }
    if !parts.arguments.is_empty() {
        put("command", json!(parts.arguments));
    }
    for (name, map) in [("environment", &parts.environment), ("secrets", &parts.secrets), ("volumes", &parts.volumes)] {
        if !map.is_empty() {
            put(name, json!(map));
        }
    }
    if !parts.required.is_empty() {
        put("required_env_vars", json!(parts.required));
    }
    if let Some(limit) = parts.memory_limit {
        put("memory_limit", json!(limit));
    }
    let mut labels = Map::from_iter([(TEMPLATE_LABEL.to_owned(), json!(parts.source))]);
    labels.extend(parts.version.as_ref().map(|version| (VERSION_LABEL.to_owned(), json!(version))));
    let path = path_label(parts.transport).zip(parts.path.as_ref());
    labels.extend(path.map(|(label, path)| (label.to_owned(), json!(path))));
    put("labels", Value::Object(labels));
    if parts.egress {
        put("egress", json!(true));
    }
    Value::Object(document)
}

impl Source {
    /// What a template says of where its server comes from.
    #[must_use]
    pub fn description(&self) -> String {
        match self {
            Self::Package(package) => format!("The package {package}"),
            Self::Image(image) => format!("The image {image}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::template::Template;

    #[test]
    fn templates_that_are_made_are_valid() {
        let parts = TemplateParts {
            name: "time".into(),
            description: Some("The package pypi:mcp-server-time".into()),
            source: "pypi:mcp-server-time".into(),
            image: "localhost/mcp-manager/pypi-mcp-server-time:0123".into(),
            made_here: true,
            transport: Transport::Stdio,
            arguments: vec!["--local-timezone".into(), "UTC".into()],
            environment: BTreeMap::from([("A".into(), "b".into())]),
            secrets: BTreeMap::from([("KEY".into(), "time-key".into())]),
            required: vec!["PLACE".into()],
            volumes: BTreeMap::from([("time-data".into(), "/data".into())]),
            memory_limit: Some(Bytes(512 << 20)),
            ..TemplateParts::default()
        };
        let template = Template::from_document(&template(&parts), None).unwrap();
        assert_eq!(template.name, "time");
        assert_eq!(template.required_env_vars, ["PLACE"]);
        assert_eq!(template.spec.memory_limit, Some(Bytes(512 << 20)));
    }
}

//! Servers that people have already: the `mcpServers` of a client's file, read into what each would be here. Nothing is
//! built or started by this; what cannot be taken over is said with its reason.

mod engine;
mod entry;
mod launcher;
mod values;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use self::values::is_placeholder;
use super::{Source, label};
use crate::domain::quantity::Bytes;
use crate::domain::secret::{is_secret, is_switch, looks_secret};
use crate::domain::spec::Transport;
use crate::error::FieldError;

/// A server that can be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Name of its template and service.
    pub name: String,
    /// One sentence for people.
    pub description: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// The package's program, when another than its own is started.
    pub program: Option<String>,
    /// Further packages that are installed with it.
    pub with: Vec<String>,
    /// Arguments.
    pub arguments: Vec<String>,
    /// How clients talk to it.
    pub transport: Transport,
    /// Port on which it listens, where it does.
    pub port: Option<u16>,
    /// Its path there, where it is another than the usual one.
    pub path: Option<String>,
    /// Variables with values.
    pub environment: BTreeMap<String, String>,
    /// Variables that hold secrets, and their values where the file says them.
    pub secrets: BTreeMap<String, Option<String>>,
    /// Variables that each service has to be given.
    pub required: Vec<String>,
    /// Limit of its memory, where the file says one.
    pub memory_limit: Option<Bytes>,
    /// What is not taken over of it.
    pub notes: Vec<String>,
}

/// What a file holds: servers that can be taken over, and why others cannot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// Servers that can be taken over.
    pub servers: Vec<Imported>,
    /// Names of others, with the reason.
    pub left_out: Vec<(String, String)>,
}

impl Imported {
    /// A server without anything but its source.
    #[must_use]
    pub fn of(name: &str, source: Source) -> Self {
        Self {
            name: label(name),
            description: None,
            source,
            program: None,
            with: Vec::new(),
            arguments: Vec::new(),
            transport: Transport::Stdio,
            port: None,
            path: None,
            environment: BTreeMap::new(),
            secrets: BTreeMap::new(),
            required: Vec::new(),
            memory_limit: None,
            notes: Vec::new(),
        }
    }

    /// Takes a variable over: as a secret when its name or the document says that it is one, as something to be given when
    /// its value stands elsewhere.
    pub fn variable(&mut self, name: &str, value: Option<&str>, secret: bool) {
        // It may have been there with less said of it.
        self.required.retain(|required| required != name);
        self.environment.remove(name);
        self.secrets.remove(name);
        let is_secret = (is_secret(name) && !value.is_some_and(is_switch)) || value.is_some_and(looks_secret);
        let value = value.filter(|value| !is_placeholder(value));
        if secret || is_secret {
            self.secrets.insert(name.to_owned(), value.map(str::to_owned));
        } else if let Some(value) = value {
            self.environment.insert(name.to_owned(), value.to_owned());
        } else {
            self.required.push(name.to_owned());
        }
    }

    /// Variables whose values nothing says.
    fn without_value(&self) -> Vec<String> {
        let secrets = self.secrets.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name);
        self.required.iter().chain(secrets).cloned().collect()
    }
}

/// The name under which a variable's secret is kept for a template.
#[must_use]
pub fn secret_name(template: &str, variable: &str) -> String {
    format!("{template}-{}", label(variable))
}

/// Where clients have their servers.
const PLACES: [&str; 5] = ["mcpServers", "servers", "context_servers", "amp.mcpServers", "mcp"];

/// Servers of one place in a file, by name.
struct Group<'f> {
    servers: &'f Map<String, Value>,
    /// The project that alone has them.
    project: Option<&'f str>,
}

/// Reads the servers of a client's file: under `mcpServers`, `servers`, `context_servers`, `mcp`, `mcp.servers`, those of
/// `projects`, or nothing.
pub fn clients_file(document: &Value) -> Result<Import, Vec<FieldError>> {
    let wrong = |message: &str| vec![FieldError::new("", message, "write {\"mcpServers\": {\"NAME\": {\"command\": …}}}")];
    let Value::Object(document) = document else { return Err(wrong("is not a JSON object")) };
    let mut groups = groups(document);
    if groups.is_empty() {
        // A server may have such a name; one alone that is none is a mistake.
        if document.len() == 1 && PLACES.iter().any(|place| document.get(*place).is_some_and(|value| !value.is_object())) {
            return Err(wrong("holds no servers"));
        }
        groups.push(Group { servers: document, project: None });
    }
    let mut import = Import::default();
    for Group { servers, project } in groups {
        for (name, entry) in servers {
            let server = entry.as_object().map_or_else(|| Err("it is no object".to_owned()), |entry| entry::server(name, entry));
            match server.and_then(|server| alone(server, &import.servers)) {
                Ok(mut server) => {
                    server.notes.splice(..0, project.map(|project| format!("it is that of the project {project}")));
                    import.servers.push(server);
                }
                Err(reason) => {
                    let reason = match project {
                        Some(project) => format!("that of the project {project}: {reason}"),
                        None => reason,
                    };
                    import.left_out.push((name.clone(), reason));
                }
            }
        }
    }
    if import.servers.is_empty() && import.left_out.is_empty() {
        return Err(wrong("holds no servers"));
    }
    Ok(import)
}

/// The places of a file that hold servers. A server may have the name of a place.
fn groups(document: &Map<String, Value>) -> Vec<Group<'_>> {
    let places = PLACES.iter().filter_map(|place| Some((*place, group(document.get(*place)?)?)));
    let own = places.map(|(place, servers)| {
        let inner = servers.get("servers").filter(|_| place == "mcp").and_then(group);
        Group { servers: inner.unwrap_or(servers), project: None }
    });
    let projects = document.get("projects").and_then(Value::as_object).into_iter().flatten();
    let of_projects = projects.filter_map(|(path, project)| {
        let servers = project.get("mcpServers")?.as_object()?;
        Some(Group { servers, project: Some(path) })
    });
    own.chain(of_projects).collect()
}

fn group(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object().filter(|group| !entry::is_one(group))
}

/// The server, unless there is one of its name: what is of one would be taken for the other's.
fn alone(server: Imported, others: &[Imported]) -> Result<Imported, String> {
    if others.iter().any(|other| other.name == server.name) {
        return Err(format!("there is another in this file that is '{}' here; rename one of them there", server.name));
    }
    Ok(server)
}

#[cfg(test)]
pub(super) mod tests;

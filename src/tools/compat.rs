//! Old names of tools: those by which three specifications call what the table has, with their own arguments.
//!
//! They answer when the setting `mcp.compat_tool_names` is on. An alias translates its arguments and calls the tool; it
//! decides nothing else.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Tool, find, read};
use crate::domain::fields::{bounded, unknown_field};
use crate::error::{FieldError, Result};

/// An old name of a tool.
#[derive(Debug)]
pub struct Alias {
    /// The old name.
    pub name: &'static str,
    /// The tool's own name.
    pub tool: &'static str,
    /// The specification that calls it so.
    pub source: &'static str,
    arguments: &'static [Argument],
}

/// An argument of an old name.
#[derive(Debug)]
struct Argument {
    name: &'static str,
    kind: &'static str,
    description: &'static str,
    required: bool,
    becomes: Becomes,
}

/// What becomes of an argument.
#[derive(Debug)]
enum Becomes {
    /// It is handed on under this name.
    Named(&'static str),
    /// The name of the one environment variable that is set.
    VariableName,
    /// The value of the one environment variable that is set.
    VariableValue,
    /// An object with `cpu` and `memory`.
    Limits,
    /// False leaves out what does not run.
    AlsoStopped,
    /// Nothing: it is what the tool does anyway.
    Nothing,
    /// Only false can be done.
    OnlyFalse(&'static str),
}

const MANAGER: &str = "Docker MCP Manager";
const SERVER: &str = "Docker MCP Server";
const TOOLS: &str = "MCP tool server";

/// Every old name.
pub const ALIASES: &[Alias] = &[
    alias(
        "docker_create_server",
        "container_create",
        MANAGER,
        &[
            needed("server_name", "string", "Name of the server.", Becomes::Named("service_name")),
            needed("server_type", "string", "Template it is started from.", Becomes::Named("template")),
            may("env_vars", "object", "Environment variables.", Becomes::Named("environment")),
            may("volumes", "array", "Mounts: objects with host_path and container_path.", Becomes::Named("volumes")),
        ],
    ),
    alias(
        "docker_list_servers",
        "container_list",
        MANAGER,
        &[
            may("status", "string", "Only servers with this status.", Becomes::Named("status")),
            may("server_type", "string", "Only servers from this template.", Becomes::Named("template")),
        ],
    ),
    alias("docker_get_server_status", "container_get", MANAGER, &[SERVER_NAME]),
    alias(
        "docker_get_logs",
        "container_logs",
        MANAGER,
        &[
            SERVER_NAME,
            may("lines", "integer", "So many of the last lines.", Becomes::Named("tail")),
            may("since", "string", "Only lines from then on: a time, or a span before now (2h).", Becomes::Named("since")),
            may(
                "follow",
                "boolean",
                "Only false: a tool's answer ends.",
                Becomes::OnlyFalse("GET /containers/NAME/logs?follow=true goes on with new lines"),
            ),
        ],
    ),
    alias("docker_stop_server", "container_stop", MANAGER, &[SERVER_NAME]),
    alias("docker_restart_server", "container_restart", MANAGER, &[SERVER_NAME]),
    alias(
        "create-container",
        "container_create",
        SERVER,
        &[
            needed("name", "string", "Name of the container.", Becomes::Named("service_name")),
            needed("image", "string", "Image reference.", Becomes::Named("image")),
            may("ports", "object", "Container ports published on fixed loopback ports of the host.", Becomes::Named("ports")),
            may("environment", "object", "Environment variables.", Becomes::Named("environment")),
            may("volumes", "object", "Mounts: host path or volume to path in the container.", Becomes::Named("volumes")),
            may("networks", "array", "Networks it is attached to.", Becomes::Named("networks")),
            may(
                "health_check",
                "object",
                "An object with cmd, interval, timeout, retries, start_period.",
                Becomes::Named("health_check"),
            ),
            may("resources", "object", "An object with cpu and memory.", Becomes::Limits),
            may("restart_policy", "string", "What happens when it ends by itself.", Becomes::Named("restart_policy")),
        ],
    ),
    alias(
        "list-containers",
        "container_list",
        SERVER,
        &[may("all", "boolean", "False leaves out what does not run.", Becomes::AlsoStopped)],
    ),
    alias(
        "get-logs",
        "container_logs",
        SERVER,
        &[CONTAINER_NAME, may("tail", "integer", "So many of the last lines.", Becomes::Named("tail"))],
    ),
    alias("start-container", "container_start", SERVER, &[CONTAINER_NAME]),
    alias("stop-container", "container_stop", SERVER, &[CONTAINER_NAME]),
    alias("restart-container", "container_restart", SERVER, &[CONTAINER_NAME]),
    alias(
        "remove-container",
        "container_remove",
        SERVER,
        &[CONTAINER_NAME, may("force", "boolean", "It is stopped first in any case.", Becomes::Nothing)],
    ),
    alias("docker_container_list", "container_list", TOOLS, &[]),
    alias("docker_ps", "container_list", TOOLS, &[]),
    alias(
        "docker_logs",
        "container_logs",
        TOOLS,
        &[SERVICE_NAME, may("lines", "integer", "So many of the last lines (default 100).", Becomes::Named("tail"))],
    ),
    alias("docker_restart", "container_restart", TOOLS, &[SERVICE_NAME]),
    alias("docker_inspect", "container_inspect", TOOLS, &[SERVICE_NAME]),
    alias("docker_update_env", "container_update_env", TOOLS, &[SERVICE_NAME, KEY, VALUE]),
    alias("check_system_health", "system_health", TOOLS, &[]),
    alias(
        "get_service_logs",
        "container_logs",
        TOOLS,
        &[SERVICE, may("lines", "integer", "So many of the last lines (default 100).", Becomes::Named("tail"))],
    ),
    alias("restart_service", "container_restart", TOOLS, &[SERVICE]),
    alias("update_configuration", "container_update_env", TOOLS, &[SERVICE, KEY, VALUE]),
    alias("run_diagnostics", "system_diagnostics", TOOLS, &[]),
];

const SERVER_NAME: Argument = needed("server_name", "string", "Name of the server.", Becomes::Named("name"));
const CONTAINER_NAME: Argument = needed("container_name", "string", "Name of the container.", Becomes::Named("name"));
const SERVICE_NAME: Argument = needed("service_name", "string", "Name of the container.", Becomes::Named("name"));
const SERVICE: Argument = needed("service", "string", "Name of the service.", Becomes::Named("name"));
const KEY: Argument = needed("key", "string", "Name of the environment variable.", Becomes::VariableName);
const VALUE: Argument = needed("value", "string", "Its new value.", Becomes::VariableValue);

const fn alias(name: &'static str, tool: &'static str, source: &'static str, arguments: &'static [Argument]) -> Alias {
    Alias { name, tool, source, arguments }
}

const fn needed(name: &'static str, kind: &'static str, description: &'static str, becomes: Becomes) -> Argument {
    Argument { name, kind, description, required: true, becomes }
}

const fn may(name: &'static str, kind: &'static str, description: &'static str, becomes: Becomes) -> Argument {
    Argument { name, kind, description, required: false, becomes }
}

/// The alias of that name.
#[must_use]
pub fn alias_of(name: &str) -> Option<&'static Alias> {
    ALIASES.iter().find(|alias| alias.name == name)
}

impl Alias {
    /// The tool that it stands for.
    #[must_use]
    pub fn tool(&self) -> Option<&'static Tool> {
        find(self.tool)
    }

    /// The JSON Schema of its arguments.
    #[must_use]
    pub fn input_schema(&self) -> Arc<Map<String, Value>> {
        let property =
            |argument: &Argument| (argument.name.to_owned(), json!({"type": argument.kind, "description": argument.description}));
        let properties: Map<String, Value> = self.arguments.iter().map(property).collect();
        let required: Vec<&str> =
            self.arguments.iter().filter(|argument| argument.required).map(|argument| argument.name).collect();
        let schema = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        Arc::new(schema.as_object().cloned().unwrap_or_default())
    }

    /// What each argument becomes, in words.
    pub(super) fn words(&self) -> Vec<String> {
        let word = |argument: &Argument| {
            let becomes = match argument.becomes {
                Becomes::Named(name) if name == argument.name => return format!("`{name}`"),
                Becomes::Named(name) => format!("`{name}`"),
                Becomes::VariableName => "name in `environment`".to_owned(),
                Becomes::VariableValue => "value in `environment`".to_owned(),
                Becomes::Limits => "`cpu_limit` and `memory_limit`".to_owned(),
                Becomes::AlsoStopped => "`status`, where it is false".to_owned(),
                Becomes::Nothing => "nothing".to_owned(),
                Becomes::OnlyFalse(_) => "nothing; true is an error".to_owned(),
            };
            format!("`{}` → {becomes}", argument.name)
        };
        self.arguments.iter().map(word).collect()
    }

    /// The tool's own arguments. A value of another type than the schema says is told here, under the old name; what else
    /// is wrong with a value is said by the tool, under the tool's name of the argument. What is wrong here is told with the
    /// names that are given `twice`.
    pub fn translate(&self, arguments: &Map<String, Value>, twice: &[FieldError]) -> Result<Map<String, Value>> {
        let known = self.arguments.iter().map(|argument| argument.name);
        let unknown = arguments.keys().filter(|key| !known.clone().any(|name| name == key.as_str()));
        let mut errors: Vec<FieldError> = unknown.map(|key| unknown_field(key, known.clone())).collect();
        let mut translated = Map::new();
        for argument in self.arguments {
            // Null is what tools take for an argument that is not given.
            let Some(value) = arguments.get(argument.name).filter(|value| !value.is_null()) else {
                if argument.required {
                    errors.push(FieldError::new(argument.name, "is missing", argument.description));
                }
                continue;
            };
            let put =
                argument.checked(value).and_then(|()| argument.becomes.put(argument.name, value, arguments, &mut translated));
            errors.extend(put.err());
        }
        if errors.is_empty() { Ok(translated) } else { read::once(Err(bounded(errors)), twice) }
    }
}

impl Argument {
    /// Whether a value is of the type that the schema says.
    fn checked(&self, value: &Value) -> Result<(), FieldError> {
        let (is_right, message, remedy) = match self.kind {
            "string" => (value.is_string(), "is not text", "write it in quotation marks"),
            // To JSON Schema 8.0 is a whole number, too.
            "integer" => (value.as_f64().is_some_and(|number| number.fract() == 0.0), "is not a whole number", "write e.g. 100"),
            "boolean" => (value.is_boolean(), "is not true or false", "write true or false"),
            "array" => (value.is_array(), "is not a list", "write [...]"),
            _ => (value.is_object(), "is not an object", "write {...}"),
        };
        if is_right { Ok(()) } else { Err(FieldError::new(self.name, message, format!("{remedy}: {}", self.description))) }
    }
}

impl Becomes {
    /// Puts a value of the right type where it belongs.
    fn put(
        &self,
        name: &str,
        value: &Value,
        arguments: &Map<String, Value>,
        translated: &mut Map<String, Value>,
    ) -> Result<(), FieldError> {
        match self {
            Self::Named(to) => {
                translated.insert((*to).to_owned(), value.clone());
            }
            Self::VariableName => {
                let key = value.as_str().unwrap_or_default().to_owned();
                let variable = Map::from_iter([(key, arguments.get("value").cloned().unwrap_or_default())]);
                translated.insert("environment".to_owned(), Value::Object(variable));
            }
            Self::VariableValue | Self::Nothing => {}
            Self::Limits => {
                for (limit, value) in value.as_object().into_iter().flatten() {
                    let to = match limit.as_str() {
                        "cpu" => "cpu_limit",
                        "memory" => "memory_limit",
                        _ => {
                            let error = unknown_field(limit, ["cpu", "memory"].into_iter());
                            return Err(FieldError { field: format!("{name}.{}", error.field), ..error });
                        }
                    };
                    translated.insert(to.to_owned(), value.clone());
                }
            }
            Self::AlsoStopped => {
                if *value == false {
                    translated.insert("status".to_owned(), "starting,running,degraded,unhealthy".into());
                }
            }
            Self::OnlyFalse(remedy) => {
                if *value == true {
                    return Err(FieldError::new(name, "cannot be done by a tool, whose answer ends", *remedy));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(name: &str, arguments: &Value) -> Result<Value> {
        alias_of(name).unwrap().translate(arguments.as_object().unwrap(), &[]).map(Value::Object)
    }

    #[test]
    fn every_old_name_is_given_once_and_stands_for_a_tool_that_knows_its_arguments() {
        for alias in ALIASES {
            let tool = alias.tool().unwrap_or_else(|| panic!("{} stands for nothing", alias.name));
            assert!(find(alias.name).is_none() && ALIASES.iter().filter(|other| other.name == alias.name).count() == 1);
            let known = tool.input_schema()["properties"].as_object().unwrap().clone();
            for argument in alias.arguments {
                if let Becomes::Named(name) = argument.becomes {
                    assert!(known.contains_key(name), "{}: {name}", alias.name);
                }
            }
        }
    }

    #[test]
    fn the_examples_of_the_specifications_are_translated() {
        assert_eq!(
            translated(
                "docker_create_server",
                &json!({"server_type": "agent-mcp", "server_name": "a", "env_vars": {"A": "1"},
                "volumes": [{"host_path": "/d", "container_path": "/app/data"}]})
            )
            .unwrap(),
            json!({"template": "agent-mcp", "service_name": "a", "environment": {"A": "1"},
                "volumes": [{"host_path": "/d", "container_path": "/app/data"}]})
        );
        assert_eq!(
            translated("docker_get_logs", &json!({"server_name": "a", "lines": 50, "since": "2h", "follow": false})).unwrap(),
            json!({"name": "a", "tail": 50, "since": "2h"})
        );
        assert_eq!(
            translated(
                "create-container",
                &json!({"image": "nginx:latest", "name": "n", "resources": {"cpu": "0.5", "memory": "512m"}})
            )
            .unwrap(),
            json!({"image": "nginx:latest", "service_name": "n", "cpu_limit": "0.5", "memory_limit": "512m"})
        );
        assert_eq!(translated("list-containers", &json!({"all": true})).unwrap(), json!({}));
        assert_eq!(translated("remove-container", &json!({"container_name": "a", "force": true})).unwrap(), json!({"name": "a"}));
        assert_eq!(
            translated("docker_update_env", &json!({"service_name": "a", "key": "K", "value": "v"})).unwrap(),
            json!({"name": "a", "environment": {"K": "v"}})
        );
    }

    #[test]
    fn what_is_wrong_with_old_arguments_is_said_at_once() {
        let error = translated("docker_get_logs", &json!({"name": "a", "follow": true})).unwrap_err();
        let fields: Vec<&str> = error.fields.iter().map(|field| field.field.as_str()).collect();
        assert_eq!(fields, ["name", "server_name", "follow"]);
    }

    #[test]
    fn values_of_another_type_than_the_schema_says_are_told_under_the_old_name() {
        let told = |name: &str, arguments: &Value| -> Vec<String> {
            let error = translated(name, arguments).unwrap_err();
            error.fields.iter().map(|error| format!("{} {}", error.field, error.message)).collect()
        };
        for (name, arguments, wrong) in [
            ("docker_get_logs", json!({"server_name": 1, "lines": "50", "since": 2}), &["server_name", "lines", "since"][..]),
            ("docker_logs", json!({"service_name": "a", "lines": 1.5}), &["lines"]),
            (
                "docker_create_server",
                json!({"server_name": "a", "server_type": "b", "env_vars": [], "volumes": {}}),
                &["env_vars", "volumes"],
            ),
            ("create-container", json!({"name": "a", "image": "b", "resources": "large"}), &["resources"]),
            ("create-container", json!({"name": "a", "image": "b", "resources": {"cpus": 1}}), &["resources.cpus"]),
            ("list-containers", json!({"all": "no"}), &["all"]),
            ("remove-container", json!({"container_name": "a", "force": "yes"}), &["force"]),
            ("docker_update_env", json!({"service_name": "a", "key": "K", "value": 5}), &["value"]),
            // It would have been taken for the wish to remove the variable.
            ("docker_update_env", json!({"service_name": "a", "key": "K", "value": null}), &["value"]),
        ] {
            let told = told(name, &arguments);
            let fields: Vec<&str> = told.iter().filter_map(|error| error.split(' ').next()).collect();
            assert_eq!(fields, wrong, "{name} {arguments}: {told:?}");
        }
        assert_eq!(
            translated("docker_get_logs", &json!({"server_name": "a", "lines": 50.0, "since": null})).unwrap(),
            json!({"name": "a", "tail": 50.0})
        );
    }

    #[test]
    fn what_the_schema_of_an_old_name_refuses_is_refused() {
        let values =
            [json!("a"), json!(1), json!(1.5), json!(2.0), json!(true), json!(false), json!([]), json!({}), json!({"x": 1})];
        for alias in ALIASES {
            let schema = jsonschema::validator_for(&Value::Object((*alias.input_schema()).clone())).unwrap();
            let names = alias.arguments.iter().map(|argument| argument.name).chain(["unheard_of"]);
            for name in names {
                for value in &values {
                    let mut arguments: Map<String, Value> = alias
                        .arguments
                        .iter()
                        .filter(|argument| argument.required)
                        .map(|argument| (argument.name.to_owned(), "a".into()))
                        .collect();
                    arguments.insert(name.to_owned(), value.clone());
                    let is_valid = schema.is_valid(&Value::Object(arguments.clone()));
                    let translated = alias.translate(&arguments, &[]);
                    assert!(is_valid || translated.is_err(), "{} {arguments:?}", alias.name);
                }
            }
        }
    }
}

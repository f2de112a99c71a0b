//! Which tools an installation offers, how they are described, and which of them the user must confirm first.

use serde_json::{Value, json};

use super::{TOOLS, Tool, compat::ALIASES, find};
use crate::domain::access::Actor;
use crate::error::{Error, Result};

/// What the installation wants of tools.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Old names answer, too.
    pub compat: bool,
    /// Tools that the user must confirm; `destructive` for all that are.
    pub confirm: Vec<String>,
}

impl Policy {
    /// A policy; an error when it names tools that there are not.
    pub fn new(compat: bool, confirm: Vec<String>) -> Result<Self> {
        for name in &confirm {
            if name != DESTRUCTIVE && find(name).is_none() {
                let error = Error::not_found("tool", name, TOOLS.iter().map(|tool| tool.name).chain([DESTRUCTIVE]));
                let remedy = error.remedy.unwrap_or_else(|| "write names of tools, or destructive".to_owned());
                return Err(Error::invalid_field("mcp.confirm", error.detail, remedy));
            }
        }
        Ok(Self { compat, confirm })
    }

    /// Whether the user must confirm this tool first.
    #[must_use]
    pub fn must_confirm(&self, tool: &Tool) -> bool {
        self.confirm.iter().any(|name| name == tool.name || (name == DESTRUCTIVE && tool.effect.is_destructive()))
    }
}

const DESTRUCTIVE: &str = "destructive";

/// The tools as MCP describes them, for an actor of that role at least; with the old names where those answer.
#[must_use]
pub fn described(policy: &Policy, actor: Option<&Actor>) -> Vec<Value> {
    let may = |tool: &&Tool| actor.is_none_or(|actor| actor.role >= tool.operation.least_role());
    let own = TOOLS.iter().filter(may).map(|tool| describe(tool, policy));
    let old = ALIASES.iter().filter(|_| policy.compat).filter_map(|alias| Some((alias, alias.tool().filter(&may)?)));
    let old = old.map(|(alias, tool)| {
        let mut described = describe(tool, policy);
        described["name"] = alias.name.into();
        described["description"] = format!("Old name of {}. {}", tool.name, tool.description).into();
        described["inputSchema"] = Value::Object((*alias.input_schema()).clone());
        described
    });
    own.chain(old).collect()
}

fn describe(tool: &Tool, policy: &Policy) -> Value {
    json!({
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": *tool.input_schema(),
        "outputSchema": *tool.output_schema(),
        "annotations": {
            "title": tool.title,
            "readOnlyHint": tool.effect.reads_only(),
            "destructiveHint": tool.effect.is_destructive(),
            "idempotentHint": tool.effect.is_idempotent(),
            // Images and packages come from registries; everything else stays inside of the installation.
            "openWorldHint": matches!(tool.name, "image_pull" | "package_add" | "container_create" | "container_apply"),
        },
        "_meta": {
            "io.mcp-manager/endpoint": tool.endpoint,
            "io.mcp-manager/confirm": policy.must_confirm(tool),
        },
    })
}

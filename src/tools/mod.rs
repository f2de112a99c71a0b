//! The tools by which agents operate the manager: one table, and how a tool of it is called.
//!
//! A tool is one function of the [`crate::manager`] under a name, with arguments as JSON and an answer as JSON. The
//! table drives everything that offers tools: the MCP server, `POST /tools/{tool}`, the OpenAPI document and
//! `docs/tools.md`. Transport is left out, and so is who may do what: the manager decides that in each function.

pub mod compat;
mod containers;
mod markdown;
mod policy;
mod read;
mod schema;
mod system;
mod table;
mod templates;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::domain::access::{Actor, Operation};
use crate::error::{Error, FieldError, Result};
use crate::manager::{Manager, OnProgress};

pub use markdown::markdown;
pub use policy::{Policy, described};
pub use table::TOOLS;

/// One tool.
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it does, for people and models.
    pub description: &'static str,
    /// What the manager authorises and audits it as.
    pub operation: Operation,
    /// What it does to the world.
    pub effect: Effect,
    /// The endpoint of the API that does the same.
    pub endpoint: &'static str,
    input: fn() -> Map<String, Value>,
    output: fn() -> Map<String, Value>,
    run: fn(Call) -> Work,
}

/// What a tool does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Reads,
    /// It adds something; nothing that was there changes.
    Adds {
        /// Calling it twice does no more than calling it once.
        idempotent: bool,
    },
    /// It changes, interrupts or deletes something.
    Destroys {
        /// Calling it twice does no more than calling it once.
        idempotent: bool,
    },
}

/// One call of a tool.
pub struct Call {
    /// The manager.
    pub manager: Arc<Manager>,
    /// Who calls.
    pub actor: Actor,
    /// The arguments.
    pub arguments: Map<String, Value>,
    /// The names that are given twice among them, where that could be seen. Such a call is refused, with all else that is
    /// wrong with its arguments.
    pub twice: Vec<FieldError>,
    /// Is told how far it is, when somebody wants to know.
    pub progress: Option<OnProgress>,
    /// Cancelled when the caller gives up on purpose.
    pub cancelled: CancellationToken,
}

/// A JSON Schema, shared by all who list the tools.
type Schema = Arc<Map<String, Value>>;

type Work = Pin<Box<dyn Future<Output = Result<Value>> + Send>>;

impl Tool {
    /// The JSON Schema of its arguments: an object, without references, in words that every validator knows.
    #[must_use]
    pub fn input_schema(&self) -> Arc<Map<String, Value>> {
        self.schemas().0
    }

    /// The JSON Schema of its structured answer: what it gives, or a problem document when it failed.
    #[must_use]
    pub fn output_schema(&self) -> Arc<Map<String, Value>> {
        self.schemas().1
    }

    /// Does it. The answer is an object.
    pub async fn call(&self, call: Call) -> Result<Value> {
        (self.run)(call).await
    }

    fn schemas(&self) -> (Schema, Schema) {
        type Schemas = BTreeMap<&'static str, (Schema, Schema)>;
        // They are the same for the life of the process, and asked for with every list.
        static SCHEMAS: LazyLock<Schemas> = LazyLock::new(|| {
            TOOLS.iter().map(|tool| (tool.name, (Arc::new((tool.input)()), Arc::new((tool.output)())))).collect()
        });
        SCHEMAS.get(self.name).cloned().unwrap_or_default()
    }
}

impl Effect {
    /// It does nothing to the world.
    #[must_use]
    pub const fn reads_only(self) -> bool {
        matches!(self, Self::Reads)
    }

    /// It changes, interrupts or deletes something.
    #[must_use]
    pub const fn is_destructive(self) -> bool {
        matches!(self, Self::Destroys { .. })
    }

    /// Calling it twice does no more than calling it once.
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        match self {
            Self::Reads => true,
            Self::Adds { idempotent } | Self::Destroys { idempotent } => idempotent,
        }
    }
}

/// The tool of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// What callers of other names are told.
#[must_use]
pub fn unknown(name: &str, compat: bool) -> Error {
    let aliases = compat::ALIASES.iter().filter(|_| compat).map(|alias| alias.name);
    Error::not_found("tool", name, TOOLS.iter().map(|tool| tool.name).chain(aliases))
}

/// Calls the tool of that name, or with `compat` the one of that old name.
pub async fn call(name: &str, compat: bool, mut call: Call) -> Result<Value> {
    if let Some(tool) = find(name) {
        return tool.call(call).await;
    }
    let alias = compat::alias_of(name).filter(|_| compat);
    let Some((alias, tool)) = alias.and_then(|alias| Some((alias, alias.tool()?))) else {
        return Err(unknown(name, compat));
    };
    call.arguments = alias.translate(&call.arguments, &call.twice)?;
    tool.call(call).await
}

//! Arguments of the commands that speak MCP, and their help texts.

use clap::{Args, ValueEnum};

/// An MCP service to talk to.
#[derive(Debug, Args)]
pub struct McpService {
    /// Name of the service, or the address of an MCP server (http://HOST:PORT/PATH).
    pub service: String,
    /// Path of MCP on the service [default: what its label mcp.path says, or /mcp]
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// Protocol to speak; 'auto' tries the new one first.
    #[arg(long, value_name = "ERA", value_enum, default_value_t = Era::Auto)]
    pub era: Era,
}

/// What a reference describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Commands.
    Commands,
    /// MCP tools.
    Tools,
}

/// Which MCP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Era {
    /// The new one where the server knows it, else the old one.
    Auto,
    /// Revision 2026-07-28, without sessions.
    New,
    /// The revisions before, with sessions.
    Old,
}

/// A tool to call.
#[derive(Debug, Args)]
pub struct McpCall {
    #[command(flatten)]
    pub service: McpService,
    /// Name of the tool.
    pub tool: String,
    /// Its arguments, a JSON object, passed on as it is written; - reads them from standard input.
    #[arg(value_name = "JSON", default_value = "{}")]
    pub arguments: String,
}

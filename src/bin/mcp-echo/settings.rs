//! The settings of `mcp-echo`: flags, each with an environment variable, resolved once at start.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use clap::Parser;
use clap::builder::BoolishValueParser;
use tracing_subscriber::filter::LevelFilter;

/// A small echo service: plain HTTP, and the Model Context Protocol at /mcp.
#[derive(Debug, Parser)]
#[command(name = "mcp-echo", version)]
pub struct Settings {
    /// Port to listen on; 0 takes a free one and prints it
    #[arg(long, env = "PORT", default_value_t = 8000)]
    pub port: u16,

    /// Address to listen on
    #[arg(long, env = "MCP_ECHO_BIND", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind: IpAddr,

    /// Speak MCP on standard input and output instead of listening
    #[arg(long, env = "MCP_ECHO_STDIO", value_parser = BoolishValueParser::new(), default_value = "false")]
    pub stdio: bool,

    /// Name this service goes by in its answers
    #[arg(long, env = "MCP_SERVICE_NAME", default_value = "echo")]
    pub service_name: String,

    /// Least severe log lines to write: off, error, warn, info, debug or trace
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: LevelFilter,

    /// Further host names under which /mcp may be called, separated by commas; `*` takes any
    #[arg(long, env = "MCP_ECHO_ALLOWED_HOSTS", value_delimiter = ',')]
    pub allowed_hosts: Vec<String>,

    /// Give clients of the older protocol revisions a session; without, any replica answers any of their calls
    #[arg(long, env = "MCP_ECHO_SESSIONS", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new(), default_value = "true")]
    pub sessions: bool,

    /// Largest request body read into memory, in bytes
    #[arg(long, env = "MCP_ECHO_MAX_BODY_BYTES", default_value_t = 4 * 1024 * 1024)]
    pub max_body_bytes: usize,

    /// Serve the endpoints that let a test misbehave on purpose (fail health, exit, stream, delay)
    #[arg(long, env = "MCP_ECHO_TEST_CONTROLS", value_parser = BoolishValueParser::new(), default_value = "false")]
    pub test_controls: bool,

    /// Milliseconds to wait before listening, to play a server that starts slowly
    #[arg(long, env = "MCP_ECHO_START_DELAY_MS", default_value_t = 0)]
    pub start_delay_ms: u64,
}

impl Settings {
    /// How long to wait before listening.
    pub fn start_delay(&self) -> Duration {
        Duration::from_millis(self.start_delay_ms)
    }
}

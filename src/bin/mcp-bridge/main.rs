//! `mcp-bridge`, process 1 of a stdio MCP server's container: starts the server and speaks Streamable HTTP for it. All of it
//! is in [`mcp_manager::bridge`]; here are only the log, the memory, the runtime and the exit code.

use std::process::ExitCode;

use clap::Parser as _;
use mcp_manager::bridge::{self, Arguments};

fn main() -> ExitCode {
    bridge::memory::settle();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_max_level(tracing::Level::INFO).init();
    let result = Arguments::parse().resolve().and_then(|options| {
        // One thread: the work is tiny, and every further thread would only cost memory and locks.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
        let runtime = runtime.map_err(|error| mcp_manager::error::Error::internal("the runtime could not start", error))?;
        let result = runtime.block_on(bridge::run(options));
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "mcp-bridge ends");
            ExitCode::FAILURE
        }
    }
}

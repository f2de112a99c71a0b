//! `mcp-bridge`, process 1 of a stdio MCP server's container: starts the server and speaks Streamable HTTP for it. All of it
//! is in [`mcp_manager::bridge`]; here are only the log, the memory, the runtime and the exit code.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use mcp_manager::bridge::{self, Arguments};
use mcp_manager::memory;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [flag, target] = &arguments[..]
        && flag == "--copy-to"
    {
        return copy_to(target.as_ref());
    }
    memory::settle(memory::Program::Bridge);
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

/// Copies this program, for a container that brings it into another one: there may be no `cp` in its image.
fn copy_to(target: &Path) -> ExitCode {
    let copied = std::env::current_exe().and_then(|program| std::fs::copy(program, target));
    match copied {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "mcp-bridge cannot be copied to {}: {error}", target.display());
            ExitCode::FAILURE
        }
    }
}

//! The `mcp-manager` command: parses its arguments, starts telemetry, dispatches, sets the exit code.

fn main() -> std::process::ExitCode {
    mcp_manager::cli::main()
}

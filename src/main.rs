//! The `mcp-manager` command: parses its arguments, starts telemetry, dispatches, sets the exit code.

use std::process::ExitCode;

use mcp_manager::config::{Flag, Inputs};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let listen = std::env::args().skip_while(|argument| argument != "--listen").nth(1);
    let flags = listen.map(|value| Flag { name: "--listen".into(), path: "server.listen".into(), value });
    let run = async {
        let config = mcp_manager::config::load(&Inputs::of_process(None, flags.into_iter().collect())?)?;
        mcp_manager::telemetry::logging::start(&config.telemetry.log_level, mcp_manager::telemetry::logging::Format::Json)?;
        mcp_manager::app::run(config).await
    };
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

//! `mcp-echo`, the bundled example server: a plain web service and an MCP server in one small static file.
//!
//! It shows what a service behind mcp-manager looks like (settings from the environment, `/health`, a graceful stop)
//! and is what the tests and the quick start run. It keeps no state between runs and knows nothing of the manager.

mod controls;
mod hosts;
mod mcp;
mod problem;
mod routes;
mod settings;
mod state;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::Settings;
use crate::state::Echo;

/// How long open requests may take to finish after the stop signal. Container engines kill after ten seconds.
const DRAIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let settings = Settings::parse();
    start_logging(settings.log_level);
    // One thread: the work is tiny, and every further thread would only cost each replica memory.
    let served =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime could not start").and_then(
            |runtime| {
                let served = runtime.block_on(serve(settings));
                // A read of standard input that is under way cannot be cancelled, and is not waited for.
                runtime.shutdown_background();
                served
            },
        );
    match served {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "mcp-echo could not start");
            ExitCode::FAILURE
        }
    }
}

/// Serves until a stop signal or a test asks for the end; answers the exit code.
async fn serve(settings: Settings) -> anyhow::Result<u8> {
    // The first process of a container has no default signal actions, so the handlers come before all else.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop_signal = async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    tokio::pin!(stop_signal);

    tokio::select! {
        () = tokio::time::sleep(settings.start_delay()) => {}
        name = &mut stop_signal => {
            tracing::info!(signal = name, "stopped before the start delay was over");
            return Ok(0);
        }
    }

    if settings.stdio {
        let echo = Arc::new(Echo::new(settings));
        tokio::select! {
            ended = mcp::serve_stdio(&echo) => ended?,
            name = stop_signal => tracing::info!(signal = name, "stopped"),
        }
        return Ok(0);
    }

    let wanted = SocketAddr::new(settings.bind, settings.port);
    let listener = TcpListener::bind(wanted)
        .await
        .with_context(|| format!("cannot listen on {wanted}; set PORT or --port to a free port"))?;
    let address = listener.local_addr()?;
    let echo = Arc::new(Echo::new(settings));
    let app = routes::router(&echo).into_make_service_with_connect_info::<SocketAddr>();

    // Without this a small answer waits for the peer's delayed acknowledgement: 44 ms for every MCP call.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
    });
    let stopping = echo.stopping.clone();
    let server = axum::serve(listener, app).with_graceful_shutdown(stopping.clone().cancelled_owned()).into_future();
    tokio::pin!(server);

    announce(address);
    tracing::info!(service = echo.settings.service_name, %address, "ready");

    tokio::select! {
        // Before the server's own end, so that a stop always goes through the drain below.
        biased;
        () = stopping.cancelled() => tracing::info!("stopping on request"),
        name = stop_signal => {
            tracing::info!(signal = name, "stopping");
            stopping.cancel();
        }
        ended = &mut server => {
            ended.context("the listener failed")?;
            return Ok(echo.exit_code());
        }
    }
    if let Ok(ended) = tokio::time::timeout(DRAIN, server).await {
        ended.context("the listener failed")?;
    } else {
        tracing::warn!(seconds = DRAIN.as_secs(), "requests still open after the drain time were cut off");
    }
    tracing::info!(requests = echo.requests(), "stopped");
    Ok(echo.exit_code())
}

/// Tells the address on standard output, for whoever asked for port 0. A closed output is no reason to fail.
fn announce(address: SocketAddr) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "mcp-echo listening on http://{address}");
    let _ = output.flush();
}

/// One JSON object a line on standard error; the MCP library only speaks up when something is wrong.
fn start_logging(level: LevelFilter) {
    let others = level.min(LevelFilter::WARN);
    tracing_subscriber::registry()
        .with(Targets::new().with_default(others).with_target("mcp_echo", level))
        .with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
        .init();
}

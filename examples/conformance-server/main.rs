//! An MCP server with something of everything, under the names that the protocol's conformance suite
//! (npm `@modelcontextprotocol/conformance`) asks for. The tests put it behind the bridge and run the suite; the
//! benchmark measures bridges with it. It speaks both eras (2025-11-25 and earlier with `initialize`, 2026-07-28
//! without) over stdio, and with `--http ADDRESS` over its own Streamable HTTP, so that a fault can be told from one of
//! the bridge.
//!
//! It is an example and not a program of the product, because nobody but tests should run it; and it is written in Rust
//! with rmcp so that one static file of it runs in an empty image. It knows nothing of the bridge: everything it
//! answers comes from what a client sent on the one connection, as with any server.

mod ask;
mod catalogue;
mod content;
mod rounds;
mod server;
mod state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use clap::Parser;
use rmcp::ServiceExt as _;
use rmcp::service::ServerInitializeError;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;

use crate::server::Server;
use crate::state::State;

#[derive(Parser)]
#[command(about = "An MCP server with the conformance suite's tools, over stdio unless --http is given")]
struct Arguments {
    /// Serve Streamable HTTP at /mcp of this address rather than stdio
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,
    /// What `requestState` is signed with, at least 32 bytes; replicas of one service share it. Without it a key is made
    #[arg(long, env = "STATE_KEY", hide_env_values = true)]
    state_key: Option<String>,
    /// Answer `resources/list` only after so many seconds, as servers do that look far for what they have
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    late_resources: u64,
}

// One thread: the work is tiny, and a server of the usual kind has no more.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let key = arguments.state_key.map_or_else(|| rand::random::<[u8; 32]>().to_vec(), String::into_bytes);
    let state = Arc::new(State::new(key, Duration::from_secs(arguments.late_resources))?);
    match arguments.http {
        None => {
            match Server::new(state).serve(rmcp::transport::io::stdio_pipes()).await {
                Ok(running) => drop(running.waiting().await?),
                // Whoever started it did not want anything after all.
                Err(ServerInitializeError::ConnectionClosed(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Some(address) => serve_http(address, state).await?,
    }
    Ok(())
}

async fn serve_http(address: SocketAddr, state: Arc<State>) -> anyhow::Result<()> {
    let config = StreamableHttpServerConfig::default().with_json_response(true);
    let make = move || Ok(Server::new(Arc::clone(&state)));
    let service = StreamableHttpService::new(make, Arc::<LocalSessionManager>::default(), config);
    // Without this a small answer waits for the peer's delayed acknowledgement.
    let listener = TcpListener::bind(address).await?;
    eprintln!("listening on http://{}/mcp", listener.local_addr()?);
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await?;
    Ok(())
}

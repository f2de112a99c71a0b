//! What `scripts/bench.sh` and `scripts/bench-bridge.sh` measure with: starts of containers, requests through the
//! gateway, single calls of the API, memory of a process, calls of MCP tools through bridges, a cluster.
//!
//! Each command prints its figures to standard output, one a line, with tabs between: part, what, value, unit, and the
//! goal where there is one. Nothing is judged here, and setting up and cleaning up are the scripts'.

mod api_server;
mod bridge;
mod cluster;
mod gateway;
mod http;
mod list;
mod memory;
mod same;
mod services;
mod start;

use clap::Parser;

#[derive(Parser)]
enum Command {
    /// From the request to the first answer: the manager against `podman run`.
    Start(start::Arguments),
    /// Requests through the gateway, through Traefik and straight to a service.
    Gateway(gateway::Arguments),
    /// Calls of `GET /containers`, one after the other on one connection.
    List(list::Arguments),
    /// Calls of MCP tools through several bridges in turns.
    Bridge(bridge::Arguments),
    /// Creations in a cluster: the manager against `kubectl apply`.
    Cluster(cluster::Arguments),
    /// Serves as a cluster's API server.
    ApiServer(api_server::Serve),
    /// How often that one is asked.
    Calls(api_server::Calls),
    /// Memory of a process.
    Memory(memory::Arguments),
    /// Creates services and waits until they run.
    Fill(services::Fill),
    /// Deletes the services that `fill` made.
    Empty(services::Empty),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Start(arguments) => start::measure(&arguments),
        Command::Gateway(arguments) => gateway::measure(&arguments),
        Command::List(arguments) => list::measure(&arguments),
        Command::Bridge(arguments) => bridge::measure(arguments),
        Command::Cluster(arguments) => cluster::measure(&arguments),
        Command::ApiServer(arguments) => api_server::serve(&arguments),
        Command::Calls(arguments) => api_server::calls(&arguments),
        Command::Memory(arguments) => memory::measure(&arguments),
        Command::Fill(arguments) => services::fill(&arguments),
        Command::Empty(arguments) => services::empty(&arguments),
    }
}

/// Prints one figure.
fn figure(part: &str, what: &str, value: f64, unit: &str, goal: &str) {
    println!("{part}\t{what}\t{value:.3}\t{unit}\t{goal}");
}

/// The value below which `share` of the sorted values lie.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let rank = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

//! Latency of `GET /containers`, against that of `GET /health` on the same connection in the same turns.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use crate::http::Connection;
use crate::{figure, percentile};

const WARM_UP: usize = 100;

#[derive(Args)]
pub struct Arguments {
    /// The manager's address.
    #[arg(long)]
    manager: SocketAddr,
    /// What stands behind the services; part of the figures' names.
    #[arg(long)]
    label: String,
    /// How many services the list must have.
    #[arg(long)]
    services: usize,
    /// How many calls are timed.
    #[arg(long, default_value_t = 3000)]
    calls: usize,
    /// The goal for p99, in milliseconds.
    #[arg(long)]
    goal: Option<f64>,
}

pub fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let mut connection = Connection::open(arguments.manager, &arguments.manager.to_string(), Duration::from_secs(30))?;
    let listed: serde_json::Value = serde_json::from_slice(&connection.call("GET", "/containers", "")?.body)?;
    let shown = listed["containers"].as_array().map_or(0, Vec::len);
    // More than fit on a page are counted all the same.
    let services = listed["total"].as_u64().map_or(shown, |total| usize::try_from(total).unwrap_or(shown));
    ensure!(services == arguments.services, "the list has {services} services, not {}", arguments.services);

    let (mut lists, mut baseline, mut bytes) = (Vec::new(), Vec::new(), 0);
    for call in 0..WARM_UP + arguments.calls {
        let mut timed = |path: &str| -> anyhow::Result<(f64, usize)> {
            let began = Instant::now();
            let answer = connection.call("GET", path, "")?;
            let taken = began.elapsed().as_secs_f64() * 1000.0;
            ensure!(answer.status == 200, "GET {path} answered {}", answer.status);
            Ok((taken, answer.body.len()))
        };
        let (health, (list, size)) = (timed("/health")?.0, timed("/containers")?);
        if call >= WARM_UP {
            baseline.push(health);
            lists.push(list);
            bytes = size;
        }
    }
    lists.sort_by(f64::total_cmp);
    baseline.sort_by(f64::total_cmp);
    let page = if shown < services { format!(", {shown} on the page") } else { String::new() };
    let label = format!("GET /containers, {services} services{page} ({})", arguments.label);
    let goal = arguments.goal.map_or_else(String::new, |goal| format!("<= {goal}"));
    figure("list", &format!("{label}: p50"), percentile(&lists, 0.5), "ms", "");
    figure("list", &format!("{label}: p99"), percentile(&lists, 0.99), "ms", &goal);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    figure("list", &format!("{label}: size of the answer"), bytes as f64 / 1024.0, "KiB", "");
    // What both have in common is the machine's doing, and that of the client.
    figure("list", "GET /health in the same turns: p99", percentile(&baseline, 0.99), "ms", "");
    figure("list", &format!("{label} : GET /health, p50"), percentile(&lists, 0.5) / percentile(&baseline, 0.5), "ratio", "");
    Ok(())
}

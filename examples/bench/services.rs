//! Many services at once, for what is measured with a full manager.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Args;

use crate::figure;
use crate::http::ask;

#[derive(Args)]
pub struct Fill {
    #[command(flatten)]
    which: Which,
    /// Part that the time taken belongs to.
    #[arg(long)]
    part: String,
}

#[derive(Args)]
pub struct Empty {
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
struct Which {
    /// The manager's address.
    #[arg(long)]
    manager: SocketAddr,
    /// How many.
    #[arg(long)]
    services: usize,
    /// How many requests at a time.
    #[arg(long, default_value_t = 4)]
    parallel: usize,
}

pub fn fill(arguments: &Fill) -> anyhow::Result<()> {
    let (began, address) = (Instant::now(), arguments.which.manager);
    each(&arguments.which, |name| {
        ask(address, "POST", "/containers", &format!(r#"{{"service_name": "{name}", "template": "echo"}}"#)).map(drop)
    })?;
    let what = format!("{} services created and healthy", arguments.which.services);
    figure(&arguments.part, &what, began.elapsed().as_secs_f64(), "s", "");
    Ok(())
}

pub fn empty(arguments: &Empty) -> anyhow::Result<()> {
    let address = arguments.which.manager;
    each(&arguments.which, |name| ask(address, "DELETE", &format!("/containers/{name}"), "").map(drop))
}

/// Does it for each service, several at a time; the first failure ends it.
fn each(which: &Which, act: impl Fn(String) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    let next = AtomicUsize::new(1);
    let work = || -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number > which.services {
                return Ok(());
            }
            if let Err(error) = act(format!("bench-{number:04}")) {
                next.store(which.services + 1, Ordering::Relaxed);
                return Err(error);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..which.parallel.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })
}

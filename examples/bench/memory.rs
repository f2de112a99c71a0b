//! Memory of one process, as the kernel counts it.

use anyhow::Context as _;
use clap::Args;

use crate::figure;

#[derive(Args)]
pub struct Arguments {
    /// The process.
    #[arg(long)]
    process: u32,
    /// What it is and does; the figures' names.
    #[arg(long)]
    label: String,
    /// The goal for what it has in memory, in MiB.
    #[arg(long)]
    goal: Option<f64>,
}

pub fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let file = format!("/proc/{}/smaps_rollup", arguments.process);
    let text = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    let mebibytes = |name: &str| -> anyhow::Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{file} has no {name}"))?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
    };
    let goal = arguments.goal.map_or_else(String::new, |goal| format!("<= {goal}"));
    figure("memory", &format!("{}: resident", arguments.label), mebibytes("Rss:")?, "MiB", &goal);
    figure("memory", &format!("{}: proportional", arguments.label), mebibytes("Pss:")?, "MiB", "");
    figure("memory", &format!("{}: anonymous", arguments.label), mebibytes("Anonymous:")?, "MiB", "");
    Ok(())
}

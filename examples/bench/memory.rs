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

/// What a process has in memory, in MiB.
pub struct Memory {
    /// What is there, shared or not.
    pub resident: f64,
    /// With shared pages divided among those who share them.
    pub proportional: f64,
    /// What no file stands behind.
    pub anonymous: f64,
}

/// Reads it from the kernel.
pub fn of(process: u32) -> anyhow::Result<Memory> {
    let file = format!("/proc/{process}/smaps_rollup");
    let text = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    let mebibytes = |name: &str| -> anyhow::Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{file} has no {name}"))?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
    };
    Ok(Memory { resident: mebibytes("Rss:")?, proportional: mebibytes("Pss:")?, anonymous: mebibytes("Anonymous:")? })
}

pub fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let memory = of(arguments.process)?;
    let goal = arguments.goal.map_or_else(String::new, |goal| format!("<= {goal}"));
    figure("memory", &format!("{}: resident", arguments.label), memory.resident, "MiB", &goal);
    figure("memory", &format!("{}: proportional", arguments.label), memory.proportional, "MiB", "");
    figure("memory", &format!("{}: anonymous", arguments.label), memory.anonymous, "MiB", "");
    Ok(())
}

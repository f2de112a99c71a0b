//! Bridges beside each other: the same calls on the same server through each of them, through the server's own HTTP and
//! over its bare standard streams, in turns within one run. Each answer is checked. Starting the bridges is the script's.

mod endpoint;
mod load;
mod work;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use crate::{figure, memory, percentile};
use endpoint::Endpoint;
use load::{Load, Measured};
use work::Work;

/// How much faster ours shall be than the fastest peer.
const GOAL: &str = ">= 1.2";

/// How long nothing is asked of anybody until memory is looked at again.
const REST: Duration = Duration::from_secs(5);

#[derive(Args)]
pub struct Arguments {
    /// The part's name in the figures, for example the server's.
    #[arg(long)]
    part: String,
    /// KIND,NAME,URL,PREFIX,PID: a bridge. KIND is ours, peer or limit; PREFIX is before the names of its tools;
    /// PID is the process whose memory counts, or 0
    #[arg(long, value_parser = Target::parse)]
    target: Vec<Target>,
    /// The server's command, with spaces between its words: bare standard streams as a limit
    #[arg(long)]
    stdio: Option<String>,
    /// What large calls are
    #[arg(long, value_enum, default_value_t = Large::Answer)]
    large: Large,
    /// How long each way is measured in each row
    #[arg(long, default_value_t = 2000)]
    milliseconds: u64,
    /// How often; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many sessions are many
    #[arg(long, default_value_t = 8)]
    sessions: usize,
    /// Calls in flight
    #[arg(long, value_delimiter = ',', default_value = "1,32,256")]
    in_flight: Vec<usize>,
    /// Sessions opened for the time that takes
    #[arg(long, default_value_t = 20)]
    opened: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Large {
    /// A small request has a large answer: the server has a tool `repeat`
    Answer,
    /// A large request comes back
    Echo,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ours,
    Peer,
    Limit,
}

#[derive(Clone)]
struct Target {
    kind: Kind,
    name: String,
    reached: Reached,
    process: Option<u32>,
}

#[derive(Clone)]
enum Reached {
    Http { endpoint: Endpoint, prefix: String },
    Stdio { command: Vec<String> },
}

impl Target {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<&str> = text.split(',').collect();
        let [kind, name, url, prefix, process] = parts[..] else { bail!("'{text}' is not KIND,NAME,URL,PREFIX,PID") };
        let kind = match kind {
            "ours" => Kind::Ours,
            "peer" => Kind::Peer,
            "limit" => Kind::Limit,
            _ => bail!("'{kind}' is neither ours nor peer nor limit"),
        };
        let reached = Reached::Http { endpoint: Endpoint::parse(url)?, prefix: prefix.to_owned() };
        let process = Some(process.parse()?).filter(|process| *process != 0);
        Ok(Self { kind, name: name.to_owned(), reached, process })
    }

    async fn run(&self, load: Load) -> anyhow::Result<Measured> {
        match &self.reached {
            Reached::Http { endpoint, prefix } => load::over_http(endpoint, prefix, load).await,
            Reached::Stdio { command } => load::over_stdio(command, load).await,
        }
    }
}

pub fn measure(arguments: Arguments) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(compare(arguments))
}

async fn compare(arguments: Arguments) -> anyhow::Result<()> {
    let part = arguments.part.as_str();
    let mut targets = arguments.target.clone();
    if let Some(command) = &arguments.stdio {
        let reached = Reached::Stdio { command: command.split_whitespace().map(str::to_owned).collect() };
        targets.push(Target { kind: Kind::Limit, name: "bare stdio".to_owned(), reached, process: None });
    }
    for target in &targets {
        memory_of(part, target, "at rest before")?;
    }
    let large = match arguments.large {
        Large::Answer => Work::LargeAnswer,
        Large::Echo => Work::LargeEcho,
    };
    let time = Duration::from_millis(arguments.milliseconds);
    // Programs that compile as they run get the time for it.
    for target in &targets {
        let _ = target.run(Load { work: Work::Small, sessions: 1, in_flight: 32, time: Duration::from_secs(1) }).await;
    }
    for work in [Work::Small, large] {
        for sessions in [1, arguments.sessions] {
            for &in_flight in &arguments.in_flight {
                row(part, &targets, Load { work, sessions, in_flight, time }, arguments.rounds).await;
            }
        }
    }
    tokio::time::sleep(REST).await;
    for target in &targets {
        memory_of(part, target, "at rest after")?;
        opening(part, target, arguments.opened).await;
    }
    Ok(())
}

/// One load on all targets in turns. Who fails is named and has no figures in this row.
async fn row(part: &str, targets: &[Target], load: Load, rounds: usize) {
    let mut results: BTreeMap<usize, Vec<Measured>> = BTreeMap::new();
    let mut failed: BTreeMap<usize, String> = BTreeMap::new();
    for round in 0..rounds {
        for turn in 0..targets.len() {
            // Nobody is always the first, or always after the same other.
            let which = (turn + round) % targets.len();
            if failed.contains_key(&which) {
                continue;
            }
            match targets[which].run(load).await {
                Ok(measured) => results.entry(which).or_default().push(measured),
                Err(error) => drop(failed.insert(which, format!("{error:#}"))),
            }
        }
    }
    let sessions = if load.sessions == 1 { "1 session".to_owned() } else { format!("{} sessions", load.sessions) };
    let label = format!("{}, {sessions}, {} in flight", load.work.name(), load.in_flight);
    let mut rates = BTreeMap::new();
    for (which, target) in targets.iter().enumerate() {
        let name = &target.name;
        if let Some(reason) = failed.get(&which) {
            eprintln!("{part}, {label}: {name} FAILED: {reason}");
            figure(part, &format!("{label}: {name} failed"), 0.0, "1/s", "");
            continue;
        }
        let all = &results[&which];
        let middle = |value: fn(&Measured) -> f64| {
            let mut values: Vec<f64> = all.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            percentile(&values, 0.5)
        };
        let rate = middle(|measured| measured.rate);
        figure(part, &format!("{label}: {name}"), rate, "1/s", "");
        figure(part, &format!("{label}: {name}, p50"), middle(|measured| measured.p50), "ms", "");
        figure(part, &format!("{label}: {name}, p99"), middle(|measured| measured.p99), "ms", "");
        rates.insert(which, rate);
    }
    let fastest = |kind: Kind| {
        let of_kind = rates.iter().filter(|(which, _)| targets[**which].kind == kind);
        of_kind.max_by(|left, right| left.1.total_cmp(right.1)).map(|(which, rate)| (&targets[*which].name, *rate))
    };
    for (which, rate) in rates.iter().filter(|(which, _)| targets[**which].kind == Kind::Ours) {
        let name = &targets[*which].name;
        if let Some((peer, peers)) = fastest(Kind::Peer) {
            figure(part, &format!("{label}: {name} : {peer}, the fastest peer"), rate / peers, "ratio", GOAL);
        }
        if let Some((limit, limits)) = fastest(Kind::Limit) {
            figure(part, &format!("{label}: {name} : {limit}"), rate / limits, "ratio", "");
        }
    }
}

fn memory_of(part: &str, target: &Target, when: &str) -> anyhow::Result<()> {
    let Some(process) = target.process else { return Ok(()) };
    let memory = memory::of(process).with_context(|| format!("the memory of {}", target.name))?;
    let goal = if target.kind == Kind::Ours { "<= 4" } else { "" };
    figure(part, &format!("memory {when}: {}, resident", target.name), memory.resident, "MiB", goal);
    figure(part, &format!("memory {when}: {}, proportional", target.name), memory.proportional, "MiB", "");
    Ok(())
}

/// From the connection to the first list of tools, one session after the other.
async fn opening(part: &str, target: &Target, times: usize) {
    let Reached::Http { endpoint, .. } = &target.reached else { return };
    let opened: anyhow::Result<Vec<f64>> = async {
        let mut taken = Vec::new();
        for _ in 0..times {
            let began = Instant::now();
            let session = endpoint.open_session().await?;
            taken.push(began.elapsed().as_secs_f64() * 1000.0);
            endpoint.close_session(&session).await?;
        }
        taken.sort_by(f64::total_cmp);
        Ok(taken)
    }
    .await;
    match opened {
        Ok(taken) => {
            figure(part, &format!("open a session: {}, p50", target.name), percentile(&taken, 0.5), "ms", "");
            figure(part, &format!("open a session: {}, p99", target.name), percentile(&taken, 0.99), "ms", "");
        }
        Err(error) => eprintln!("{part}, open a session: {} FAILED: {error:#}", target.name),
    }
}

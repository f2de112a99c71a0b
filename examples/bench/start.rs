//! How long a container takes from the request to its first answer: created by the manager and asked by name through
//! its gateway, against `podman run --detach` and asked at its port. The ways take turns, each from the same state: the
//! image and its mapped copy are there, each network has one other container, and the container before is gone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::http::{Connection, ask};
use crate::same::ensure_same;
use crate::{figure, percentile};

/// A connection that is accepted but not answered so long is tried again: somebody accepted it for a server that is not
/// there yet.
const PATIENCE: Duration = Duration::from_millis(50);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_micros(500);
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct Arguments {
    /// The manager's address.
    #[arg(long)]
    manager: SocketAddr,
    /// The manager's network.
    #[arg(long)]
    network: String,
    /// The image behind the template `echo`.
    #[arg(long)]
    image: String,
    /// How often each way is measured.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// The engine enforces limits: `podman run` with the same locks asks for them, too.
    #[arg(long)]
    limits: bool,
}

/// A way to start a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Manager,
    Plain,
    Locked,
}

impl Way {
    const ALL: [Self; 3] = [Self::Manager, Self::Plain, Self::Locked];

    const fn label(self) -> &'static str {
        match self {
            Self::Manager => "POST /containers",
            Self::Plain => "podman run, bridge and port only",
            Self::Locked => "podman run, same locks",
        }
    }

    const fn container(self) -> &'static str {
        match self {
            Self::Manager => "bench-start",
            Self::Plain => "bench-start-plain",
            Self::Locked => "bench-start-locked",
        }
    }
}

/// One start.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Until the request or the command ended, in milliseconds.
    created: f64,
    /// Until the first answer.
    answered: f64,
}

pub fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    keep_networks_up(arguments)?;
    ensure_same_locks(arguments)?;
    let mut taken: BTreeMap<Way, Vec<Taken>> = BTreeMap::new();
    // The first round fills caches and is not counted.
    for round in 0..=arguments.rounds {
        for turn in 0..Way::ALL.len() {
            let way = Way::ALL[(round + turn) % Way::ALL.len()];
            let one = start(way, arguments).with_context(|| format!("{}, round {round}", way.label()));
            remove(way, arguments)?;
            if round > 0 {
                taken.entry(way).or_default().push(one?);
            }
        }
    }
    ask(arguments.manager, "DELETE", "/containers/bench-anchor", "")?;
    podman(&["rm", "--force", "--time", "0", "bench-anchor"])?;
    let median = |way: Way, of: fn(&Taken) -> f64| percentile(&sorted(&taken, way, of), 0.5);
    for way in Way::ALL {
        let all = sorted(&taken, way, |taken| taken.answered);
        figure("start", &format!("{}: first answer, median", way.label()), percentile(&all, 0.5), "ms", "");
        figure("start", &format!("{}: first answer, p90", way.label()), percentile(&all, 0.9), "ms", "");
        figure("start", &format!("{}: until it returns, median", way.label()), median(way, |taken| taken.created), "ms", "");
    }
    let first_answer = |way| median(way, |taken| taken.answered);
    let (manager, plain, locked) = (first_answer(Way::Manager), first_answer(Way::Plain), first_answer(Way::Locked));
    figure("start", "POST /containers : podman run, bridge and port only", manager / plain, "ratio", "<= 1.15");
    figure("start", "POST /containers : podman run, same locks", manager / locked, "ratio", "<= 1.15");
    figure("start", "podman run, same locks : bridge and port only", locked / plain, "ratio", "");
    Ok(())
}

fn sorted(taken: &BTreeMap<Way, Vec<Taken>>, way: Way, of: fn(&Taken) -> f64) -> Vec<f64> {
    let mut values: Vec<_> = taken.get(&way).into_iter().flatten().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The first container of a network costs more than those after it, whoever starts it; that is not measured here.
fn keep_networks_up(arguments: &Arguments) -> anyhow::Result<()> {
    ask(arguments.manager, "POST", "/containers", r#"{"service_name": "bench-anchor", "template": "echo"}"#)?;
    podman(&["run", "--detach", "--pull", "never", "--name", "bench-anchor", "--network", "bridge", &arguments.image])?;
    Ok(())
}

/// "Same locks" is a claim, and holds only as long as neither the template nor the manager changes.
fn ensure_same_locks(arguments: &Arguments) -> anyhow::Result<()> {
    start(Way::Manager, arguments)?;
    start(Way::Locked, arguments)?;
    let service = ask(arguments.manager, "GET", &format!("/containers/{}", Way::Manager.container()), "")?;
    let service: serde_json::Value = serde_json::from_slice(&service.body)?;
    let container = service["instances"][0]["name"].as_str().context("the service has no container")?;
    let same =
        podman(&["inspect", container]).and_then(|ours| ensure_same(&ours, &podman(&["inspect", Way::Locked.container()])?));
    remove(Way::Manager, arguments)?;
    remove(Way::Locked, arguments)?;
    same
}

fn start(way: Way, arguments: &Arguments) -> anyhow::Result<Taken> {
    let port = free_port()?;
    let began = Instant::now();
    let (address, host) = match way {
        Way::Manager => {
            let name = way.container();
            ask(arguments.manager, "POST", "/containers", &format!(r#"{{"service_name": "{name}", "template": "echo"}}"#))?;
            (arguments.manager, format!("{name}.localhost:{}", arguments.manager.port()))
        }
        Way::Plain | Way::Locked => {
            let words = words(way, arguments, port);
            podman(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
            (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), format!("127.0.0.1:{port}"))
        }
    };
    let created = milliseconds(began);
    while !answers(address, &host) {
        ensure!(began.elapsed() < DEADLINE, "no answer within {DEADLINE:?}");
        std::thread::sleep(PAUSE);
    }
    Ok(Taken { created, answered: milliseconds(began) })
}

fn answers(address: SocketAddr, host: &str) -> bool {
    let answer = Connection::open(address, host, PATIENCE).and_then(|mut open| open.call("GET", "/health", ""));
    answer.is_ok_and(|answer| answer.status == 200)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The command line. The locks are those of a service of the template `echo`, as `podman inspect` shows them.
fn words(way: Way, arguments: &Arguments, port: u16) -> Vec<String> {
    let publish = format!("127.0.0.1:{port}:8000");
    let common = ["run", "--detach", "--pull", "never", "--name", way.container(), "--publish", &publish];
    let environment = ["--env", "MCP_SERVICE_NAME=echo"];
    let locks = [
        ["--cap-drop", "all"],
        ["--security-opt", "no-new-privileges"],
        ["--read-only", "--read-only-tmpfs=false"],
        ["--mount", "type=tmpfs,destination=/tmp,tmpfs-size=67108864,tmpfs-mode=1777"],
        ["--uidmap", "0:1:65535"],
        ["--uidmap", "65535:0:1"],
        ["--gidmap", "0:1:65535"],
        ["--gidmap", "65535:0:1"],
        ["--network", &arguments.network],
        ["--network-alias", way.container()],
        ["--hostname", way.container()],
        ["--sysctl", "net.ipv4.ip_unprivileged_port_start=0"],
        ["--log-driver", "k8s-file"],
        ["--log-opt", "max-size=10mb"],
        ["--init", "--http-proxy=false"],
    ];
    let limits = [["--memory", "64m"], ["--memory-swap", "64m"], ["--cpus", "0.5"], ["--pids-limit", "32"]];
    let mut words: Vec<&str> = common.into_iter().chain(environment).collect();
    match way {
        Way::Manager | Way::Plain => words.extend(["--network", "bridge"]),
        Way::Locked => {
            words.extend(locks.as_flattened());
            words.extend(limits.as_flattened().iter().take(if arguments.limits { usize::MAX } else { 0 }));
        }
    }
    words.push(&arguments.image);
    words.into_iter().map(str::to_owned).collect()
}

fn remove(way: Way, arguments: &Arguments) -> anyhow::Result<()> {
    match way {
        Way::Manager => ask(arguments.manager, "DELETE", &format!("/containers/{}", way.container()), "").map(drop),
        Way::Plain | Way::Locked => podman(&["rm", "--force", "--time", "0", way.container()]).map(drop),
    }
}

/// Runs Podman's command line; what it prints.
fn podman(words: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("podman").args(words).stdin(Stdio::null()).output().context("podman cannot be run")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "podman {} ended with {}: {complaint}", words.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

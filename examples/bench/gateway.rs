//! Requests through the embedded gateway, through Traefik and straight to the same real service, in turns.
//!
//! All contenders take part in every round, in changing order, so that the load of the machine meets each of them. A
//! figure is the median of the rounds; a ratio is the median of the rounds' ratios.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http::{Connection, ask};
use crate::{figure, percentile};

/// The service that answers; its health is what the echo server tells without writing to its log.
const SERVICE: &str = "bench-gateway";
const PATH: &str = "/health";

/// How requests are sent: name, connections at a time, and whether each carries more than one request.
const WAYS: [(&str, usize, bool); 3] =
    [("1 connection", 1, true), ("64 connections", 64, true), ("a new connection each, 8 at a time", 8, false)];

#[derive(Args)]
pub struct Arguments {
    /// The manager's address.
    #[arg(long)]
    manager: SocketAddr,
    /// The manager's process.
    #[arg(long)]
    manager_process: u32,
    /// Traefik's address.
    #[arg(long)]
    traefik: SocketAddr,
    /// Traefik's process.
    #[arg(long)]
    traefik_process: u32,
    /// Address of a Traefik without access log and metrics.
    #[arg(long)]
    bare_traefik: SocketAddr,
    /// Process of that Traefik.
    #[arg(long)]
    bare_traefik_process: u32,
    /// How many rounds.
    #[arg(long)]
    rounds: usize,
    /// How long each contender is asked in each round and way, in seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// One who answers requests.
struct Contender {
    name: &'static str,
    address: SocketAddr,
    process: Option<u32>,
}

/// What one contender did in one round.
#[derive(Clone, Copy, Default)]
struct Round {
    requests_per_second: f64,
    /// Milliseconds.
    p99: f64,
    /// Microseconds of processor time for one request.
    processor: f64,
}

pub fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let body = format!(r#"{{"service_name": "{SERVICE}", "template": "echo"}}"#);
    ask(arguments.manager, "POST", "/containers", &body)?;
    let measured = contenders(arguments).and_then(|contenders| rounds(arguments, &contenders));
    ask(arguments.manager, "DELETE", &format!("/containers/{SERVICE}"), "")?;
    measured
}

fn contenders(arguments: &Arguments) -> anyhow::Result<[Contender; 4]> {
    let service: serde_json::Value =
        serde_json::from_slice(&ask(arguments.manager, "GET", &format!("/containers/{SERVICE}"), "")?.body)?;
    let address = service["instances"][0]["address"].as_str().context("the service has no address")?.parse()?;
    let contender = |name, address, process| Contender { name, address, process };
    let contenders = [
        contender("direct", address, None),
        contender("gateway", arguments.manager, Some(arguments.manager_process)),
        contender("Traefik", arguments.traefik, Some(arguments.traefik_process)),
        contender("Traefik without logs and metrics", arguments.bare_traefik, Some(arguments.bare_traefik_process)),
    ];
    for contender in &contenders {
        wait_for(contender)?;
    }
    Ok(contenders)
}

/// Traefik takes a moment to learn of a service.
fn wait_for(contender: &Contender) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let answer = Connection::open(contender.address, &host(), Duration::from_secs(5))
            .and_then(|mut connection| connection.call("GET", PATH, ""));
        match answer {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) if began.elapsed() > Duration::from_secs(20) => bail!("{} answers {}", contender.name, answer.status),
            Err(error) if began.elapsed() > Duration::from_secs(20) => return Err(error.context(contender.name)),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn host() -> String {
    format!("{SERVICE}.localhost")
}

fn rounds(arguments: &Arguments, contenders: &[Contender; 4]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let span = Duration::from_secs_f64(arguments.seconds);
    for (way, connections, kept) in WAYS {
        let mut taken: Vec<[Round; 4]> = Vec::new();
        // The first round warms up.
        for number in 0..=arguments.rounds {
            let mut round = [Round::default(); 4];
            for turn in 0..contenders.len() {
                let place = (turn + number) % contenders.len();
                let measured = one_round(&runtime, &contenders[place], connections, kept, span);
                round[place] = measured.with_context(|| format!("{}, {way}", contenders[place].name))?;
            }
            if number > 0 {
                taken.push(round);
            }
        }
        report(way, contenders, &taken);
    }
    Ok(())
}

fn report(way: &str, contenders: &[Contender; 4], taken: &[[Round; 4]]) {
    const GATEWAY: usize = 1;
    let median = |of: &dyn Fn(&[Round; 4]) -> f64| {
        let mut values: Vec<f64> = taken.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        percentile(&values, 0.5)
    };
    for (place, contender) in contenders.iter().enumerate() {
        let name = contender.name;
        figure("gateway", &format!("{way}: {name}"), median(&|round| round[place].requests_per_second), "req/s", "");
        figure("gateway", &format!("{way}: {name}, p99"), median(&|round| round[place].p99), "ms", "");
        if contender.process.is_some() {
            figure("gateway", &format!("{way}: {name}, processor time"), median(&|round| round[place].processor), "µs/req", "");
        }
    }
    for (place, contender) in contenders.iter().enumerate().filter(|(place, _)| *place != GATEWAY) {
        let name = contender.name;
        let (more, less) = if contender.process.is_some() { (">= 1", "<= 1") } else { ("", "") };
        let speed = median(&|round| round[GATEWAY].requests_per_second / round[place].requests_per_second);
        figure("gateway", &format!("{way}: requests, gateway : {name}"), speed, "ratio", more);
        let wait = median(&|round| round[GATEWAY].p99 / round[place].p99);
        figure("gateway", &format!("{way}: p99, gateway : {name}"), wait, "ratio", less);
    }
}

fn one_round(
    runtime: &tokio::runtime::Runtime,
    contender: &Contender,
    connections: usize,
    kept: bool,
    span: Duration,
) -> anyhow::Result<Round> {
    let close = if kept { "" } else { "connection: close\r\n" };
    let request: Rc<[u8]> = format!("GET {PATH} HTTP/1.1\r\nhost: {}\r\n{close}\r\n", host()).into_bytes().into();
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let before = contender.process.map(processor_time).transpose()?;
    let began = Instant::now();
    let local = tokio::task::LocalSet::new();
    local.block_on(runtime, async {
        let mut workers = JoinSet::new();
        for _ in 0..connections {
            workers.spawn_local(work(contender.address, Rc::clone(&request), kept, began + span, Rc::clone(&latencies)));
        }
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    })?;
    let elapsed = began.elapsed().as_secs_f64();
    let after = contender.process.map(processor_time).transpose()?;
    let mut latencies = latencies.take();
    latencies.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let requests = latencies.len() as f64;
    ensure!(requests > 0.0, "not one request was answered");
    let processor = before.zip(after).map_or(0.0, |(before, after)| (after - before) * 1e6 / requests);
    Ok(Round { requests_per_second: requests / elapsed, p99: percentile(&latencies, 0.99), processor })
}

/// Sends one request after the other until the end.
async fn work(
    address: SocketAddr,
    request: Rc<[u8]>,
    kept: bool,
    end: Instant,
    latencies: Rc<RefCell<Vec<f64>>>,
) -> anyhow::Result<()> {
    let mut connection = None;
    let mut buffer = Vec::with_capacity(16 << 10);
    while Instant::now() < end {
        let began = Instant::now();
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => open(address).await?,
        };
        stream.write_all(&request).await?;
        read_answer(&mut stream, &mut buffer).await?;
        if kept {
            connection = Some(stream);
        }
        latencies.borrow_mut().push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(())
}

async fn open(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one answer with status 200 and a body of stated length.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    buffer.clear();
    let mut wanted = None;
    loop {
        if wanted.is_none()
            && let Some(head) = buffer.windows(4).position(|end| end == b"\r\n\r\n")
        {
            let text = std::str::from_utf8(&buffer[..head])?;
            ensure!(text.starts_with("HTTP/1.1 200"), "answered {}", text.lines().next().unwrap_or_default());
            let mut fields = text.lines().filter_map(|line| line.split_once(':'));
            let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).context("no length")?.1;
            wanted = Some(head + 4 + length.trim().parse::<usize>()?);
        }
        if wanted.is_some_and(|wanted| buffer.len() >= wanted) {
            return Ok(());
        }
        ensure!(stream.read_buf(buffer).await? > 0, "the connection broke off");
    }
}

/// Processor time of a process so far, in seconds.
fn processor_time(process: u32) -> anyhow::Result<f64> {
    // Nanoseconds of the scheduler's, of all threads that are alive; that of stat counts hundredths of a second only.
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"))?;
    let mut nanoseconds = 0.0;
    for task in tasks {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().unwrap_or_default().parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

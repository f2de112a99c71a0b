//! Calls in flight for a while, on a server behind HTTP or on its own standard streams.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::endpoint::{Connection, Endpoint, PATIENCE};
use super::work::Work;
use crate::percentile;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What is called.
    pub work: Work,
    /// How many sessions the calls take turns on.
    pub sessions: usize,
    /// How many calls are unanswered at any time.
    pub in_flight: usize,
    /// How long calls are counted.
    pub time: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Calls a second.
    pub rate: f64,
    /// The median of their times, in milliseconds.
    pub p50: f64,
    /// What 99 of 100 stay below.
    pub p99: f64,
}

/// So long it goes before calls are counted: programs that compile as they run get warm on fresh sessions.
fn warm_up(time: Duration) -> Duration {
    time / 2
}

fn measured(mut taken: Vec<f64>, time: Duration) -> anyhow::Result<Measured> {
    ensure!(!taken.is_empty(), "not one call was answered in {} s", time.as_secs());
    taken.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = taken.len() as f64 / time.as_secs_f64();
    Ok(Measured { rate, p50: percentile(&taken, 0.5), p99: percentile(&taken, 0.99) })
}

/// Through HTTP, each call in flight on a connection of its own.
pub async fn over_http(endpoint: &Endpoint, prefix: &str, load: Load) -> anyhow::Result<Measured> {
    let mut sessions = Vec::new();
    for _ in 0..load.sessions {
        sessions.push(endpoint.open_session().await?);
    }
    let counted_from = Instant::now() + warm_up(load.time);
    let until = counted_from + load.time;
    let workers = (0..load.in_flight).map(|worker| {
        let sessions = &sessions;
        async move {
            let mut connection = Connection::open(endpoint).await?;
            let mut taken = Vec::new();
            for turn in 0.. {
                let began = Instant::now();
                if began >= until {
                    break;
                }
                // Unique on every session; 0 and 1 opened them.
                let id = (2 + turn * load.in_flight + worker) as u64;
                let session = &sessions[(worker + turn) % sessions.len()];
                let answer = connection.post(Some(session), &load.work.request(prefix, id)).await?;
                ensure!(answer.status == 200, "a call answered {}", answer.status);
                let mut answered = false;
                for message in answer.messages() {
                    answered |= load.work.answers(message, id)?;
                }
                ensure!(answered, "call {id} got no answer of its own");
                count(&mut taken, began, counted_from, until);
            }
            anyhow::Ok(taken)
        }
    });
    let taken = try_join_all(workers).await;
    for session in &sessions {
        let closed = endpoint.close_session(session).await;
        if taken.is_ok() {
            closed?;
        }
    }
    measured(taken?.concat(), load.time)
}

fn count(taken: &mut Vec<f64>, began: Instant, from: Instant, until: Instant) {
    let now = Instant::now();
    if now >= from && now < until {
        taken.push((now - began).as_secs_f64() * 1000.0);
    }
}

/// On the server's own standard streams, a process for each session.
pub async fn over_stdio(command: &[String], load: Load) -> anyhow::Result<Measured> {
    // A process without a call would be idle.
    let processes = load.sessions.min(load.in_flight);
    let mut servers = Vec::new();
    for _ in 0..processes {
        servers.push(Server::start(command).await?);
    }
    let counted_from = Instant::now() + warm_up(load.time);
    let until = counted_from + load.time;
    let running = servers.iter_mut().map(|server| server.run(load.work, load.in_flight / processes, counted_from, until));
    let taken = try_join_all(running).await;
    for mut server in servers {
        server.process.kill().await?;
    }
    measured(taken?.concat(), load.time)
}

struct Server {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    async fn start(command: &[String]) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().context("no command")?;
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{program} does not start"))?;
        let input = process.stdin.take().context("no standard input")?;
        let output = BufReader::with_capacity(256 << 10, process.stdout.take().context("no standard output")?);
        let mut server = Self { process, input, output };
        let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
        server.input.write_all(format!("{initialize}\n").as_bytes()).await?;
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, server.output.read_line(&mut line)).await.context("initialize was not answered")??;
        server.input.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n").await?;
        Ok(server)
    }

    async fn run(&mut self, work: Work, in_flight: usize, from: Instant, until: Instant) -> anyhow::Result<Vec<f64>> {
        // Requests are written while answers are read: either alone would wait for the other once a pipe is full.
        let (next, mut wanted) = tokio::sync::mpsc::unbounded_channel::<u64>();
        let mut began = std::collections::HashMap::new();
        for id in 2..2 + in_flight as u64 {
            began.insert(id, Instant::now());
            next.send(id)?;
        }
        let input = &mut self.input;
        let writing = async move {
            while let Some(id) = wanted.recv().await {
                let mut lines = work.request("", id);
                lines.push(b'\n');
                // What else waits goes along in one write, as a client that is busy would do it.
                while lines.len() < 64 << 10 {
                    let Ok(id) = wanted.try_recv() else { break };
                    lines.extend(work.request("", id));
                    lines.push(b'\n');
                }
                input.write_all(&lines).await?;
            }
            anyhow::Ok(())
        };
        let output = &mut self.output;
        let reading = async move {
            let (mut taken, mut line, mut last) = (Vec::new(), Vec::new(), 1 + in_flight as u64);
            while !began.is_empty() {
                line.clear();
                let read = tokio::time::timeout(PATIENCE, output.read_until(b'\n', &mut line)).await.context("no answer")??;
                ensure!(read > 0, "the server ended");
                let Some(id) = id_of(&line)? else { continue };
                let start = began.remove(&id).context("an answer to nothing")?;
                ensure!(work.answers(&line, id)?);
                count(&mut taken, start, from, until);
                if Instant::now() < until {
                    last += 1;
                    began.insert(last, Instant::now());
                    next.send(last)?;
                }
            }
            drop(next);
            anyhow::Ok(taken)
        };
        Ok(tokio::try_join!(writing, reading)?.1)
    }
}

fn id_of(message: &[u8]) -> anyhow::Result<Option<u64>> {
    #[derive(serde::Deserialize)]
    struct Id {
        id: Option<u64>,
    }
    Ok(serde_json::from_slice::<Id>(message)?.id)
}

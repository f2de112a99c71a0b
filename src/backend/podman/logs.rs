//! Log lines of a service: the engine's streams of its containers, put together line by line and merged.
//!
//! The engine tells times to the second, so lines of different replicas within one second keep no order among each
//! other; lines of one replica always do.

mod lines;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, SelectAll};
use jiff::Timestamp;
use tokio::sync::watch;

use self::lines::Lines;
use super::client::{Engine, EngineError};
use super::errors;
use super::frames::Decoder;
use super::shared::Shared;
use crate::backend::LogStream;
use crate::domain::name::ServiceName;
use crate::domain::status::{LogLine, LogQuery, Replica, ReplicaState, Snapshot, Stream};
use crate::error::{Error, Kind, Result};

/// How many of its last lines are kept of a container that ended, and how much of each.
const LAST_LINES: usize = 10;
const LAST_LINE: usize = 500;
/// While following, lines that exist already are awaited for so long and sorted.
const BACKLOG: Duration = Duration::from_millis(150);
/// Most lines that are held back to be sorted.
const MAX_BACKLOG: usize = 10_000;

type LineStream = BoxStream<'static, Result<LogLine>>;

/// The lines that `query` asks for.
pub(super) async fn stream(shared: Arc<Shared>, service: ServiceName, query: LogQuery) -> Result<LogStream> {
    let state = shared.view.get(&service).ok_or_else(|| Error::not_found("service", service.as_str(), []))?;
    let wanted: Vec<Replica> =
        state.replicas.iter().filter(|one| query.replica.is_none_or(|wanted| wanted == one.ordinal)).cloned().collect();
    if query.previous {
        return Err(crate::backend::no_previous());
    }
    if let Some(ordinal) = query.replica
        && wanted.is_empty()
        && !(1..=state.record.spec.replicas).contains(&ordinal)
    {
        let remedy = format!("use 1 to {}, or leave 'replica' out for all", state.record.spec.replicas);
        return Err(Error::new(Kind::NotFound, format!("the service '{service}' has no replica {ordinal}")).remedy(remedy));
    }
    if query.follow {
        return Ok(follow(shared, service, query, &wanted).await?.boxed());
    }
    let mut streams = Vec::new();
    for replica in &wanted {
        streams.push(open(&shared.engine, &replica.id, replica.ordinal, &query).await);
    }
    Ok(merge(streams).boxed())
}

/// The last lines of a container that ended; none when they cannot be had.
pub(super) async fn last_lines(engine: &Engine, id: &str) -> Vec<String> {
    let query = LogQuery { tail: Some(u32::try_from(LAST_LINES).unwrap_or(u32::MAX)), ..LogQuery::default() };
    let stream = open(engine, id, 0, &query).await;
    let mut last = VecDeque::with_capacity(LAST_LINES);
    let mut stream = stream.take(10 * LAST_LINES);
    while let Some(Ok(line)) = stream.next().await {
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.line.chars().take(LAST_LINE).collect());
    }
    last.into()
}

/// Opens the stream of one container.
async fn open(engine: &Engine, id: &str, ordinal: u32, query: &LogQuery) -> LineStream {
    let wants = |stream| query.stream.is_none_or(|wanted| wanted == stream);
    let mut options = vec![
        ("stdout", wants(Stream::Stdout).to_string()),
        ("stderr", wants(Stream::Stderr).to_string()),
        ("timestamps", "true".to_owned()),
        ("follow", query.follow.to_string()),
    ];
    options.extend(query.since.map(|since| ("since", since.to_string())));
    options.extend(query.until.map(|until| ("until", until.to_string())));
    // The engine's own tail counts pieces of lines, and runs pieces of standard output and standard error together into
    // one line. So everything is read and counted here; the log is bounded. Only a follower leaves it to the engine.
    let tail = query.tail.filter(|_| query.follow);
    options.extend(tail.map(|tail| ("tail", tail.to_string())));
    let lines = decode(engine.logs(id, &options), ordinal);
    match query.tail {
        Some(tail) if !query.follow => last(lines, tail as usize).await.boxed(),
        _ => lines,
    }
}

/// The last `count` lines of a stream that ends.
async fn last(mut lines: LineStream, count: usize) -> impl futures_util::Stream<Item = Result<LogLine>> + Send {
    let mut kept = VecDeque::new();
    while let Some(line) = lines.next().await {
        if kept.len() == count {
            kept.pop_front();
        }
        if count > 0 {
            kept.push_back(line);
        }
    }
    stream::iter(kept)
}

/// Lines out of the engine's frames.
fn decode(chunks: BoxStream<'static, Result<bytes::Bytes, EngineError>>, ordinal: u32) -> LineStream {
    struct State {
        chunks: BoxStream<'static, Result<bytes::Bytes, EngineError>>,
        frames: Decoder,
        lines: Lines,
        ended: bool,
    }
    let state = State { chunks, frames: Decoder::default(), lines: Lines::new(ordinal), ended: false };
    stream::unfold(state, |mut state| async move {
        loop {
            if let Some(line) = state.lines.next() {
                return Some((Ok(line), state));
            }
            if state.ended {
                return None;
            }
            match state.frames.next() {
                Ok(Some((stream, data))) => state.lines.feed(stream, &data),
                Ok(None) => match state.chunks.next().await {
                    Some(Ok(chunk)) => state.frames.feed(&chunk),
                    // The container is gone, and its log with it.
                    Some(Err(error)) if error.is_missing() => state.ended = true,
                    Some(Err(error)) => {
                        state.ended = true;
                        return Some((Err(errors::engine(error, "read the log")), state));
                    }
                    None => {
                        state.lines.finish();
                        state.ended = true;
                    }
                },
                Err(damaged) => {
                    state.ended = true;
                    return Some((Err(Error::internal("the log cannot be read on", damaged)), state));
                }
            }
        }
    })
    .boxed()
}

/// Several ending streams as one, by time. Lines without a time come with the next line of their stream.
fn merge(streams: Vec<LineStream>) -> impl futures_util::Stream<Item = Result<LogLine>> + Send {
    type Head = (Option<Result<LogLine>>, LineStream);
    let heads: Vec<Head> = streams.into_iter().map(|stream| (None, stream)).collect();
    stream::unfold(heads, |mut heads| async move {
        let mut index = 0;
        while index < heads.len() {
            let (head, stream) = &mut heads[index];
            if head.is_none() {
                *head = stream.next().await;
            }
            if head.is_some() {
                index += 1;
            } else {
                drop(heads.remove(index));
            }
        }
        let time = |head: &Head| match &head.0 {
            Some(Ok(line)) => line.timestamp,
            _ => None,
        };
        let (earliest, _) = heads.iter().enumerate().min_by_key(|(_, head)| time(head))?;
        let line = heads.get_mut(earliest)?.0.take()?;
        Some((line, heads))
    })
}

/// What a follower goes on with.
struct Follower {
    shared: Arc<Shared>,
    service: ServiceName,
    query: LogQuery,
    view: watch::Receiver<Arc<Snapshot>>,
    open: SelectAll<LineStream>,
    /// Container to the start of the run that is being followed.
    runs: HashMap<String, Option<Timestamp>>,
    backlog: VecDeque<LogLine>,
    ended: bool,
}

/// Existing lines in order, then new ones as they come, also of replicas that start later. Ends with the service.
async fn follow(
    shared: Arc<Shared>,
    service: ServiceName,
    query: LogQuery,
    replicas: &[Replica],
) -> Result<impl futures_util::Stream<Item = Result<LogLine>> + Send + use<>> {
    let view = shared.view.subscribe();
    let mut follower = Follower {
        shared,
        service,
        query,
        view,
        open: SelectAll::new(),
        runs: HashMap::new(),
        backlog: VecDeque::new(),
        ended: false,
    };
    for replica in replicas {
        follower.attach(replica, false).await;
    }
    follower.collect_backlog().await;
    Ok(stream::unfold(follower, |mut follower| async move {
        let line = follower.next().await?;
        Some((line, follower))
    }))
}

impl Follower {
    /// Follows a container from its present run on, or from its first line.
    async fn attach(&mut self, replica: &Replica, only_new: bool) {
        self.runs.insert(replica.id.clone(), replica.started_at);
        let mut query = self.query.clone();
        if only_new {
            query.tail = None;
            query.since = replica.started_at.max(self.query.since);
        }
        self.open.push(open(&self.shared.engine, &replica.id, replica.ordinal, &query).await);
    }

    /// Sorts what the logs hold already; with a single container it is in order as it is.
    async fn collect_backlog(&mut self) {
        if self.open.len() < 2 {
            return;
        }
        let mut lines = Vec::new();
        while lines.len() < MAX_BACKLOG {
            match tokio::time::timeout(BACKLOG, self.open.next()).await {
                Ok(Some(Ok(line))) => lines.push(line),
                _ => break,
            }
        }
        lines.sort_by_key(|line| line.timestamp);
        self.backlog = lines.into();
    }

    async fn next(&mut self) -> Option<Result<LogLine>> {
        if let Some(line) = self.backlog.pop_front() {
            return Some(Ok(line));
        }
        loop {
            if self.ended {
                // What had been written when the service went away is still delivered.
                return self.open.next().await;
            }
            tokio::select! {
                Some(line) = self.open.next() => return Some(line),
                changed = self.view.changed() => {
                    if changed.is_err() {
                        self.ended = true;
                    } else if let Err(error) = self.look().await {
                        return Some(Err(error));
                    }
                }
                () = self.shared.cancelled.cancelled() => return None,
            }
        }
    }

    /// Attaches to runs that have begun since; ends when the service is gone.
    async fn look(&mut self) -> Result<()> {
        let state = self.view.borrow_and_update().services.get(&self.service).cloned();
        let Some(state) = state else {
            self.ended = true;
            return Ok(());
        };
        for replica in &state.replicas {
            let wanted = self.query.replica.is_none_or(|wanted| wanted == replica.ordinal);
            let known = self.runs.get(&replica.id) == Some(&replica.started_at);
            if wanted && !known && replica.state == ReplicaState::Running {
                self.attach(replica, true).await;
            }
        }
        Ok(())
    }
}

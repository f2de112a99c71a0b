//! Logs of a service's pods: merged by time, or followed over the comings and goings of pods and containers.
//!
//! The cluster does not tell standard output from standard error.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, Peekable, SelectAll, StreamExt as _};
use futures_util::{AsyncBufReadExt as _, FutureExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio_stream::wrappers::ReceiverStream;

use super::errors;
use super::reconcile::in_time;
use super::shared::Shared;
use crate::backend::LogStream;
use crate::domain::name::ServiceName;
use crate::domain::status::{LogLine, LogQuery, Replica, ReplicaState, ServiceState};
use crate::error::{Error, Kind, Result};

type Lines = BoxStream<'static, Result<LogLine>>;

/// So many lines wait for a slow reader.
const WAITING: usize = 256;

/// The lines that `query` asks for.
pub(super) async fn stream(shared: Arc<Shared>, state: &ServiceState, query: LogQuery) -> Result<LogStream> {
    if query.stream.is_some() {
        return Err(Error::new(Kind::NotSupported, "a cluster does not tell standard output from standard error")
            .remedy("leave out 'stream'"));
    }
    let replicas: Vec<Replica> = wanted(state, &query).cloned().collect();
    if query.follow {
        return Ok(followed(shared, state.record.name.clone(), query));
    }
    let mut streams = Vec::new();
    for replica in &replicas {
        streams.push(open(&shared, replica, &query, query.tail).await?.peekable());
    }
    Ok(merged(streams))
}

/// The replicas whose lines are asked for, of those that have any.
fn wanted<'a>(state: &'a ServiceState, query: &LogQuery) -> impl Iterator<Item = &'a Replica> + use<'a> {
    let only = query.replica;
    state
        .replicas
        .iter()
        .filter(move |replica| replica.state != ReplicaState::Created && only.is_none_or(|only| only == replica.ordinal))
}

/// The lines of one replica's container.
async fn open(shared: &Shared, replica: &Replica, query: &LogQuery, tail: Option<u32>) -> Result<Lines> {
    let pods: Api<Pod> = Api::namespaced(shared.client(), &shared.names.namespace);
    let parameters = LogParams {
        container: Some("service".to_owned()),
        follow: query.follow,
        previous: query.previous,
        since_time: query.since,
        tail_lines: tail.map(i64::from),
        timestamps: true,
        ..LogParams::default()
    };
    let lines = match in_time(pods.log_stream(&replica.id, &parameters), "read the logs").await {
        Ok(reader) => reader.lines(),
        // A pod that has gone meanwhile has no logs.
        Err(error) if error.kind == Kind::NotFound => return Ok(stream::empty().boxed()),
        // Nor has a container before the first.
        Err(error) if query.previous && error.kind == Kind::Invalid => return Ok(stream::empty().boxed()),
        Err(error) => return Err(error),
    };
    let (ordinal, since, until) = (replica.ordinal, query.since, query.until);
    let lines = lines
        .map(move |line| match line {
            Ok(line) => Ok(parse(ordinal, &line)),
            Err(error) => Err(errors::away().because(error)),
        })
        .take_while(move |line| {
            let late = |line: &LogLine| until.zip(line.timestamp).is_some_and(|(until, at)| at >= until);
            std::future::ready(!line.as_ref().is_ok_and(late))
        })
        .filter(move |line| {
            let early = |line: &LogLine| since.zip(line.timestamp).is_some_and(|(since, at)| at < since);
            std::future::ready(!line.as_ref().is_ok_and(early))
        });
    Ok(lines.boxed())
}

fn parse(replica: u32, line: &str) -> LogLine {
    let split = line.split_once(' ').and_then(|(time, rest)| Some((time.parse::<Timestamp>().ok()?, rest)));
    let (timestamp, text) = split.map_or((None, line), |(time, rest)| (Some(time), rest));
    LogLine { replica, stream: None, timestamp, line: text.trim_end_matches('\r').to_owned() }
}

/// Streams that are in order each as one that is in order.
fn merged(streams: Vec<Peekable<Lines>>) -> LogStream {
    stream::unfold(streams, |mut streams| async move {
        let mut first: Option<(usize, Option<Timestamp>)> = None;
        for (index, stream) in streams.iter_mut().enumerate() {
            if let Some(line) = Pin::new(stream).peek().await {
                let at = line.as_ref().ok().and_then(|line| line.timestamp);
                if first.is_none_or(|(_, earliest)| at < earliest) {
                    first = Some((index, at));
                }
            }
        }
        let line = streams.get_mut(first?.0)?.next().await?;
        Some((line, streams))
    })
    .boxed()
}

/// The lines of all replicas as they come, those of pods and containers that come later too, until the service is gone.
fn followed(shared: Arc<Shared>, name: ServiceName, query: LogQuery) -> LogStream {
    let (sender, receiver) = tokio::sync::mpsc::channel(WAITING);
    let tasks = shared.tasks.clone();
    let stopping = tasks.stopping();
    let work = async move {
        let mut view = shared.view.subscribe();
        let mut known: BTreeSet<(String, u32)> = BTreeSet::new();
        let mut lines: SelectAll<Lines> = SelectAll::new();
        let mut tail = query.tail;
        loop {
            let Some(state) = view.borrow_and_update().services.get(&name).cloned() else { return };
            for replica in wanted(&state, &query) {
                // A container that is started again in its pod has a log of its own.
                if !known.insert((replica.id.clone(), replica.restarts)) {
                    continue;
                }
                match open(&shared, replica, &query, tail).await {
                    Ok(stream) => lines.push(stream),
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
            }
            tail = None;
            loop {
                tokio::select! {
                    changed = view.changed() => if changed.is_err() { return } else { break },
                    Some(line) = lines.next(), if !lines.is_empty() => {
                        // A stream that breaks off is no end: its pod may be gone, and others go on.
                        let Ok(line) = line else { continue };
                        if sender.send(Ok(line)).await.is_err() {
                            return;
                        }
                    }
                    () = sender.closed() => return,
                }
            }
        }
    };
    let ended = async move {
        tokio::select! {
            () = work => {}
            () = stopping.cancelled() => {}
        }
    };
    drop(tasks.spawn("logs of a cluster", ended.boxed()));
    ReceiverStream::new(receiver).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(replica: u32, seconds: &[i64]) -> Peekable<Lines> {
        let line = move |second: &i64| {
            let timestamp = Timestamp::from_second(*second).ok();
            Ok(LogLine { replica, stream: None, timestamp, line: second.to_string() })
        };
        stream::iter(seconds.iter().map(line).collect::<Vec<_>>()).boxed().peekable()
    }

    #[tokio::test]
    async fn replicas_are_merged_by_time() {
        let merged = merged(vec![lines(1, &[1, 4, 5]), lines(2, &[2, 3, 6]), lines(3, &[])]);
        let order: Vec<_> = merged.map(|line| line.unwrap().line).collect().await;
        assert_eq!(order, ["1", "2", "3", "4", "5", "6"]);
    }

    #[test]
    fn a_line_without_a_time_is_a_line_all_the_same() {
        let dated = parse(1, "2026-11-21T03:16:18.5Z hello world");
        assert_eq!((dated.line.as_str(), dated.timestamp.is_some()), ("hello world", true));
        assert_eq!(parse(1, "no time here").line, "no time here");
    }
}

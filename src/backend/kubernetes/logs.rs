//! Logs of a service's pods, merged by time; following them is `followed`'s.
//!
//! The cluster does not tell standard output from standard error.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::AsyncBufReadExt as _;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, Peekable, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;

use super::shared::Shared;
use super::{errors, followed};
use crate::backend::LogStream;
use crate::domain::status::{LogLine, LogQuery, Replica, ReplicaState, ServiceState};
use crate::error::{Error, Kind, Result};

/// Lines of one container.
pub(super) type Lines = BoxStream<'static, Result<LogLine>>;

/// How long the beginning of a log is waited for. The API server waits longer for a node that it does not reach.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many lines of a container are held back until it is known which is the next.
const HELD: usize = 32;

/// The lines that `query` asks for.
pub(super) async fn stream(shared: Arc<Shared>, state: &ServiceState, query: LogQuery) -> Result<LogStream> {
    if query.stream.is_some() {
        return Err(Error::new(Kind::NotSupported, "a cluster does not tell standard output from standard error")
            .remedy("leave out 'stream'"));
    }
    let name = &state.record.name;
    if query.follow {
        return Ok(followed::stream(shared, name.clone(), query));
    }
    let opened = wanted(state, &query).map(|replica| {
        let (shared, query) = (&shared, &query);
        async move { (replica.ordinal, open(shared, replica, query, query.tail).await) }
    });
    let (mut streams, mut failures) = (Vec::new(), Vec::new());
    for (replica, opened) in join_all(opened).await {
        match opened {
            Ok(lines) => streams.push(by_time(lines).peekable()),
            Err(error) => {
                tracing::warn!(service = %name, replica, %error, "a replica's logs cannot be read");
                failures.push(error);
            }
        }
    }
    // A node that does not answer hides no other's replicas.
    failures.into_iter().next().filter(|_| streams.is_empty()).map_or_else(|| Ok(merged(streams)), Err)
}

/// The replicas whose lines are asked for, of those that have any.
pub(super) fn wanted<'a>(state: &'a ServiceState, query: &LogQuery) -> impl Iterator<Item = &'a Replica> + use<'a> {
    let only = query.replica;
    state
        .replicas
        .iter()
        .filter(move |replica| replica.state != ReplicaState::Created && only.is_none_or(|only| only == replica.ordinal))
}

/// The lines of one replica's container.
pub(super) async fn open(shared: &Shared, replica: &Replica, query: &LogQuery, tail: Option<u32>) -> Result<Lines> {
    let pods: Api<Pod> = Api::namespaced(shared.client(), &shared.names.namespace);
    let parameters = LogParams {
        container: Some("service".to_owned()),
        follow: query.follow,
        previous: query.previous,
        // It is sent in whole seconds, and rounded; what is earlier is left out here.
        since_time: query.since.and_then(|since| Timestamp::from_second(since.as_second()).ok()),
        tail_lines: tail.map(i64::from),
        timestamps: true,
        ..LogParams::default()
    };
    let answer = tokio::time::timeout(PATIENCE, pods.log_stream(&replica.id, &parameters)).await;
    let answer = answer.map_or_else(
        |_| Err(unheard(shared, replica.ordinal)),
        |answer| answer.map_err(|error| errors::api(error, "read the logs")),
    );
    let lines = match answer {
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

/// Nothing has come in time. Where the API server answers otherwise, it is the node that does not answer it.
fn unheard(shared: &Shared, replica: u32) -> Error {
    if !shared.view.snapshot().connected {
        return errors::away();
    }
    Error::new(Kind::BackendUnavailable, format!("the node of replica {replica} does not tell its logs"))
        .remedy("look with 'kubectl get nodes'; other replicas' logs are told")
}

fn parse(replica: u32, line: &str) -> LogLine {
    let split = line.split_once(' ').and_then(|(time, rest)| Some((time.parse::<Timestamp>().ok()?, rest)));
    let (timestamp, text) = split.map_or((None, line), |(time, rest)| (Some(time), rest));
    LogLine { replica, stream: None, timestamp, line: text.trim_end_matches('\r').to_owned() }
}

/// Lines of one container in the order of their time. A node reads a container's two outputs side by side, so that lines of
/// nearly one moment can stand in each other's places.
fn by_time(lines: Lines) -> Lines {
    let moment = |line: &Result<LogLine>| (line.is_err(), line.as_ref().ok().and_then(|line| line.timestamp));
    let held: Vec<Result<LogLine>> = Vec::with_capacity(HELD);
    stream::unfold((lines.fuse(), held), move |(mut lines, mut held)| async move {
        while held.len() < HELD
            && let Some(line) = lines.next().await
        {
            held.push(line);
        }
        let (next, _) = held.iter().enumerate().min_by_key(|(_, line)| moment(line))?;
        Some((held.remove(next), (lines, held)))
    })
    .boxed()
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

    #[tokio::test]
    async fn lines_of_the_two_outputs_of_a_container_are_told_by_time() {
        let mixed: Vec<i64> = (0..100).map(|second| if second % 7 == 0 { second + 3 } else { second }).collect();
        let lines: Vec<_> = by_time(lines(1, &mixed).boxed()).map(|line| line.unwrap().timestamp).collect().await;
        assert!(lines.is_sorted() && lines.len() == 100, "{lines:?}");
    }

    #[test]
    fn a_line_without_a_time_is_a_line_all_the_same() {
        let dated = parse(1, "2026-11-21T03:16:18.5Z hello world");
        assert_eq!((dated.line.as_str(), dated.timestamp.is_some()), ("hello world", true));
        assert_eq!(parse(1, "no time here").line, "no time here");
    }
}

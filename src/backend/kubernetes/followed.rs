//! Logs that are followed over the comings and goings of pods and containers. A stream that breaks off while its container
//! is there is opened again where it was: API servers are started again, and idle connections are cut.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::logs::{self, Lines};
use super::shared::{Returns, Shared};
use super::watch::returned;
use crate::backend::LogStream;
use crate::domain::name::ServiceName;
use crate::domain::status::{LogLine, LogQuery, Replica, ReplicaState};
use crate::error::{Kind, Result};

/// So many lines wait for a slow reader.
const WAITING: usize = 256;
/// Pauses before a stream is opened again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A stream that has stood for so long was well: the next pause is the first one again.
const STOOD: Duration = Duration::from_secs(5);
/// A stream without a line for so long is opened again: of a connection that somebody on its way has forgotten nobody tells.
const SILENCE: Duration = Duration::from_mins(5);

/// The lines of all replicas as they come, those of pods and containers that come later too, until the service is gone.
pub(super) fn stream(shared: Arc<Shared>, name: ServiceName, query: LogQuery) -> LogStream {
    let (sender, receiver) = mpsc::channel(WAITING);
    let tasks = shared.tasks.clone();
    let stopping = tasks.stopping();
    let work = async move {
        tokio::select! {
            () = follow(&shared, &name, &query, &sender) => {}
            () = sender.closed() => {}
            () = stopping.cancelled() => {}
        }
    };
    drop(tasks.spawn("logs of a cluster", work.boxed()));
    ReceiverStream::new(receiver).boxed()
}

async fn follow(shared: &Shared, name: &ServiceName, query: &LogQuery, sender: &mpsc::Sender<Result<LogLine>>) {
    let mut view = shared.view.subscribe();
    // A container that is started again in its pod has a log of its own.
    let mut known: BTreeMap<(String, u32), Ends> = BTreeMap::new();
    let mut places: BTreeMap<String, Arc<Mutex<Place>>> = BTreeMap::new();
    let mut under_way = FuturesUnordered::new();
    let mut tail = query.tail;
    loop {
        let Some(state) = view.borrow_and_update().services.get(name).cloned() else { return };
        let is_there = |pod: &String| state.replicas.iter().any(|replica| replica.id == *pod);
        for ((pod, restarts), ends) in &known {
            match state.replicas.iter().find(|replica| replica.id == *pod) {
                Some(replica) if replica.restarts == *restarts => {}
                Some(_) => {
                    ends.gone.cancel();
                    ends.followed.cancel();
                }
                None => ends.gone.cancel(),
            }
        }
        // Pods that are numbered come again under their names.
        known.retain(|(pod, _), _| is_there(pod));
        places.retain(|pod, _| is_there(pod));
        for replica in logs::wanted(&state, query) {
            if let Entry::Vacant(entry) = known.entry((replica.id.clone(), replica.restarts)) {
                let (replica, ends) = (replica.clone(), entry.insert(Ends::default()).clone());
                let place = places.entry(replica.id.clone()).or_default().clone();
                under_way.push(Container { shared, name, query, sender, replica, tail, ends, place }.follow());
            }
        }
        tail = None;
        loop {
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return } else { break },
                Some(ended) = under_way.next(), if !under_way.is_empty() => {
                    if let Err(error) = ended {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
            }
        }
    }
}

/// What may become of a container.
#[derive(Clone, Default)]
struct Ends {
    /// It is not there any more; what it said last may still come.
    gone: CancellationToken,
    /// Another one has begun in its pod.
    followed: CancellationToken,
}

/// A container whose log is followed.
struct Container<'a> {
    shared: &'a Shared,
    name: &'a ServiceName,
    query: &'a LogQuery,
    sender: &'a mpsc::Sender<Result<LogLine>>,
    replica: Replica,
    /// How many of the last lines are told at first.
    tail: Option<u32>,
    ends: Ends,
    /// Where its pod's log is, since a stream was opened again: that one may be of the pod's next container already.
    place: Arc<Mutex<Place>>,
}

impl Container<'_> {
    /// Passes its lines on until it is gone or has told all. An error when nobody may read them.
    async fn follow(self) -> Result<()> {
        let mut returns = self.shared.returns();
        let mut place = *self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut pause, mut again, mut opened) = (FIRST_PAUSE, false, None);
        loop {
            let (began, was_running) = (Instant::now(), self.is_running());
            let is_whole = match self.open(place, opened).await {
                Ok(lines) => {
                    opened.get_or_insert_with(Timestamp::now);
                    self.pass(lines, &mut place, again, &mut returns).await
                }
                // That is so for all of them, and stays so.
                Err(error) if error.kind == Kind::NotSupported => return Err(error),
                Err(error) => {
                    tracing::debug!(service = %self.name, pod = self.replica.id, %error, "a log is asked for again");
                    false
                }
            };
            let has_ended = is_whole && (self.query.previous || !was_running);
            if has_ended || self.query.until.is_some_and(|until| until <= Timestamp::now()) {
                return Ok(());
            }
            if began.elapsed() > STOOD {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                biased;
                () = self.ends.gone.cancelled() => return Ok(()),
                () = returned(&mut returns) => pause = FIRST_PAUSE,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            again = true;
        }
    }

    fn is_running(&self) -> bool {
        let snapshot = self.shared.view.snapshot();
        let replicas = snapshot.services.get(self.name).map(|service| service.replicas.as_slice()).unwrap_or_default();
        replicas.iter().any(|replica| replica.id == self.replica.id && replica.state == ReplicaState::Running)
    }

    /// Its lines from this place on; at first, or as long as there was none, those that are asked for. `opened` is when that
    /// came about for the first time.
    async fn open(&self, place: Place, opened: Option<Timestamp>) -> Result<Lines> {
        let tail = self.tail.filter(|_| opened.is_none() && place.at.is_none());
        // Who asked for no earlier lines gets none now.
        let only_new = opened.filter(|_| self.tail == Some(0));
        let since = place.at.or(only_new.max(self.query.since));
        let lines = logs::open(self.shared, &self.replica, &LogQuery { since, ..self.query.clone() }, tail).await?;
        Ok(place.onward(lines))
    }

    /// Passes lines on; whether that ended as a log ends, and did not break off.
    async fn pass(&self, mut lines: Lines, place: &mut Place, again: bool, returns: &mut Returns) -> bool {
        loop {
            let line = tokio::select! {
                biased;
                () = self.ends.followed.cancelled(), if again => return false,
                () = returned(returns) => return false,
                line = tokio::time::timeout(SILENCE, lines.next()) => line,
            };
            let line = match line {
                Ok(Some(Ok(line))) => line,
                Ok(None) => return true,
                Ok(Some(Err(_))) | Err(_) => return false,
            };
            place.passed(&line);
            if again {
                *self.place.lock().unwrap_or_else(PoisonError::into_inner) = *place;
            }
            if self.sender.send(Ok(line)).await.is_err() {
                return false;
            }
        }
    }
}

/// How far a log has been told: to a moment, and so many of its lines.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    at: Option<Timestamp>,
    lines: u32,
}

impl Place {
    fn passed(&mut self, line: &LogLine) {
        if line.timestamp.is_some_and(|at| Some(at) > self.at) {
            *self = Self { at: line.timestamp, lines: 1 };
        } else if line.timestamp == self.at {
            self.lines += 1;
        }
    }

    /// What of a log, told anew from this moment on, is beyond this place.
    fn onward(self, lines: Lines) -> Lines {
        let mut left = self.lines;
        let mut is_new = move |line: &Result<LogLine>| {
            let Some((line, at)) = line.as_ref().ok().and_then(|line| line.timestamp).zip(self.at) else { return true };
            let is_told_now = line == at && left > 0;
            left -= u32::from(is_told_now);
            line >= at && !is_told_now
        };
        lines.filter(move |line| std::future::ready(is_new(line))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn line(second: i64, text: &str) -> LogLine {
        LogLine { replica: 1, stream: None, timestamp: Timestamp::from_second(second).ok(), line: text.to_owned() }
    }

    #[tokio::test]
    async fn a_log_that_is_told_anew_goes_on_behind_what_was_told() {
        let all = [line(1, "a"), line(2, "b"), line(2, "c"), line(2, "d"), line(3, "e")];
        for told in 0..=all.len() {
            let mut place = Place::default();
            all[..told].iter().for_each(|line| place.passed(line));
            // Whole seconds are asked for, so that what is told anew may begin before the place's moment.
            let latest = all.iter().position(|line| line.timestamp == place.at).unwrap_or(0);
            for begin in 0..=latest {
                let anew = stream::iter(all[begin..].to_vec()).map(Ok).boxed();
                let rest: Vec<LogLine> = place.onward(anew).map(Result::unwrap).collect().await;
                assert_eq!(rest, all[told..], "{told} were told, and then all from {begin} on");
            }
        }
    }
}

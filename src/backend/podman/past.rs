//! What has become of one container so far: its restarts, its failures in a row, its last end. Pure.
//!
//! The managers of an engine share it (`pasts` keeps it). A run is known by the moment of its start, which the engine says
//! alike to all who ask, so a run, its failure and its end count once, whoever sees them first and however often.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plan;
use crate::domain::status::Exit;

/// So long at most after a manager has said that it ends a run, the end is its doing: it may have been killed before it
/// did anything, and the run have gone on for days.
const LONGEST_STOP: Duration = Duration::from_mins(5);

/// What is remembered of a container beyond what the engine says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Past {
    /// Starts that followed from an end of its own, or from the loss of its network.
    pub(super) restarts: u32,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Start of its latest run, which the following is about.
    run: Option<Timestamp>,
    /// The failure of that run has been counted.
    failed: bool,
    /// A manager has set about ending that run.
    ending: Option<Ending>,
    ended: bool,
    /// How it ended last, in that run or in an earlier one.
    pub(super) last_exit: Option<Exit>,
    /// When the engine refused to start it, since then.
    pub(super) refused: Option<Timestamp>,
    pub(super) was_healthy: bool,
}

/// A manager's word that it ends a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Ending {
    at: Timestamp,
    /// Because the container has lost its network, so that the start that follows is a restart.
    reconnects: bool,
}

impl Past {
    /// Whether there is nothing in it that a look at the container would not tell.
    pub(super) const fn is_plain(&self) -> bool {
        self.restarts == 0 && self.failures == 0 && self.ending.is_none() && self.last_exit.is_none() && self.refused.is_none()
    }

    /// Goes on from what the managers share.
    pub(super) fn recall(&mut self, kept: Self) {
        // Who has just begun to look may have written it, before it had asked for the first time.
        let was_healthy = self.was_healthy || kept.was_healthy;
        *self = Self { was_healthy, ..kept };
    }

    /// It runs since then.
    pub(super) fn began(&mut self, run: Option<Timestamp>, now: Timestamp) {
        // A look can be older than what another manager has seen since. What lies in the future was written before the
        // clock was set back, and says nothing about order.
        let is_earlier = run < self.run && self.run <= Some(now);
        if run == self.run || is_earlier {
            return;
        }
        let again = self.ending.map_or(self.ended, |ending| ending.reconnects);
        *self = Self {
            restarts: self.restarts.saturating_add(u32::from(again)),
            failures: self.failures,
            run,
            last_exit: self.last_exit.take(),
            was_healthy: self.was_healthy,
            ..Self::default()
        };
    }

    /// That run has ended.
    pub(super) fn ended(&mut self, run: Option<Timestamp>, exit: Exit, now: Timestamp) {
        self.began(run, now);
        if self.run != run {
            // Who ended an earlier run may tell of that after others have seen the next one.
            if self.last_exit.as_ref().is_none_or(|last| last.at < exit.at) {
                self.last_exit = Some(exit);
            }
            return;
        }
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.ending = self.ending.filter(|ending| exit.at <= ending.at + LONGEST_STOP);
        if self.ending.is_none() {
            self.fail(exit.at);
        }
        self.last_exit = Some(exit);
    }

    /// That run is no use any more, though it goes on.
    pub(super) fn cut_off(&mut self, run: Option<Timestamp>, now: Timestamp) {
        self.began(run, now);
        if self.run == run {
            self.fail(now);
        }
    }

    fn fail(&mut self, at: Timestamp) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        let ran = self.run.map(|start| at.duration_since(start));
        if ran.is_some_and(|ran| ran.unsigned_abs() >= plan::RECOVERED) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// A manager is about to end that run.
    pub(super) fn ending(&mut self, run: Option<Timestamp>, reconnects: bool, now: Timestamp) {
        self.began(run, now);
        if self.run == run && !self.ended {
            self.ending = Some(Ending { at: now, reconnects });
        }
    }

    /// It could not be ended.
    pub(super) const fn goes_on(&mut self) {
        if !self.ended {
            self.ending = None;
        }
    }

    /// The engine could not start it.
    pub(super) const fn refuse(&mut self, now: Timestamp) {
        self.refused = Some(now);
        self.failures = self.failures.saturating_add(1);
    }

    /// Its failures are forgotten, and what starts it next is somebody's wish.
    pub(super) const fn forgive(&mut self, now: Timestamp) {
        self.failures = 0;
        self.refused = None;
        self.ending = Some(Ending { at: now, reconnects: false });
    }

    /// Whether its latest run has ended by itself.
    pub(super) const fn has_ended_by_itself(&self) -> bool {
        self.ended && self.ending.is_none()
    }

    /// Whether a manager has ended its latest run, or wants it started again.
    pub(super) const fn was_ended(&self) -> bool {
        self.ended && self.ending.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn exit(at: i64) -> Exit {
        Exit { code: 1, oom_killed: false, at: second(at), last_log_lines: Vec::new() }
    }

    /// What happens to a container, in seconds.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Began(i64),
        /// The run that began at the first ended at the second.
        Ended(i64, i64),
        CutOff(i64, i64),
        Stopped(i64, i64),
        Reconnected(i64, i64),
        Forgiven(i64),
    }

    fn take(past: &mut Past, event: Event) {
        let now = second(1000);
        match event {
            Event::Began(run) => past.began(Some(second(run)), now),
            Event::Ended(run, at) => past.ended(Some(second(run)), exit(at), now),
            Event::CutOff(run, at) => past.cut_off(Some(second(run)), second(at)),
            Event::Stopped(run, at) => past.ending(Some(second(run)), false, second(at)),
            Event::Reconnected(run, at) => past.ending(Some(second(run)), true, second(at)),
            Event::Forgiven(at) => past.forgive(second(at)),
        }
    }

    fn after(events: &[Event]) -> Past {
        let mut past = Past::default();
        for event in events {
            take(&mut past, *event);
        }
        past
    }

    #[test]
    fn restarts_and_failures_follow_from_what_happened() {
        use Event::{Began, CutOff, Ended, Forgiven, Reconnected, Stopped};
        let table: [(&[Event], u32, u32); 11] = [
            (&[Began(1)], 0, 0),
            (&[Began(1), Ended(1, 2)], 0, 1),
            (&[Began(1), Ended(1, 2), Began(3), Ended(3, 4), Began(5)], 2, 2),
            (&[Ended(1, 2), Ended(3, 4)], 1, 2),
            (&[Ended(1, 2), Began(3), Ended(3, 63)], 1, 1),
            (&[Began(1), Stopped(1, 2), Ended(1, 3), Began(4)], 0, 0),
            (&[Began(1), Stopped(1, 2), Ended(1, 900)], 0, 1),
            (&[Began(1), CutOff(1, 2), Reconnected(1, 3), Ended(1, 4), Began(5)], 1, 1),
            (&[Began(1), CutOff(1, 2), Ended(1, 3), Began(4)], 1, 1),
            (&[Ended(1, 2), Ended(3, 4), Forgiven(5), Began(6)], 1, 0),
            (&[Began(1), Began(3)], 0, 0),
        ];
        for (events, restarts, failures) in table {
            let past = after(events);
            assert_eq!((past.restarts, past.failures), (restarts, failures), "{events:?}");
            assert_eq!(past.last_exit.is_some(), events.iter().any(|event| matches!(event, Ended(..))), "{events:?}");
        }
    }

    #[test]
    fn what_several_managers_see_counts_once_also_for_one_that_sees_it_late() {
        use Event::{Began, CutOff, Ended};
        let events = [Began(1), Ended(1, 2), Began(3), CutOff(3, 4), Ended(3, 5), Began(6), Ended(6, 7)];
        let past = after(&events);
        for (index, event) in events.into_iter().enumerate() {
            let mut once_more = past.clone();
            let late = if let CutOff(run, _) = event { CutOff(run, 8) } else { event };
            take(&mut once_more, late);
            assert_eq!(once_more, past, "{event:?} seen again at the end");
            let mut twice: Vec<_> = events.to_vec();
            twice.insert(index, event);
            assert_eq!(after(&twice), past, "{event:?} seen by two");
        }
        assert_eq!((past.restarts, past.failures), (2, 3));
    }

    #[test]
    fn an_end_is_the_last_one_also_when_the_next_run_is_known_already() {
        use Event::{Began, Ended, Stopped};
        let past = after(&[Ended(1, 2), Began(3), Stopped(3, 4), Began(6), Ended(3, 5), Ended(1, 2)]);
        assert_eq!((past.restarts, past.failures, past.last_exit), (1, 1, Some(exit(5))));
    }

    #[test]
    fn a_clock_that_was_set_back_stops_no_count() {
        let mut past = after(&[Event::Ended(5000, 5001)]);
        take(&mut past, Event::Ended(998, 999));
        assert_eq!((past.restarts, past.failures), (1, 2));
        assert_eq!(past.last_exit, Some(exit(999)));
    }

    #[test]
    fn what_is_kept_reads_back_and_nothing_is_kept_of_a_container_that_only_runs() {
        let past = after(&[Event::Ended(1, 2), Event::Stopped(3, 4)]);
        let text = serde_json::to_string(&past).unwrap();
        assert_eq!(serde_json::from_str::<Past>(&text).unwrap(), past);
        assert!(
            !past.is_plain() && after(&[Event::Began(1)]).is_plain() && serde_json::from_str::<Past>("{}").unwrap().is_plain()
        );
        let mut own = Past { was_healthy: true, ..Past::default() };
        own.recall(past.clone());
        assert_eq!(own, Past { was_healthy: true, ..past });
    }
}

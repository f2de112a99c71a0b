//! What is remembered of one container between two looks at it: its run, its health, and its past. Pure.

use std::time::Instant;

use jiff::Timestamp;

use super::health::HealthTrack;
use super::lost_network::Lost;
use super::observed::Observed;
use super::past::Past;
use super::plan::{self, Member, Revival, Stopped};
use crate::domain::spec::{HealthCheck, ServiceSpec};
use crate::domain::status::{Desired, Exit, Health, Record, Replica, ReplicaState};

/// Exit code shown for a container that the engine could not start.
const NOT_STARTED: i64 = 127;

/// One container of a service, as its task knows it.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) observed: Observed,
    /// When the engine was asked for `observed`: answers may arrive in another order.
    as_of: Instant,
    run: Option<Run>,
    /// What all managers know of it.
    past: Past,
    /// This manager has stopped it, or wants it started whatever it ended of.
    stopped: bool,
    /// It ended by itself, and the start that is under way follows from that.
    starts_after_own_end: bool,
    /// How it lost its network the last time.
    lost: Option<Lost>,
}

/// One run of the container's process.
#[derive(Debug)]
struct Run {
    started_at: Option<Timestamp>,
    track: HealthTrack,
    /// When the next check is due; none while one is under way or when none is needed.
    next_check: Option<Instant>,
    /// When the last check began.
    asked: Instant,
    /// When it was seen to have lost its network.
    cut_off: Option<Timestamp>,
}

/// A check that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunId(Option<Timestamp>);

impl Tracked {
    pub(super) fn new(observed: Observed, asked: Instant, check: &HealthCheck, past: Past) -> Self {
        let mut tracked =
            Self { as_of: asked, run: None, past, stopped: false, starts_after_own_end: false, lost: None, observed };
        match tracked.observed.state {
            ReplicaState::Running => tracked.begin_run(check),
            ReplicaState::Exited => tracked.end_run(),
            ReplicaState::Created => {}
        }
        tracked
    }

    /// Whether the engine has been asked for it since `moment`.
    pub(super) fn is_newer_than(&self, moment: Instant) -> bool {
        self.as_of >= moment
    }

    /// What all managers are to know of it.
    pub(super) const fn past(&self) -> &Past {
        &self.past
    }

    /// Takes in what they know of it.
    pub(super) fn recall(&mut self, kept: Option<&Past>) {
        if let Some(kept) = kept {
            self.past.recall(kept.clone());
        }
    }

    /// Takes in what the engine said when it was asked at `asked`.
    pub(super) fn observe(&mut self, observed: Observed, asked: Instant, check: &HealthCheck) {
        if asked < self.as_of {
            return;
        }
        self.as_of = asked;
        let before = std::mem::replace(&mut self.observed, observed);
        let now = &self.observed;
        // With another start, it has ended and was started again between two looks.
        let same_run = now.started_at == before.started_at && now.state == before.state;
        match now.state {
            _ if same_run => {}
            ReplicaState::Running => self.begin_run(check),
            ReplicaState::Exited => self.end_run(),
            ReplicaState::Created => self.run = None,
        }
    }

    fn begin_run(&mut self, check: &HealthCheck) {
        let now = Instant::now();
        let next_check = Some(now + HealthTrack::first_pause(check));
        let (started_at, track) = (self.observed.started_at, HealthTrack::new(now));
        self.run = Some(Run { started_at, track, next_check, asked: now, cut_off: None });
        self.past.began(started_at, Timestamp::now());
        self.stopped = false;
    }

    fn end_run(&mut self) {
        self.run = None;
        let now = Timestamp::now();
        let exit = Exit {
            code: self.observed.exit_code,
            oom_killed: self.observed.oom_killed,
            at: self.observed.finished_at.unwrap_or(now),
            last_log_lines: std::mem::take(&mut self.observed.last_words),
        };
        self.past.ended(self.observed.started_at, exit, now);
    }

    /// It has lost its network in this run, which is no use then.
    pub(super) fn cut_off(&mut self, of: RunId, lost: Lost, at: Timestamp) {
        let run = self.run.as_mut().filter(|run| RunId(run.started_at) == of && run.cut_off.is_none());
        // Once, unless it was seen in the namespace since: what is as before was no loss, but looks like one, for want of a
        // common clock, or of the engine that is thought to be there.
        let again = matches!(lost, Lost::Namespace(_)) && self.lost == Some(lost);
        if let Some(run) = run.filter(|_| !again) {
            run.cut_off = Some(at);
            self.lost = Some(lost);
            self.past.cut_off(of.0, at);
        }
    }

    /// It has its network.
    pub(super) const fn attached(&mut self) {
        self.lost = None;
    }

    /// The manager is about to restart it; whether that is because it has lost its network.
    pub(super) fn reconnecting(&mut self) -> bool {
        let cut_off = self.run.as_ref().is_some_and(|run| run.cut_off.is_some());
        self.end(cut_off);
        cut_off
    }

    /// The manager is about to stop it: what follows is not its own end.
    pub(super) fn stopping(&mut self) {
        self.end(false);
    }

    fn end(&mut self, reconnects: bool) {
        self.stopped = true;
        if self.run.is_some() {
            self.past.ending(self.observed.started_at, reconnects, Timestamp::now());
        }
    }

    /// It could not be stopped, and goes on.
    pub(super) const fn goes_on(&mut self) {
        if matches!(self.observed.state, ReplicaState::Running) {
            self.stopped = false;
            self.past.goes_on();
        }
    }

    /// The manager is about to start it. What the start follows from is noted now: once it runs, the engine's events may
    /// tell of the new run, and of its end, before the start has answered.
    pub(super) const fn starting(&mut self) {
        self.starts_after_own_end = self.past.has_ended_by_itself() && !self.stopped;
    }

    /// The manager has started it; whether that was a restart after its own end.
    pub(super) const fn restarted(&mut self) -> bool {
        std::mem::replace(&mut self.starts_after_own_end, false)
    }

    /// The engine could not start it.
    pub(super) const fn refuse(&mut self, now: Timestamp) {
        self.past.refuse(now);
    }

    /// Forgets its failures: the user wants it to be tried anew.
    pub(super) const fn forgive(&mut self, now: Timestamp) {
        self.past.forgive(now);
        self.stopped = true;
    }

    /// What it wrote when it ended, as long as it has never been healthy.
    pub(super) fn first_words(&self) -> &[String] {
        let never_well = self.observed.state == ReplicaState::Exited && !self.past.was_healthy;
        self.past.last_exit.as_ref().filter(|_| never_well).map_or(&[], |exit| &exit.last_log_lines)
    }

    // ---- health

    /// One that is being stopped is of no use any more: it leaves the routes before its process hears of it.
    pub(super) fn health(&self) -> Health {
        match &self.run {
            Some(_) if self.stopped => Health::Unhealthy,
            Some(run) => run.track.health,
            None => Health::Starting,
        }
    }

    pub(super) fn health_detail(&self) -> Option<&str> {
        let run = self.run.as_ref()?;
        if self.stopped { Some("it is being stopped") } else { run.track.detail.as_deref() }
    }

    /// What its last check of health answered, also while it is being stopped.
    pub(super) fn last_answer(&self) -> Option<&str> {
        self.run.as_ref()?.track.detail.as_deref()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.observed.state == ReplicaState::Running && self.health() == Health::Healthy
    }

    /// Whether its present run, if any, has been asked for its health.
    pub(super) fn was_asked(&self) -> bool {
        self.run.as_ref().is_none_or(|run| run.track.was_asked())
    }

    pub(super) fn next_check(&self) -> Option<Instant> {
        self.run.as_ref()?.next_check
    }

    /// Takes the check that is due, if one is.
    pub(super) fn take_check(&mut self, now: Instant) -> Option<RunId> {
        let run = self.run.as_mut()?;
        let due = run.next_check.is_some_and(|due| due <= now);
        due.then(|| {
            run.next_check = None;
            run.asked = now;
            RunId(run.started_at)
        })
    }

    /// Takes in the outcome of a check; whether a closer look at the container is called for.
    pub(super) fn checked(&mut self, of: RunId, outcome: Option<Result<(), String>>, spec: &ServiceSpec) -> bool {
        let now = Instant::now();
        let Some(run) = self.run.as_mut().filter(|run| RunId(run.started_at) == of) else { return false };
        let doubtful = matches!(outcome, Some(Err(_))) && run.track.health == Health::Healthy;
        if let Some(outcome) = outcome {
            self.past.was_healthy |= outcome.is_ok();
            run.track.record(outcome, &spec.health_check, now);
        }
        run.next_check = run.track.next(&spec.health_check, spec.start_timeout.duration(), run.asked, now);
        doubtful
    }

    // ---- what others see

    pub(super) fn member(&self, digest: &str) -> Member {
        let exit = match (self.observed.state, self.past.refused) {
            (ReplicaState::Exited, None) => self.past.last_exit.as_ref().map(|exit| (exit.code, exit.at)),
            (ReplicaState::Exited | ReplicaState::Created, Some(refused)) => Some((NOT_STARTED, refused)),
            (ReplicaState::Running, _) | (ReplicaState::Created, None) => None,
        };
        Member {
            id: self.observed.id.clone(),
            ordinal: self.observed.ordinal,
            generation: self.observed.generation,
            current: self.observed.digest == digest,
            state: if exit.is_some() { ReplicaState::Exited } else { self.observed.state },
            ready: self.is_ready(),
            started_at: self.observed.started_at,
            exit,
            quick_failures: self.past.failures,
            stopped: match (self.stopped, self.past.was_ended()) {
                // A start that the engine refuses is a failure, whoever wished for it.
                _ if self.past.refused.is_some() => Stopped::No,
                (true, _) => Stopped::Here,
                (false, true) => Stopped::Elsewhere,
                (false, false) => Stopped::No,
            },
            cut_off: self.run.as_ref().and_then(|run| run.cut_off),
        }
    }

    pub(super) fn replica(&self, record: &Record, boot: Timestamp) -> Replica {
        let next_start = || match plan::revival(&self.member(&self.observed.digest), record, boot) {
            Revival::At(moment) if moment > Timestamp::UNIX_EPOCH => Some(moment),
            _ => None,
        };
        Replica {
            ordinal: self.observed.ordinal,
            id: self.observed.id.clone(),
            name: self.observed.name.clone(),
            state: self.observed.state,
            health: self.health(),
            health_detail: self.health_detail().map(str::to_owned),
            address: self.observed.address.filter(|_| self.observed.state == ReplicaState::Running),
            spec_digest: self.observed.digest.clone(),
            started_at: self.observed.started_at,
            restarts: self.past.restarts,
            last_exit: self.past.last_exit.clone(),
            next_start: (record.desired == Desired::Running && self.observed.state != ReplicaState::Running)
                .then(next_start)
                .flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::Probe;

    /// The container in a state, started and ended at these seconds.
    fn seen(state: ReplicaState, started: i64, finished: Option<i64>) -> Observed {
        let moment = |second| Timestamp::from_second(second).unwrap();
        Observed {
            id: "abc".into(),
            name: "mcp-echo-1-1".into(),
            ordinal: 1,
            generation: 1,
            digest: "digest".into(),
            state,
            pid: None,
            address: None,
            started_at: Some(moment(started)),
            finished_at: finished.map(moment),
            exit_code: i64::from(finished.is_some()),
            oom_killed: false,
            last_words: Vec::new(),
        }
    }

    #[test]
    fn a_restart_counts_as_what_it_followed_from_whatever_the_events_tell_first() {
        let check = HealthCheck::default();
        let mut container = Tracked::new(seen(ReplicaState::Exited, 1, Some(2)), Instant::now(), &check, Past::default());
        container.starting();
        container.observe(seen(ReplicaState::Running, 3, None), Instant::now(), &check);
        assert!(container.restarted(), "it had ended by itself");
        assert!(!container.restarted(), "once");

        container.stopping();
        container.observe(seen(ReplicaState::Exited, 3, Some(4)), Instant::now(), &check);
        container.starting();
        container.observe(seen(ReplicaState::Running, 5, None), Instant::now(), &check);
        assert!(!container.restarted(), "it had been stopped");
        assert_eq!(container.past.restarts, 1);
    }

    #[test]
    fn another_manager_goes_on_from_what_one_has_done() {
        let check = HealthCheck::default();
        let tracked = |observed, past: &Past| Tracked::new(observed, Instant::now(), &check, past.clone());
        let mut one = tracked(seen(ReplicaState::Exited, 1, Some(2)), &Past::default());
        one.observe(seen(ReplicaState::Exited, 3, Some(4)), Instant::now(), &check);
        one.observe(seen(ReplicaState::Running, 5, None), Instant::now(), &check);
        one.stopping();
        let other = tracked(seen(ReplicaState::Exited, 5, Some(6)), one.past());
        let member = other.member("digest");
        assert_eq!((other.past.restarts, member.quick_failures, member.stopped), (2, 2, Stopped::Elsewhere));

        one.observe(seen(ReplicaState::Exited, 5, Some(6)), Instant::now(), &check);
        assert_eq!(one.past(), other.past());
        assert_eq!(one.member("digest").stopped, Stopped::Here);
        one.refuse(Timestamp::from_second(7).unwrap());
        let member = one.member("digest");
        assert_eq!((member.quick_failures, member.stopped), (3, Stopped::No), "a start that is refused is not tried at once");
        one.forgive(Timestamp::from_second(8).unwrap());
        let member = one.member("digest");
        assert_eq!((member.quick_failures, member.stopped), (0, Stopped::Here));
    }

    #[test]
    fn a_lost_network_is_a_failure_of_the_run_that_lost_it() {
        let check = HealthCheck { probe: Probe::Tcp, ..HealthCheck::default() };
        let mut container = Tracked::new(seen(ReplicaState::Running, 1, None), Instant::now(), &check, Past::default());
        let run = container.take_check(Instant::now()).unwrap();
        let noticed = |second| Timestamp::from_second(second).unwrap();
        let lost = Lost::Namespace(Some(noticed(2)));
        container.cut_off(run, lost, noticed(2));
        container.cut_off(run, lost, noticed(3));
        let member = container.member("digest");
        assert_eq!((member.cut_off, member.quick_failures), (Some(noticed(2)), 1));
        assert!(container.reconnecting());
        container.observe(seen(ReplicaState::Running, 5, None), Instant::now(), &check);
        container.cut_off(run, Lost::All, noticed(6));
        assert_eq!(container.member("digest").cut_off, None, "that was told of the earlier run");
        let run = container.take_check(Instant::now()).unwrap();
        container.cut_off(run, lost, noticed(7));
        assert_eq!(container.member("digest").cut_off, None, "it was restarted for that already");
        assert!(!container.reconnecting());
        container.attached();
        container.cut_off(run, lost, noticed(8));
        assert_eq!(container.member("digest").cut_off, Some(noticed(8)), "it had a network meanwhile");
        container.observe(seen(ReplicaState::Running, 9, None), Instant::now(), &check);
        let run = container.take_check(Instant::now()).unwrap();
        container.cut_off(run, Lost::Namespace(None), noticed(10));
        assert_eq!(container.member("digest").cut_off, Some(noticed(10)));
        assert_eq!(container.past.restarts, 1);
    }
}

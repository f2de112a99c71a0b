//! What to do next for one service: a pure function of its record, its containers and the time.
//!
//! It is asked again after every step and every change, and looks at nothing but its input, so a manager that takes over
//! in the middle of anything goes on from what it finds. All steps of one answer concern different containers and may
//! run at the same time.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::spec::RestartPolicy;
use crate::domain::status::{Desired, Record, ReplicaState};

/// Pause before the first restart of a container that ended by itself; doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// So many failures in a row are a crash loop.
pub(super) const CRASH_LOOP: u32 = 3;
/// A container that ran so long has recovered from its earlier failures.
pub(super) const RECOVERED: Duration = Duration::from_mins(1);
/// How long a manager leaves to another one what that one has begun, or decides first.
pub(super) const DEFERENCE: Duration = Duration::from_secs(2);
/// Exit codes of processes that the end of a machine took down.
const KILLED: [i64; 2] = [137, 143];

/// One container as the plan sees it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) ordinal: u32,
    pub(super) generation: u64,
    /// It was made from the spec of the present record.
    pub(super) current: bool,
    pub(super) state: ReplicaState,
    pub(super) ready: bool,
    pub(super) started_at: Option<Timestamp>,
    /// Exit code and time, while it has ended.
    pub(super) exit: Option<(i64, Timestamp)>,
    /// Failures in a row, each soon after its start.
    pub(super) quick_failures: u32,
    pub(super) stopped: Stopped,
    /// Since when it runs without the network that it had.
    pub(super) cut_off: Option<Timestamp>,
}

/// Whether a manager stopped a container, so that its end was not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    No,
    Here,
    /// By another manager, which starts it again if it is meant to run.
    Elsewhere,
}

/// Everything that decides what comes next.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    pub(super) record: &'a Record,
    pub(super) members: &'a [Member],
    /// The image must be fetched before a container can be made.
    pub(super) needs_image: bool,
    /// Whether the present record may be tried.
    pub(super) attempt: Attempt,
    /// All of it has stood at least once: a later failure does not take down what there is.
    pub(super) established: bool,
    /// The container that is to be restarted now.
    pub(super) restart: Option<&'a str>,
    /// One was restarted and is not ready yet.
    pub(super) restarting: bool,
    /// When the machine was started.
    pub(super) boot: Timestamp,
    /// How long a container that ended by itself is left to another manager, which decides first.
    pub(super) deference: Duration,
    pub(super) now: Timestamp,
}

/// Whether a record may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Nothing speaks against it.
    Open,
    /// It failed for a reason that may pass, and is tried again then.
    At(Timestamp),
    /// It failed, and stays so until the record changes.
    Never,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Fetch the image.
    Fetch,
    /// Make the container of a replica, and start it or leave it for later.
    Create {
        ordinal: u32,
        start: bool,
    },
    Start {
        id: String,
    },
    Stop {
        id: String,
    },
    /// Stop and start.
    Restart {
        id: String,
    },
    Remove {
        id: String,
    },
    /// Give a replacement up: remove the new container, go back to the old one.
    Abandon {
        new: String,
        old: String,
    },
    /// Nothing is left but the record: take that away too.
    Purge,
}

impl Step {
    /// The container whose process it ends.
    pub(super) fn ends(&self) -> Option<&str> {
        match self {
            Self::Stop { id } | Self::Restart { id } | Self::Remove { id } | Self::Abandon { new: id, .. } => Some(id),
            Self::Fetch | Self::Create { .. } | Self::Start { .. } | Self::Purge => None,
        }
    }
}

/// What to do now, and when to ask again if nothing happens before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) wake: Option<Timestamp>,
}

impl Plan {
    fn wake_at(&mut self, moment: Timestamp) {
        self.wake = Some(self.wake.map_or(moment, |earlier| earlier.min(moment)));
    }
}

/// What to do next.
pub(super) fn plan(situation: &Situation<'_>) -> Plan {
    match situation.record.desired {
        Desired::Removed => removal(situation.members),
        Desired::Stopped => standstill(situation),
        Desired::Running => operation(situation),
    }
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Revival {
    At(Timestamp),
    Never,
}

impl Revival {
    /// The same, so much later.
    fn after(self, deference: Duration) -> Self {
        match self {
            Self::At(moment) if moment > Timestamp::UNIX_EPOCH => Self::At(moment + deference),
            other => other,
        }
    }
}

/// Whether and when an ended container is started again.
///
/// Three ends are not the service's own: a manager stopped it, the machine went down with it (it was killed before the
/// machine's present start), or it ended before the record was written, and writing a record means that it should run.
pub(super) fn revival(member: &Member, record: &Record, boot: Timestamp) -> Revival {
    let Some((code, at)) = member.exit else { return Revival::At(Timestamp::UNIX_EPOCH) };
    let taken_down = at < boot && KILLED.contains(&code);
    if member.stopped == Stopped::Here || taken_down || at < record.updated_at {
        return Revival::At(Timestamp::UNIX_EPOCH);
    }
    if member.stopped == Stopped::Elsewhere {
        return Revival::At(at + DEFERENCE);
    }
    let again = match record.spec.restart_policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure(_) if code == 0 => false,
        // The failure that is being judged has been counted already.
        RestartPolicy::OnFailure(times) => times.is_none_or(|times| member.quick_failures <= times),
    };
    if again { Revival::At(at + pause(member.quick_failures)) } else { Revival::Never }
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE)
}

fn remove(member: &Member) -> Step {
    Step::Remove { id: member.id.clone() }
}

fn removal(members: &[Member]) -> Plan {
    let steps = if members.is_empty() { vec![Step::Purge] } else { members.iter().map(remove).collect() };
    Plan { steps, wake: None }
}

/// Stopped: containers stay, so that the next start is quick; those that would not be started any more go.
fn standstill(situation: &Situation<'_>) -> Plan {
    let replicas = situation.record.spec.replicas;
    let step = |member: &Member| match member.state {
        _ if !member.current || member.ordinal > replicas => Some(remove(member)),
        ReplicaState::Running => Some(Step::Stop { id: member.id.clone() }),
        ReplicaState::Created | ReplicaState::Exited => None,
    };
    Plan { steps: situation.members.iter().filter_map(step).collect(), wake: None }
}

fn operation(situation: &Situation<'_>) -> Plan {
    let mut plan = Plan::default();
    let halted = match situation.attempt {
        Attempt::Open => false,
        Attempt::At(moment) if moment <= situation.now => false,
        Attempt::At(moment) => {
            plan.wake_at(moment);
            true
        }
        Attempt::Never => true,
    };
    if halted && !situation.established {
        plan.steps.extend(situation.members.iter().map(remove));
        return plan;
    }
    let replicas = situation.record.spec.replicas;
    let surplus = situation.members.iter().filter(|member| member.ordinal == 0 || member.ordinal > replicas);
    plan.steps.extend(surplus.map(remove));
    let mut replacing = false;
    for ordinal in 1..=replicas {
        let (current, old): (Vec<_>, Vec<_>) =
            situation.members.iter().filter(|member| member.ordinal == ordinal).partition(|member| member.current);
        let mut replica = Replica { situation, plan: &mut plan, ordinal, halted };
        replica.step(&current, &old, &mut replacing);
    }
    if situation.needs_image && plan.steps.iter().any(|step| matches!(step, Step::Create { .. })) {
        plan.steps.retain(|step| !matches!(step, Step::Create { .. }));
        plan.steps.push(Step::Fetch);
    }
    plan
}

/// The part of a plan that concerns one replica.
struct Replica<'a, 'b> {
    situation: &'a Situation<'a>,
    plan: &'b mut Plan,
    ordinal: u32,
    halted: bool,
}

impl Replica<'_, '_> {
    fn step(&mut self, current: &[&Member], old: &[&Member], replacing: &mut bool) {
        // More than one of the same kind is what an interrupted manager left behind: the best stays.
        let rank = |member: &&&Member| (member.ready, member.state == ReplicaState::Running, member.generation);
        let best = |members: &[&Member]| members.iter().max_by_key(rank).map(|member| (*member).clone());
        let (new, kept) = (best(current), best(old));
        let left_over = |member: &&&Member| {
            let is = |one: &Option<Member>| one.as_ref().is_some_and(|one| one.id == member.id);
            !is(&new) && !is(&kept)
        };
        self.plan.steps.extend(current.iter().chain(old).filter(left_over).map(|member| remove(member)));
        match (new, kept) {
            (None, None) if self.halted => {}
            (None, None) => self.plan.steps.push(Step::Create { ordinal: self.ordinal, start: true }),
            (Some(new), None) => self.keep(&new),
            (None, Some(old)) if self.halted => self.keep(&old),
            // An old container that serves nobody is in the way only.
            (None, Some(old)) if !old.ready => self.plan.steps.push(remove(&old)),
            (None, Some(old)) if *replacing => self.keep(&old),
            (None, Some(_)) => {
                *replacing = true;
                let start = self.situation.record.spec.allows_overlap();
                self.plan.steps.push(Step::Create { ordinal: self.ordinal, start });
            }
            (Some(new), Some(old)) => {
                *replacing = true;
                self.replace(&new, &old);
            }
        }
    }

    /// A container that is to stay: started if it never was, or if its end asks for it.
    fn keep(&mut self, member: &Member) {
        let start = Step::Start { id: member.id.clone() };
        match member.state {
            ReplicaState::Running if self.situation.restart == Some(member.id.as_str()) => {
                self.plan.steps.push(Step::Restart { id: member.id.clone() });
            }
            ReplicaState::Running => self.reconnect(member),
            ReplicaState::Created => self.plan.steps.push(start),
            ReplicaState::Exited => {
                match revival(member, self.situation.record, self.situation.boot).after(self.situation.deference) {
                    Revival::At(moment) if moment <= self.situation.now => self.plan.steps.push(start),
                    Revival::At(moment) => self.plan.wake_at(moment),
                    Revival::Never => {}
                }
            }
        }
    }

    /// A container that has lost its network gets another when it is started anew, whatever its restart policy: its process
    /// is not what failed. One after the other, since some of them may still serve.
    fn reconnect(&mut self, member: &Member) {
        let Some(since) = member.cut_off else { return };
        if self.situation.restarting || self.plan.steps.iter().any(|step| matches!(step, Step::Restart { .. })) {
            return;
        }
        match since + pause(member.quick_failures) + self.situation.deference {
            moment if moment <= self.situation.now => self.plan.steps.push(Step::Restart { id: member.id.clone() }),
            moment => self.plan.wake_at(moment),
        }
    }

    /// `new` takes the place of `old` when it is ready, and gives way again when it does not get ready in time.
    fn replace(&mut self, new: &Member, old: &Member) {
        let deadline = new.started_at.map(|start| start + self.situation.record.spec.start_timeout.duration());
        match new.state {
            ReplicaState::Running if new.ready => self.plan.steps.push(remove(old)),
            ReplicaState::Running => match deadline {
                Some(deadline) if deadline > self.situation.now => {
                    self.plan.wake_at(deadline);
                    self.reconnect(new);
                }
                _ => self.abandon(new, old),
            },
            ReplicaState::Created if old.state == ReplicaState::Running && !self.situation.record.spec.allows_overlap() => {
                self.plan.steps.push(Step::Stop { id: old.id.clone() });
            }
            ReplicaState::Created => self.plan.steps.push(Step::Start { id: new.id.clone() }),
            ReplicaState::Exited => self.abandon(new, old),
        }
    }

    fn abandon(&mut self, new: &Member, old: &Member) {
        self.plan.steps.push(Step::Abandon { new: new.id.clone(), old: old.id.clone() });
    }
}

#[cfg(test)]
mod tests;

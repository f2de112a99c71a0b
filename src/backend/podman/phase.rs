//! The one word for where a service stands. Pure.

use super::plan::{self, Member, Revival, Step};
use crate::domain::status::{Desired, Health, Phase, Record, ReplicaState};
use jiff::Timestamp;

/// What the phase follows from.
pub(super) struct Standing<'a> {
    pub(super) record: &'a Record,
    /// Each container with its health.
    pub(super) members: &'a [(Member, Health)],
    /// What is being done at the moment.
    pub(super) under_way: &'a [Step],
    /// The record could not be carried out.
    pub(super) failed: bool,
    /// All of it has stood at least once.
    pub(super) established: bool,
    pub(super) boot: Timestamp,
}

/// Where the service stands.
pub(super) fn phase(standing: &Standing<'_>) -> Phase {
    let any =
        |matches: &dyn Fn(&Member, Health) -> bool| standing.members.iter().any(|(member, health)| matches(member, *health));
    let running = any(&|member, _| member.state == ReplicaState::Running);
    match standing.record.desired {
        Desired::Removed => return Phase::Deleting,
        Desired::Stopped if running => return Phase::Stopping,
        Desired::Stopped => return Phase::Stopped,
        Desired::Running => {}
    }
    // While a change is carried out, what it made counts; when it cannot be, what was there before.
    let counts = |member: &Member| member.ready && (member.current || standing.failed);
    let is_ready = |ordinal: &u32| any(&|member, _| member.ordinal == *ordinal && counts(member));
    let ready = (1..=standing.record.spec.replicas).filter(is_ready);
    let ready = u32::try_from(ready.count()).unwrap_or(u32::MAX);
    let replacing = !standing.failed && any(&|member, _| !member.current);
    if ready >= standing.record.spec.replicas && !replacing {
        return Phase::Running;
    }
    if replacing {
        return creating(standing.under_way).unwrap_or(Phase::Starting);
    }
    if ready > 0 {
        return Phase::Degraded;
    }
    if any(&|member, _| member.quick_failures >= plan::CRASH_LOOP && will_start(member, standing)) {
        return Phase::CrashLoop;
    }
    if any(&|member, health| member.state == ReplicaState::Running && health == Health::Unhealthy) {
        return Phase::Unhealthy;
    }
    // What a failed creation has made so far goes first; then it is shown as failed, with nothing behind it.
    if standing.failed && !standing.established && !standing.members.is_empty() {
        return Phase::Stopping;
    }
    if running {
        return Phase::Starting;
    }
    if standing.failed {
        return Phase::Failed;
    }
    if let Some(phase) = creating(standing.under_way) {
        return phase;
    }
    if standing.members.is_empty() {
        return Phase::Pending;
    }
    if any(&|member, _| will_start(member, standing)) { Phase::Starting } else { Phase::Exited }
}

/// The phase of making containers, while that is under way.
fn creating(under_way: &[Step]) -> Option<Phase> {
    if under_way.contains(&Step::Fetch) {
        return Some(Phase::Pulling);
    }
    under_way.iter().any(|step| matches!(step, Step::Create { .. })).then_some(Phase::Creating)
}

/// Whether it runs or will be started. While a start is under way its outcome is open, whatever has been seen of it.
fn will_start(member: &Member, standing: &Standing<'_>) -> bool {
    let starts = |step: &Step| matches!(step, Step::Start { id } | Step::Restart { id } if *id == member.id);
    member.state != ReplicaState::Exited
        || standing.under_way.iter().any(starts)
        || plan::revival(member, standing.record, standing.boot) != Revival::Never
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::spec::{RestartPolicy, ServiceSpec};

    fn record(desired: Desired, replicas: u32) -> Record {
        Record {
            name: "echo".parse().unwrap(),
            generation: 1,
            desired,
            spec: Arc::new(ServiceSpec { replicas, restart_policy: RestartPolicy::OnFailure(None), ..ServiceSpec::default() }),
            template: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn member(ordinal: u32, state: ReplicaState, health: Health) -> (Member, Health) {
        let member = Member {
            id: ordinal.to_string(),
            ordinal,
            generation: 1,
            current: true,
            state,
            ready: state == ReplicaState::Running && health == Health::Healthy,
            started_at: None,
            exit: None,
            quick_failures: 0,
            stopped: plan::Stopped::No,
            cut_off: None,
        };
        (member, health)
    }

    fn old(ordinal: u32, health: Health) -> (Member, Health) {
        let (member, health) = member(ordinal, ReplicaState::Running, health);
        (Member { id: "old".into(), current: false, ..member }, health)
    }

    fn ended(code: i64, quick_failures: u32) -> (Member, Health) {
        let (member, health) = member(1, ReplicaState::Exited, Health::Starting);
        let at = Timestamp::from_second(10).unwrap();
        (Member { exit: Some((code, at)), quick_failures, ..member }, health)
    }

    type Row<'a> = (Desired, u32, Vec<(Member, Health)>, &'a [Step], bool, Phase);

    #[test]
    fn the_phase_follows_from_what_there_is() {
        use Health::{Healthy, Starting, Unhealthy};
        use ReplicaState::{Created, Running};
        let run = |ordinal, health| member(ordinal, Running, health);
        let table: [Row<'_>; 23] = [
            (Desired::Running, 1, vec![], &[], false, Phase::Pending),
            (Desired::Running, 1, vec![], &[Step::Fetch], false, Phase::Pulling),
            (Desired::Running, 1, vec![], &[Step::Create { ordinal: 1, start: true }], false, Phase::Creating),
            (Desired::Running, 1, vec![], &[], true, Phase::Failed),
            (Desired::Running, 1, vec![ended(1, 1)], &[], true, Phase::Stopping),
            (Desired::Running, 1, vec![member(1, Created, Starting)], &[], false, Phase::Starting),
            (Desired::Running, 1, vec![run(1, Starting)], &[], false, Phase::Starting),
            (Desired::Running, 1, vec![run(1, Healthy)], &[], false, Phase::Running),
            (Desired::Running, 1, vec![run(1, Healthy)], &[], true, Phase::Running),
            (Desired::Running, 1, vec![old(1, Healthy)], &[Step::Fetch], false, Phase::Pulling),
            (Desired::Running, 1, vec![old(1, Healthy), run(1, Starting)], &[], false, Phase::Starting),
            (Desired::Running, 1, vec![old(1, Healthy), run(1, Healthy)], &[], false, Phase::Starting),
            (Desired::Running, 1, vec![old(1, Healthy)], &[], true, Phase::Running),
            (Desired::Running, 2, vec![run(1, Healthy), run(2, Unhealthy)], &[], false, Phase::Degraded),
            (Desired::Running, 1, vec![run(1, Unhealthy)], &[], false, Phase::Unhealthy),
            (Desired::Running, 1, vec![ended(1, 1)], &[], false, Phase::Starting),
            (Desired::Running, 1, vec![ended(1, 3)], &[], false, Phase::CrashLoop),
            (Desired::Running, 1, vec![ended(0, 3)], &[], false, Phase::Exited),
            (Desired::Running, 1, vec![ended(0, 1)], &[], false, Phase::Exited),
            (Desired::Running, 1, vec![ended(0, 1)], &[Step::Start { id: "1".into() }], false, Phase::Starting),
            (Desired::Stopped, 1, vec![run(1, Healthy)], &[], false, Phase::Stopping),
            (Desired::Stopped, 1, vec![ended(143, 0)], &[], false, Phase::Stopped),
            (Desired::Removed, 1, vec![run(1, Healthy)], &[], false, Phase::Deleting),
        ];
        for (desired, replicas, members, under_way, failed, expected) in table {
            let record = record(desired, replicas);
            let standing = Standing {
                record: &record,
                members: &members,
                under_way,
                failed,
                established: false,
                boot: Timestamp::UNIX_EPOCH,
            };
            assert_eq!(phase(&standing), expected, "{desired:?}, {members:?}, {under_way:?}");
        }
    }
}

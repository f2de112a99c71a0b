//! The plan as a table: what is found, and what is done about it.

use std::sync::Arc;

use super::*;
use crate::domain::quantity::Span;
use crate::domain::spec::{Mount, MountSource, ServiceSpec};

/// The record was written at second 1000; the machine was started at second 100.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn record(desired: Desired, spec: ServiceSpec) -> Record {
    Record {
        name: "echo".parse().unwrap(),
        generation: 2,
        desired,
        spec: Arc::new(ServiceSpec { start_timeout: Span(30_000), ..spec }),
        template: None,
        created_at: at(1000),
        updated_at: at(1000),
    }
}

fn with_policy(restart_policy: RestartPolicy) -> Record {
    record(Desired::Running, ServiceSpec { restart_policy, ..ServiceSpec::default() })
}

fn running(ordinal: u32) -> Member {
    Member {
        id: format!("c{ordinal}"),
        ordinal,
        generation: 2,
        current: true,
        state: ReplicaState::Running,
        ready: true,
        started_at: Some(at(2000)),
        exit: None,
        quick_failures: 0,
        stopped: Stopped::No,
        cut_off: None,
    }
}

fn old(ordinal: u32) -> Member {
    Member { id: format!("old{ordinal}"), generation: 1, current: false, ..running(ordinal) }
}

fn starting(ordinal: u32) -> Member {
    Member { ready: false, ..running(ordinal) }
}

fn created(ordinal: u32) -> Member {
    Member { state: ReplicaState::Created, ready: false, started_at: None, ..running(ordinal) }
}

fn exited(code: i64, second: i64, quick_failures: u32) -> Member {
    Member { state: ReplicaState::Exited, ready: false, exit: Some((code, at(second))), quick_failures, ..running(1) }
}

fn situation<'a>(record: &'a Record, members: &'a [Member]) -> Situation<'a> {
    Situation {
        record,
        members,
        needs_image: false,
        attempt: Attempt::Open,
        established: true,
        restart: None,
        restarting: false,
        boot: at(100),
        deference: Duration::ZERO,
        now: at(2010),
    }
}

#[test]
fn a_manager_that_does_not_lead_leaves_restarts_to_the_other_for_a_while() {
    let record = with_policy(RestartPolicy::Always);
    let members = [exited(1, 2009, 1)];
    let early = plan(&Situation { deference: Duration::from_secs(2), ..situation(&record, &members) });
    assert_eq!((early.steps, early.wake.is_some()), (vec![], true));
    assert_eq!(steps(&record, &members), [start("c1")], "the one that leads does not wait");
    let late = Situation { deference: Duration::from_secs(2), now: at(2012), ..situation(&record, &members) };
    assert_eq!(plan(&late).steps, [start("c1")], "one that leads and does nothing does not hold up the others");
}

#[test]
fn a_container_that_has_lost_its_network_is_restarted_whatever_its_policy_and_later_each_time() {
    let record = with_policy(RestartPolicy::No);
    let cut_off = |failures| Member { ready: false, cut_off: Some(at(2009)), quick_failures: failures, ..running(1) };
    assert_eq!(steps(&record, &[cut_off(1)]), [Step::Restart { id: "c1".into() }]);
    let pausing = plan(&situation(&record, &[cut_off(5)]));
    assert_eq!((pausing.steps, pausing.wake), (vec![], Some(at(2009) + Duration::from_millis(3200))));
    let deferring = plan(&Situation { deference: Duration::from_secs(2), ..situation(&record, &[cut_off(1)]) });
    assert_eq!(deferring.steps, []);
    // A replacement, too, until it has had its time; what it replaces goes on meanwhile.
    let old = Member { id: "old1".into(), generation: 1, current: false, ..running(1) };
    assert_eq!(steps(&record, &[cut_off(1), old.clone()]), [Step::Restart { id: "c1".into() }]);
    // One after the other.
    let two = [cut_off(1), Member { id: "c2".into(), ordinal: 2, ..cut_off(1) }];
    let both = replicas(2);
    assert_eq!(steps(&both, &two), [Step::Restart { id: "c1".into() }]);
    assert_eq!(plan(&Situation { restarting: true, ..situation(&both, &two) }).steps, []);
    let late = Member { started_at: Some(at(1900)), ..cut_off(1) };
    assert_eq!(steps(&record, &[late, old]), [abandoned("c1", "old1")]);
}

fn steps(record: &Record, members: &[Member]) -> Vec<Step> {
    plan(&situation(record, members)).steps
}

fn create(ordinal: u32, start: bool) -> Step {
    Step::Create { ordinal, start }
}

fn start(id: &str) -> Step {
    Step::Start { id: id.into() }
}

fn stop(id: &str) -> Step {
    Step::Stop { id: id.into() }
}

fn removed(id: &str) -> Step {
    Step::Remove { id: id.into() }
}

fn abandoned(new: &str, old: &str) -> Step {
    Step::Abandon { new: new.into(), old: old.into() }
}

fn replicas(replicas: u32) -> Record {
    record(Desired::Running, ServiceSpec { replicas, ..ServiceSpec::default() })
}

/// A service whose replicas share files, so that two of them cannot run side by side.
fn exclusive() -> Record {
    let volumes = vec![Mount { source: MountSource::Volume("data".into()), target: "/data".into(), read_only: false }];
    record(Desired::Running, ServiceSpec { volumes, ..ServiceSpec::default() })
}

#[test]
fn missing_replicas_are_created_together() {
    assert_eq!(steps(&replicas(3), &[running(2)]), [create(1, true), create(3, true)]);
}

#[test]
fn an_image_is_fetched_before_anything_is_created() {
    let record = replicas(2);
    let needs = Situation { needs_image: true, ..situation(&record, &[]) };
    assert_eq!(plan(&needs).steps, [Step::Fetch]);
    let members = [running(1), running(2)];
    let complete = Situation { needs_image: true, ..situation(&record, &members) };
    assert_eq!(plan(&complete).steps, [], "nothing is created, so nothing is fetched");
}

#[test]
fn what_was_created_and_never_started_is_started() {
    assert_eq!(steps(&replicas(1), &[created(1)]), [start("c1")]);
}

#[test]
fn what_runs_is_left_alone() {
    assert_eq!(plan(&situation(&replicas(2), &[running(1), starting(2)])), Plan::default());
}

#[test]
fn surplus_replicas_are_removed() {
    assert_eq!(steps(&replicas(1), &[running(1), running(2), old(3)]), [removed("c2"), removed("old3")]);
}

#[test]
fn of_two_containers_for_one_replica_the_better_one_stays() {
    let spare = Member { id: "spare".into(), ..created(1) };
    assert_eq!(steps(&replicas(1), &[spare, running(1)]), [removed("spare")]);
}

#[test]
fn a_stopped_service_keeps_the_containers_it_would_start_again() {
    let record = record(Desired::Stopped, ServiceSpec::default());
    assert_eq!(steps(&record, &[running(1)]), [stop("c1")]);
    assert_eq!(steps(&record, &[exited(143, 1500, 0)]), []);
    assert_eq!(steps(&record, &[created(1), running(2), old(1)]), [removed("c2"), removed("old1")]);
}

#[test]
fn a_removed_service_loses_its_containers_and_then_its_record() {
    let record = record(Desired::Removed, ServiceSpec::default());
    assert_eq!(steps(&record, &[running(1), old(1)]), [removed("c1"), removed("old1")]);
    assert_eq!(steps(&record, &[]), [Step::Purge]);
}

#[test]
fn an_own_end_is_answered_by_the_restart_policy() {
    let never = |policy, code| steps(&with_policy(policy), &[exited(code, 2000, 1)]).is_empty();
    assert!(never(RestartPolicy::No, 1));
    assert!(never(RestartPolicy::OnFailure(None), 0));
    assert!(!never(RestartPolicy::OnFailure(None), 1));
    assert!(!never(RestartPolicy::Always, 0));
    assert!(!never(RestartPolicy::UnlessStopped, 0));
}

#[test]
fn on_failure_gives_up_after_so_many_times() {
    let record = with_policy(RestartPolicy::OnFailure(Some(2)));
    assert_eq!(steps(&record, &[exited(1, 2000, 2)]), [start("c1")]);
    assert_eq!(steps(&record, &[exited(1, 2000, 3)]), []);
}

#[test]
fn pauses_between_restarts_grow_and_are_bounded() {
    assert_eq!(pause(1), Duration::from_millis(200));
    assert_eq!(pause(2), Duration::from_millis(400));
    assert_eq!(pause(9), Duration::from_millis(51_200));
    assert_eq!(pause(10), LONGEST_PAUSE);
    assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
}

#[test]
fn a_restart_waits_for_its_pause() {
    let record = with_policy(RestartPolicy::Always);
    let members = [exited(1, 2009, 5)];
    let waiting = plan(&situation(&record, &members));
    assert_eq!(waiting, Plan { steps: vec![], wake: Some(at(2009) + Duration::from_millis(3200)) });
}

#[test]
fn ends_that_are_not_the_service_s_own_do_not_count_whatever_the_policy() {
    let record = with_policy(RestartPolicy::No);
    let asked = Member { stopped: Stopped::Here, ..exited(143, 2000, 0) };
    assert_eq!(steps(&record, &[asked]), [start("c1")], "the manager stopped it");
    let members = [Member { stopped: Stopped::Elsewhere, ..exited(143, 2000, 0) }];
    let early = Situation { now: at(2001), ..situation(&record, &members) };
    assert_eq!(plan(&early), Plan { steps: vec![], wake: Some(at(2002)) }, "another manager did, and starts it");
    assert_eq!(steps(&record, &members), [start("c1")], "that one has not");
    assert_eq!(steps(&record, &[exited(0, 999, 0)]), [start("c1")], "it was asked to run after it had ended");
    let members = [exited(143, 2000, 0)];
    let rebooted = Situation { boot: at(2005), ..situation(&record, &members) };
    assert_eq!(plan(&rebooted).steps, [start("c1")], "the machine went down with it");
    let members = [exited(1, 2000, 0)];
    let failed_before = Situation { boot: at(2005), ..situation(&record, &members) };
    assert_eq!(plan(&failed_before).steps, [], "it had failed by itself before the machine went down");
}

#[test]
fn replacement_starts_the_new_container_first_and_goes_one_by_one() {
    let record = replicas(2);
    assert_eq!(steps(&record, &[old(1), old(2)]), [create(1, true)]);
    assert_eq!(steps(&record, &[old(1), old(2), starting(1)]), []);
    assert_eq!(steps(&record, &[old(1), old(2), running(1)]), [removed("old1")]);
    assert_eq!(steps(&record, &[old(2), running(1)]), [create(2, true)]);
}

#[test]
fn containers_that_share_files_are_never_run_side_by_side() {
    let record = exclusive();
    assert_eq!(steps(&record, &[old(1)]), [create(1, false)], "what can fail is tried before the old one is stopped");
    assert_eq!(steps(&record, &[old(1), created(1)]), [stop("old1")]);
    let stopped = Member { state: ReplicaState::Exited, ready: false, stopped: Stopped::Here, ..old(1) };
    assert_eq!(steps(&record, &[stopped.clone(), created(1)]), [start("c1")]);
    assert_eq!(steps(&record, &[stopped.clone(), running(1)]), [removed("old1")]);
    assert_eq!(steps(&record, &[stopped, exited(1, 2009, 1)]), [abandoned("c1", "old1")]);
}

#[test]
fn a_replacement_that_does_not_get_ready_in_time_is_given_up() {
    let record = replicas(1);
    let waiting = plan(&situation(&record, &[old(1), starting(1)]));
    assert_eq!(waiting, Plan { steps: vec![], wake: Some(at(2030)) });
    let members = [old(1), starting(1)];
    let late = Situation { now: at(2031), ..situation(&record, &members) };
    assert_eq!(plan(&late).steps, [abandoned("c1", "old1")]);
}

#[test]
fn an_old_container_that_serves_nobody_makes_room() {
    let crashed = Member { state: ReplicaState::Exited, ready: false, exit: Some((1, at(1500))), ..old(1) };
    assert_eq!(steps(&replicas(1), &[crashed]), [removed("old1")]);
    assert_eq!(steps(&replicas(1), &[Member { ready: false, ..old(1) }]), [removed("old1")]);
}

#[test]
fn a_failed_creation_leaves_nothing() {
    let record = replicas(2);
    let members = [running(1), created(2)];
    let failed = Situation { attempt: Attempt::Never, established: false, ..situation(&record, &members) };
    assert_eq!(plan(&failed).steps, [removed("c1"), removed("c2")]);
    let empty = Situation { attempt: Attempt::Never, established: false, ..situation(&record, &[]) };
    assert_eq!(plan(&empty), Plan::default());
}

#[test]
fn a_failed_change_keeps_what_there_was() {
    let record = replicas(2);
    let crashed = Member { state: ReplicaState::Exited, ready: false, exit: Some((1, at(1500))), ..old(2) };
    let members = [old(1), crashed];
    let failed = Situation { attempt: Attempt::Never, ..situation(&record, &members) };
    assert_eq!(plan(&failed).steps, [start("old2")], "the old ones go on, also with their restarts");
}

#[test]
fn a_failure_that_may_pass_is_tried_again_in_time() {
    let record = replicas(1);
    let waiting = Situation { attempt: Attempt::At(at(2040)), established: false, ..situation(&record, &[]) };
    assert_eq!(plan(&waiting), Plan { steps: vec![], wake: Some(at(2040)) });
    let due = Situation { attempt: Attempt::At(at(2010)), established: false, ..situation(&record, &[]) };
    assert_eq!(plan(&due).steps, [create(1, true)]);
}

#[test]
fn a_restart_concerns_one_container_at_a_time() {
    let record = replicas(2);
    let members = [running(1), running(2)];
    let restarting = Situation { restart: Some("c2"), ..situation(&record, &members) };
    assert_eq!(plan(&restarting).steps, [Step::Restart { id: "c2".into() }]);
}

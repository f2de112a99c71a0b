//! The claims. Each gets an engine without services and leaves it so.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _};
use mcp_manager::backend::{Change, PlannedAction};
use mcp_manager::domain::spec::ServiceSpec;
use mcp_manager::domain::status::{Desired, LogQuery, Phase, ReplicaState, ServiceState, Stream};
use mcp_manager::error::Kind;

use super::{Engine, Manager, PATIENCE, name, running, spec};

fn is_running(service: &ServiceState) -> bool {
    service.phase == Phase::Running
}

pub async fn a_created_service_runs_and_is_in_the_view(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    let record = manager.backend.create(&echo, running(spec(engine))).await.unwrap();
    assert!(manager.backend.view().borrow().services.contains_key(&echo), "it is in the view when create returns");
    assert_eq!((record.generation, record.desired), (1, Desired::Running));
    let service = manager.service(&echo, "it runs", is_running).await;
    assert_eq!(service.replicas.len(), 1);
    assert_eq!(service.replicas[0].spec_digest, record.spec.container_digest());
    assert!(service.replicas[0].is_ready() && service.replicas[0].started_at.is_some());
    assert_eq!(manager.backend.stats(&echo).await.unwrap().len(), 1);
    assert_eq!(manager.backend.inspect(&echo).await.unwrap().len(), 1);
    manager.backend.remove(&echo, false).await.unwrap();
    assert!(!manager.backend.view().borrow().services.contains_key(&echo), "it is out of the view when remove returns");
    manager.stop().await;
}

pub async fn a_name_is_given_once(engine: &dyn Engine) {
    // Two managers over one engine, and ten requests at each.
    let managers = [Manager::start(engine).await, Manager::start(engine).await];
    let echo = name("echo");
    let attempts = (0..20).map(|number| {
        let (backend, echo, change) = (managers[number % 2].backend.clone(), echo.clone(), running(spec(engine)));
        async move { backend.create(&echo, change).await.map_err(|error| error.kind) }
    });
    let results = futures_util::future::join_all(attempts).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    assert!(results.iter().filter_map(|result| result.as_ref().err()).all(|kind| *kind == Kind::AlreadyExists), "{results:?}");
    let winner = results.iter().position(Result::is_ok).unwrap() % 2;
    managers[winner].service(&echo, "it runs", is_running).await;
    managers[winner].backend.remove(&echo, false).await.unwrap();
    for manager in managers {
        manager.stop().await;
    }
}

pub async fn a_plan_says_what_a_change_takes_and_changes_nothing(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    let plan = manager.backend.plan(&echo, running(spec(engine))).await.unwrap();
    let is_new = |action| matches!(action, PlannedAction::Create | PlannedAction::Ensure);
    assert!(!plan.objects.is_empty() && plan.objects.iter().all(|object| is_new(object.action)), "{plan:#?}");
    assert!(manager.backend.view().borrow().services.is_empty(), "it is not in the view");
    assert_eq!(engine.leftovers().await, Vec::<String>::new(), "nothing was made");
    manager.backend.create(&echo, running(spec(engine))).await.unwrap();
    manager.service(&echo, "it runs", is_running).await;
    let before = engine.leftovers().await;
    let broken = ServiceSpec { image: engine.missing_image(), ..spec(engine) };
    let plan = manager.backend.plan(&echo, running(broken)).await.unwrap();
    assert!(plan.objects.iter().any(|object| !is_new(object.action)), "what is there is changed or replaced: {plan:#?}");
    assert_eq!(engine.leftovers().await, before);
    let state = manager.backend.view().borrow().services[&echo].clone();
    assert_eq!((state.record.generation, is_running(&state)), (1, true), "the service is as it was");
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

pub async fn a_change_of_a_stale_generation_conflicts(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    manager.backend.create(&echo, running(spec(engine))).await.unwrap();
    let changed = ServiceSpec { replicas: 2, ..spec(engine) };
    let record = manager.backend.update(&echo, 1, running(changed.clone())).await.unwrap();
    assert_eq!(record.generation, 2);
    assert_eq!(manager.backend.update(&echo, 1, running(changed)).await.unwrap_err().kind, Kind::Conflict);
    manager.service(&echo, "both replicas run", |service| is_running(service) && service.replicas.len() == 2).await;
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

pub async fn replicas_come_and_go(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    manager.backend.create(&echo, running(ServiceSpec { replicas: 3, ..spec(engine) })).await.unwrap();
    let service = manager.service(&echo, "three run", |service| is_running(service) && service.replicas.len() == 3).await;
    let ids: BTreeSet<&str> = service.replicas.iter().map(|replica| replica.id.as_str()).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(service.replicas.iter().map(|replica| replica.ordinal).collect::<Vec<_>>(), [1, 2, 3]);
    manager.backend.update(&echo, 1, running(ServiceSpec { replicas: 1, ..spec(engine) })).await.unwrap();
    let service = manager.service(&echo, "one runs", |service| is_running(service) && service.replicas.len() == 1).await;
    assert!(ids.contains(service.replicas[0].id.as_str()), "a replica that stays is not replaced");
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

pub async fn a_changed_spec_replaces_the_containers(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    manager.backend.create(&echo, running(spec(engine))).await.unwrap();
    let before = manager.service(&echo, "it runs", is_running).await;
    let mut changed = spec(engine);
    changed.environment.insert("GREETING".into(), "hello".into());
    let digest = changed.container_digest();
    manager.backend.update(&echo, 1, running(changed)).await.unwrap();
    let replaced =
        |service: &ServiceState| is_running(service) && service.replicas.len() == 1 && service.replicas[0].spec_digest == digest;
    let after = manager.service(&echo, "the container is the new one", replaced).await;
    assert_ne!(before.replicas[0].id, after.replicas[0].id);
    assert_eq!(after.record.created_at, before.record.created_at, "it is the same service");
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

pub async fn what_was_stopped_stays_stopped_over_a_restart_of_the_manager(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    manager.backend.create(&echo, running(spec(engine))).await.unwrap();
    manager.service(&echo, "it runs", is_running).await;
    let stopped = Change { desired: Desired::Stopped, ..running(spec(engine)) };
    manager.backend.update(&echo, 1, stopped).await.unwrap();
    let is_stopped = |service: &ServiceState| {
        service.phase == Phase::Stopped && service.replicas.iter().all(|replica| replica.state != ReplicaState::Running)
    };
    manager.service(&echo, "it is stopped", is_stopped).await;
    manager.stop().await;

    let manager = Manager::start(engine).await;
    let service = manager.service(&echo, "it is still stopped", is_stopped).await;
    assert_eq!(service.record.generation, 2);
    manager.backend.update(&echo, 2, running(spec(engine))).await.unwrap();
    manager.service(&echo, "it runs again", is_running).await;
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

pub async fn what_runs_goes_on_over_a_restart_of_the_manager(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    manager.backend.create(&echo, running(ServiceSpec { replicas: 2, ..spec(engine) })).await.unwrap();
    let before = manager.service(&echo, "both run", |service| is_running(service) && service.replicas.len() == 2).await;
    manager.stop().await;

    let manager = Manager::start(engine).await;
    let after = manager.service(&echo, "both still run", |service| is_running(service) && service.replicas.len() == 2).await;
    let ids = |service: &ServiceState| service.replicas.iter().map(|replica| replica.id.clone()).collect::<Vec<_>>();
    let starts = |service: &ServiceState| service.replicas.iter().map(|replica| replica.started_at).collect::<Vec<_>>();
    assert_eq!((ids(&before), starts(&before)), (ids(&after), starts(&after)), "neither was replaced nor restarted");
    assert_eq!(before.record, after.record);
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

pub async fn a_restart_starts_each_replica_anew(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    manager.backend.create(&echo, running(ServiceSpec { replicas: 2, ..spec(engine) })).await.unwrap();
    let before = manager.service(&echo, "both run", |service| is_running(service) && service.replicas.len() == 2).await;
    manager.backend.restart(&echo).await.unwrap();
    let newer = |service: &ServiceState| {
        is_running(service)
            && service.replicas.iter().zip(&before.replicas).all(|(after, before)| after.started_at > before.started_at)
    };
    let after = manager.service(&echo, "both started anew", newer).await;
    assert!(after.replicas.iter().all(|replica| replica.restarts == 0), "a restart that was asked for is no failure");
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

pub async fn removal_ends_a_creation(engine: &dyn Engine) {
    let manager = Manager::start(engine).await;
    for round in 0..5 {
        let echo = name("echo");
        manager.backend.create(&echo, running(spec(engine))).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(round * 40)).await;
        let removed = tokio::time::timeout(PATIENCE, manager.backend.remove(&echo, false)).await;
        removed.expect("removal ends").unwrap();
        assert_eq!(engine.leftovers().await, Vec::<String>::new(), "after {} ms", round * 40);
    }
    manager.stop().await;
}

pub async fn an_image_that_does_not_exist_fails_with_that_reason(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    manager.backend.create(&echo, running(ServiceSpec { image: engine.missing_image(), ..spec(engine) })).await.unwrap();
    let service = manager.service(&echo, "it failed", |service| service.phase == Phase::Failed).await;
    let failure = service.failure.clone().unwrap();
    assert!(matches!(failure.kind, Kind::ImageNotFound | Kind::RegistryUnavailable), "{failure:?}");
    assert!(failure.detail.contains(&engine.missing_image()), "{failure}");
    assert!(service.replicas.is_empty(), "a failed creation leaves no containers");
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

pub async fn logs_tell_replicas_and_streams_apart(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    manager.backend.create(&echo, running(ServiceSpec { replicas: 2, ..spec(engine) })).await.unwrap();
    manager.service(&echo, "both run", |service| is_running(service) && service.replicas.len() == 2).await;
    let read =
        async |query: LogQuery| -> Vec<_> { manager.backend.logs(&echo, query).await.unwrap().try_collect().await.unwrap() };
    let lines = read(LogQuery::default()).await;
    assert_eq!(lines.iter().map(|line| line.replica).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]), "{lines:?}");
    assert!(lines.iter().all(|line| line.timestamp.is_some()));
    assert!(lines.iter().map(|line| line.timestamp).is_sorted(), "replicas are merged by time");
    let output = LogQuery { stream: Some(Stream::Stdout), ..LogQuery::default() };
    if engine.tells_streams() {
        let output = read(output).await;
        assert!(!output.is_empty() && output.iter().all(|line| line.stream == Some(Stream::Stdout)));
    } else {
        assert!(lines.iter().all(|line| line.stream.is_none()));
        assert_eq!(manager.backend.logs(&echo, output).await.err().unwrap().kind, Kind::NotSupported);
    }
    let last = read(LogQuery { tail: Some(1), ..LogQuery::default() }).await;
    assert_eq!(last.len(), 2, "one line of each replica: {last:?}");
    let second = read(LogQuery { replica: Some(2), ..LogQuery::default() }).await;
    assert!(!second.is_empty() && second.iter().all(|line| line.replica == 2));
    let future = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    assert_eq!(read(LogQuery { since: Some(future), ..LogQuery::default() }).await, vec![]);
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

pub async fn followed_logs_end_with_the_service(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    manager.backend.create(&echo, running(spec(engine))).await.unwrap();
    manager.service(&echo, "it runs", is_running).await;
    let mut lines = manager.backend.logs(&echo, LogQuery { follow: true, ..LogQuery::default() }).await.unwrap();
    let first = tokio::time::timeout(PATIENCE, lines.next()).await.expect("there is a line").unwrap().unwrap();
    assert_eq!(first.replica, 1);
    manager.backend.remove(&echo, false).await.unwrap();
    let rest = tokio::time::timeout(PATIENCE, lines.collect::<Vec<_>>()).await;
    assert!(rest.is_ok(), "the stream goes on though the service is gone");
    manager.stop().await;
}

pub async fn what_is_not_there_is_not_found(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    let backend = &manager.backend;
    let kinds = [
        backend.update(&echo, 1, running(spec(engine))).await.unwrap_err().kind,
        backend.restart(&echo).await.unwrap_err().kind,
        backend.remove(&echo, false).await.unwrap_err().kind,
        backend.logs(&echo, LogQuery::default()).await.err().unwrap().kind,
        backend.stats(&echo).await.unwrap_err().kind,
        backend.inspect(&echo).await.unwrap_err().kind,
    ];
    assert_eq!(kinds, [Kind::NotFound; 6]);
    manager.stop().await;
}

pub async fn events_tell_the_story_of_a_service(engine: &dyn Engine) {
    let (manager, echo) = (Manager::start(engine).await, name("echo"));
    let mut events = manager.backend.events();
    manager.backend.create(&echo, running(spec(engine))).await.unwrap();
    manager.service(&echo, "it runs", is_running).await;
    manager.backend.remove(&echo, false).await.unwrap();
    let story = async {
        let mut story = Vec::new();
        loop {
            let event = events.recv().await.unwrap();
            assert_eq!(event.service, echo);
            story.push(event.clone());
            if event.kind == "removed" {
                return story;
            }
        }
    };
    let story = tokio::time::timeout(PATIENCE, story).await.expect("the story ends");
    assert!(story.iter().any(|event| event.phase == Some(Phase::Running)), "{story:?}");
    assert!(story.iter().map(|event| event.sequence).is_sorted(), "{story:?}");
    manager.stop().await;
}

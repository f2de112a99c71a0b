//! Health: each way to ask, and what follows.

use std::time::Duration;

use mcp_manager::domain::quantity::Span;
use mcp_manager::domain::spec::{Probe, RestartPolicy, ServiceSpec};
use mcp_manager::domain::status::{Health, Phase, ServiceState};
use reqwest::Method;

use super::{call, controlled, create, finish, probed};
use crate::contract::podman::Installation;
use crate::contract::{Manager, name, running, spec};

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_check_finds_a_healthy_service_healthy() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let probes =
        [Probe::Http("/health".into()), Probe::Tcp, Probe::Command(vec!["/mcp-echo".into(), "--version".into()]), Probe::Process];
    for probe in probes {
        create(&manager, probed(spec(&installation), probe)).await;
        manager.backend.remove(&name("echo"), false).await.unwrap();
    }
    create(&manager, spec(&installation)).await;
    finish(manager, installation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_check_finds_an_unhealthy_service_unhealthy_and_says_why() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let mut base = spec(&installation);
    base.health_check.start_period = Span(0);
    let elsewhere = ServiceSpec { command: vec!["--port".into(), "8001".into()], ..base.clone() };
    let wrong = [
        (probed(base.clone(), Probe::Http("/no-such-page".into())), "404"),
        (elsewhere.clone(), "nothing listens"),
        (probed(elsewhere, Probe::Tcp), "nothing listens"),
        (probed(base, Probe::Command(vec!["/mcp-echo".into(), "--no-such-option".into()])), "status 2"),
    ];
    for (spec, reason) in wrong {
        let echo = name("echo");
        manager.backend.create(&echo, running(spec)).await.unwrap();
        let service = manager.service(&echo, "it is unhealthy", |service| service.phase == Phase::Unhealthy).await;
        let detail = service.replicas[0].health_detail.clone().unwrap();
        assert!(detail.contains(reason), "{detail}");
        assert_eq!(service.ready().count(), 0);
        manager.backend.remove(&echo, false).await.unwrap();
    }
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unhealthy_replica_is_seen_within_two_intervals_and_comes_back() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let mut spec = controlled(&installation);
    spec.health_check.interval = Span(1000);
    let interval = Duration::from_secs(1);
    let service = create(&manager, spec).await;
    let health = |wanted: Health| move |service: &ServiceState| service.replicas[0].health == wanted;
    let began = std::time::Instant::now();
    assert!(call(&service, Method::POST, "/health/fail").await.unwrap().status().is_success());
    manager.service(&name("echo"), "it is unhealthy", health(Health::Unhealthy)).await;
    assert!(began.elapsed() < 2 * interval, "{:?}", began.elapsed());
    assert!(call(&service, Method::POST, "/health/ok").await.unwrap().status().is_success());
    manager.service(&name("echo"), "it is healthy", health(Health::Healthy)).await;
    finish(manager, installation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_failure_gives_up_after_so_many_restarts_and_a_success_is_no_failure() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let echo = name("echo");
    let failing = ServiceSpec {
        command: vec!["--no-such-option".into()],
        restart_policy: RestartPolicy::OnFailure(Some(2)),
        ..spec(&installation)
    };
    manager.backend.create(&echo, running(failing)).await.unwrap();
    let service = manager.service(&echo, "it gave up", |service| service.phase == Phase::Exited).await;
    let replica = &service.replicas[0];
    let exit = replica.last_exit.clone().unwrap();
    assert_eq!((replica.restarts, exit.code, exit.oom_killed), (2, 2, false));
    assert!(exit.last_log_lines.iter().any(|line| line.contains("--no-such-option")), "{exit:?}");
    manager.backend.remove(&echo, false).await.unwrap();

    let succeeding =
        ServiceSpec { command: vec!["--version".into()], restart_policy: RestartPolicy::OnFailure(None), ..spec(&installation) };
    manager.backend.create(&echo, running(succeeding)).await.unwrap();
    let service = manager.service(&echo, "it ended", |service| service.phase == Phase::Exited).await;
    assert_eq!((service.replicas[0].restarts, service.replicas[0].last_exit.as_ref().unwrap().code), (0, 0));
    finish(manager, installation).await;
}

//! What others do to the engine, and changes that go wrong.

use std::time::Duration;

use mcp_manager::domain::quantity::Span;
use mcp_manager::domain::spec::{Mount, MountSource, Probe, RestartPolicy, ServiceSpec};
use mcp_manager::domain::status::{Desired, Phase, Replica, ReplicaState, ServiceState};
use mcp_manager::error::Kind;
use reqwest::Method;

use super::{call, change, create, finish, is_running, pid, probed};
use crate::contract::podman::Installation;
use crate::contract::{Manager, name, spec};
use crate::support::podman::podman;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_somebody_removes_is_made_again() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let service = create(&manager, spec(&installation)).await;
    let id = service.replicas[0].id.clone();
    podman(&["rm", "--force", "--time", "0", &id]).await;
    let again = |service: &ServiceState| is_running(service) && service.replicas.iter().all(|replica| replica.id != id);
    manager.service(&name("echo"), "there is a new container", again).await;
    finish(manager, installation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_somebody_stops_is_started_again() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let service = create(&manager, spec(&installation)).await;
    let before = service.replicas[0].clone();
    // Its exit status says nothing: the manager may start the container before the command is done with it.
    let stop = ["stop", "--time", "1", &before.id];
    tokio::process::Command::new("podman").args(stop).output().await.unwrap();
    let again = |service: &ServiceState| is_running(service) && service.replicas[0].started_at > before.started_at;
    let after = manager.service(&name("echo"), "it was started again", again).await;
    assert_eq!((&after.replicas[0].id, after.replicas[0].restarts), (&before.id, 1));
    finish(manager, installation).await;
}

/// Podman 4 may take the network of a container away that it is just starting, when another one ends at that moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_has_lost_its_network_is_started_again() {
    is_started_again_after(async |manager, _| {
        let pid = pid(manager).await.to_string();
        podman(&["unshare", "nsenter", "--target", &pid, "--net", "/usr/sbin/ip", "link", "delete", "eth0"]).await;
    })
    .await;
}

/// The engine starts a process for each container that takes the connections to its published port.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_port_nobody_serves_any_more_is_started_again() {
    is_started_again_after(async |_, replica| {
        let listener = listener_at(replica.address.unwrap().port());
        rustix::process::kill_process(listener, rustix::process::Signal::KILL).unwrap();
    })
    .await;
}

/// That a container which nobody reaches any more after this is started again, whatever its restart policy.
async fn is_started_again_after(harm: impl AsyncFn(&Manager, &Replica)) {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let check = |probe| {
        let mut spec = probed(spec(&installation), probe);
        spec.health_check.interval = Span(500);
        spec.restart_policy = RestartPolicy::No;
        spec
    };
    // Some checks ask through the network, and some would not notice.
    let within = Probe::Command(vec!["/mcp-echo".into(), "--version".into()]);
    for probe in [Probe::Http("/health".into()), Probe::Tcp, within] {
        let before = create(&manager, check(probe)).await.replicas[0].clone();
        harm(&manager, &before).await;
        let again = |service: &ServiceState| is_running(service) && service.replicas[0].started_at > before.started_at;
        let after = manager.service(&name("echo"), "it was started again", again).await;
        assert_eq!((&after.replicas[0].id, after.replicas[0].restarts), (&before.id, 1));
        assert!(call(&after, Method::GET, "/echo/hi").await.unwrap().status().is_success());
        manager.backend.remove(&name("echo"), true).await.unwrap();
    }
    create(&manager, spec(&installation)).await;
    finish(manager, installation).await;
}

/// The process of this user that listens on a port of the loopback.
fn listener_at(port: u16) -> rustix::process::Pid {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let ours = format!("0100007F:{port:04X}");
    let columns = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let socket = columns.into_iter().find(|columns| columns[1] == ours && columns[3] == "0A").expect("somebody listens");
    let socket = format!("socket:[{}]", socket[9]);
    let has_it = |process: &std::path::Path| {
        let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket.as_str()))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    let process = processes.into_iter().find(|process| has_it(process)).expect("it is a process of this user");
    let pid = process.file_name().unwrap().to_str().unwrap().parse().unwrap();
    rustix::process::Pid::from_raw(pid).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_somebody_prunes_are_written_again() {
    let Some(mut installation) = Installation::new().await else { return };
    installation.settings.reconcile_interval = Duration::from_secs(1);
    let manager = Manager::start(&installation).await;
    let before = create(&manager, spec(&installation)).await;
    let volume = format!("{}-echo.r1", installation.settings.instance);
    let exists = async || podman(&["volume", "ls", "--format", "{{.Name}}"]).await.lines().any(|line| line == volume);
    podman(&["volume", "rm", &volume]).await;
    crate::support::eventually("the record is back", exists).await;
    manager.stop().await;

    // Also when it was gone while no manager ran.
    podman(&["volume", "rm", &volume]).await;
    let manager = Manager::start(&installation).await;
    let after = manager.service(&name("echo"), "it runs", is_running).await;
    assert_eq!(before.record, after.record);
    assert_eq!(before.replicas[0].id, after.replicas[0].id);
    assert!(exists().await);
    finish(manager, installation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_does_not_get_ready_gives_way_to_what_there_was() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let shared = Mount {
        source: MountSource::Volume(format!("{}data", installation.settings.instance)),
        target: "/data".into(),
        read_only: false,
    };
    // Side by side, and one after the other.
    for volumes in [vec![], vec![shared]] {
        let good = ServiceSpec { volumes, ..spec(&installation) };
        let before = create(&manager, good.clone()).await;
        let broken = ServiceSpec { command: vec!["--no-such-option".into()], ..good };
        manager.backend.update(&name("echo"), 1, change(broken)).await.unwrap();
        let given_up = |service: &ServiceState| {
            service.failure.is_some() && is_running(service) && service.replicas.len() == 1 && service.replicas[0].is_ready()
        };
        let after = manager.service(&name("echo"), "the old one serves again", given_up).await;
        assert_eq!(before.replicas[0].id, after.replicas[0].id);
        let failure = after.failure.clone().unwrap();
        assert_eq!(failure.kind, Kind::StartFailed);
        assert!(failure.detail.contains("status 2"), "{failure}");
        assert!(call(&after, Method::GET, "/echo/hi").await.unwrap().status().is_success());
        manager.backend.remove(&name("echo"), true).await.unwrap();
    }
    create(&manager, spec(&installation)).await;
    finish(manager, installation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_share_files_never_run_side_by_side() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let volume = MountSource::Volume(format!("{}data", installation.settings.instance));
    let mut spec = spec(&installation);
    spec.volumes = vec![Mount { source: volume, target: "/data".into(), read_only: false }];
    let before = create(&manager, spec.clone()).await;
    spec.environment.insert("CHANGED".into(), "yes".into());
    let digest = spec.container_digest();
    let mut view = manager.backend.view();
    manager.backend.update(&name("echo"), 1, change(spec)).await.unwrap();
    let replaced = async {
        loop {
            let service = view.borrow_and_update().services[&name("echo")].clone();
            let running = service.replicas.iter().filter(|replica| replica.state == ReplicaState::Running).count();
            assert!(running <= 1, "{:?}", service.replicas);
            if is_running(&service) && service.replicas[0].spec_digest == digest {
                return service;
            }
            view.changed().await.unwrap();
        }
    };
    let after = tokio::time::timeout(crate::contract::PATIENCE, replaced).await.unwrap();
    assert_ne!(before.replicas[0].id, after.replicas[0].id);
    finish(manager, installation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_port_was_taken_while_it_was_stopped_starts_with_another() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let before = create(&manager, spec(&installation)).await;
    let stopped = mcp_manager::backend::Change { desired: Desired::Stopped, ..change(spec(&installation)) };
    manager.backend.update(&name("echo"), 1, stopped).await.unwrap();
    manager.service(&name("echo"), "it is stopped", |service| service.phase == Phase::Stopped).await;
    let address = before.replicas[0].address.unwrap();
    let taken = bind(address).await;
    manager.backend.update(&name("echo"), 2, change(spec(&installation))).await.unwrap();
    let after = manager.service(&name("echo"), "it runs", is_running).await;
    assert_ne!(after.replicas[0].address, Some(address));
    drop(taken);
    finish(manager, installation).await;
}

/// Listens on a port as soon as its former owner has let it go.
async fn bind(address: std::net::SocketAddr) -> tokio::net::TcpListener {
    let mut listener = None;
    crate::support::eventually("the port is free", async || {
        listener = tokio::net::TcpListener::bind(address).await.ok();
        listener.is_some()
    })
    .await;
    listener.unwrap()
}

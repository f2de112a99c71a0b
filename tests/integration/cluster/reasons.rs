//! Why services fail, each cause brought about for real.

use futures_util::TryStreamExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use mcp_manager::domain::quantity::Bytes;
use mcp_manager::domain::reason::Reason;
use mcp_manager::domain::spec::{HealthCheck, Mount, MountSource, Probe, PullPolicy, ServiceSpec};
use mcp_manager::domain::status::{LogQuery, Phase, ServiceState};
use mcp_manager::error::Kind;
use serde_json::json;

use super::{DEPLOYMENT, POD, QUOTA, create, is_running, says, told};
use crate::contract::{Manager, name, running, spec};
use crate::support::kubernetes::Namespace;

/// Creates `echo` and waits until it gives this reason.
async fn reason(namespace: &Namespace, spec: ServiceSpec, code: &str) -> Reason {
    let (manager, echo) = (Manager::start(namespace).await, name("echo"));
    manager.backend.create(&echo, running(spec)).await.unwrap();
    let is = |reason: &&Reason| reason.code == code;
    let service = manager.service(&echo, code, |service| service.reasons.iter().any(|reason| is(&reason))).await;
    let reason = service.reasons.iter().find(is).unwrap().clone();
    assert!(!reason.permanent && !reason.remedy.is_empty() && reason.instance.is_some(), "{reason:?}");
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
    reason
}

/// Creates `echo` and waits until it has failed; with what kind of error.
async fn failure(namespace: &Namespace, spec: ServiceSpec) -> mcp_manager::error::Error {
    let (manager, echo) = (Manager::start(namespace).await, name("echo"));
    manager.backend.create(&echo, running(spec)).await.unwrap();
    let has_failed = |service: &ServiceState| service.phase == Phase::Failed;
    let service = manager.service(&echo, "it failed", has_failed).await;
    let failure = service.failure.clone().unwrap();
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
    failure
}

/// A service that runs this command of busybox's shell.
pub(super) fn shell(namespace: &Namespace, script: &str) -> ServiceSpec {
    let entrypoint = ["/busybox", "sh", "-c", script].map(str::to_owned).to_vec();
    let health_check = HealthCheck { probe: Probe::Process, ..HealthCheck::default() };
    ServiceSpec { entrypoint: Some(entrypoint), port: None, health_check, ..spec(namespace) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_says_exit_code_and_last_words() {
    let Some(namespace) = Namespace::new().await else { return };
    let (manager, echo) = (Manager::start(&namespace).await, name("echo"));
    manager.backend.create(&echo, running(shell(&namespace, "echo no configuration; exit 3"))).await.unwrap();
    let looping = |service: &ServiceState| service.reasons.iter().any(|reason| reason.code == "crash_loop");
    let service = manager.service(&echo, "it crashes in a loop", looping).await;
    let reason = &service.reasons[0];
    assert_eq!((reason.exit_code, reason.last_log_lines.as_slice()), (Some(3), &["no configuration".to_owned()][..]));
    assert!(reason.restarts.is_some() && reason.instance.is_some() && reason.cause.contains("exit code 3"), "{reason:?}");
    let query = LogQuery { previous: true, ..LogQuery::default() };
    let lines: Vec<_> = manager.backend.logs(&echo, query).await.unwrap().try_collect().await.unwrap();
    assert!(lines.iter().any(|line| line.line == "no configuration"), "{lines:?}");
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_memory_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let hungry = ServiceSpec { memory_limit: Bytes(32 << 20), ..shell(&namespace, "exec /busybox tail /dev/zero") };
    let reason = reason(&namespace, hungry, "out_of_memory").await;
    assert!(reason.remedy.contains("memory_limit") && reason.exit_code == Some(137), "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resource_that_no_node_has_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let reason = reason(&namespace, ServiceSpec { memory_limit: Bytes(64 << 40), ..spec(&namespace) }, "unschedulable").await;
    assert!(reason.cause.contains("Insufficient memory") && reason.remedy.contains("memory_limit"), "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_health_check_is_named_with_its_answer() {
    let Some(namespace) = Namespace::new().await else { return };
    let health_check = HealthCheck { probe: Probe::Http("/nope".into()), ..spec(&namespace).health_check };
    let reason = reason(&namespace, ServiceSpec { health_check, ..spec(&namespace) }, "probe_failing").await;
    assert!(reason.cause.contains("404"), "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_refuses_pods_is_named_though_no_call_of_ours_is_refused() {
    let Some(namespace) = Namespace::new().await else { return };
    let quota =
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    namespace.create(QUOTA, quota).await;
    let error = failure(&namespace, spec(&namespace)).await;
    assert_eq!(error.kind, Kind::LimitReached, "{error}");
    assert!(error.detail.contains("exceeded quota"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_the_namespace_keeps_closed_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let error = failure(&namespace, ServiceSpec { cap_add: vec!["SYS_ADMIN".into()], ..spec(&namespace) }).await;
    assert_eq!(error.kind, Kind::NotSupported, "{error}");
    assert!(error.detail.contains("SYS_ADMIN") && error.detail.contains("PodSecurity"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let error = failure(&namespace, ServiceSpec { entrypoint: Some(vec!["/nope".into()]), ..spec(&namespace) }).await;
    assert_eq!(error.kind, Kind::StartFailed);
    assert!(error.detail.contains("/nope") && error.remedy.unwrap().contains("entrypoint"), "{}", error.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_may_not_be_pulled_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let absent = ServiceSpec { image: "localhost/mcp/absent:1".into(), pull_policy: PullPolicy::Never, ..spec(&namespace) };
    let error = failure(&namespace, absent).await;
    assert_eq!(error.kind, Kind::ImageNotFound, "{error}");
    assert!(error.detail.contains("localhost/mcp/absent:1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_not_provided_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let mount = Mount { source: MountSource::Volume("data".into()), target: "/data".into(), read_only: false };
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "mcp-data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "nobody-provides", "resources": {"requests": {"storage": "1Mi"}}},
    });
    namespace.create(("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"), claim).await;
    let reason = reason(&namespace, ServiceSpec { volumes: vec![mount], ..spec(&namespace) }, "volume_pending").await;
    assert!(reason.remedy.contains("storage_class"), "{reason:?}");
}

/// A service of this script whose health is what busybox's `test` says of these words.
fn checked(namespace: &Namespace, script: &str, test: &[&str]) -> ServiceSpec {
    let command = ["/busybox", "test"].iter().chain(test).map(|word| (*word).to_owned()).collect();
    let health_check = HealthCheck { probe: Probe::Command(command), ..spec(namespace).health_check };
    let tmpfs = [("/tmp".to_owned(), Bytes(1 << 20))].into();
    ServiceSpec { health_check, tmpfs, stop_timeout: "1s".parse().unwrap(), ..shell(namespace, script) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_once_and_is_not_well_again_says_how() {
    let Some(namespace) = Namespace::new().await else { return };
    let short = checked(&namespace, "/busybox sleep 3; echo over; exit 7", &["-e", "/tmp/never"]);
    let reason = told(&namespace, short, "exited", &["exit code 7", "started again"]).await;
    assert_eq!((reason.exit_code, reason.last_log_lines.as_slice()), (Some(7), &["over".to_owned()][..]), "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_takes_too_long_is_named_with_how_it_was_ended() {
    let Some(namespace) = Namespace::new().await else { return };
    let never = checked(&namespace, "/busybox sleep 1000", &["-e", "/tmp/never"]);
    let start_timeout = "2s".parse().unwrap();
    let manager = Manager::start(&namespace).await;
    manager.backend.create(&name("echo"), running(ServiceSpec { start_timeout, ..never })).await.unwrap();
    let killed = |reason: &Reason| reason.code == "probe_failing" && reason.exit_code.is_some();
    let service = manager.service(&name("echo"), "it was killed", |service| service.reasons.iter().any(killed)).await;
    let reason = service.reasons.iter().find(|reason| killed(reason)).unwrap();
    assert!(reason.cause.contains("Startup probe failed") && reason.exit_code == Some(137), "{reason:?}");
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_serves_no_more_is_named_with_its_check() {
    let Some(namespace) = Namespace::new().await else { return };
    let sick = checked(&namespace, "/busybox sleep 4; echo > /tmp/sick; /busybox sleep 1000", &["!", "-e", "/tmp/sick"]);
    let manager = Manager::start(&namespace).await;
    create(&manager, sick).await;
    manager.service(&name("echo"), "it is not well", |service| service.phase == Phase::Unhealthy).await;
    let reason = says(&manager, "probe_failing", &["Readiness probe failed"]).await;
    assert_eq!(reason.exit_code, None, "it goes on: {reason:?}");
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_ended_for_its_liveness_is_named_with_that() {
    let Some(namespace) = Namespace::new().await else { return };
    let manager = Manager::start(&namespace).await;
    let willing = checked(&namespace, "trap 'exit 0' TERM; while :; do /busybox sleep 1; done", &["-e", "/"]);
    create(&manager, willing).await;
    // The bridge alone is asked for life, and does not die of itself: somebody has asked for another program's.
    let probe = json!({"exec": {"command": ["/busybox", "false"]}, "periodSeconds": 1, "failureThreshold": 1});
    let more = json!({"spec": {"template": {"spec": {"containers": [{"name": "service", "livenessProbe": probe}]}}}});
    namespace.api(DEPLOYMENT).patch("mcp-echo", &PatchParams::default(), &Patch::Strategic(more)).await.unwrap();
    let reason = says(&manager, "probe_failing", &["Liveness probe failed"]).await;
    assert_eq!(reason.exit_code, Some(0), "{reason:?}");
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_its_node_has_evicted_says_what_it_took_too_much_of() {
    let Some(namespace) = Namespace::new().await else { return };
    let script = "/busybox yes | /busybox head -c 20000000; /busybox sleep 1000";
    let verbose = ServiceSpec { storage_limit: Some(Bytes(4 << 20)), ..shell(&namespace, script) };
    let manager = Manager::start(&namespace).await;
    create(&manager, verbose).await;
    let reason = says(&manager, "evicted", &["ephemeral", "storage_limit"]).await;
    assert!(reason.instance.is_some() && !reason.permanent, "{reason:?}");
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_ended_as_a_whole_says_why() {
    let Some(namespace) = Namespace::new().await else { return };
    let manager = Manager::start(&namespace).await;
    let slow = checked(&namespace, "/busybox sleep 5; echo > /tmp/well; /busybox sleep 1000", &["-e", "/tmp/well"]);
    create(&manager, slow).await;
    let pods = namespace.api(POD);
    let pod = pods.list(&ListParams::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
    let over = Patch::Merge(json!({"spec": {"activeDeadlineSeconds": 1}}));
    pods.patch(&pod, &PatchParams::default(), &over).await.unwrap();
    let reason = says(&manager, "pod_ended", &["DeadlineExceeded", "the words say why"]).await;
    assert_eq!(reason.instance.as_deref(), Some(pod.as_str()), "{reason:?}");
    manager.service(&name("echo"), "another one runs", |service| is_running(service) && service.reasons.is_empty()).await;
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
}

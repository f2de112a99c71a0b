//! What the containers of services are given, and what they are not.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use mcp_manager::domain::spec::{Mount, MountSource, ServiceSpec};
use mcp_manager::error::Kind;

use super::{create, fail, finish, pid};
use crate::contract::podman::Installation;
use crate::contract::{Engine as _, Manager, name, running, spec};
use crate::support::podman::{Sharing, podman};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_has_no_way_out_unless_it_asks() {
    let Some(mut installation) = Installation::new().await else { return };
    let network = format!("{}net", installation.settings.instance);
    installation.settings.network = network.clone();
    let manager = Manager::start(&installation).await;
    // A route to 0.0.0.0 is the way out.
    let has_default_route = |pid: u64| {
        let routes = std::fs::read_to_string(format!("/proc/{pid}/net/route")).unwrap();
        routes.lines().skip(1).any(|route| route.split_whitespace().nth(1) == Some("00000000"))
    };
    create(&manager, spec(&installation)).await;
    assert!(!has_default_route(pid(&manager).await));
    manager.backend.remove(&name("echo"), false).await.unwrap();
    create(&manager, ServiceSpec { egress: true, ..spec(&installation) }).await;
    assert!(has_default_route(pid(&manager).await));
    finish(manager, installation).await;
    podman(&["network", "rm", &network, &format!("{network}-egress")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_of_others_that_leads_outside_is_a_warning() {
    let Some(mut installation) = Installation::new().await else { return };
    let network = format!("{}net", installation.settings.instance);
    podman(&["network", "create", &network]).await;
    installation.settings.network = network.clone();
    let manager = Manager::start(&installation).await;
    let service = create(&manager, spec(&installation)).await;
    assert!(service.warnings.iter().any(|warning| warning.starts_with("egress not enforced")), "{:?}", service.warnings);
    finish(manager, installation).await;
    podman(&["network", "rm", &network, &format!("{network}-egress")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_the_container_and_go_with_their_last_user() {
    let Some(mut installation) = Installation::sharing(Sharing::Secrets).await else { return };
    let value = format!("value {}", installation.settings.instance);
    let known = value.clone();
    installation.settings.secrets = Arc::new(move |name| Ok((name == "token").then(|| known.clone())));
    let manager = Manager::start(&installation).await;
    let spec = ServiceSpec { secrets: [("TOKEN".to_owned(), "token".to_owned())].into(), ..spec(&installation) };
    manager.backend.create(&name("other"), running(spec.clone())).await.unwrap();
    create(&manager, spec).await;
    let environment = podman(&["unshare", "cat", &format!("/proc/{}/environ", pid(&manager).await)]).await;
    assert!(environment.split('\0').any(|one| one == format!("TOKEN={value}")), "it arrives as it is");
    let secret = format!("{}.token", installation.settings.instance);
    let exists = async || podman(&["secret", "ls", "--format", "{{.Name}}"]).await.lines().any(|line| line == secret);
    manager.backend.remove(&name("other"), false).await.unwrap();
    assert!(exists().await, "another service uses it");
    manager.backend.remove(&name("echo"), false).await.unwrap();
    assert!(!exists().await, "nobody uses it");
    manager.stop().await;
    assert_eq!(installation.leftovers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_spec_names_and_the_engine_does_not_have_is_an_error_in_that_field() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let base = spec(&installation);
    let missing = Mount { source: MountSource::Host("/no/such/folder".into()), target: "/data".into(), read_only: true };
    let named_user = Mount { source: MountSource::Host("/tmp".into()), target: "/data".into(), read_only: true };
    let wrong = [
        ("secrets.TOKEN", ServiceSpec { secrets: [("TOKEN".into(), "no-such".into())].into(), ..base.clone() }),
        ("networks", ServiceSpec { networks: vec!["no-such-network".into()], ..base.clone() }),
        ("user", ServiceSpec { user: Some("nobody-here".into()), ..base.clone() }),
        ("volumes", ServiceSpec { volumes: vec![missing], ..base.clone() }),
        ("user", ServiceSpec { user: Some("node".into()), volumes: vec![named_user], ..base.clone() }),
    ];
    for (field, spec) in wrong {
        let error = fail(&manager, spec).await;
        assert_eq!((error.kind, error.fields[0].field.as_str()), (Kind::Invalid, field), "{error}");
        assert!(error.fields[0].remedy.is_some(), "{error}");
    }
    let secrets = [("KEY".into(), "no-key".into()), ("TOKEN".into(), "no-such".into())].into();
    let error = fail(&manager, ServiceSpec { secrets, ..base.clone() }).await;
    let fields: Vec<&str> = error.fields.iter().map(|field| field.field.as_str()).collect();
    assert_eq!(fields, ["secrets.KEY", "secrets.TOKEN"], "all at once: {error}");
    let error = fail(&manager, ServiceSpec { entrypoint: Some(vec!["/no-such-program".into()]), ..base }).await;
    assert_eq!(error.kind, Kind::StartFailed, "{error}");
    assert!(error.remedy.is_some(), "{error}");
    assert_eq!(installation.leftovers().await, Vec::<String>::new());
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_inside_is_nobody_outside_and_host_directories_belong_to_whom_the_service_runs_as() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let folder = installation.folder.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let owner = std::fs::metadata(&folder).unwrap().uid();
    // Ids inside, as this process sees them outside.
    let outside = |pid: u64, inside: u32| {
        let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        let ranges = map.lines().map(|line| line.split_whitespace().map(|word| word.parse::<u32>().unwrap()).collect::<Vec<_>>());
        ranges
            .into_iter()
            .find_map(|range| (inside >= range[0] && inside - range[0] < range[2]).then(|| range[1] + inside - range[0]))
    };
    create(&manager, spec(&installation)).await;
    let main = pid(&manager).await;
    assert!(outside(main, 0).is_some_and(|id| id != owner && id != 0));
    assert_ne!(outside(main, 65_532), Some(owner), "the image's user is nobody outside either");
    manager.backend.remove(&name("echo"), false).await.unwrap();

    let mount = Mount { source: MountSource::Host(folder.display().to_string()), target: "/data".into(), read_only: false };
    create(&manager, ServiceSpec { user: Some("1000:1000".into()), volumes: vec![mount], ..spec(&installation) }).await;
    let main = pid(&manager).await;
    assert_eq!(outside(main, 1000), Some(owner));
    assert_ne!(outside(main, 0), Some(owner));
    finish(manager, installation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn named_volumes_stay_unless_they_are_to_go() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    let volume = format!("{}data", installation.settings.instance);
    let mount = Mount { source: MountSource::Volume(volume.clone()), target: "/data".into(), read_only: false };
    let spec = ServiceSpec { volumes: vec![mount], ..spec(&installation) };
    let exists = async || podman(&["volume", "ls", "--format", "{{.Name}}"]).await.lines().any(|line| line == volume);
    create(&manager, spec.clone()).await;
    manager.backend.remove(&name("echo"), false).await.unwrap();
    assert!(exists().await);
    create(&manager, spec).await;
    finish(manager, installation).await;
    assert!(!exists().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_must_be_enforced_and_cannot_be_are_refused_before_anything_is_made() {
    let Some(mut installation) = Installation::new().await else { return };
    installation.settings.require_limits = true;
    let manager = Manager::start(&installation).await;
    let unenforced = manager.backend.info().await.unwrap().unenforced_limits;
    let created = manager.backend.create(&name("echo"), running(spec(&installation))).await;
    let limits = ["cpu_limit", "memory_limit", "pids_limit"];
    let wanted: Vec<&str> = limits.into_iter().filter(|limit| unenforced.contains_key(*limit)).collect();
    if wanted.is_empty() {
        created.unwrap();
        finish(manager, installation).await;
    } else {
        let error = created.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid);
        assert_eq!(error.fields.iter().map(|field| field.field.as_str()).collect::<Vec<_>>(), wanted);
        assert_eq!(installation.leftovers().await, Vec::<String>::new());
        manager.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_of_a_service_are_those_of_its_processes() {
    let Some(installation) = Installation::new().await else { return };
    let manager = Manager::start(&installation).await;
    create(&manager, spec(&installation)).await;
    let first = manager.backend.stats(&name("echo")).await.unwrap();
    assert_eq!(first.len(), 1);
    let memory = first[0].memory_bytes.unwrap_or_default();
    assert!((100_000..1 << 30).contains(&memory), "{first:?}");
    assert!(first[0].pids.is_some_and(|pids| pids > 0) && first[0].cpu_percent.is_none(), "{first:?}");
    let second = manager.backend.stats(&name("echo")).await.unwrap();
    assert!(second[0].cpu_percent.is_some(), "there is a time between the two looks: {second:?}");
    finish(manager, installation).await;
}

//! What several managers of a cluster take at one moment: places for containers, and names of objects.

use std::time::{Duration, Instant};

use mcp_manager::backend::Change;
use mcp_manager::domain::spec::{Mount, MountSource, ServiceSpec};
use mcp_manager::domain::status::Desired;
use mcp_manager::error::Kind;
use serde_json::{Value, json};

use super::manager_by;
use crate::contract::{Manager, name, running, spec};
use crate::support::kubernetes::Namespace;
use crate::support::kubernetes_way::Way;
use crate::support::product::{Options, Product};
use crate::support::{eventually, stretched};

const LEASE: super::Kind = ("coordination.k8s.io", "v1", "Lease", "leases");

#[tokio::test(flavor = "multi_thread")]
async fn the_most_containers_counts_over_all_managers_of_a_cluster_also_when_they_create_and_change_at_once() {
    let Some(namespace) = Namespace::new().await else { return };
    let one = Product::start(Options::kubernetes(&namespace).with("MAX_CONTAINERS", "5")).await;
    let other = one.beside().await;
    let managers = |number: usize| if number.is_multiple_of(2) { &one } else { &other };
    let creations = (0..16).map(|number| {
        let body = json!({"service_name": format!("echo{number}"), "template": "echo"});
        async move { managers(number).post("/containers?wait=none", &body).await }
    });
    let answers = futures_util::future::join_all(creations).await;
    let created: Vec<&Value> = answers.iter().filter(|(status, _)| *status == 202).map(|(_, service)| service).collect();
    let refused = answers.iter().filter(|(status, _)| *status == 429).count();
    assert_eq!((created.len(), refused), (5, 11), "{answers:#?}\n{}\n----\n{}", one.log(), other.log());
    // One goes, and each of the others is to have its place.
    let names: Vec<String> = created.iter().map(|service| service["name"].as_str().unwrap().to_owned()).collect();
    one.until(&names[0], "it is known to both", |service| service["name"].is_string()).await;
    assert_eq!(one.call(reqwest::Method::DELETE, &format!("/containers/{}", names[0])).await.0, 204);
    let seen = async || other.get(&format!("/containers/{}", names[0])).await.0 == 404;
    eventually("both know that it has gone", seen).await;
    let changes = names[1..].iter().enumerate().map(|(number, name)| {
        let path = format!("/containers/{name}?wait=none");
        async move { managers(number).send(reqwest::Method::PATCH, &path, &json!({"replicas": 2})).await }
    });
    let answers = futures_util::future::join_all(changes).await;
    let refused = answers.iter().filter(|(status, _)| *status == 429).count();
    assert_eq!(refused, 3, "{answers:#?}\n{}\n----\n{}", one.log(), other.log());
    one.finish().await;
    eventually("both know that all have gone", async || other.get("/containers").await.1["containers"] == json!([])).await;
    other.finish().await;
}

fn stopped(spec: ServiceSpec) -> Change {
    Change { desired: Desired::Stopped, ..running(spec) }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_services_that_need_one_name_and_are_recorded_by_two_managers_at_one_moment_one_is_let_in() {
    let Some(namespace) = Namespace::new().await else { return };
    let (one, other) = (Manager::start(&namespace).await, Manager::start(&namespace).await);
    let web = spec(&namespace);
    let mount = Mount { source: MountSource::Volume("data".into()), target: "/data".into(), read_only: false };
    // Its pods have names behind the Service `mcp-NAME-pods`.
    let store = ServiceSpec { volumes: vec![mount], replicas: 2, ..web.clone() };
    let without_port = ServiceSpec { port: None, ..web.clone() };
    let mut first_ones = 0;
    for round in 0..12 {
        let (stores, pods) = (name(&format!("s{round}")), name(&format!("s{round}-pods")));
        // It is there already, and gets the port, and with it the name.
        let changes = round % 3 == 2;
        if changes {
            other.backend.create(&pods, stopped(without_port.clone())).await.unwrap();
        }
        let gets = async {
            let change = stopped(web.clone());
            if changes { other.backend.update(&pods, 1, change).await } else { other.backend.create(&pods, change).await }
        };
        let (first, second) = tokio::join!(one.backend.create(&stores, stopped(store.clone())), gets);
        assert!(first.is_ok() != second.is_ok(), "round {round}: {first:?}, {second:?}");
        first_ones += usize::from(first.is_ok());
        let error = first.err().or(second.err()).unwrap();
        assert_eq!(error.kind, Kind::Invalid, "{error}");
        for (manager, service) in [(&one, &stores), (&other, &pods)] {
            if let Err(error) = manager.backend.remove(service, true).await {
                assert_eq!(error.kind, Kind::NotFound, "{error}");
            }
        }
    }
    println!("the first manager was the first one {first_ones} times of 12");
    one.stop().await;
    other.stop().await;
    assert_eq!(namespace.owned().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_is_cut_off_in_its_turn_holds_the_others_up_for_seconds_and_what_it_recorded_counts() {
    let Some(namespace) = Namespace::new().await else { return };
    let way = Way::to(&namespace).await;
    let (one, other) = (manager_by(&way, &namespace).await, Manager::start(&namespace).await);
    let (echo, second) = (name("echo"), name("second"));
    let turn = one.backend.places().await.unwrap();
    one.backend.create(&echo, stopped(spec(&namespace))).await.unwrap();
    way.cut();
    drop(turn);
    let began = Instant::now();
    let turn = other.backend.places().await.unwrap();
    let counted = turn.at_present(&other.backend.view().borrow());
    assert_eq!(counted.get(&echo), Some(&1));
    other.backend.create(&second, stopped(spec(&namespace))).await.unwrap();
    let took = began.elapsed();
    assert!(took < stretched(Duration::from_secs(9)).await, "it took {took:?}");
    drop(turn);
    let free = async || {
        let lease = namespace.api(LEASE).get("mcp-places").await.unwrap();
        lease.data["spec"]["holderIdentity"] == ""
    };
    eventually("the turn is given back", free).await;
    way.mend().await;
    one.until("it is back", |snapshot| snapshot.connected && snapshot.services.contains_key(&second)).await;
    for service in [&echo, &second] {
        one.backend.remove(service, false).await.unwrap();
    }
    one.stop().await;
    other.stop().await;
    assert_eq!(namespace.owned().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_for_turns_while_nothing_is_recorded() {
    let Some(namespace) = Namespace::new().await else { return };
    let (one, other) = (Manager::start(&namespace).await, Manager::start(&namespace).await);
    assert!(namespace.api(LEASE).get_opt("mcp-places").await.unwrap().is_none());
    for (manager, service) in [(&one, "first"), (&other, "second")] {
        manager.backend.create(&name(service), stopped(spec(&namespace))).await.unwrap();
    }
    let lease = async || namespace.api(LEASE).get("mcp-places").await.unwrap();
    eventually("the turn is given back", async || lease().await.data["spec"]["holderIdentity"] == "").await;
    let version = lease().await.metadata.resource_version;
    one.service(&name("second"), "it is known to both", |_| true).await;
    for service in ["first", "second"] {
        one.backend.remove(&name(service), false).await.unwrap();
    }
    assert_eq!(lease().await.metadata.resource_version, version);
    one.stop().await;
    other.stop().await;
}

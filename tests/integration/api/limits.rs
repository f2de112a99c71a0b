//! Limits: of the installation under concurrency, and of services where the machine cannot enforce them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::podman;
use crate::support::product::{Options, Product};

#[tokio::test(flavor = "multi_thread")]
async fn one_of_twenty_concurrent_creations_of_a_name_wins() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let body = json!({"service_name": "echo", "template": "echo"});
    let attempts = (0..20).map(|_| product.post("/containers", &body));
    let mut statuses: Vec<u16> = futures_util::future::join_all(attempts).await.into_iter().map(|(status, _)| status).collect();
    statuses.sort_unstable();
    let expected: Vec<u16> = std::iter::once(201).chain([409; 19]).collect();
    assert_eq!(statuses, expected);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_creations_at_once_are_all_there() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let bodies: Vec<_> = (0..30).map(|number| json!({"service_name": format!("echo-{number}"), "template": "echo"})).collect();
    let answers = futures_util::future::join_all(bodies.iter().map(|body| product.post("/containers", body))).await;
    for (status, answer) in &answers {
        assert_eq!((*status, answer["status"].as_str()), (201, Some("running")), "{answer:#}");
    }
    let calls = (0..30).map(|number| {
        let name = format!("echo-{number}");
        let call = product.service(Method::GET, &name, "/echo/hi").send();
        async move { call.await.unwrap().status().as_u16() }
    });
    assert_eq!(futures_util::future::join_all(calls).await, vec![200; 30]);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn max_containers_holds_under_concurrency() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with("MAX_CONTAINERS", "7")).await;
    let bodies: Vec<_> =
        (0..20).map(|number| json!({"service_name": format!("echo-{number}"), "template": "echo", "replicas": 2})).collect();
    let answers = futures_util::future::join_all(bodies.iter().map(|body| product.post("/containers", body))).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 3, "three services of two fit into seven places");
    for (_, problem) in answers.iter().filter(|(status, _)| *status != 201) {
        assert_eq!(problem["type"], "urn:mcp-manager:problem:limit-reached", "{problem:#}");
        assert!(problem["remedy"].as_str().unwrap().contains("MAX_CONTAINERS"));
    }
    let running = answers.iter().find(|(status, _)| *status == 201).unwrap().1["name"].as_str().unwrap().to_owned();
    let (status, _) = product.send(Method::PATCH, &format!("/containers/{running}"), &json!({"replicas": 4})).await;
    assert_eq!(status, 429, "growing counts, too");
    let (status, _) = product.send(Method::PATCH, &format!("/containers/{running}"), &json!({"replicas": 3})).await;
    assert_eq!(status, 200);
    let owned = podman::owned_by(&product.options.instance).await;
    assert_eq!(owned.iter().filter(|one| one.starts_with("container ")).count(), 7, "{owned:?}");
    product.finish().await;
}

/// Which limits a user without root rights cannot have enforced here, in alphabetical order, by the engine's own words.
async fn unenforced_here() -> Vec<&'static str> {
    let info: Value = serde_json::from_str(&podman::podman(&["info", "--format", "json"]).await).unwrap();
    let host = &info["host"];
    assert_eq!(host["security"]["rootless"], true);
    // Version 1 of control groups is root's alone; of version 2 each controller has to be handed down.
    let controllers = host["cgroupControllers"].as_array().filter(|_| host["cgroupVersion"] == "v2");
    let has = |controller: &str| controllers.is_some_and(|list| list.iter().any(|one| one == controller));
    let limits = [("cpu_limit", has("cpu")), ("memory_limit", has("memory")), ("pids_limit", has("pids"))];
    // The size of a container's own layer needs quotas, and these need root rights.
    limits.into_iter().chain([("storage_limit", false)]).filter(|(_, enforced)| !enforced).map(|(limit, _)| limit).collect()
}

/// The limits that `mcp_manager_limits_unenforced_total` counts, and how often each.
async fn counted(product: &Product) -> Vec<(String, u64)> {
    let text = product.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let values = text.lines().filter_map(|line| line.strip_prefix("mcp_manager_limits_unenforced_total{limit=\""));
    let mut values: Vec<_> = values
        .map(|rest| rest.split_once("\"} ").unwrap())
        .map(|(limit, count)| (limit.to_owned(), count.parse().unwrap()))
        .collect();
    values.sort_unstable();
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_the_engine_cannot_enforce_are_named_in_the_answer_and_counted() {
    if !podman::ready().await {
        return;
    }
    let expected = unenforced_here().await;
    let product = Product::start(Options::podman()).await;
    assert_eq!(counted(&product).await, []);
    let service = product.create_echo("echo", json!({"storage_limit": "1g"})).await;
    let warnings = service["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap());
    let told = warnings.filter_map(|warning| warning.split_once(" not enforced: ")).filter(|(_, reason)| !reason.is_empty());
    let mut told: Vec<_> = told.flat_map(|(limits, _)| limits.split(", ")).collect();
    told.sort_unstable();
    assert_eq!(told, expected, "{service:#}");
    let once = |limits: &[&str]| limits.iter().map(|limit| ((*limit).to_owned(), 1)).collect::<Vec<_>>();
    assert_eq!(counted(&product).await, once(&expected));
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_limits_are_required_one_that_cannot_be_enforced_is_an_error_that_leaves_nothing() {
    if !podman::ready().await {
        return;
    }
    let expected = unenforced_here().await;
    let product = Product::start(Options::podman().with("MCP_MANAGER_BACKEND_REQUIRE_LIMITS", "true")).await;
    // Without a size of its own layer a service may have all that it asks for.
    for (more, mut expected) in [(json!({"storage_limit": "1g"}), expected.clone()), (json!({}), expected)] {
        expected.retain(|limit| *limit != "storage_limit" || more["storage_limit"].is_string());
        let mut body = json!({"service_name": "echo", "template": "echo"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = product.post("/containers", &body).await;
        if expected.is_empty() {
            assert_eq!((status, &answer["warnings"]), (201, &json!([])), "{answer:#}");
            continue;
        }
        assert_eq!((status, answer["type"].as_str()), (422, Some("urn:mcp-manager:problem:invalid")), "{answer:#}");
        let errors = answer["errors"].as_array().unwrap();
        assert_eq!(errors.iter().map(|error| error["field"].as_str().unwrap()).collect::<Vec<_>>(), expected);
        assert!(errors.iter().all(|error| error["remedy"].as_str().unwrap().contains("require_limits")), "{answer:#}");
        assert_eq!(product.get("/containers").await.1["total"], 0);
        assert_eq!(podman::owned_by(&product.options.instance).await, Vec::<String>::new());
    }
    assert_eq!(counted(&product).await, [], "nothing was created with less than it asked for");
    product.finish().await;
}

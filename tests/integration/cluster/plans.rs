//! Plans: what a dry run says is what the API server itself says, and nothing comes of it.

use reqwest::Method;
use serde_json::{Value, json};

use super::QUOTA;
use crate::support::kubernetes::Namespace;
use crate::support::product::{Options, Product};

fn objects<'a>(plan: &'a Value, action: &str) -> Vec<&'a str> {
    let objects = plan["objects"].as_array().unwrap_or_else(|| panic!("no plan: {plan:#}"));
    objects.iter().filter(|object| object["action"] == action).map(|object| object["kind"].as_str().unwrap()).collect()
}

fn definition<'a>(plan: &'a Value, kind: &str) -> &'a Value {
    let object = plan["objects"].as_array().unwrap().iter().find(|object| object["kind"] == kind);
    &object.unwrap_or_else(|| panic!("no {kind} in {plan:#}"))["definition"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_the_api_servers_own_and_leaves_nothing() {
    let Some(namespace) = Namespace::new().await else { return };
    let product = Product::start(Options::kubernetes(&namespace)).await;
    let body = json!({"service_name": "echo", "image": namespace.image, "port": 8000, "health_check_path": "/health",
        "volumes": {"files": "/data"}, "environment": {"GREETING": "hello", "SOME_TOKEN": "not-to-be-seen"}});
    let (status, plan) = product.post("/containers?dry_run=true", &body).await;
    assert_eq!((status, &plan["outcome"], &plan["accepted_by_engine"]), (200, &"created".into(), &true.into()), "{plan:#}");
    let mut kinds = objects(&plan, "create");
    kinds.sort_unstable();
    let all = ["ConfigMap", "Deployment", "Ingress", "NetworkPolicy", "PersistentVolumeClaim", "Service", "ServiceAccount"];
    assert_eq!(kinds, all);
    // Nobody but the server fills this in.
    assert_eq!(definition(&plan, "Deployment")["spec"]["template"]["spec"]["schedulerName"], "default-scheduler", "{plan:#}");
    assert!(!plan.to_string().contains("not-to-be-seen"), "{plan:#}");
    assert_eq!(plan.get("warnings"), None, "{plan:#}");
    assert_eq!(namespace.owned().await, Vec::<String>::new());
    assert_eq!(product.get("/containers").await.1["total"], 0);

    // The same once it is there, and a change of it.
    let (status, created) = product.post("/containers", &body).await;
    assert_eq!(status, 201, "{created:#}");
    let (_, plan) = product.send(Method::PUT, "/containers/echo?dry_run=true", &body).await;
    assert_eq!((&plan["outcome"], &plan["objects"]), (&"unchanged".into(), &json!([])), "{plan:#}");
    let mut changed = body.clone();
    changed["environment"]["GREETING"] = "good morning".into();
    let (_, plan) = product.send(Method::PUT, "/containers/echo?dry_run=true", &changed).await;
    assert_eq!((&plan["outcome"], objects(&plan, "change")), (&"changed".into(), vec!["ConfigMap", "Deployment"]), "{plan:#}");
    assert_eq!(product.get("/containers/echo").await.1["generation"], 1);
    let (status, refused) = product.post("/containers?dry_run=true", &body).await;
    assert_eq!((status, &refused["type"]), (409, &"urn:mcp-manager:problem:already-exists".into()), "{refused:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_the_cluster_refuses_and_warns_of() {
    let Some(namespace) = Namespace::new().await else { return };
    let product = Product::start(Options::kubernetes(&namespace)).await;
    let open = json!({"service_name": "echo", "image": namespace.image, "port": 8000, "cap_add": ["CHOWN"]});
    let (_, plan) = product.post("/containers?dry_run=true", &open).await;
    let warnings = plan["warnings"].to_string();
    assert!(warnings.contains("would violate PodSecurity") && warnings.contains("CHOWN"), "{plan:#}");

    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
        "spec": {"hard": {"count/deployments.apps": "0"}}});
    namespace.create(QUOTA, quota).await;
    let modest = json!({"service_name": "echo", "image": namespace.image, "port": 8000});
    // Quotas count from the moment that the cluster has looked at them.
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    let refused = loop {
        let (status, answer) = product.post("/containers?dry_run=true", &modest).await;
        if status != 200 {
            break answer;
        }
        assert!(std::time::Instant::now() < deadline, "the quota never counted");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(refused["type"], "urn:mcp-manager:problem:limit-reached", "{refused:#}");
    assert!(refused["detail"].as_str().unwrap().contains("exceeded quota"), "{refused:#}");
    assert_eq!(namespace.owned().await, Vec::<String>::new());
    product.finish().await;
}

//! Everything that is wrong with a request or a template is told in one answer, on the memory backend.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::product::{Options, Product};

/// The fields that an answer finds wrong, sorted.
fn fields(answer: &Value) -> Vec<&str> {
    let errors = answer["errors"].as_array().unwrap_or_else(|| panic!("{answer:#}"));
    let mut fields: Vec<&str> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    fields
}

fn remedy<'a>(answer: &'a Value, field: &str) -> &'a str {
    let found = answer["errors"].as_array().unwrap().iter().find(|error| error["field"] == field);
    found.and_then(|error| error["remedy"].as_str()).unwrap_or_else(|| panic!("no remedy of {field} in {answer:#}"))
}

#[tokio::test]
async fn what_cannot_be_read_hides_nothing_that_template_and_machine_forbid() {
    let product = Product::start(Options::memory()).await;
    let needy = json!({"name": "needy", "image": "localhost/needy:1", "required_env_vars": ["TOKEN", "NUMBER"]});
    assert_eq!(product.post("/templates", &needy).await.0, 201);
    let body = json!({"template": "echo", "cpu_limit": "zz", "volumes": {"/etc": "/e"}, "environment": {"A": "${HOME}"},
        "labels": {"io.mcp-manager.x": "1"}});
    let all = ["cpu_limit", "environment.A", "labels.io.mcp-manager.x", "volumes./etc"];
    for (method, path) in
        [(Method::PUT, "/containers/a"), (Method::PUT, "/containers/a?dry_run=true"), (Method::POST, "/containers/a/start")]
    {
        let (status, answer) = product.send(method, path, &body).await;
        assert_eq!((status, fields(&answer)), (422, all.to_vec()), "{path}: {answer:#}");
    }
    let mut arguments = body.clone();
    arguments["service_name"] = "a".into();
    arguments["wait"] = "long".into();
    let (status, answer) = product.post("/tools/container_create", &arguments).await;
    assert_eq!((status, fields(&answer)), (422, [&all[..], &["wait"]].concat()), "{answer:#}");

    let (status, answer) = product.send(Method::PUT, "/containers/a", &json!({"template": "ecko", "cpu_limit": "zz"})).await;
    assert_eq!((status, fields(&answer)), (422, vec!["cpu_limit", "template"]), "{answer:#}");
    assert!(remedy(&answer, "template").contains("'echo'"), "{answer:#}");
    let body = json!({"template": "needy", "cpu_limit": "zz", "environment": {"NUMBER": []}});
    let (_, answer) = product.send(Method::PUT, "/containers/a", &body).await;
    assert_eq!(fields(&answer), ["cpu_limit", "environment.NUMBER", "environment.TOKEN"], "{answer:#}");
    assert_eq!(product.get("/containers").await.1["total"], 0, "nothing was made");
    product.finish().await;
}

#[tokio::test]
async fn a_name_given_twice_hides_nothing() {
    let product = Product::start(Options::memory().with("MCP_MANAGER_MCP_COMPAT_TOOL_NAMES", "true")).await;
    let send = async |method: Method, path: &str, text: &'static str| {
        let answer = product.request(method, path).header("content-type", "application/json").body(text).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let body = r#"{"service_name":"A B","image":"x","prot":1,"port":1,"port":2,"replicas":0}"#;
    let (status, answer) = send(Method::POST, "/containers", body).await;
    assert_eq!((status, fields(&answer)), (422, vec!["port", "prot", "replicas", "service_name"]), "{answer:#}");
    let both = json!({"name": "a", "service_name": "b", "template": "echo"});
    let (status, answer) = product.send(Method::PUT, "/containers/a", &both).await;
    assert_eq!((status, fields(&answer)), (422, vec!["service_name"]), "one mistake, told once: {answer:#}");
    let body_of_both = r#"{"name":"a","service_name":"b","template":"echo","replicas":0}"#;
    let (status, answer) = send(Method::POST, "/containers", body_of_both).await;
    assert_eq!((status, fields(&answer)), (422, vec!["replicas", "service_name"]), "{answer:#}");
    let (status, answer) = send(Method::PUT, "/containers/a", r#"{"image":"x","image":"y"}"#).await;
    assert_eq!((status, fields(&answer)), (422, vec!["image"]), "{answer:#}");
    let (_, answer) = send(Method::PATCH, "/containers/a", r#"{"replicas":1,"replicas":0,"prot":1}"#).await;
    assert_eq!(fields(&answer), ["prot", "replicas"], "{answer:#}");
    let template = r#"{"name":"t","name":"t","image":"x","prot":1,"replicas":0}"#;
    for (method, path) in [(Method::POST, "/templates/validate"), (Method::POST, "/templates"), (Method::PUT, "/templates/t")] {
        let (status, answer) = send(method, path, template).await;
        assert_eq!((status, fields(&answer)), (422, vec!["name", "prot", "replicas"]), "{path}: {answer:#}");
    }
    for (tool, arguments, wrong) in [
        ("container_create", body, &["port", "prot", "replicas", "service_name"][..]),
        ("container_apply", body, &["port", "prot", "replicas", "service_name"]),
        ("container_plan", body, &["port", "prot", "replicas", "service_name"]),
        ("container_scale", r#"{"replicas":1,"replicas":2,"wait":"long"}"#, &["name", "replicas", "wait"]),
        ("container_remove", r#"{"volumes":true,"volumes":false,"nmae":"a"}"#, &["name", "nmae", "volumes"]),
        ("container_update_env", r#"{"name":"A B","wait":"none","wait":"none"}"#, &["environment", "service_name", "wait"]),
        ("container_logs", r#"{"tail":1,"tail":2,"since":"once","stream":"x"}"#, &["name", "since", "stream", "tail"]),
        ("container_list", r#"{"limit":1,"limit":2,"status":"well"}"#, &["limit", "status"]),
        (
            "template_validate",
            r#"{"template":{"name":"t","name":"t","image":"x","prot":1}}"#,
            &["template.name", "template.prot"],
        ),
        ("template_get", r#"{"nmae":"a","nmae":"b"}"#, &["name", "nmae"]),
        ("image_pull", r#"{"image":"x","image":"y","polcy":"never"}"#, &["image", "polcy"]),
        ("docker_restart_server", r#"{"server":"a","server":"b"}"#, &["server", "server_name"]),
    ] {
        let (status, answer) = send(Method::POST, &format!("/tools/{tool}"), arguments).await;
        assert_eq!((status, fields(&answer)), (422, wrong.to_vec()), "{tool}: {answer:#}");
    }
    assert_eq!(product.get("/containers").await.1["total"], 0, "nothing was made");
    product.finish().await;
}

#[tokio::test]
async fn numbers_are_refused_with_the_bounds_that_hold() {
    let product = Product::start(Options::memory()).await;
    let body = json!({"image": "x", "port": 80, "replicas": -1, "pids_limit": 1.5, "health_check": {"retries": "many"},
        "autoscaling": {"min": -1, "max": 3, "cpu_percent": -5}});
    let (_, answer) = product.send(Method::PUT, "/containers/a", &body).await;
    for (field, bounds) in [
        ("replicas", "1 to 100"),
        ("pids_limit", "1 to 4194304"),
        ("health_check.retries", "1 to 100"),
        ("autoscaling.min", "1 to 100"),
        ("autoscaling.cpu_percent", "1 to 100"),
    ] {
        assert_eq!(remedy(&answer, field), format!("write a whole number from {bounds}"), "{answer:#}");
    }
    product.create_echo("echo", json!({})).await;
    let (_, answer) = product.send(Method::PATCH, "/containers/echo", &json!({"replicas": -1, "pids_limit": -1})).await;
    assert_eq!(remedy(&answer, "replicas"), "write a whole number from 1 to 100");
    assert_eq!(remedy(&answer, "pids_limit"), "write a whole number from 1 to 4194304");
    let (_, answer) = product.get("/containers/echo/logs?tail=-1").await;
    assert_eq!(remedy(&answer, "tail"), "write a whole number from 0 to 10000");
    let (_, answer) = product.get("/containers?limit=-1").await;
    assert_eq!(remedy(&answer, "limit"), "write a whole number from 1 to 500");
    let (status, same) = product.send(Method::PATCH, "/containers/echo", &json!({"replicas": 1, "pids_limit": null})).await;
    assert_eq!((status, &same["outcome"]), (200, &json!("unchanged")), "null says nothing: {same:#}");
    product.finish().await;
}

#[tokio::test]
async fn a_required_variable_needs_a_value() {
    let product = Product::start(Options::memory()).await;
    let needy =
        json!({"name": "needy", "image": "localhost/needy:1", "required_env_vars": ["TOKEN"], "environment": {"TOKEN": ""}});
    assert_eq!(product.post("/templates", &needy).await.0, 201);
    for environment in [json!({}), json!({"TOKEN": ""})] {
        let (status, answer) =
            product.send(Method::PUT, "/containers/a", &json!({"template": "needy", "environment": environment})).await;
        assert_eq!((status, fields(&answer)), (422, vec!["environment.TOKEN"]), "{answer:#}");
        assert_eq!(answer["errors"][0]["message"], "is empty and is required by the template 'needy'", "{answer:#}");
    }
    let body = json!({"template": "needy", "environment": {"TOKEN": "1"}});
    assert_eq!(product.send(Method::PUT, "/containers/a", &body).await.0, 201);
    let (status, answer) = product.send(Method::PATCH, "/containers/a", &json!({"environment": {"TOKEN": ""}})).await;
    assert_eq!((status, fields(&answer)), (422, vec!["environment.TOKEN"]), "{answer:#}");
    product.finish().await;
}

#[tokio::test]
async fn what_is_shown_in_the_place_of_a_secret_cannot_be_sent_back_by_mistake() {
    let product = Product::start(Options::memory()).await;
    let secret = crate::support::podman::unique("secret");
    let sent = json!({"environment": {"API_KEY": secret, "PLAIN": "1"}, "args": [format!("--token={secret}"), "serve"]});
    let created = product.create_echo("echo", sent).await;
    let shown = &created["spec"];
    assert_eq!((&shown["environment"]["API_KEY"], &shown["command"][0]), (&json!("[redacted]"), &json!("--token=[redacted]")));
    let back = json!({"template": "echo", "environment": shown["environment"], "command": shown["command"]});
    let (status, answer) = product.send(Method::PUT, "/containers/echo", &back).await;
    assert_eq!((status, fields(&answer)), (422, vec!["command", "environment.API_KEY"]), "{answer:#}");
    let everywhere = json!({"image": "x", "command": ["a", "[redacted]"], "entrypoint": "b [redacted]",
        "health_check": {"command": ["c", "--key=[redacted]"]}, "environment": {"URL": "http://u:[redacted]@h"}});
    let (status, answer) = product.send(Method::PUT, "/containers/other", &everywhere).await;
    let places = vec!["command", "entrypoint", "environment.URL", "health_check.command"];
    assert_eq!((status, fields(&answer)), (422, places), "{answer:#}");
    let change = json!({"environment": shown["environment"]});
    let (status, answer) = product.send(Method::PATCH, "/containers/echo", &change).await;
    assert_eq!((status, fields(&answer)), (422, vec!["environment.API_KEY"]), "{answer:#}");
    let (status, changed) = product.send(Method::PATCH, "/containers/echo", &json!({"environment": {"PLAIN": "2"}})).await;
    assert_eq!((status, changed["outcome"].as_str()), (200, Some("changed")), "{changed:#}");
    product.finish().await;
}

//! `/tools/{tool}`: the same functions, the same checks and the same words as the endpoints of the API.

use reqwest::Method;
use serde_json::{Value, json};

use super::story;
use crate::support::product::{Options, Product};

#[tokio::test]
async fn every_tool_works_and_answers_what_its_schema_says() {
    let product = Product::start(Options::memory()).await;
    product.create_echo("echo", json!({})).await;
    let (_, listed) = product.get("/tools").await;
    let listed = listed["tools"].as_array().unwrap().clone();
    let told: Vec<&str> = story().iter().map(|(tool, _)| *tool).collect();
    for tool in &listed {
        assert!(told.contains(&tool["name"].as_str().unwrap()), "{} is not called by this test", tool["name"]);
    }
    assert_eq!(told.len(), listed.len());
    for (tool, arguments) in story() {
        let described = listed.iter().find(|described| described["name"] == tool).unwrap();
        let (input, output) = (validator(&described["inputSchema"]), validator(&described["outputSchema"]));
        assert!(input.is_valid(&arguments), "{tool}: its schema forbids {arguments}");
        let (status, answer) = product.post(&format!("/tools/{tool}"), &arguments).await;
        assert_eq!(status, 200, "{tool}: {answer:#}");
        let wrong: Vec<String> = output.iter_errors(&answer).map(|error| error.to_string()).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{tool}: {answer:#}");
        // Answers with a problem in the place of what is given would agree with the schema, too.
        assert!(answer.get("type").is_none(), "{tool}: {answer:#}");
        let (status, problem) = product.post(&format!("/tools/{tool}"), &json!({"surprise": 1})).await;
        assert!(status == 422 && !input.is_valid(&json!({"surprise": 1})), "{tool}: {problem:#}");
        assert!(output.is_valid(&problem), "{tool}: errors agree with the schema: {problem:#}");
    }
    product.finish().await;
}

fn validator(schema: &Value) -> jsonschema::Validator {
    jsonschema::validator_for(schema).unwrap()
}

#[tokio::test]
async fn a_tool_and_its_endpoint_refuse_word_for_word_the_same() {
    let product = Product::start(Options::memory()).await;
    let wrong = [
        json!({"service_name": "echo", "imge": "x", "port": 0, "memory_limit": "512q", "environment": {"A\u{7}": "x"}, "replicas": "many"}),
        json!({"service_name": "echo", "port": 0, "environment": {"A\u{7}": "x"}, "volumes": {"/etc": "/x"}}),
        json!({"service_name": "Echo", "template": "echo"}),
        json!({"service_name": "echo", "template": "ecko"}),
        json!({"template": "echo"}),
        json!({"service_name": "echo", "image": "localhost/missing:1", "port": 80}),
        json!({}),
    ];
    for body in &wrong {
        let endpoint = product.post("/containers", body).await;
        assert!(endpoint.0 >= 400, "{body}");
        assert_eq!(product.post("/tools/container_create", body).await, endpoint, "{body}");
    }
    product.create_echo("echo", json!({})).await;
    let pairs = [
        (
            Method::POST,
            "/containers",
            json!({"service_name": "echo", "template": "echo"}),
            "container_create",
            json!({"service_name": "echo", "template": "echo"}),
        ),
        (Method::GET, "/containers?status=happy", json!({}), "container_list", json!({"status": "happy"})),
        (Method::GET, "/containers?limit=0", json!({}), "container_list", json!({"limit": 0})),
        (Method::GET, "/containers/ecko", json!({}), "container_get", json!({"name": "ecko"})),
        (Method::GET, "/containers/-a", json!({}), "container_get", json!({"name": "-a"})),
        (Method::POST, "/containers/ecko/start", json!(null), "container_start", json!({"name": "ecko"})),
        (Method::POST, "/containers/ecko/stop", json!(null), "container_stop", json!({"name": "ecko"})),
        (Method::POST, "/containers/ecko/restart", json!(null), "container_restart", json!({"name": "ecko"})),
        (Method::DELETE, "/containers/ecko", json!(null), "container_remove", json!({"name": "ecko"})),
        (Method::GET, "/containers/echo/logs?tail=20000", json!(null), "container_logs", json!({"name": "echo", "tail": 20000})),
        (
            Method::GET,
            "/containers/echo/logs?since=yesterday",
            json!(null),
            "container_logs",
            json!({"name": "echo", "since": "yesterday"}),
        ),
        (Method::GET, "/containers/ecko/stats", json!(null), "container_stats", json!({"name": "ecko"})),
        (Method::GET, "/containers/ecko/inspect", json!(null), "container_inspect", json!({"name": "ecko"})),
        (Method::PATCH, "/containers/echo", json!({"replicas": 0}), "container_scale", json!({"name": "echo", "replicas": 0})),
        (
            Method::PATCH,
            "/containers/echo",
            json!({"environment": {"A=": "x"}}),
            "container_update_env",
            json!({"name": "echo", "environment": {"A=": "x"}}),
        ),
        (
            Method::PUT,
            "/containers/echo",
            json!({"image": "x", "prot": 1}),
            "container_apply",
            json!({"name": "echo", "image": "x", "prot": 1}),
        ),
        (Method::GET, "/templates/ecko", json!(null), "template_get", json!({"name": "ecko"})),
        (
            Method::POST,
            "/templates",
            json!({"name": "x", "prot": 1}),
            "template_create",
            json!({"template": {"name": "x", "prot": 1}}),
        ),
        (
            Method::POST,
            "/templates/validate",
            json!({"name": "x", "prot": 1}),
            "template_validate",
            json!({"template": {"name": "x", "prot": 1}}),
        ),
        (Method::POST, "/images/pull", json!({"image": "a b"}), "image_pull", json!({"image": "a b"})),
        (Method::POST, "/packages", json!({"source": "npm:missing"}), "package_add", json!({"source": "npm:missing"})),
        (
            Method::POST,
            "/packages",
            json!({"source": "npm:a", "with": ["git+https://x"], "port": "y"}),
            "package_add",
            json!({"source": "npm:a", "with": ["git+https://x"], "port": "y"}),
        ),
    ];
    for (method, path, body, tool, arguments) in pairs {
        let endpoint = if body.is_null() {
            product.call(method.clone(), path).await
        } else {
            product.send(method.clone(), path, &body).await
        };
        assert!(endpoint.0 >= 400, "{method} {path}");
        assert_eq!(product.post(&format!("/tools/{tool}"), &arguments).await, endpoint, "{method} {path} and {tool}");
    }
    product.finish().await;
}

#[tokio::test]
async fn every_wrong_argument_is_named_at_once_those_of_the_tool_too() {
    let product = Product::start(Options::memory()).await;
    let (status, problem) =
        product.post("/tools/container_create", &json!({"service_name": "a", "wait": "long", "imge": "x", "port": "y"})).await;
    let fields: Vec<&str> = problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!((status, fields), (422, vec!["wait", "imge", "port", "image"]), "{problem:#}");
    for (tool, field) in [("container_scale", "replicas"), ("container_update_env", "environment")] {
        let (status, problem) = product.post(&format!("/tools/{tool}"), &json!({"name": "a"})).await;
        assert_eq!((status, problem["errors"][0]["field"].as_str()), (422, Some(field)), "{problem:#}");
    }
    let (status, problem) = product.post("/tools/container_lst", &json!({})).await;
    assert_eq!((status, problem["remedy"].as_str()), (404, Some("did you mean 'container_list'?")));
    assert_eq!(product.post("/tools/container_list", &json!([])).await.0, 422);
    product.finish().await;
}

#[tokio::test]
async fn old_names_answer_when_the_setting_says_so() {
    let product = Product::start(Options::memory()).await;
    assert_eq!(product.post("/tools/docker_ps", &json!({})).await.0, 404);
    let (_, listed) = product.get("/tools").await;
    assert!(!listed.to_string().contains("docker_ps"));
    let (_, own) = product.get("/openapi.json").await;
    assert!(own["paths"].get("/tools/docker_ps").is_none());
    product.finish().await;

    let product = Product::start(Options::memory().with("MCP_MANAGER_MCP_COMPAT_TOOL_NAMES", "true")).await;
    let (_, document) = product.get("/openapi.json").await;
    for (path, item) in document["paths"].as_object().unwrap() {
        let is_old = own["paths"].get(path).is_none();
        assert_eq!(item["post"]["deprecated"] == true, is_old, "{path}");
    }
    let restart = &document["paths"]["/tools/docker_restart"]["post"];
    let body = &restart["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(
        (&restart["operationId"], &body["required"]),
        (&json!("tool_docker_restart"), &json!(["service_name"])),
        "{restart:#}"
    );
    let call = async |tool: &str, arguments: Value| {
        let (status, answer) = product.post(&format!("/tools/{tool}"), &arguments).await;
        assert_eq!(status, 200, "{tool}: {answer:#}");
        answer
    };
    let created =
        call("docker_create_server", json!({"server_type": "echo", "server_name": "old", "env_vars": {"A": "1"}})).await;
    assert_eq!((created["name"].as_str(), created["spec"]["environment"]["A"].as_str()), (Some("old"), Some("1")));
    call(
        "create-container",
        json!({"image": "nginx:latest", "name": "my-nginx", "ports": {"80": "8080"}, "environment": {"E": "v"},
        "resources": {"cpu": "0.5", "memory": "512m"}, "restart_policy": "always",
        "health_check": {"cmd": "true", "interval": "30s", "retries": 3, "timeout": "10s", "start_period": "30s"}}),
    )
    .await;
    assert_eq!(call("docker_ps", json!({})).await["total"], 2);
    assert_eq!(call("docker_list_servers", json!({"status": "running", "server_type": "echo"})).await["total"], 1);
    call("stop-container", json!({"container_name": "my-nginx"})).await;
    assert_eq!(call("list-containers", json!({"all": false})).await["total"], 1);
    assert_eq!(call("list-containers", json!({"all": true})).await["total"], 2);
    assert!(
        call("docker_get_logs", json!({"server_name": "old", "lines": 50, "since": "2h", "follow": false})).await["lines"]
            .is_array()
    );
    let changed = call("docker_update_env", json!({"service_name": "old", "key": "K", "value": "v"})).await;
    assert_eq!(changed["spec"]["environment"]["K"], "v");
    assert_eq!(call("docker_get_server_status", json!({"server_name": "old"})).await["status"], "running");
    assert_eq!(call("check_system_health", json!({})).await["ready"], true);
    call("docker_restart", json!({"service_name": "old"})).await;
    call("remove-container", json!({"container_name": "my-nginx", "force": true})).await;
    let (_, listed) = product.get("/tools").await;
    let old = listed["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "docker_update_env").unwrap().clone();
    assert_eq!(old["inputSchema"]["required"], json!(["service_name", "key", "value"]));
    let (status, problem) = product.post("/tools/docker_logs", &json!({"name": "old"})).await;
    assert_eq!((status, problem["errors"].as_array().unwrap().len()), (422, 2), "{problem:#}");
    let (status, problem) = product.post("/tools/docker_logs", &json!({"servicename": "old", "lines": "all"})).await;
    let said = |field: &str| problem["errors"].as_array().unwrap().iter().find(|error| error["field"] == field).cloned().unwrap();
    assert_eq!((status, &said("servicename")["remedy"]), (422, &json!("did you mean 'service_name'?")), "{problem:#}");
    assert_eq!(
        (&said("lines")["message"], &said("service_name")["message"]),
        (&json!("is not a whole number"), &json!("is missing"))
    );
    product.finish().await;
}

#[tokio::test]
async fn a_stream_tells_progress_and_then_the_result() {
    let product = Product::start(Options::memory()).await;
    let stream = async |tool: &str, arguments: Value| {
        let request = product.request(Method::POST, &format!("/tools/{tool}")).header("accept", "text/event-stream");
        let text = request.json(&arguments).send().await.unwrap().text().await.unwrap();
        let events = text.split("\n\n").filter_map(|event| event.strip_prefix("event: ")?.split_once("\ndata: "));
        events.map(|(name, data)| (name.to_owned(), serde_json::from_str::<Value>(data).unwrap())).collect::<Vec<_>>()
    };
    let events = stream("container_create", json!({"service_name": "echo", "template": "echo"})).await;
    let (last, progress) = events.split_last().unwrap();
    assert_eq!((last.0.as_str(), last.1["status"].as_str()), ("result", Some("running")), "{events:?}");
    assert!(
        progress.len() >= 2 && progress.iter().all(|(name, report)| name == "progress" && report["message"].is_string()),
        "{events:?}"
    );
    product.finish().await;
}

#[tokio::test]
async fn what_fails_before_there_is_anything_to_tell_is_a_problem_with_its_status_whatever_is_accepted() {
    let product = Product::start(Options::memory()).await;
    product.create_echo("echo", json!({})).await;
    for accepted in ["application/json", "application/json, text/event-stream", "text/event-stream"] {
        let call = async |tool: &str, arguments: Value| {
            let request = product.request(Method::POST, &format!("/tools/{tool}")).header("accept", accepted);
            let answer = request.json(&arguments).send().await.unwrap();
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            (answer.status().as_u16(), kind)
        };
        let problem = |status: u16| (status, "application/problem+json".to_owned());
        assert_eq!(call("no_such_tool", json!({})).await, problem(404), "{accepted}");
        assert_eq!(call("container_get", json!({"name": "nobody"})).await, problem(404), "{accepted}");
        assert_eq!(call("container_get", json!({"name": 7})).await, problem(422), "{accepted}");
        let again = json!({"service_name": "echo", "template": "echo"});
        assert_eq!(call("container_create", again).await, problem(409), "{accepted}");
        let kind = if accepted.contains("json") { "application/json" } else { "text/event-stream" };
        assert_eq!(call("container_get", json!({"name": "echo"})).await, (200, kind.to_owned()), "{accepted}");
    }
    product.finish().await;
}

#[tokio::test]
async fn a_setting_that_names_no_tool_ends_the_start() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-manager"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("MCP_MANAGER_BACKEND_KIND", "memory")
        .env("MCP_MANAGER_MCP_CONFIRM", "container_remov")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(crate::support::PATIENCE, output).await.expect("it ends").unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && text.contains("did you mean 'container_remove'?"), "{text}");
}

//! Bad input, on the memory backend: every error is a problem document that says what, where and what to do.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::product::{Options, Product};

/// Whether `answer` is a complete problem document of that status and kind.
#[track_caller]
fn is_problem((status, document): &(u16, Value), expected: u16, kind: &str) {
    assert_eq!(*status, expected, "{document:#}");
    assert_eq!(document["type"], format!("urn:mcp-manager:problem:{kind}"), "{document:#}");
    assert_eq!(document["status"], expected);
    assert!(document["title"].is_string() && document["detail"].is_string(), "{document:#}");
}

#[tokio::test]
async fn every_wrong_field_is_named_with_its_remedy() {
    let product = Product::start(Options::memory()).await;
    let body = json!({
        "service_name": "Echo", "imge": "x", "port": 0, "memory_limit": "512q", "environment": {"A\u{7}": "x"}, "replicas": "many",
        "pids": 5, "health_check": {"intervall": "5s"}, "volumes": ["a:/b", "a"]
    });
    let answer = product.post("/containers", &body).await;
    is_problem(&answer, 422, "invalid");
    let errors = answer.1["errors"].as_array().unwrap();
    let mut fields: Vec<&str> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    let wrong = [
        "environment.A\\u{7}",
        "health_check.intervall",
        "image",
        "imge",
        "memory_limit",
        "pids",
        "port",
        "replicas",
        "service_name",
        "volumes[1]",
    ];
    assert_eq!(fields, wrong, "names, what cannot be read, what is unknown and what breaks a rule, at once: {:#}", answer.1);
    for near in ["image", "pids_limit", "interval"] {
        assert!(errors.iter().any(|error| error["remedy"] == format!("did you mean '{near}'?")), "{near}: {:#}", answer.1);
    }
    let body = json!({"service_name": "echo", "template": "echo", "replicas": 0, "prt": 1, "environment": {"A": "${B}"}});
    let answer = product.post("/containers", &body).await;
    let fields: Vec<&Value> = answer.1["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
    assert_eq!(
        fields,
        ["prt", "environment.A", "replicas"],
        "the template gives the image, and allows no variable: {:#}",
        answer.1
    );
    let body = json!({"service_name": "echo", "name": "echo", "image": "x", "environment":
        {"A": null, "B=C": "1", "D": 1.0e30, "E": 18_446_744_073_709_551_615_u64}});
    let answer = product.post("/containers", &body).await;
    let mut fields: Vec<&str> = answer.1["errors"].as_array().unwrap().iter().map(|is| is["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    assert_eq!(fields.len(), 4, "that the name is given twice, and three variables: {:#}", answer.1);
    assert!(["environment.A", "environment.B=C", "environment.D"].iter().all(|field| fields.contains(field)), "{:#}", answer.1);
    assert!(!answer.1.to_string().contains("is missing"), "a name given twice is not missing: {:#}", answer.1);
    let body = json!({"service_name": "echo", "port": 0, "environment": {"A\u{7}": "x"}, "volumes": {"/etc": "/x"}});
    let answer = product.post("/containers", &body).await;
    is_problem(&answer, 422, "invalid");
    let errors = answer.1["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 4, "image, port, environment, volume: {:#}", answer.1);
    assert!(errors.iter().all(|error| error["remedy"].is_string()));
    assert_eq!(product.get("/containers").await.1["total"], 0, "nothing was made");
    product.finish().await;
}

#[tokio::test]
async fn every_wrong_parameter_is_named_with_its_remedy() {
    let product = Product::start(Options::memory()).await;
    product.create_echo("echo", json!({})).await;
    let table = [
        ("/containers?stauts=running&limit=many", &[("stauts", "did you mean 'status'?"), ("limit", "write a whole number")][..]),
        ("/containers?limit=0&status=running,walking", &[("status", "use one of pending"), ("limit", "use 1 to 500")]),
        ("/containers?limit=1&limit=2", &[("limit", "keep one of them")]),
        ("/containers/echo/logs?folow=1&tail=-1", &[("folow", "did you mean 'follow'?"), ("tail", "write a whole number")]),
        ("/containers/echo/logs?follow=1", &[("follow", "write true or false")]),
        ("/containers/echo/logs?tail=99999&since=soon", &[("tail", "use 0 to 10000"), ("since", "write a time")]),
        ("/containers/echo/logs?stream=stdoud", &[("stream", "did you mean 'stdout'?")]),
        ("/containers/echo/logs?stream=both&since=yesterday", &[("stream", ""), ("since", "write a time")]),
        ("/containers?foo=1&status=runing&limit=0", &[("foo", ""), ("status", "use one of"), ("limit", "use 1 to 500")]),
    ];
    for (path, wrong) in table {
        let answer = product.get(path).await;
        is_problem(&answer, 422, "invalid");
        let errors = answer.1["errors"].as_array().unwrap();
        assert_eq!(errors.len(), wrong.len(), "{path}: {:#}", answer.1);
        for (field, remedy) in wrong {
            let is_told = |error: &Value| error["field"] == *field && error["remedy"].as_str().unwrap().starts_with(remedy);
            assert!(errors.iter().any(is_told), "{path}: {field}: {:#}", answer.1);
        }
    }
    let (status, page) = product.get("/containers?limit=1&status=running&template=echo").await;
    assert_eq!((status, page["total"].as_u64()), (200, Some(1)), "{page:#}");
    let (_, page) = product.get("/containers?template=&status=&label=").await;
    assert_eq!(page["total"], 1, "what is empty asks for nothing in particular: {page:#}");
    product.finish().await;
}

#[tokio::test]
async fn a_change_is_held_to_the_rules_of_the_whole_service() {
    let product = Product::start(Options::memory()).await;
    product.create_echo("echo", json!({})).await;
    let patch = async |body: Value| {
        let answer = product.request(Method::PATCH, "/containers/echo").json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let answer = patch(json!({"replicas": 0, "memroy_limit": "1g", "environment": {"A": [], "B=C": "1"}})).await;
    is_problem(&answer, 422, "invalid");
    let mut fields: Vec<&str> = answer.1["errors"].as_array().unwrap().iter().map(|is| is["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["environment.A", "environment.B=C", "memroy_limit", "replicas"], "{:#}", answer.1);

    let large = "x".repeat(31_000);
    let some =
        |from: usize| -> Value { (from..from + 7).map(|number| (format!("V{number}"), Value::from(large.clone()))).collect() };
    assert_eq!(patch(json!({"environment": some(0)})).await.0, 200);
    let answer = patch(json!({"environment": some(7)})).await;
    is_problem(&answer, 422, "invalid");
    assert!(answer.1["detail"].as_str().unwrap().contains("256 KiB"), "{:#}", answer.1);

    let template = json!({"name": "needy", "image": "localhost/needy:1", "required_env_vars": ["TOKEN"]});
    product.post("/templates", &template).await;
    let body = json!({"service_name": "needy", "template": "needy", "environment": {"TOKEN": "1"}});
    assert_eq!(product.post("/containers", &body).await.0, 201);
    let body = json!({"environment": {"TOKEN": null}});
    let answer = product.request(Method::PATCH, "/containers/needy").json(&body).send().await.unwrap();
    let answer = (answer.status().as_u16(), answer.json::<Value>().await.unwrap());
    is_problem(&answer, 422, "invalid");
    assert_eq!(answer.1["errors"][0]["field"], "environment.TOKEN", "{:#}", answer.1);
    product.finish().await;
}

#[tokio::test]
async fn a_health_command_that_needs_a_shell_gets_one_and_no_other_does() {
    let product = Product::start(Options::memory()).await;
    let shell = |text: &str| json!(["/bin/sh", "-c", text]);
    for (number, (written, command)) in [
        (json!("curl -f http://localhost/ || exit 1"), shell("curl -f http://localhost/ || exit 1")),
        (json!("CMD-SHELL test -d \"$HOME\" && true"), shell("test -d \"$HOME\" && true")),
        (json!(["CMD-SHELL", "a; b"]), shell("a; b")),
        (json!("wget -q 'http://localhost/?a&b'"), json!(["wget", "-q", "http://localhost/?a&b"])),
        (json!("CMD test -d /tmp"), json!(["test", "-d", "/tmp"])),
        (json!(["echo", "a; b"]), json!(["echo", "a; b"])),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({"service_name": format!("s{number}"), "image": "localhost/x:1", "health_check": {"cmd": written}});
        let (status, made) = product.post("/containers?wait=none", &body).await;
        assert_eq!(status, 202, "{made:#}");
        assert_eq!(made["spec"]["health_check"]["probe"]["command"], command, "{written}");
    }
    product.finish().await;
}

#[tokio::test]
async fn names_that_are_no_names_are_refused_everywhere() {
    let product = Product::start(Options::memory()).await;
    for name in ["..%2Fetc", "%2e%2e", "Echo", "a%00b", "a%0Ab", "-a", "a.b", &"a".repeat(100)] {
        let (status, problem) = product.get(&format!("/containers/{name}")).await;
        assert!(matches!(status, 404 | 422), "{name}: {status} {problem:#}");
        assert!(problem["type"].as_str().unwrap().starts_with("urn:mcp-manager:problem:"));
    }
    for name in ["../etc/passwd", "Echo", "a\u{0}b", "", "localhost", "ä"] {
        let answer = product.post("/containers", &json!({"service_name": name, "image": "x"})).await;
        is_problem(&answer, 422, "invalid");
    }
    is_problem(&product.get("/containers/nobody").await, 404, "not-found");
    assert!(product.get("/containers/nobody").await.1["remedy"].as_str().unwrap().contains("GET /containers"));
    let answer = product.post("/containers", &json!({"service_name": "x", "template": "ecko"})).await;
    is_problem(&answer, 404, "not-found");
    assert_eq!(answer.1["remedy"], "did you mean 'echo'?");
    product.finish().await;
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_time() {
    let product = Product::start(Options::memory().with("MCP_MANAGER_SERVER_REQUEST_TIMEOUT", "1s")).await;
    let large = vec![b' '; 10 << 20];
    let answer = product.request(Method::POST, "/containers").body(large.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    // Simple clients write everything before they read anything.
    for path in ["/containers", "/mcp"] {
        let mut simple = tokio::net::TcpStream::connect(("127.0.0.1", product.port)).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", large.len());
        simple.write_all(head.as_bytes()).await.unwrap();
        simple.write_all(&large).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = beginning(&mut simple).await;
        assert!(text.starts_with("HTTP/1.1 413"), "{path}: {text}");
    }
    for (body, kind) in [("{", 400), ("", 400), ("[]", 422), ("{\"a\": NaN}", 400), ("null", 422)] {
        let answer = product.request(Method::POST, "/containers").body(body).send().await.unwrap();
        assert_eq!(answer.status(), kind, "{body}");
    }
    let mut slow = tokio::net::TcpStream::connect(("127.0.0.1", product.port)).await.unwrap();
    let head = "POST /containers HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let text = beginning(&mut slow).await;
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    product.finish().await;
}

/// How an answer begins.
async fn beginning(client: &mut tokio::net::TcpStream) -> String {
    let mut answer = [0_u8; 64];
    let read = tokio::time::timeout(Duration::from_secs(10), client.read(&mut answer)).await.expect("it does not wait for ever");
    String::from_utf8_lossy(&answer[..read.unwrap()]).into_owned()
}

#[tokio::test]
async fn what_does_not_exist_is_answered_by_a_problem_too() {
    let product = Product::start(Options::memory()).await;
    is_problem(&product.get("/nothing/here").await, 404, "not-found");
    is_problem(&product.call(Method::DELETE, "/containers").await, 405, "not-supported");
    is_problem(&product.get("/containers?limit=0").await, 422, "invalid");
    is_problem(&product.get("/containers?status=happy").await, 422, "invalid");
    is_problem(&product.get("/containers?stat=running").await, 422, "invalid");
    is_problem(&product.get("/containers/x/logs?tail=-1").await, 422, "invalid");
    product.finish().await;
}

#[tokio::test]
async fn a_page_of_a_stranger_cannot_reach_the_api_under_its_own_name() {
    let product = Product::start(Options::memory()).await;
    let rebound = product.request(Method::GET, "/containers").header("host", "evil.example.com").send().await.unwrap();
    assert_eq!(rebound.status(), 421);
    let refused: Value = rebound.json().await.unwrap();
    assert!(refused["remedy"].as_str().unwrap().contains("server.allowed_hosts"), "{refused:#}");
    let metrics = product.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"mcp_manager_http_requests_total{method="GET",route="none",status="421"} 1"#), "{metrics}");
    let log = product.log();
    let told = log.lines().find(|line| line.contains("evil.example.com")).unwrap_or_else(|| panic!("nobody said so: {log}"));
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!((&told["status"], told["request_id"].is_string()), (&json!(421), true), "{told:#}");
    let plain = product.request(Method::GET, "/containers").header("origin", "http://evil.example.com").send().await.unwrap();
    assert!(!plain.headers().contains_key("access-control-allow-origin"), "CORS is off until asked for");
    // What a browser sends without asking: it keeps the answer from the page, and the deed would be done.
    let body = json!({"service_name": "echo", "template": "echo"});
    let of_page = async |path: &str, origin: &str| {
        let request = product.request(Method::POST, path).header("origin", origin).header("content-type", "text/plain");
        let answer = request.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    for path in ["/containers", "/containers/echo/stop", "/templates", "/tools/container_create", "/packages"] {
        for origin in ["http://evil.example.com", "null"] {
            let answer = of_page(path, origin).await;
            is_problem(&answer, 403, "forbidden");
            assert!(answer.1["remedy"].as_str().unwrap().contains("CORS_ORIGINS"), "{answer:?}");
        }
    }
    let own = format!("http://127.0.0.1:{}", product.port);
    assert_eq!(of_page("/containers", &own).await.0, 201, "the installation's own pages may");
    product.finish().await;

    let product = Product::start(Options::memory().with("CORS_ORIGINS", "*")).await;
    let asked = product.request(Method::GET, "/containers").header("origin", "http://app.example.com").send().await.unwrap();
    assert_eq!(asked.headers()["access-control-allow-origin"], "*");
    let may = product.request(Method::POST, "/containers").header("origin", "http://app.example.com").json(&json!({}));
    assert_eq!(may.send().await.unwrap().status(), 422, "a page that may call is told what is wrong with what it sends");
    assert!(product.log().contains("CORS_ORIGINS"), "any origin without authentication is a warning at the start");
    product.finish().await;
}

#[tokio::test]
async fn a_failed_creation_leaves_nothing_and_one_that_nobody_waits_for_is_shown_as_failed() {
    let product = Product::start(Options::memory()).await;
    let body = json!({"service_name": "gone", "image": "localhost/missing:1", "port": 80});
    let answer = product.post("/containers", &body).await;
    is_problem(&answer, 422, "image-not-found");
    is_problem(&product.get("/containers/gone").await, 404, "not-found");
    let (status, accepted) = product.post("/containers?wait=none", &body).await;
    assert_eq!(status, 202, "{accepted:#}");
    let failed = product.until("gone", "it is shown as failed", |service| service["status"] == "failed").await;
    assert_eq!(failed["failure"]["code"], "image-not-found", "{failed:#}");
    product.finish().await;
}

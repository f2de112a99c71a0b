//! The real Traefik in front of the product, with the routes that the manager serves to its HTTP provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::machine::{Part, offered};
use crate::support::mcp::Session;
use crate::support::podman;
use crate::support::product::{Options, Product};
use crate::support::traefik::{Files, Traefik, shipped};
use crate::support::{eventually, free_port, http_client, stretched};

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_is_killed_and_started_again_fails_no_call() {
    if !podman::ready().await {
        return;
    }
    let Some(program) = offered(Part::Traefik) else { return };
    let provider = free_port();
    let listen = format!("127.0.0.1:{provider}");
    let options = Options::podman().alone().with("MCP_MANAGER_SERVER_TRAEFIK_PROVIDER_LISTEN", listen);
    let product = Product::start(options).await;
    let traefik = Traefik::start(&program, &product, provider).await;
    let body = json!({
        "service_name": "echo", "image": podman::ECHO_IMAGE, "pull_policy": "never", "transport": "stdio",
        "environment": {"MCP_ECHO_STDIO": "true"}, "replicas": 2,
    });
    let (status, answer) = product.post("/containers", &body).await;
    assert_eq!((status, answer["status"].as_str()), (201, Some("running")), "{answer:#}");
    let by_name = http_client().resolve("echo.localhost", ([127, 0, 0, 1], 0).into()).build().unwrap();
    let front = format!("http://echo.localhost:{}/mcp", traefik.web);
    let replicas = [0, 1].map(|number| answer["instances"][number]["address"].as_str().unwrap());
    let direct = format!("http://{}/mcp", replicas[0]);
    // An answer alone may have come by way of the manager, where Traefik leads while the service is not healthy yet.
    eventually("Traefik leads to the replicas", async || {
        let services = traefik.known("services").await;
        replicas.iter().all(|replica| services.contains(replica))
    })
    .await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let called = Arc::new(AtomicUsize::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..8 {
        let session = Session::open(&by_name, if caller % 2 == 0 { &front } else { &direct }).await;
        let (stopped, called) = (stopped.clone(), Arc::clone(&called));
        callers.spawn(async move {
            while !*stopped.borrow() {
                let answer = session.call("tools/call", json!({"name": "echo", "arguments": {"message": "hi"}})).await;
                assert_eq!(answer.result()["content"][0]["text"], "hi");
                called.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let more = async |from: usize| eventually("calls go on", async || called.load(Ordering::Relaxed) > from + 200).await;
    more(0).await;
    let product = product.kill_and_restart().await;
    more(called.load(Ordering::Relaxed)).await;
    product.until("echo", "it runs", |service| service["status"] == "running").await;
    // Traefik reads the new manager's document several times meanwhile.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        more(called.load(Ordering::Relaxed)).await;
    }
    stop.send(true).unwrap();
    callers.join_all().await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_shares_the_load_over_healthy_replicas_and_leads_to_the_manager() {
    if !podman::ready().await {
        return;
    }
    let Some(program) = offered(Part::Traefik) else { return };
    let provider = free_port();
    let listen = format!("127.0.0.1:{provider}");
    let product = Product::start(Options::podman().with("MCP_MANAGER_SERVER_TRAEFIK_PROVIDER_LISTEN", listen)).await;
    let traefik = Traefik::start(&program, &product, provider).await;
    let check = json!({"path": "/health", "interval": "500ms", "timeout": "300ms", "retries": 1, "start_period": "0s"});
    product.create_echo("echo", json!({"replicas": 3, "health_check": check})).await;
    eventually("Traefik has the route", async || traefik.get("echo.localhost", "/echo/hi").await.0 == 200).await;
    eventually("it has all three replicas", async || traefik.answers(9).await.len() == 3).await;
    // On a busy machine a check may be late, and a replica is away for as long.
    eventually("each gets its share", async || {
        let shared = traefik.answers(30).await;
        shared.len() == 3 && shared.values().all(|count| (5..=15).contains(count))
    })
    .await;

    // A session lives in one replica, and its requests reach it: through Traefik and through the gateway.
    let by_name = http_client().resolve("echo.localhost", ([127, 0, 0, 1], 0).into()).build().unwrap();
    for port in [traefik.web, product.port] {
        let url = format!("http://echo.localhost:{port}/mcp");
        eventually("the route for sessions is there", async || {
            let session = Session::open(&by_name, &url).await;
            let mut statuses = Vec::new();
            for _ in 0..8 {
                statuses.push(session.call("tools/list", json!({})).await.status);
            }
            statuses.iter().all(|status| *status == 200)
        })
        .await;
    }

    let (_, service) = product.get("/containers/echo").await;
    let address = service["instances"][0]["address"].as_str().unwrap().to_owned();
    let client = &traefik.client;
    client.post(format!("http://{address}/health/fail")).send().await.unwrap();
    let began = Instant::now();
    product.until("echo", "one replica is out", |service| service["ready_replicas"] == 2).await;
    eventually("Traefik uses two only", async || traefik.answers(6).await.len() == 2).await;
    let took = began.elapsed();
    assert!(
        took < stretched(Duration::from_secs(3)).await,
        "two intervals, Traefik's poll and the requests of this test took {took:?}"
    );
    client.post(format!("http://{address}/health/ok")).send().await.unwrap();
    eventually("the third is back", async || traefik.answers(9).await.len() == 3).await;

    // The manager behind Traefik, as document 1 has it; the provider's document is not to be had there.
    assert_eq!(traefik.get("localhost", "/api/mcp/health").await.1["status"], "healthy");
    assert_eq!(traefik.get("localhost", "/api/mcp/containers").await.1["total"], 1);
    // On a busy machine a check may be late, and the route is away for as long.
    eventually("Traefik's dashboard shows the route", async || {
        let routes = client.get(format!("http://127.0.0.1:{}/api/http/routers", traefik.dashboard)).send().await.unwrap();
        let routes: Value = routes.json().await.unwrap();
        routes.as_array().unwrap().iter().any(|route| route["name"].as_str().is_some_and(|name| name.contains("echo")))
    })
    .await;
    let document: Value = client.get(format!("http://127.0.0.1:{provider}/")).send().await.unwrap().json().await.unwrap();
    assert!(document["http"]["services"].is_object(), "{document:#}");
    for path in ["/api/mcp/", "/api/mcp/traefik", "/"] {
        assert_ne!(traefik.get("localhost", path).await.1, document, "{path}");
    }

    // When replicas go, the sessions of the one that stays go on.
    let url = format!("http://echo.localhost:{}/mcp", traefik.web);
    let [stays, gone @ ..] = [0, 1, 2].map(|number| service["instances"][number]["address"].as_str().unwrap());
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    eventually("there are sessions in the replica that stays and in others", async || {
        let session = Session::open(&by_name, &url).await;
        // The id names the replica, and has the server's own at its end.
        let own = session.id.rsplit('.').next().unwrap();
        let there = session.with_id(own).at(client, &format!("http://{stays}/mcp"));
        let known = there.call("tools/list", json!({})).await.status == 200;
        if known { &mut kept } else { &mut lost }.push(session);
        kept.len() > 1 && lost.len() > 1
    })
    .await;
    let (status, _) = product.send(Method::PATCH, "/containers/echo", &json!({"replicas": 1})).await;
    assert_eq!(status, 200);
    eventually("Traefik leads to one replica only", async || {
        let services = traefik.known("services").await;
        gone.iter().all(|address| !services.contains(address))
    })
    .await;
    for (sessions, status) in [(&kept, 200), (&lost, 404)] {
        for session in sessions {
            eventually("sessions of the replica that stays go on, and no others", async || {
                session.call("tools/list", json!({})).await.status == status
            })
            .await;
        }
    }

    // A service without a healthy replica, and a name that nobody has, are answered for by the manager.
    let (status, _) = product.send(Method::POST, "/containers/echo/stop", &json!({})).await;
    assert_eq!(status, 200);
    eventually("Traefik has dropped the route", async || traefik.get("echo.localhost", "/echo/hi").await.0 == 503).await;
    let (_, refused) = traefik.get("echo.localhost", "/echo/hi").await;
    assert!(refused["service"] == "echo" && refused["phase"] == "stopped", "{refused:#}");
    assert_eq!(refused["reason"], "it is stopped");
    let (status, unknown) = traefik.get("ecko.localhost", "/").await;
    assert!(status == 404 && unknown["remedy"].as_str().unwrap().contains("echo"), "{unknown:#}");
    assert_ne!(traefik.get("traefik.localhost", "/").await.1["service"], "traefik", "that is the dashboard's name");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_http_is_sent_on_and_what_the_middlewares_and_the_metrics_promise_holds() {
    if !podman::ready().await {
        return;
    }
    let Some(program) = offered(Part::Traefik) else { return };
    let provider = free_port();
    let listen = format!("127.0.0.1:{provider}");
    let options = Options::podman()
        .with("MCP_MANAGER_SERVER_TRAEFIK_PROVIDER_LISTEN", listen)
        .with("MCP_MANAGER_SERVER_TRAEFIK_ENTRYPOINTS", "websecure");
    let product = Product::start(options).await;
    let traefik = Traefik::start_with_tls(&program, &product, provider).await;
    product.create_echo("echo", json!({})).await;
    // Head and body as a client gets them that follows redirects and takes Traefik's own certificate.
    let fetch = async |url: &str, more: &[&str]| {
        let ports = [("localhost", traefik.secure), ("echo.localhost", traefik.secure), ("echo.localhost", traefik.web)];
        let resolve = ports.map(|(host, port)| ["--resolve".to_owned(), format!("{host}:{port}:127.0.0.1")]);
        let common = ["--silent", "--insecure", "--include", "--location", "--noproxy", "*", "--max-time", "10"];
        let output = Command::new("curl").args(common).args(resolve.concat()).args(more).arg(url).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap().to_lowercase()
    };
    let by_http = format!("http://echo.localhost:{}/echo/hi", traefik.web);
    eventually("the service answers over TLS", async || fetch(&by_http, &[]).await.contains("\r\n\r\n{\"")).await;
    let answered = fetch(&by_http, &[]).await;
    assert!(answered.contains(&format!("location: https://echo.localhost:{}/echo/hi", traefik.secure)), "{answered}");

    let api = format!("https://localhost:{}/api/mcp/health", traefik.secure);
    let answered = fetch(&api, &["--header", "Origin: https://strange.example"]).await;
    for header in ["x-content-type-options: nosniff", "x-frame-options: deny", "referrer-policy: no-referrer"] {
        assert!(answered.contains(header), "no {header}: {answered}");
    }
    assert!(!answered.contains("access-control-allow-origin"), "{answered}");
    let many = fetch(&format!("{api}?n=[1-600]"), &[]).await;
    let (passed, refused) = (many.matches("http/2 200").count(), many.matches("http/2 429").count());
    assert!(passed >= 200 && refused > 0 && passed + refused == 600, "{passed} passed, {refused} were refused");

    let metrics = traefik.client.get(format!("http://127.0.0.1:{}/metrics", traefik.dashboard)).send().await.unwrap();
    assert!(metrics.text().await.unwrap().contains("traefik_entrypoint_requests_total"));
    eventually("the access log tells of the request", async || {
        let log = std::fs::read_to_string(&traefik.log).unwrap();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.any(|line| line["RequestHost"] == "echo.localhost" && line["DownstreamStatus"] == 200)
    })
    .await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_origins_that_are_named_may_call_the_manager_behind_traefik_and_no_others() {
    let Some(program) = offered(Part::Traefik) else { return };
    // As the comment in middlewares.yml says: the same variable for both.
    let origins = ("CORS_ORIGINS", "https://app.example, https://other.example:8443");
    let product = Product::start(Options::memory().with(origins.0, origins.1)).await;
    let files = Files::shipped(&product);
    files.change("traefik.yml", &[("127.0.0.1:8082", format!("127.0.0.1:{}", free_port()))]);
    let traefik = files.run(&program, &[origins]).await;
    eventually("Traefik leads to the manager", async || traefik.get("localhost", "/api/mcp/health").await.0 == 200).await;
    let send = async |method: Method, origin: &str, headers: &[(&str, &str)], body: Value| {
        let url = format!("http://127.0.0.1:{}/api/mcp/containers", traefik.web);
        let request = traefik.client.request(method, url).header("host", "localhost").header("origin", origin);
        let request = if body.is_null() { request } else { request.json(&body) };
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.unwrap();
        let header = |name: &str| {
            let values = answer.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_lowercase());
            values.collect::<Vec<_>>().join("; ")
        };
        let allowed = ["origin", "methods", "headers"].map(|what| header(&format!("access-control-allow-{what}")));
        (answer.status().as_u16(), allowed, header("vary"))
    };
    let wanted = ["content-type", "x-api-key", "authorization", "mcp-session-id", "mcp-protocol-version", "last-event-id"];
    let ask = [("access-control-request-method", "POST"), ("access-control-request-headers", &wanted.join(","))];
    for (name, known) in [("https://app.example", "one"), ("https://other.example:8443", "two")] {
        let (status, [origin, methods, headers], _) = send(Method::OPTIONS, name, &ask, Value::Null).await;
        assert_eq!((status, origin.as_str()), (200, name));
        assert!(["get", "post", "put", "patch", "delete"].iter().all(|method| methods.contains(method)), "{methods}");
        assert!(wanted.iter().all(|header| headers.contains(header)), "{headers}");
        let (status, [origin, ..], vary) =
            send(Method::POST, name, &[], json!({"service_name": known, "template": "echo"})).await;
        assert_eq!((status, origin.as_str()), (201, name), "and the page may then do it");
        assert!(vary.contains("origin"), "an answer kept for one origin is not another's: {vary}");
    }
    for name in ["https://strange.example", "https://app.example.org", "http://app.example", "null"] {
        let (_, [origin, ..], _) = send(Method::OPTIONS, name, &ask, Value::Null).await;
        assert_eq!(origin, "", "a browser asks for {name} and is not let in");
        let (status, [origin, ..], _) = send(Method::GET, name, &[], Value::Null).await;
        assert_eq!((status, origin.as_str()), (200, ""), "a browser keeps this from {name}");
        let (status, ..) = send(Method::POST, name, &[], json!({"service_name": "stranger", "template": "echo"})).await;
        assert_eq!(status, 403);
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_auth_lets_pass_whom_the_service_asked_lets_pass() {
    let Some(program) = offered(Part::Traefik) else { return };
    let provider = free_port();
    let listen = format!("127.0.0.1:{provider}");
    let product = Product::start(Options::memory().with("MCP_MANAGER_SERVER_TRAEFIK_PROVIDER_LISTEN", listen)).await;
    let traefik = Traefik::start(&program, &product, provider).await;
    let password = podman::unique("password");
    let expected = password.clone();
    let verify = axum::Router::new().fallback(async move |headers: axum::http::HeaderMap| {
        let known = headers.get("authorization").is_some_and(|given| *given == *expected);
        // Asked about the path that the client named, not the one behind Traefik.
        let about = headers.get("x-forwarded-uri").is_some_and(|path| *path == *"/api/mcp/health");
        if known && about { axum::http::StatusCode::OK } else { axum::http::StatusCode::UNAUTHORIZED }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async { axum::serve(listener, verify).await });

    // As the example says.
    let example = shipped("forward-auth.yml.example");
    assert!(example.contains("127.0.0.1:4181"));
    eventually("Traefik leads to the manager", async || traefik.get("localhost", "/api/mcp/health").await.0 == 200).await;
    let folder = product.folder.path().join("traefik/dynamic");
    let route = std::fs::read_to_string(folder.join("manager.yml")).unwrap();
    assert!(route.contains(r#"middlewares: ["rate-limit", "#));
    std::fs::write(folder.join("forward-auth.yml"), example.replace("127.0.0.1:4181", &address)).unwrap();
    let route = route.replace(r#"middlewares: ["rate-limit", "#, r#"middlewares: ["forward-auth", "rate-limit", "#);
    std::fs::write(folder.join("manager.yml"), route).unwrap();

    eventually("strangers are refused", async || traefik.get("localhost", "/api/mcp/health").await.0 == 401).await;
    let url = format!("http://127.0.0.1:{}/api/mcp/health", traefik.web);
    eventually("who is known gets through", async || {
        let request = traefik.client.get(&url).header("host", "localhost").header("authorization", &password);
        request.send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    server.abort();
    product.finish().await;
}

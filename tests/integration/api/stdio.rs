//! Servers that speak stdio, behind the bridge in their containers, on rootless Podman.

use std::path::PathBuf;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::company::Without;
use crate::support::http_client;
use crate::support::mcp::{Session, stateless};
use crate::support::podman;
use crate::support::product::{Options, Product};

/// The echo server as a server that speaks stdio.
async fn create(product: &Product, name: &str, more: Value) -> Value {
    let mut body = json!({
        "service_name": name, "image": podman::ECHO_IMAGE, "pull_policy": "never", "transport": "stdio",
        "environment": {"MCP_ECHO_STDIO": "true"}, "stop_timeout": "3s",
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = product.post("/containers", &body).await;
    assert_eq!((status, answer["status"].as_str()), (201, Some("running")), "{answer:#}\n{}", product.log());
    answer
}

/// A client that finds the service by its name, as people's do, and its MCP endpoint.
pub fn by_name(product: &Product, name: &str) -> (Client, String) {
    let host = format!("{name}.localhost");
    let address = ([127, 0, 0, 1], product.port).into();
    let client = http_client().resolve(&host, address).build().unwrap();
    (client, format!("http://{host}:{}/mcp", product.port))
}

async fn echo(session: &Session, text: &str) -> Value {
    let answer = session.call("tools/call", json!({"name": "echo", "arguments": {"message": text}})).await;
    answer.result()["content"][0]["text"].clone()
}

// Most share the engine with tests that write no secrets: the key of session ids is one. Those that spoil what belongs to
// the whole engine run alone.

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_stdio_is_called_by_name_in_both_eras() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with_secrets()).await;
    create(&product, "stdio", json!({})).await;
    let (client, url) = by_name(&product, "stdio");
    let session = Session::open(&client, &url).await;
    assert_eq!(session.server["serverInfo"]["name"], "echo", "{:#}", session.server);
    let tools = session.call("tools/list", json!({})).await;
    assert!(tools.result()["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "echo"), "{tools:?}");
    assert_eq!(echo(&session, "päckchen 🎁").await, "päckchen 🎁");
    let tools = stateless(&client, &url, "tools/list", json!({})).await;
    assert!(tools.result()["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "echo"), "{tools:?}");
    assert!((200..300).contains(&session.close().await));
    // The key of its sessions is nobody's to read.
    let (_, inspected) = product.get("/containers/stdio/inspect").await;
    // Podman 4.3 names the variable, 5.4 does not.
    let key = inspected.to_string().split("MCP_BRIDGE_SESSION_KEY=").nth(1).map(|rest| rest[..10].to_owned());
    assert!(key.as_deref().is_none_or(|key| key == "[redacted]"), "{key:?}");
    // A restart is a new bridge in the same container.
    assert_eq!(product.call(Method::POST, "/containers/stdio/restart").await.0, 200);
    assert_eq!(echo(&Session::open(&client, &url).await, "again").await, "again");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_reach_the_replica_that_has_them() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with_secrets()).await;
    let service = create(&product, "stdio", json!({"replicas": 3, "session_mode": "per_session"})).await;
    let mut owners = std::collections::BTreeSet::new();
    let (client, url) = by_name(&product, "stdio");
    let mut sessions = Vec::new();
    for number in 0..6 {
        // Opened at one replica, and then called wherever the gateway sends it.
        let instance = &service["instances"][number % 3];
        let session = Session::open(&client, &format!("http://{}/mcp", instance["address"].as_str().unwrap())).await;
        owners.insert(session.id.split('.').nth(1).unwrap().to_owned());
        let session = session.at(&client, &url);
        let text = format!("number {number}");
        assert_eq!(echo(&session, &text).await, text);
        sessions.push(session);
    }
    assert_eq!(owners.len(), 3, "each replica has sessions of its own");
    // Each replica passes on what another one has.
    for instance in service["instances"].as_array().unwrap() {
        let url = format!("http://{}/mcp", instance["address"].as_str().unwrap());
        for (number, session) in sessions.iter().enumerate() {
            let stray = session.at(&client, &url);
            let text = format!("stray {number}");
            assert_eq!(echo(&stray, &text).await, text);
        }
    }
    // A session of nobody is not found, at once.
    let foreign = sessions[0].with_id(&sessions[0].id.replace("v1.r", "v1.x"));
    assert_eq!(foreign.call("tools/list", json!({})).await.status, 404);
    product.finish().await;
}

/// An engine that ended uncleanly leaves its name server the addresses of containers and networks that are gone.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_find_one_another_whatever_an_engine_left_behind() {
    if !podman::ready().await {
        return;
    }
    let network = podman::unique("network");
    let names = [network.clone(), format!("{network}-egress")];
    let product = Product::start(Options::podman().alone().with("MCP_MANAGER_BACKEND_NETWORK", &network)).await;
    let _without = Without::company();
    podman::podman(&["network", "rm", &names[0], &names[1]]).await;
    let folder = PathBuf::from(std::env::var("XDG_RUNTIME_DIR").unwrap()).join("containers/networks/aardvark-dns");
    std::fs::create_dir_all(&folder).unwrap();
    // Newer engines mark the file of an internal network.
    let files = [folder.join(&network), folder.join(format!("{network}%int"))];
    let gone = format!("{} 10.254.77.9  gone", "e".repeat(64));
    std::fs::write(&files[0], format!("10.254.77.1\n{gone}\n")).unwrap();
    let product = product.kill_and_restart().await;
    // Nor does it take away the name server's number, which is another process's later.
    let mut bystander = tokio::process::Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
    std::fs::write(folder.join("aardvark.pid"), bystander.id().unwrap().to_string()).unwrap();
    forwarded(&product).await;
    assert!(bystander.try_wait().unwrap().is_none(), "it has nothing to do with names");
    // With a name that stays, the name server outlives the containers, and serves none that come later.
    let file = files.iter().find(|file| file.exists()).unwrap();
    std::fs::write(file, format!("{}{gone}\n", std::fs::read_to_string(file).unwrap())).unwrap();
    let product = product.kill_and_restart().await;
    assert_eq!(product.call(Method::DELETE, "/containers/stdio").await.0, 204);
    forwarded(&product).await;
    product.finish().await;
    podman::podman(&["network", "rm", &names[0], &names[1]]).await;
    assert!(files.iter().all(|file| !file.exists()));
}

/// Podman 4 gives the namespace of its networks up when the last container ends that it knows to be in it, though another
/// one was just started there.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_were_left_in_a_namespace_that_was_given_up_find_one_another_again() {
    if !podman::ready().await || !podman::podman(&["version", "--format", "{{.Client.Version}}"]).await.starts_with("4.") {
        eprintln!("left out: this engine does not lose containers' networks");
        return;
    }
    let product = Product::start(Options::podman().alone()).await;
    let _without = Without::company();
    let own = json!({"health_check": {"path": "/health", "interval": "1s"}});
    create(&product, "other", own.clone()).await;
    forwarded(&product).await;
    for round in 1..=2 {
        // As the engine does it.
        let script = "cd $XDG_RUNTIME_DIR && kill $(cat libpod/tmp/rootless-netns/*.pid) && rm -r libpod/tmp/rootless-netns \
                      && umount -l netns/rootless-netns-* && rm netns/rootless-netns-*";
        podman::podman(&["unshare", "sh", "-ec", script]).await;
        if round == 2 {
            // With the next container there is another one, which nobody finds.
            create(&product, "later", own.clone()).await;
        }
        for (name, restarts) in [("stdio", 2 * round), ("other", round)] {
            let again = |service: &Value| service["status"] == "running" && service["restarts"] == restarts;
            product.until(name, "it was started again", again).await;
        }
        forwards(&product).await;
    }
    let (_, later) = product.get("/containers/later").await;
    assert_eq!(later["restarts"], 0);
    product.finish().await;
}

/// Creates a service of two replicas, and has one pass on what is the other's.
async fn forwarded(product: &Product) {
    let check = json!({"path": "/health", "interval": "1s"});
    create(product, "stdio", json!({"replicas": 2, "session_mode": "per_session", "health_check": check})).await;
    forwards(product).await;
}

/// Has one of the two replicas pass on what is the other's.
async fn forwards(product: &Product) {
    let (_, service) = product.get("/containers/stdio").await;
    let urls = [0, 1].map(|number| format!("http://{}/mcp", service["instances"][number]["address"].as_str().unwrap()));
    let session = Session::open(&product.client, &urls[0]).await;
    assert_eq!(echo(&session.at(&product.client, &urls[1]), "found").await, "found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_old_transport_runs_behind_the_bridge() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with_secrets()).await;
    // A bridge that serves clients of 2024-11-05 is a server of theirs.
    let image = format!("localhost/{}:latest", podman::unique("old"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_mcp-bridge"), folder.path().join("mcp-bridge")).unwrap();
    let words = r#"["/mcp-bridge", "--sse", "--listen", "127.0.0.1:9000", "--", "/mcp-echo"]"#;
    let recipe = format!("FROM {}\nCOPY mcp-bridge /\nENTRYPOINT {words}\nCMD []\n", podman::ECHO_IMAGE);
    std::fs::write(folder.path().join("Containerfile"), recipe).unwrap();
    podman::podman(&["build", "--quiet", "--tag", &image, &folder.path().display().to_string()]).await;
    create(&product, "old", json!({"image": image, "transport": "sse", "port": 9000, "labels": {"mcp.sse": "true"}})).await;
    let (client, url) = by_name(&product, "old");
    let session = Session::open(&client, &url).await;
    assert_eq!(session.server["serverInfo"]["name"], "echo", "{:#}", session.server);
    assert_eq!(echo(&session, "päckchen 🎁").await, "päckchen 🎁");
    let tools = stateless(&client, &url, "tools/list", json!({})).await;
    assert!(tools.result()["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "echo"), "{tools:?}");
    // Its label opens the bridge to old clients as well.
    let mut stream = client.get(url.replace("/mcp", "/sse")).send().await.unwrap();
    let begin = stream.chunk().await.unwrap().unwrap();
    assert!(begin.starts_with(b"event: endpoint\ndata: /messages?sessionId=v1."), "{begin:?}");
    drop(stream);
    product.finish().await;
    podman::podman(&["rmi", "--force", &image]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_start_says_why_in_its_service() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with_secrets()).await;
    let body = json!({
        "service_name": "lost", "image": podman::ECHO_IMAGE, "pull_policy": "never", "transport": "stdio",
        "entrypoint": ["/no/such/program"], "health_check": {"path": "/health", "start_period": "0s", "interval": "1s"},
    });
    let (status, answer) = product.post("/containers?wait=none", &body).await;
    assert!(status < 300, "{answer:#}");
    let says = |service: &Value| service.to_string().contains("the server could not be started: /no/such/program");
    product.until("lost", "it says why", says).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_dies_disturbs_no_session() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with_secrets()).await;
    let service = create(&product, "stdio", json!({})).await;
    let direct = format!("http://{}/mcp", service["instances"][0]["address"].as_str().unwrap());
    let session = Session::open(&product.client, &direct).await;
    let product = product.kill_and_restart().await;
    product.until("stdio", "it runs", |service| service["status"] == "running").await;
    assert_eq!(echo(&session, "still here").await, "still here");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_by_path_is_its_openers_own_and_nobody_passes_for_somebody_else() {
    if !podman::ready().await {
        return;
    }
    let (options, keys, _file) = super::access::keyed(Options::podman().with_secrets());
    let product = Product::start(options).await;
    let key = |role: &str| keys.iter().find(|(is, _)| *is == role).unwrap().1.clone();
    let body = json!({
        "service_name": "own", "image": podman::ECHO_IMAGE, "pull_policy": "never", "transport": "stdio",
        "environment": {"MCP_ECHO_STDIO": "true"}, "stop_timeout": "3s",
    });
    let made = product.request(Method::POST, "/containers").bearer_auth(key("admin")).json(&body).send().await.unwrap();
    assert_eq!(made.status(), 201, "{}", product.log());
    let as_who = |role: &str, poses: bool| {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", key(role)).parse().unwrap());
        if poses {
            headers.insert("x-mcp-manager-caller", "operator-key".parse().unwrap());
        }
        http_client().default_headers(headers)
    };
    let url = format!("{}/mcp/s/own", product.url);
    let session = Session::open(&as_who("operator", false).build().unwrap(), &url).await;
    assert_eq!(echo(&session, "mine").await, "mine");
    for poses in [false, true] {
        let other = session.with_client(&as_who("admin", poses).build().unwrap());
        assert_eq!((other.call("ping", json!({})).await.status, other.close().await), (404, 404));
    }
    // By its name the service is anybody's to reach, and the session nobody's.
    let (_, by_name) = by_name(&product, "own");
    let stranger = as_who("admin", true).resolve("own.localhost", ([127, 0, 0, 1], product.port).into()).build().unwrap();
    assert_eq!(session.at(&stranger, &by_name).call("ping", json!({})).await.status, 404);
    assert_eq!(echo(&session, "still mine").await, "still mine");
    let deleted = product.request(Method::DELETE, "/containers/own").bearer_auth(key("admin")).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    drop(product);
}

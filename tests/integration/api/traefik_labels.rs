//! The `traefik.*` labels of containers, as the real Traefik's own Docker provider reads them from Podman's socket: nobody
//! asks the manager for routes here.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::machine::{Part, offered};
use crate::support::mcp::Session;
use crate::support::podman::{self, ECHO_IMAGE};
use crate::support::product::{Options, Product};
use crate::support::traefik::{Files, Traefik, shipped};
use crate::support::{eventually, http_client};

/// The socket of Podman's API, as a user opens it.
struct Socket {
    path: PathBuf,
    _folder: tempfile::TempDir,
    _engine: Child,
}

impl Socket {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("podman.sock");
        let address = format!("unix://{}", path.display());
        let words = ["system", "service", "--time=0", &address];
        let engine = Command::new("podman").args(words).kill_on_drop(true).spawn().unwrap();
        eventually("the engine listens", async || tokio::net::UnixStream::connect(&path).await.is_ok()).await;
        Self { path, _folder: folder, _engine: engine }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        podman::end_engines(&self.path.display().to_string());
    }
}

/// Traefik on this machine, with the shipped example in the place of the HTTP provider.
async fn by_labels(program: &str, product: &Product, socket: &Socket) -> Traefik {
    let files = Files::shipped(product);
    let provider = "  http:\n    endpoint: \"http://127.0.0.1:8082/\"\n    pollInterval: 200ms\n    pollTimeout: 2s\n";
    let example = shipped("labels.yml.example");
    files.change("traefik.yml", &[(provider, example.split_once("providers:\n").unwrap().1.to_owned())]);
    let changes = [
        ("/run/user/1000/podman/podman.sock", socket.path.display().to_string()),
        ("`mcp`", format!("`{}`", product.options.instance)),
    ];
    files.change("traefik.yml", &changes);
    files.run(program, &[]).await
}

/// Names of what Traefik has from the labels.
async fn of_labels(traefik: &Traefik, what: &str) -> BTreeSet<String> {
    let known: Vec<Value> = serde_json::from_str(&traefik.known(what).await).unwrap();
    let names = known.iter().map(|one| one["name"].as_str().unwrap());
    names.filter_map(|name| name.strip_suffix("@docker")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_routes_by_the_labels_alone_to_what_runs_and_is_healthy() {
    if !podman::ready().await {
        return;
    }
    let Some(program) = offered(Part::Traefik) else { return };
    let product = Product::start(Options::podman().with_secrets()).await;
    let socket = Socket::open().await;
    let traefik = by_labels(&program, &product, &socket).await;
    // No answer of who is healthy must ever be late, however busy the machine is.
    let check = json!({"path": "/health", "interval": "1500ms", "timeout": "1400ms", "retries": 1, "start_period": "0s"});
    let echo = product.create_echo("echo", json!({"replicas": 2, "health_check": check})).await;
    let create = async |name: &str, more: Value| {
        let mut body = json!({"service_name": name, "image": ECHO_IMAGE, "pull_policy": "never"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = product.post("/containers", &body).await;
        assert_eq!((status, answer["status"].as_str()), (201, Some("running")), "{answer:#}");
    };
    create("lines", json!({"transport": "stdio", "environment": {"MCP_ECHO_STDIO": "true"}})).await;
    create("worker", json!({})).await;
    // With all that Traefik wants but the owner.
    let stranger = Container(podman::unique("stranger"));
    let run = ["run", "--detach", "--name", &stranger.0, "--publish", "127.0.0.1::8000", "--label", "traefik.enable=true"];
    podman::podman(&[&run[..], &["--label", "io.mcp-manager.owner=somebody-else", ECHO_IMAGE]].concat()).await;

    let answers = async |host: &str, path: &str| traefik.get(host, path).await.0;
    eventually("the route is there", async || answers("echo.localhost", "/echo/hi").await == 200).await;
    eventually("both replicas answer", async || traefik.answers(6).await.len() == 2).await;
    eventually("so does the stdio server", async || answers("lines.localhost", "/health").await == 200).await;
    let by_name = http_client().resolve("lines.localhost", ([127, 0, 0, 1], 0).into()).build().unwrap();
    let session = Session::open(&by_name, &format!("http://lines.localhost:{}/mcp", traefik.web)).await;
    let called = session.call("tools/call", json!({"name": "echo", "arguments": {"message": "hi"}})).await;
    assert_eq!(called.result()["content"][0]["text"], "hi");
    // A service without a port is nobody's, and neither is a container of another manager.
    let served = BTreeSet::from(["echo".to_owned(), "lines".to_owned()]);
    for what in ["routers", "services"] {
        assert_eq!(of_labels(&traefik, what).await, served, "{what}");
    }

    let address = echo["instances"][0]["address"].as_str().unwrap();
    for (way, replicas) in [("fail", 1), ("ok", 2)] {
        traefik.client.post(format!("http://{address}/health/{way}")).send().await.unwrap();
        eventually("the check that the labels ask for is obeyed", async || {
            let known: Value = serde_json::from_str(&traefik.known("services/echo@docker").await).unwrap();
            known["serverStatus"].as_object().unwrap().values().filter(|status| *status == "UP").count() == replicas
        })
        .await;
        assert_eq!(traefik.answers(6).await.len(), replicas);
    }

    for (method, path, status) in [
        (Method::POST, "/containers/echo/stop", 404),
        (Method::POST, "/containers/echo/start", 200),
        (Method::DELETE, "/containers/echo", 404),
    ] {
        let (done, answer) = product.call(method, path).await;
        assert!([200, 204].contains(&done), "{answer:#}");
        eventually("the route comes and goes with the service", async || answers("echo.localhost", "/echo/hi").await == status)
            .await;
        assert_eq!(answers("lines.localhost", "/health").await, 200, "{path} is nothing to others");
    }
    let log = std::fs::read_to_string(&traefik.log).unwrap();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains(r#""level":"error""#)).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    drop(stranger);
    product.finish().await;
}

/// So many that the wrong address of one would be noticed.
const REPLICAS: usize = 4;

/// A container beside the product's, which goes with the test.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = std::process::Command::new("podman").args(["rm", "--force", "--time", "0", &self.0]).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_in_a_container_goes_by_the_services_network_to_services_that_are_on_others_too() {
    if !podman::ready().await || offered(Part::Hub).is_none() {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let socket = Socket::open().await;
    // With the way out each replica is on two networks, of which Traefik is on one only. Left to itself it takes either
    // address, now this and now that, so what decides is looked at, too.
    let echo = product.create_echo("echo", json!({"replicas": REPLICAS, "egress": true})).await;
    for replica in echo["instances"].as_array().unwrap() {
        let label = r#"{{index .Config.Labels "traefik.docker.network"}}"#;
        let network = podman::podman(&["inspect", "--format", label, replica["id"].as_str().unwrap()]).await;
        assert_eq!(network, "mcp-network");
    }
    let container = Container(podman::unique("traefik"));
    let mounted = format!("{}:/run/podman.sock", socket.path.display());
    let constraint = format!("--providers.docker.constraints=Label(`io.mcp-manager.owner`, `{}`)", product.options.instance);
    let run = ["run", "--detach", "--name", &container.0, "--network", "mcp-network", "--publish", "127.0.0.1::80"];
    let image = ["--volume", &mounted, "docker.io/library/traefik:v3.7", "--entryPoints.web.address=:80"];
    let provider =
        ["--providers.docker.endpoint=unix:///run/podman.sock", "--providers.docker.exposedByDefault=false", &constraint];
    podman::podman(&[&run[..], &image[..], &provider[..]].concat()).await;
    let front = podman::podman(&["port", &container.0, "80/tcp"]).await;

    let client = http_client().build().unwrap();
    let mut seen = BTreeSet::new();
    let mut in_order = 0;
    eventually("all replicas answer, and no request is lost", async || {
        let request = client.get(format!("http://{front}/echo/hi")).header("host", "echo.localhost");
        let answer = request.timeout(Duration::from_secs(2)).send().await;
        let answer: Value = match answer {
            Ok(answer) if answer.status() == 200 => answer.json().await.unwrap(),
            _ => Value::Null,
        };
        in_order = if answer.is_null() { 0 } else { in_order + 1 };
        seen.extend(answer["instance"].as_str().map(str::to_owned));
        seen.len() == REPLICAS && in_order >= 3 * REPLICAS
    })
    .await;
    drop(container);
    product.finish().await;
}

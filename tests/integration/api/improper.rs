//! Services that do not answer properly, through the embedded gateway: its client is told which service it was and why.

use std::os::unix::fs::MetadataExt as _;

use futures_util::StreamExt as _;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::machine::{Part, offered};
use crate::support::podman;
use crate::support::product::{Options, Product, signal};
use crate::support::{PATIENCE, eventually};

/// Gives each connection to a shell of its own, with the script that is the argument.
const SERVE: &str = r#"
my $listener = IO::Socket::INET->new(LocalPort => 8000, Listen => 16, ReuseAddr => 1) or die $!;
$SIG{CHLD} = "IGNORE";
while (my $connection = $listener->accept) {
  next if fork;
  open STDIN, "<&", $connection;
  open STDOUT, ">&", $connection;
  exec "sh", "-c", $ARGV[0];
}
"#;

/// What a shell answers to one connection after it has read the head of a request, by the path that was asked for.
const ANSWERS: &str = r#"
read -r method path version
while read -r line && [ "${#line}" -gt 1 ]; do :; done
case $path in
  /words) printf 'what do you want?\r\n' ;;
  /tls) printf '\025\003\003\000\002\002\106' ;;
  /nothing) ;;
  /head) printf 'HTTP/1.1 200 OK\r\ncontent-ty' ;;
  /body) printf 'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf'; sleep 1 ;;
  *) printf 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok' ;;
esac
"#;

/// Creates a service of whose port this shell script has the connections, one process each.
async fn create_shell(product: &Product, name: &str, script: &str) {
    let body = json!({
        "service_name": name, "image": "docker.io/library/nginx:latest", "port": 8000,
        "entrypoint": ["perl", "-MIO::Socket::INET", "-e", SERVE, script],
        "health_check": {"interval": "1h"},
    });
    let (status, answer) = product.post("/containers", &body).await;
    assert_eq!((status, answer["status"].as_str()), (201, Some("running")), "{answer:#}");
}

/// What the gateway says itself to a request that it cannot pass on, which has to be what all such answers are.
async fn refusal(product: &Product, method: Method, name: &str, path: &str) -> Value {
    let request_id = podman::unique("request");
    let answer = product.service(method, name, path).header("x-request-id", &request_id).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (502, &"application/problem+json".parse().unwrap())
    );
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["status"], &problem["service"]), (&json!(502), &json!(name)), "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains(&format!("'{name}'")), "{problem:#}");
    assert_eq!(problem["remedy"], format!("look at GET /containers/{name}/logs"), "{problem:#}");
    let line =
        product.log().lines().find(|line| line.contains(&request_id) && line.contains("answers itself")).map(str::to_owned);
    let line: Value = serde_json::from_str(&line.unwrap_or_else(|| panic!("no line: {}", product.log()))).unwrap();
    assert_eq!((&line["service"], &line["request_id"]), (&json!(name), &json!(request_id)), "{line:#}");
    let kind = problem["type"].as_str().unwrap().strip_prefix("urn:mcp-manager:problem:").unwrap().to_owned();
    assert_eq!(line["reason"], kind, "{line:#}");
    json!([kind, problem["detail"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_http_or_breaks_off_is_answered_for_by_its_name_with_the_reason() {
    if !podman::ready().await || offered(Part::Hub).is_none() {
        return;
    }
    let product = Product::start(Options::podman()).await;
    create_shell(&product, "odd", ANSWERS).await;
    let get = async |path: &str| product.service(Method::GET, "odd", path).send().await.unwrap();
    assert_eq!(get("/").await.text().await.unwrap(), "ok", "its port is reached");
    for (path, kind, reason) in [
        ("/words", "service-not-http", "what is not HTTP"),
        ("/tls", "service-not-http", "what is not HTTP"),
        ("/nothing", "service-broke-off", "broke off"),
        ("/head", "service-broke-off", "broke off"),
    ] {
        for method in [Method::GET, Method::POST] {
            let refused = refusal(&product, method, "odd", path).await;
            assert_eq!(refused[0], kind, "{path}: {refused:#}");
            assert!(refused[1].as_str().unwrap().contains(reason), "{path}: {refused:#}");
        }
    }

    // One that speaks first, as servers of many other protocols do.
    create_shell(&product, "early", "printf 'SSH-2.0-early\\r\\n'; exec sleep 1").await;
    let refused = refusal(&product, Method::GET, "early", "/").await;
    assert_eq!(refused[0], "service-not-http", "{refused:#}");

    // What has begun cannot be answered for any more: it breaks off for the client, too, and the log says whose it was.
    let broken = product.service(Method::GET, "odd", "/body").header("x-request-id", "half-an-answer").send().await.unwrap();
    assert_eq!(broken.status(), 200);
    let mut body = broken.bytes_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "half");
    let end = tokio::time::timeout(PATIENCE, body.next()).await.expect("it ends");
    assert!(matches!(end, Some(Err(_))), "a half answer looks like a whole one: {end:?}");
    eventually("the log says that it broke off", async || {
        let log = product.log();
        log.lines().any(|line| line.contains("broke off in the middle") && line.contains(r#""request_id":"half-an-answer""#))
    })
    .await;
    assert_eq!(get("/").await.text().await.unwrap(), "ok", "the next request is none the worse");
    let metrics = product.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for (kind, count) in [("service-not-http", 5), ("service-broke-off", 4)] {
        let series = format!("mcp_manager_gateway_errors_total{{reason=\"{kind}\"}} ");
        let counted = metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u32>().ok());
        // The manager has asked what these services offer, too.
        assert!(counted.is_some_and(|counted| counted >= count), "{kind}: {counted:?}");
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_port_takes_no_connection_is_answered_for_by_its_name_with_the_reason() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    // No check finds out meanwhile, and the container itself goes on: only the way to it is gone.
    let service = product.create_echo("echo", json!({"health_check": {"path": "/health", "interval": "1h"}})).await;
    let address = service["instances"][0]["address"].as_str().unwrap();
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    let forwarder = listener(port).expect("a process of this user forwards the port");
    signal(forwarder, Signal::KILL);
    eventually("nobody listens there any more", async || listener(port).is_none()).await;
    for method in [Method::GET, Method::POST] {
        let refused = refusal(&product, method, "echo", "/echo/hi").await;
        assert_eq!(refused[0], "service-unreachable", "{refused:#}");
        assert!(refused[1].as_str().unwrap().contains("connection refused"), "{refused:#}");
    }
    product.finish().await;
}

/// The process of this user that listens on a port of loopback or of all addresses.
fn listener(port: u16) -> Option<i32> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let inode = table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields[3] == "0A" && fields[1].ends_with(&format!(":{port:04X}"));
        listens.then(|| fields[9].to_owned())
    })?;
    let socket = format!("socket:[{inode}]");
    let user = rustix::process::getuid().as_raw();
    let processes =
        std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| entry.metadata().is_ok_and(|about| about.uid() == user));
    let mut holders = processes.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let mut open = std::fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        let holds = open.any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link.to_string_lossy() == socket));
        holds.then_some(pid)
    });
    holders.next()
}

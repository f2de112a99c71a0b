//! What happens when things die, run out or get in each other's way, on rootless Podman.

use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use crate::support::machine::{Part, offered};
use crate::support::podman::{self, owned_by, podman as run};
use crate::support::product::{Options, Product, signal, stand_still};
use crate::support::{eventually, http_client, processes, stretched};

async fn answers(product: &Product, name: &str) -> bool {
    product.service(Method::GET, name, "/echo/hi").send().await.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_manager_finds_everything_again_and_running_services_never_stop() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let service = product.create_echo("echo", json!({"replicas": 2})).await;
    let address = service["instances"][0]["address"].as_str().unwrap().to_owned();
    let (stop, client) = (tokio_util::sync::CancellationToken::new(), product.client.clone());
    let stopped = stop.clone();
    let direct = tokio::spawn(async move {
        let mut failures = 0_u32;
        while !stopped.is_cancelled() {
            failures += u32::from(client.get(format!("http://{address}/health")).send().await.is_err());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        failures
    });
    let product = product.kill_and_restart().await;
    let after = product.until("echo", "it runs", |service| service["status"] == "running").await;
    stop.cancel();
    assert_eq!(direct.await.unwrap(), 0, "the service answered all the time");
    for number in 0..2 {
        assert_eq!(after["instances"][number]["id"], service["instances"][number]["id"]);
        assert_eq!(after["instances"][number]["started_at"], service["instances"][number]["started_at"]);
    }
    assert!(answers(&product, "echo").await);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_killed_during_creation_leaves_nothing_half_made() {
    if !podman::ready().await {
        return;
    }
    let mut product = Product::start(Options::podman()).await;
    for milliseconds in [5_u64, 20, 40, 80, 120, 160, 220] {
        let name = format!("echo-{milliseconds}");
        let request = product.request(Method::POST, "/containers");
        let request = request.json(&json!({"service_name": name, "template": "echo"})).send();
        let request = tokio::spawn(request);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        product = product.kill_and_restart().await;
        let _ = request.await;
        // Either it had been recorded, then it is finished; or it had not, then there is no trace of it.
        let path = format!("/containers/{name}");
        if product.get(&path).await.0 == 200 {
            product.until(&name, "it was finished", |service| service["status"] == "running").await;
            assert_eq!(product.call(Method::DELETE, &path).await.0, 204);
        }
        assert_eq!(owned_by(&product.options.instance).await, Vec::<String>::new(), "after {milliseconds} ms");
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_killed_during_deletion_finishes_it_when_it_is_back() {
    if !podman::ready().await {
        return;
    }
    let mut product = Product::start(Options::podman()).await;
    for milliseconds in [2_u64, 10, 30, 60, 120] {
        product.create_echo("echo", json!({"replicas": 2})).await;
        let request = tokio::spawn(product.request(Method::DELETE, "/containers/echo").send());
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        product = product.kill_and_restart().await;
        let _ = request.await;
        if product.get("/containers/echo").await.1["desired"] == "running" {
            // The deletion had not been recorded; then the service is whole.
            product.until("echo", "it runs", |service| service["status"] == "running").await;
            assert_eq!(product.call(Method::DELETE, "/containers/echo").await.0, 204);
        }
        let instance = product.options.instance.clone();
        eventually("nothing is left", async || owned_by(&instance).await.is_empty()).await;
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_is_back_within_five_seconds_with_all_services() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let before = product.create_echo("echo", json!({})).await;
    let engines = processes(&format!("{}/", product.options.instance), "system service");
    assert!(!engines.is_empty(), "the manager supervises an engine of its own");
    for engine in engines {
        signal(engine, Signal::KILL);
    }
    let began = Instant::now();
    assert!(answers(&product, "echo").await, "a service does not need the engine to answer");
    eventually("the engine is away or back already", async || {
        product.get("/ready").await.0 == 503 || began.elapsed() > Duration::from_secs(1)
    })
    .await;
    eventually("the engine is back", async || product.get("/ready").await.0 == 200).await;
    let took = began.elapsed();
    assert!(took < stretched(Duration::from_secs(5)).await, "{took:?}");
    let after = product.until("echo", "it runs", |service| service["status"] == "running").await;
    assert_eq!(after["instances"][0]["id"], before["instances"][0]["id"]);
    product.create_echo("another", json!({})).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_lost_its_socket_is_replaced_within_five_seconds_and_no_service_is_lost() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let before = product.create_echo("echo", json!({})).await;
    let engines = || processes(&format!("/{}/", product.options.instance), "system service");
    let old = engines();
    let runtime = std::env::var("XDG_RUNTIME_DIR").unwrap();
    let folder = std::path::Path::new(&runtime).join("mcp-manager").join(&product.options.instance);
    for lost in [folder.join("podman.sock"), folder.clone()] {
        let began = Instant::now();
        if lost.is_dir() {
            std::fs::remove_dir_all(&lost).unwrap();
        } else {
            std::fs::remove_file(&lost).unwrap();
        }
        eventually("the manager says that the engine is away", async || product.get("/ready").await.0 == 503).await;
        assert!(answers(&product, "echo").await, "a service does not need the engine to answer");
        eventually("the engine is back", async || product.get("/ready").await.0 == 200).await;
        let took = began.elapsed();
        assert!(took < stretched(Duration::from_secs(5)).await, "{took:?}\n{}", product.log());
        let after = product.until("echo", "it runs", |service| service["status"] == "running").await;
        assert_eq!(after["instances"][0]["id"], before["instances"][0]["id"]);
        assert_eq!(after["instances"][0]["started_at"], before["instances"][0]["started_at"]);
    }
    eventually("the old engine is gone, one is there", async || engines().len() == 1 && engines() != old).await;
    product.create_echo("another", json!({})).await;
    product.finish().await;
}

/// Processes that stand still, and go on with the end of this value at the latest.
struct Standing(Vec<i32>);

impl Standing {
    fn still(processes: Vec<i32>) -> Self {
        for process in &processes {
            stand_still(*process);
        }
        Self(processes)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        for process in &self.0 {
            signal(*process, Signal::CONT);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_told_without_asking_the_engine() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    product.create_echo("echo", json!({})).await;
    let engines = processes(&format!("/{}/", product.options.instance), "system service");
    assert!(!engines.is_empty(), "the manager supervises an engine of its own");
    let standing = Standing::still(engines);
    let mut inspection = tokio::spawn(product.request(Method::GET, "/containers/echo/inspect").send());
    for path in ["/containers", "/containers?status=running", "/containers/echo", "/containers/echo/status"] {
        let asked = product.request(Method::GET, path).timeout(Duration::from_secs(20)).send().await;
        assert_eq!(asked.unwrap_or_else(|error| panic!("{path}: {error}")).status(), 200, "{path}");
    }
    let waited = tokio::time::timeout(Duration::from_millis(500), &mut inspection).await;
    assert!(waited.is_err(), "what has to be asked of the engine waits for it: {waited:?}");
    drop(standing);
    assert_eq!(inspection.await.unwrap().unwrap().status(), 200);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_managers_settings_of_its_memory_do_not_reach_the_engine() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let has_settings = |process: i32| {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap();
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(b"GLIBC_TUNABLES="))
    };
    assert!(has_settings(product.pid()));
    let engines = processes(&format!("{}/", product.options.instance), "system service");
    assert!(!engines.is_empty() && !engines.into_iter().any(has_settings));
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_container_is_started_again_and_a_crash_loop_is_shown_with_its_reason() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let service = product.create_echo("echo", json!({})).await;
    let id = service["instances"][0]["id"].as_str().unwrap();
    let pid: i32 = run(&["inspect", "--format", "{{.State.Pid}}", id]).await.parse().unwrap();
    signal(pid, Signal::KILL);
    let again = product.until("echo", "it was started again", |service| service["restarts"].as_u64() > Some(0)).await;
    assert_eq!(again["instances"][0]["last_exit"]["code"], 137, "{again:#}");
    product.until("echo", "it runs again", |service| service["status"] == "running").await;
    assert!(answers(&product, "echo").await);

    let looping = json!({"service_name": "loop", "template": "echo", "args": ["--no-such-option"], "start_timeout": "20s"});
    let (status, created) = product.post("/containers", &looping).await;
    assert_eq!((status, created["status"].as_str()), (201, Some("crash_loop")), "{created:#}");
    let exit = &created["instances"][0]["last_exit"];
    assert_eq!((exit["code"].as_i64(), exit["oom_killed"].as_bool()), (Some(2), Some(false)), "{created:#}");
    let lines = exit["last_log_lines"].to_string();
    assert!(lines.contains("--no-such-option"), "its last words: {lines}");
    assert!(created["message"].as_str().unwrap().contains("status 2"), "{created:#}");
    let never = json!({"service_name": "once", "template": "echo", "args": ["--no-such-option"], "restart_policy": "no"});
    let (_, exited) = product.post("/containers", &never).await;
    assert_eq!((exited["status"].as_str(), exited["restarts"].as_u64()), (Some("exited"), Some(0)), "{exited:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_cancels_nothing_and_deletion_cancels_creation() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let body = json!({"service_name": "echo", "template": "echo"});
    let gone = product.request(Method::POST, "/containers").json(&body).timeout(Duration::from_millis(30)).send().await;
    assert!(gone.is_err_and(|error| error.is_timeout()), "the client went away before the answer");
    product.until("echo", "it was created all the same", |service| service["status"] == "running").await;
    assert_eq!(product.call(Method::DELETE, "/containers/echo").await.0, 204);

    let (creation, (status, _)) = tokio::join!(product.post("/containers", &body), async {
        product.until("echo", "it is known", |service| service["name"] == "echo").await;
        product.call(Method::DELETE, "/containers/echo").await
    });
    assert_eq!(status, 204);
    // It may have been there already when the deletion came.
    assert!(creation.0 == 409 || creation.1["status"] == "running", "{:#}", creation.1);

    // A registry that takes connections and says nothing: the creation is certainly under way.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = json!({"service_name": "slow", "image": format!("{}/any:1", silent.local_addr().unwrap()), "port": 80});
    let ((status, problem), (deleted, _)) = tokio::join!(product.post("/containers", &slow), async {
        product.until("slow", "its image is being pulled", |service| service["status"] == "pulling").await;
        product.call(Method::DELETE, "/containers/slow").await
    });
    assert_eq!((status, problem["type"].as_str()), (409, Some("urn:mcp-manager:problem:cancelled")), "{problem:#}");
    assert_eq!(deleted, 204);
    assert_eq!(owned_by(&product.options.instance).await, Vec::<String>::new());
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_said_and_nothing_is_left() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let body = json!({"service_name": "echo", "template": "echo", "ports": {"8000": port}});
    let (status, problem) = product.post("/containers", &body).await;
    assert!(matches!(status, 409 | 422), "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains(&port.to_string()), "{problem:#}");
    assert_eq!(owned_by(&product.options.instance).await, Vec::<String>::new());
    drop(taken);
    let (status, created) = product.post("/containers", &body).await;
    assert_eq!((status, created["status"].as_str()), (201, Some("running")), "{created:#}");
    let direct = product.client.get(format!("http://127.0.0.1:{port}/echo/hi")).send().await.unwrap();
    assert_eq!(direct.status(), 200);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_a_pull_fails_is_told_apart() {
    if !podman::ready().await {
        return;
    }
    let Some(hub) = offered(Part::Hub) else { return };
    let product = Product::start(Options::podman()).await;
    let unknown = json!({"service_name": "a", "image": "docker.io/library/no-such-image:1", "port": 80});
    let (status, problem) = product.post("/containers", &unknown).await;
    assert_eq!((status, problem["type"].as_str()), (422, Some("urn:mcp-manager:problem:image-not-found")), "{problem:#}");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let unreachable = json!({"service_name": "b", "image": format!("{closed}/any:1"), "port": 80});
    let (status, problem) = product.post("/containers", &unreachable).await;
    assert_eq!((status, problem["type"].as_str()), (502, Some("urn:mcp-manager:problem:registry-unavailable")), "{problem:#}");
    let never = json!({"service_name": "c", "image": format!("{hub}/never:1"), "port": 80, "pull_policy": "never"});
    let (status, problem) = product.post("/containers", &never).await;
    assert_eq!((status, problem["type"].as_str()), (422, Some("urn:mcp-manager:problem:image-not-found")), "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("never"), "{problem:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_yet_is_not_told_as_nothing() {
    if !podman::ready().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("podman.sock").display().to_string();
    let options = Options { unready: true, ..Options::podman().with("MCP_MANAGER_BACKEND_SOCKET", socket) };
    let product = Product::start(options).await;
    for path in ["/containers", "/containers/echo"] {
        let (status, problem) = product.get(path).await;
        assert_eq!((status, &problem["type"]), (503, &json!("urn:mcp-manager:problem:backend-unavailable")), "{problem:#}");
        assert!(problem["remedy"].as_str().unwrap().contains("/ready"), "{problem:#}");
    }
    let (status, _) = product.terminate().await;
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_cycles_leave_the_machine_as_it_was() {
    if !podman::ready().await {
        return;
    }
    let mut product = Product::start(Options::podman().alone()).await;
    // The manager's end of a connection that this test keeps for later would count.
    product.client = http_client().pool_max_idle_per_host(0).build().unwrap();
    // One service stays, so that what belongs to all services (networks, name service) is there before and after.
    product.create_echo("stays", json!({})).await;
    product.create_echo("first", json!({})).await;
    assert_eq!(product.call(Method::DELETE, "/containers/first").await.0, 204);
    let before = Counts::settled(&product).await;
    for _ in 0..25 {
        let names = ["a", "b", "c", "d"];
        futures_util::future::join_all(names.map(|name| product.create_echo(name, json!({})))).await;
        for name in names {
            assert!(answers(&product, name).await, "{name}");
        }
        let paths = names.map(|name| format!("/containers/{name}"));
        let answers = futures_util::future::join_all(paths.iter().map(|path| product.call(Method::DELETE, path))).await;
        assert!(answers.iter().all(|(status, _)| *status == 204), "{answers:?}");
    }
    let mut after = Counts::of(&product).await;
    // Processes of what was deleted last may take a moment to end.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !after.is_within(&before) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        after = Counts::of(&product).await;
    }
    assert!(after.is_within(&before), "before: {before:?}\nafter: {after:?}");
    product.finish().await;
}

/// What must not grow.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    containers: usize,
    volumes: usize,
    networks: usize,
    processes: usize,
    files: usize,
    /// Those of the manager, listening and connected.
    sockets: usize,
    ports: usize,
}

impl Counts {
    /// Whether nothing has grown. What is in the engine is there exactly; processes, files and ports that were there
    /// before may have gone meanwhile.
    fn is_within(&self, before: &Self) -> bool {
        (self.containers, self.volumes, self.networks) == (before.containers, before.volumes, before.networks)
            && self.processes <= before.processes
            && self.files <= before.files
            && self.sockets <= before.sockets
            && self.ports <= before.ports
    }

    /// The counts once they have stayed the same for a while: what was deleted last has ended then.
    async fn settled(product: &Product) -> Self {
        let mut counts = Self::of(product).await;
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let again = Self::of(product).await;
            if again == counts {
                return counts;
            }
            counts = again;
        }
    }

    async fn of(product: &Product) -> Self {
        let open = std::fs::read_dir(format!("/proc/{}/fd", product.pid())).unwrap();
        let links = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        let (sockets, files): (Vec<_>, Vec<_>) = links.partition(|link| link.to_string_lossy().starts_with("socket:"));
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let user = rustix::process::getuid().as_raw().to_string();
        let listening = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(3) == Some(&"0A") && fields.get(7) == Some(&user.as_str())
        };
        let count = async |arguments: &[&str]| run(arguments).await.lines().count();
        Self {
            containers: count(&["ps", "--all", "--quiet"]).await,
            volumes: count(&["volume", "ls", "--quiet"]).await,
            networks: count(&["network", "ls", "--quiet"]).await,
            // What other tests have started themselves (servers of theirs, a product without an engine) is not ours.
            processes: processes("", "").into_iter().filter(|pid| parent(*pid) != Some(std::process::id())).count(),
            files: files.len(),
            sockets: sockets.len(),
            ports: table.lines().filter(listening).count(),
        }
    }
}

/// The process that started this one, while both live.
fn parent(pid: i32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

//! The manager in a cluster, exactly as `k8s/` has it, and services made by it behind a real ingress controller. It is one
//! test, for the manifests say their namespaces; it takes away what it brings.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use reqwest::header::{HOST, HeaderMap, HeaderValue};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::conformance;
use crate::support::echo::status_and_json;
use crate::support::machine::{self, Part, offered};
use crate::support::mcp::{Session, stateless};
use crate::support::{eventually, http_client};

/// How long the manager or a service may take to be ready.
const PATIENCE: Duration = Duration::from_mins(2);

/// kubectl, as users run it in a checkout.
pub(super) struct Kubectl {
    program: String,
    pub(super) file: String,
}

impl Kubectl {
    pub(super) fn of_this_machine() -> Option<Self> {
        let file = offered(Part::Kubernetes)?;
        Some(Self { program: machine::beside_kubernetes("MCP_TEST_KUBECTL"), file })
    }

    /// With words as a shell would split them.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("KUBECONFIG", &self.file)
            .args(line.split_whitespace())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(super) async fn run(&self, line: &str) -> String {
        said(self.command(line)).await
    }

    /// `kubectl port-forward`, to a free port of loopback; the way holds as long as the process.
    pub(super) async fn forward(&self, line: &str) -> (Child, u16) {
        let mut child =
            self.command(&format!("port-forward {line}")).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(PATIENCE, lines.next_line()).await.expect("it forwards").unwrap().expect("it forwards");
        let port = first.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|port| port.parse().ok());
        // It writes a line for each connection, and must be able to.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        (child, port.unwrap_or_else(|| panic!("{first}")))
    }

    /// Takes everything away again, also what a run that was killed has left.
    async fn clean(&self) {
        self.run("delete -f k8s/ -f k8s/examples/traefik.yaml --ignore-not-found --wait=true").await;
    }
}

/// What a command writes; it may not fail, nor hang.
pub(super) async fn said(mut command: Command) -> String {
    let line = format!("{:?}", command.as_std());
    let output = timeout(PATIENCE, command.output()).await.unwrap_or_else(|_| panic!("{line} hangs")).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A manager that is asked over HTTP.
pub(super) struct Api {
    client: Client,
    url: String,
}

impl Api {
    /// At a port of loopback.
    pub(super) fn at(port: u16) -> Self {
        Self { client: http_client().build().unwrap(), url: format!("http://127.0.0.1:{port}") }
    }

    pub(super) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self.client.request(method, format!("{}{path}", self.url)).timeout(PATIENCE);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let answer = request.send().await.unwrap();
        if answer.status() == 204 { (204, Value::Null) } else { status_and_json(answer).await }
    }

    pub(super) async fn create(&self, body: Value) -> Value {
        let (status, service) = self.call(Method::POST, "/containers", Some(body)).await;
        assert_eq!((status, service["status"].as_str()), (201, Some("running")), "{service:#}");
        service
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_runs_in_a_cluster_as_k8s_has_it_and_its_services_answer_through_traefik() {
    let Some(kubectl) = Kubectl::of_this_machine() else { return };
    let Some(suite) = offered(Part::Conformance) else { return };
    kubectl.clean().await;
    // What is installed first is the quick start's; the ingress controller is what clusters have.
    kubectl.run("apply -f k8s/examples/traefik.yaml").await;
    kubectl.run("apply -f k8s/").await;
    kubectl.run("rollout status deployment/mcp-manager --timeout=100s").await;
    kubectl.run("rollout status deployment/traefik --namespace traefik --timeout=100s").await;
    let (_manager, port) = kubectl.forward("svc/mcp-manager :80").await;
    let api = Api::at(port);
    let (status, health) = api.call(Method::GET, "/health", None).await;
    assert_eq!((status, health["status"].as_str()), (200, Some("healthy")), "{health:#}");
    let (_, system) = api.call(Method::GET, "/system", None).await;
    assert_eq!(system["backend"]["kind"], "kubernetes", "{system:#}");
    let (_, templates) = api.call(Method::GET, "/templates", None).await;
    assert_eq!(templates["templates"].as_array().map(Vec::len), Some(11), "{templates:#}");

    let (_traefik, front) = kubectl.forward("--namespace traefik svc/traefik :80").await;
    a_web_service_with_three_replicas(&kubectl, &api, front).await;
    a_server_that_speaks_stdio(&kubectl, &api, front, &suite).await;
    rights_end_at_the_services(&kubectl).await;
    sessions_survive_with_three_managers(&kubectl, front).await;

    for service in ["nginx", "stdio"] {
        assert_eq!(api.call(Method::DELETE, &format!("/containers/{service}?volumes=true"), None).await.0, 204, "{service}");
    }
    let kinds = "deployments,statefulsets,pods,services,ingresses,networkpolicies,secrets,configmaps,serviceaccounts,\
                 persistentvolumeclaims,poddisruptionbudgets,horizontalpodautoscalers";
    eventually("nothing of the services is left", async || {
        kubectl.run(&format!("get {kinds} --namespace mcp-services -l io.mcp-manager.owner -o name")).await.is_empty()
    })
    .await;
    kubectl.clean().await;
}

/// The quick start's service; each replica serves what comes through the ingress controller, and its log says so.
async fn a_web_service_with_three_replicas(kubectl: &Kubectl, api: &Api, front: u16) {
    let created = api.create(json!({"service_name": "nginx", "template": "nginx", "replicas": 3})).await;
    assert_eq!((created["ready_replicas"].as_u64(), created["url"].as_str()), (Some(3), Some("http://nginx.localhost")));
    // The gateway leads there too, as with Podman.
    let page = api.client.get(&api.url).header("host", "nginx.localhost").send().await.unwrap();
    assert!(page.text().await.unwrap().to_lowercase().contains("nginx"));
    let ask = async || {
        let request = api.client.get(format!("http://127.0.0.1:{front}/?by=traefik")).header("host", "nginx.localhost");
        request.send().await.is_ok_and(|answer| answer.status() == 200)
    };
    eventually("Traefik leads to nginx", ask).await;
    let mut seen = BTreeSet::new();
    eventually("all three replicas serve", async || {
        for _ in 0..6 {
            assert!(ask().await, "a request fails once the route is there");
        }
        let (status, page) = api.call(Method::GET, "/containers/nginx/logs?tail=1000", None).await;
        assert_eq!(status, 200, "{page:#}");
        let lines = page["lines"].as_array().unwrap().iter();
        let served = lines.filter(|line| line["line"].as_str().is_some_and(|text| text.contains("by=traefik")));
        seen.extend(served.filter_map(|line| line["replica"].as_u64()));
        seen.len() == 3
    })
    .await;
    // Fewer of them, while requests go on: those that leave serve until Traefik has taken that over.
    let (status, fewer) = api.call(Method::PATCH, "/containers/nginx", Some(json!({"replicas": 1}))).await;
    assert_eq!((status, fewer["replicas"].as_u64()), (200, Some(1)), "{fewer:#}");
    let mut asked = 0;
    eventually("two of the pods have ended", async || {
        for _ in 0..10 {
            assert!(ask().await, "request {asked} failed while replicas left");
            asked += 1;
        }
        let pods = "get pods --namespace mcp-services -l io.mcp-manager.service=nginx -o name";
        kubectl.run(pods).await.lines().count() == 1
    })
    .await;
    // And the manager itself at the domain, as its Ingress says.
    eventually("Traefik leads to the manager", async || {
        let answer = api.client.get(format!("http://127.0.0.1:{front}/health")).header("host", "localhost").send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

/// Three replicas of a server that speaks stdio, of both eras of the protocol, through the ingress controller.
async fn a_server_that_speaks_stdio(kubectl: &Kubectl, api: &Api, front: u16, suite: &str) {
    let image = machine::beside_kubernetes("MCP_TEST_KUBE_IMAGE");
    let server = json!({
        "service_name": "stdio", "image": image, "pull_policy": "never", "transport": "stdio", "replicas": 1,
        "entrypoint": ["/conformance-server"], "memory_limit": "256m",
    });
    api.create(server).await;
    // The suite knows no host names of ours: an Ingress for all of them leads it to the service.
    let url = format!("http://127.0.0.1:{front}/mcp");
    kubectl.run("create ingress every-host --namespace mcp-services --rule=/*=mcp-stdio:http").await;
    let client = &api.client;
    eventually("Traefik leads to the server", async || {
        let Ok(answer) = client.post(&url).json(&json!({})).send().await else { return false };
        answer.status() != 404 && !answer.status().is_server_error()
    })
    .await;
    // Without sessions a call goes on wherever it is sent, with state that this server signs with a key of its process.
    conforms(suite, &url, "2026-07-28", 37).await;
    // More replicas, never fewer: Traefik leads to those that have gone until it has looked again.
    let (status, service) = api.call(Method::PATCH, "/containers/stdio", Some(json!({"replicas": 3}))).await;
    assert_eq!((status, service["ready_replicas"].as_u64()), (200, Some(3)), "{service:#}");
    // Sessions live in one replica each, and every request goes to the next one.
    let session = Session::open(client, &url).await;
    for _ in 0..9 {
        let tools = session.call("tools/list", json!({})).await;
        assert!(tools.result()["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{tools:?}");
    }
    assert!((200..300).contains(&session.close().await));
    let tools = stateless(client, &url, "tools/list", json!({})).await;
    assert!(tools.result()["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{tools:?}");
    conforms(suite, &url, "2025-11-25", 30).await;
    kubectl.run("delete ingress every-host --namespace mcp-services").await;
}

async fn conforms(suite: &str, url: &str, revision: &str, required: usize) {
    let outcome = conformance::run(suite, url, revision).await;
    assert!(outcome.failed.is_empty(), "{revision}: {:#?}", outcome.failed);
    assert_eq!(outcome.passed.len(), required, "{revision}: {:?}", outcome.passed);
}

/// As many as `k8s/overlays/three` has, behind the ingress controller, which goes to the next one with every request.
async fn sessions_survive_with_three_managers(kubectl: &Kubectl, front: u16) {
    kubectl.run("scale deployment/mcp-manager --replicas=3").await;
    kubectl.run("rollout status deployment/mcp-manager --timeout=100s").await;
    let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost"))]);
    let client = http_client().default_headers(headers).build().unwrap();
    // Each session begins at the next manager, and each of its requests goes round.
    for _ in 0..3 {
        let session = Session::open(&client, &format!("http://127.0.0.1:{front}/mcp")).await;
        for _ in 0..6 {
            assert_eq!(session.call("ping", json!({})).await.status, 200, "whichever manager is asked");
        }
        assert!((200..300).contains(&session.close().await));
    }
    let managers = kubectl.run("get pods -l app.kubernetes.io/name=mcp-manager -o name").await;
    assert_eq!(managers.lines().count(), 3, "{managers}");
    assert_eq!(kubectl.run("get secret mcp-manager --namespace mcp-services -o name").await.trim(), "secret/mcp-manager");
}

/// The manager's account may do nothing outside of its services' namespace, and no other account gets anything.
async fn rights_end_at_the_services(kubectl: &Kubectl) {
    let may = async |who: &str, what: &str| {
        let line = format!("auth can-i {what} --as=system:serviceaccount:{who}");
        let output = kubectl.command(&line).output().await.unwrap();
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    assert!(may("default:mcp-manager", "get secrets --namespace mcp-services").await);
    for elsewhere in ["default", "kube-system"] {
        assert!(!may("default:mcp-manager", &format!("get secrets --namespace {elsewhere}")).await, "{elsewhere}");
    }
    for account in ["default:default", "mcp-services:default", "mcp-services:mcp-nginx"] {
        assert!(!may(account, "list pods --namespace mcp-services").await, "{account}");
    }
}

//! Routes of other kinds than Ingress, with their real definitions and the real Traefik: they lead to services once the
//! cluster has the kind and the manager the right, until then services say what is lacking, and a former kind's go.
//!
//! Definitions are the whole cluster's: it is one test, which labels those that it brings and takes them away.

use std::process::Stdio;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use mcp_manager::backend::Backend as _;
use mcp_manager::backend::kubernetes::{Gateway, Route, Settings};
use mcp_manager::domain::status::{Phase, ServiceState};
use reqwest::Client;
use serde_json::json;
use tokio::process::{Child, Command};

use super::Kind;
use super::doctor::{check, report_with};
use super::manifests::Kubectl;
use super::rights::{ROLE, Running, Scene};
use crate::contract::{name, running, spec};
use crate::support::kubernetes::Namespace;
use crate::support::kubernetes_door::Right;
use crate::support::machine::{self, Part, offered};
use crate::support::{eventually, free_port, http_client};

const INGRESS: Kind = ("networking.k8s.io", "v1", "Ingress", "ingresses");
const INGRESS_ROUTE: Kind = ("traefik.io", "v1alpha1", "IngressRoute", "ingressroutes");
const HTTP_ROUTE: Kind = ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");
const GATEWAY: Kind = ("gateway.networking.k8s.io", "v1", "Gateway", "gateways");
/// What is done with routes of either kind.
const VERBS: [&str; 5] = ["list", "watch", "create", "patch", "delete"];
/// What the test has brought.
const OURS: &str = "mcp-manager-test=yes";

#[tokio::test(flavor = "multi_thread")]
async fn routes_of_traefik_and_of_the_gateway_api_lead_to_services_once_the_cluster_has_their_kinds() {
    let Some(program) = offered(Part::Traefik) else { return };
    let Some(kubectl) = Kubectl::of_this_machine() else { return };
    let Some(folder) = offered(Part::RouteDefinitions) else { return };
    let clean = format!("delete customresourcedefinitions -l {OURS} --wait=true");
    // Also what a run that was killed has left. Somebody's own would be spoilt by this test.
    kubectl.run(&clean).await;
    let there = kubectl.run("get customresourcedefinitions -o name").await;
    assert!(!there.contains("ingressroutes.traefik.io") && !there.contains("httproutes.gateway"), "not ours: {there}");

    let Some(scene) = Scene::set(None).await else { return };
    let by_traefik = Settings { route: Route::IngressRoute { entry_points: vec!["web".to_owned()] }, ..scene.settings.clone() };
    let manager = Running::start(&by_traefik).await;
    manager.backend.view().wait_for(|snapshot| snapshot.synced).await.unwrap();
    let echo = name("echo");
    manager.backend.create(&echo, running(spec(&scene.namespace))).await.unwrap();
    nothing_is_silently_wrong(&scene, &manager).await;

    kubectl.run(&format!("apply --server-side -f {folder}")).await;
    kubectl.run(&format!("label --overwrite -f {folder} {OURS}")).await;
    kubectl.run(&format!("wait customresourcedefinitions -l {OURS} --for=condition=Established --timeout=60s")).await;
    the_shipped_routes_are_what_the_kinds_take(&kubectl).await;
    until(&scene, &manager, "the right is lacking", |service| says(service, "route_missing", "may not: list ingressroutes"))
        .await;
    grant(&scene, "ingressroute").await;
    leads(&scene, &manager, &Front::of_ingress_routes(&program, &scene.namespace).await, INGRESS_ROUTE).await;
    manager.end().await;

    // The same service by way of a Gateway; a name of its listeners is wrong at first.
    grant(&scene, "httproute").await;
    let front = Front::of_gateway(&program, &scene.namespace).await;
    let by_gateway = |section: &str| {
        let gateway = Gateway { name: "front".to_owned(), namespace: None, section: Some(section.to_owned()) };
        Settings { route: Route::HttpRoute(gateway), ..scene.settings.clone() }
    };
    let manager = Running::start(&by_gateway("nowhere")).await;
    until(&scene, &manager, "the route is not followed", |service| says(service, "route_refused", "NoMatchingParent")).await;
    manager.end().await;
    for (section, word, remedy) in
        [("closed", "NotAllowedByListeners", "allowedRoutes"), ("elsewhere", "NoMatchingListenerHostname", "*.DOMAIN")]
    {
        let manager = Running::start(&by_gateway(section)).await;
        let service = until(&scene, &manager, word, |service| says(service, "route_refused", word)).await;
        assert!(service.reasons.iter().any(|reason| reason.remedy.contains(remedy)), "{service:#?}");
        manager.end().await;
    }
    let manager = Running::start(&by_gateway("web")).await;
    leads(&scene, &manager, &front, HTTP_ROUTE).await;
    goes(&scene.namespace, INGRESS_ROUTE).await;
    manager.end().await;
    drop(front);

    // And back to what every cluster has.
    let manager = Running::start(&scene.settings).await;
    goes(&scene.namespace, HTTP_ROUTE).await;
    eventually("there is an Ingress", async || scene.namespace.api(INGRESS).get_opt("mcp-echo").await.unwrap().is_some()).await;
    manager.backend.remove(&echo, false).await.unwrap();
    assert_eq!(scene.namespace.owned().await, Vec::<String>::new());
    manager.end().await;
    the_rules_of_the_overlays_are_used_and_suffice(&scene);
    kubectl.run(&clean).await;
}

/// Without the kind the service runs, and its answer, a plan and `doctor` say what is lacking.
async fn nothing_is_silently_wrong(scene: &Scene, manager: &Running) {
    let lacking = "does not have the kind IngressRoute of traefik.io/v1alpha1";
    let service = until(scene, manager, "the kind is lacking", |service| {
        service.phase == Phase::Running && says(service, "route_missing", lacking)
    })
    .await;
    assert!(service.failure.is_none(), "{service:#?}");
    let plan = manager.backend.plan(&name("other"), running(spec(&scene.namespace))).await.unwrap();
    assert!(plan.warnings.iter().any(|warning| warning.contains(lacking)), "{:#?}", plan.warnings);
    assert!(scene.namespace.api(INGRESS).get_opt("mcp-echo").await.unwrap().is_none(), "nobody asked for that");
    let asked = [("MCP_MANAGER_KUBERNETES_ROUTE_KIND", "ingressroute")];
    let (_, report) = report_with(scene.namespace.kubeconfig(), &scene.namespace.name, &asked).await;
    let routes = check(&report, "routes");
    assert!(routes["message"].as_str().unwrap().contains(lacking), "{routes:#}");
    assert!(routes["remedy"].as_str().unwrap().contains("route_kind"), "{routes:#}");
}

/// The manager's own routes of the overlays and of the chart, as the cluster itself reads them.
async fn the_shipped_routes_are_what_the_kinds_take(kubectl: &Kubectl) {
    let folder = tempfile::tempdir().unwrap();
    for (kind, resource) in [("ingressroute", "ingressroute.traefik.io"), ("httproute", "httproute.gateway.networking.k8s.io")] {
        let route = format!("{resource}/mcp-manager");
        let said = kubectl.run(&format!("create --dry-run=server -o name -f k8s/overlays/{kind}/route.yaml")).await;
        assert_eq!(said.trim(), route);
        let whole = kubectl.run(&format!("kustomize k8s/overlays/{kind}")).await;
        assert!(whole.contains(&format!("ROUTE_KIND: {kind}")) && !whole.contains("kind: Ingress\n"), "{whole}");

        let values = format!("--set ingress.kind={kind} --set ingress.gateway.name=front --set ingress.entryPoints={{web}}");
        let mut helm = Command::new(machine::beside_kubernetes("MCP_TEST_HELM"));
        helm.args("template mcp k8s/helm/mcp-manager --namespace default --kube-version 1.30.0".split(' '))
            .args(values.split(' '));
        helm.current_dir(env!("CARGO_MANIFEST_DIR")).env("HELM_CACHE_HOME", folder.path()).stdin(Stdio::null());
        let only = helm.args(["--show-only", "templates/ingress.yaml"]);
        let file = folder.path().join(format!("{kind}.yaml"));
        let text = only.output().await.unwrap();
        assert!(text.status.success(), "{text:?}");
        std::fs::write(&file, text.stdout).unwrap();
        let said = kubectl.run(&format!("create --dry-run=server -o name -f {}", file.display())).await;
        assert_eq!(said.trim(), route);
    }
}

/// Gives the account the rule that the overlay adds to the Role.
async fn grant(scene: &Scene, overlay: &str) {
    let text = std::fs::read_to_string(format!("{}/k8s/overlays/{overlay}/kustomization.yaml", env!("CARGO_MANIFEST_DIR")));
    let text = text.unwrap();
    let rule = text.lines().find_map(|line| line.trim().strip_prefix("value: {apiGroups: ")).unwrap();
    let lists: Vec<Vec<&str>> = rule
        .split('[')
        .map(|part| part.split(']').next().unwrap().split(',').map(str::trim).filter(|word| !word.is_empty()).collect())
        .collect();
    let [_, groups, resources, verbs] = lists.as_slice() else { panic!("{rule}") };
    let duties = scene.namespace.api(ROLE);
    let mut rules = duties.get("manager").await.unwrap().data["rules"].clone();
    rules.as_array_mut().unwrap().push(json!({"apiGroups": groups, "resources": resources, "verbs": verbs}));
    duties.patch("manager", &PatchParams::default(), &Patch::Merge(json!({"rules": rules}))).await.unwrap();
}

/// The service has a route of this kind, which leads to it, and nothing to complain of.
async fn leads(scene: &Scene, manager: &Running, front: &Front, kind: Kind) {
    let well = |service: &ServiceState| service.phase == Phase::Running && service.reasons.is_empty();
    until(scene, manager, "nothing is lacking any more", well).await;
    eventually("there is a route", async || scene.namespace.api(kind).get_opt("mcp-echo").await.unwrap().is_some()).await;
    eventually("the route leads to the service", async || front.ask("echo.localhost").await == Some(200)).await;
    assert_eq!(front.ask("other.localhost").await, Some(404));
    until(scene, manager, "it goes on without complaint", well).await;
}

async fn goes(namespace: &Namespace, kind: Kind) {
    eventually("the former route goes", async || namespace.api(kind).get_opt("mcp-echo").await.unwrap().is_none()).await;
}

/// Nothing was refused to the account, and it has done all with routes that the overlays' rules allow.
fn the_rules_of_the_overlays_are_used_and_suffice(scene: &Scene) {
    let heard = scene.door.heard.borrow();
    assert!(heard.refused.is_empty(), "{:#?}", heard.refused);
    for (group, _, _, resource) in [INGRESS_ROUTE, HTTP_ROUTE] {
        let of = |verb: &str| Right { group: group.to_owned(), resource: resource.to_owned(), verb: verb.to_owned() };
        let used: Vec<&str> = VERBS.into_iter().filter(|verb| heard.used.contains(&of(verb))).collect();
        assert_eq!(used, VERBS, "{resource}");
    }
}

fn says(service: &ServiceState, code: &str, words: &str) -> bool {
    service.reasons.iter().any(|reason| reason.code == code && reason.cause.contains(words) && !reason.remedy.is_empty())
}

async fn until(scene: &Scene, manager: &Running, what: &str, holds: impl Fn(&ServiceState) -> bool) -> ServiceState {
    let (mut view, echo) = (manager.backend.view(), name("echo"));
    let seen = view.wait_for(|snapshot| snapshot.services.get(&echo).is_some_and(|service| holds(service)));
    let Ok(snapshot) = tokio::time::timeout(Duration::from_mins(2), seen).await else {
        let mut routes = Vec::new();
        for kind in [INGRESS, INGRESS_ROUTE, HTTP_ROUTE] {
            routes.extend(scene.namespace.api(kind).get_opt("mcp-echo").await.ok().flatten().map(|route| json!(route)));
        }
        panic!("it never came about that {what}: {:#?}\n{routes:#?}", manager.backend.view().borrow().services.get(&echo));
    };
    snapshot.unwrap().services[&echo].as_ref().clone()
}

/// Traefik beside the cluster, which follows the routes of one namespace and of one kind; it ends with this, and says what
/// it logged when the test has failed.
struct Front {
    _process: Child,
    log: tempfile::NamedTempFile,
    port: u16,
    client: Client,
}

impl Front {
    async fn of_ingress_routes(program: &str, namespace: &Namespace) -> Self {
        Self::start(program, namespace, "kubernetescrd", free_port()).await
    }

    /// With a Gateway `front`, whose listener `web` is Traefik's entry point; `closed` takes nobody's routes here, and
    /// `elsewhere` has another domain.
    async fn of_gateway(program: &str, namespace: &Namespace) -> Self {
        let port = free_port();
        let class = &namespace.name;
        let object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": class}, "spec": {"controllerName": "traefik.io/gateway-controller"}});
        let classes = namespace.cluster_api(("gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses"));
        classes.create(&kube::api::PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        let listener = |name: &str, host: &str| json!({"name": name, "port": port, "protocol": "HTTP", "hostname": host});
        let mut closed = listener("closed", "echo.localhost");
        let others = json!({"matchLabels": {"nobody": "has"}});
        closed["allowedRoutes"] = json!({"namespaces": {"from": "Selector", "selector": others}});
        let listeners = [listener("web", "*.localhost"), closed, listener("elsewhere", "*.example.org")];
        let object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "front"}, "spec": {"gatewayClassName": class, "listeners": listeners}});
        namespace.create(GATEWAY, object).await;
        Self::start(program, namespace, "kubernetesgateway", port).await
    }

    async fn start(program: &str, namespace: &Namespace, provider: &str, port: u16) -> Self {
        let ping = free_port();
        let log = tempfile::NamedTempFile::new().unwrap();
        let process = Command::new(program)
            .args([
                format!("--entrypoints.web.address=127.0.0.1:{port}"),
                format!("--entrypoints.traefik.address=127.0.0.1:{ping}"),
                format!("--providers.{provider}=true"),
                format!("--providers.{provider}.namespaces={}", namespace.name),
            ])
            .args(["--ping=true", "--global.checknewversion=false", "--global.sendanonymoususage=false", "--log.level=DEBUG"])
            .env("KUBECONFIG", namespace.kubeconfig())
            .stdin(Stdio::null())
            .stdout(log.reopen().unwrap())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let client = http_client().build().unwrap();
        eventually("Traefik answers", async || {
            let answer = client.get(format!("http://127.0.0.1:{ping}/ping")).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        Self { _process: process, log, port, client }
    }

    /// The status of an answer by this host name, if there is one.
    async fn ask(&self, host: &str) -> Option<u16> {
        let request = self.client.get(format!("http://127.0.0.1:{}/health", self.port)).header("host", host);
        let answer = request.timeout(Duration::from_secs(5)).send().await;
        answer.ok().map(|answer| answer.status().as_u16())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
            eprintln!("Traefik's log:\n{log}");
        }
    }
}

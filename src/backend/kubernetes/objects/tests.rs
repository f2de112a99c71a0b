//! The objects of services of several kinds, as snapshots; and what the restricted profile of Pod Security asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::settings::{Access, Gateway, Route};
use super::*;
use crate::domain::quantity::MilliCpu;
use crate::domain::spec::{Autoscaling, HealthCheck, Mount, MountSource, Probe, ServiceSpec, Transport};
use crate::domain::status::{Desired, Record};

fn settings() -> Settings {
    Settings { bridge_image: Some("example.org/mcp-manager:1".into()), ..Settings::new(Access::Account) }
}

fn record(spec: ServiceSpec) -> Record {
    Record {
        name: "echo".parse().unwrap(),
        generation: 1,
        desired: Desired::Running,
        spec: Arc::new(spec),
        template: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn made(spec: ServiceSpec, settings: &Settings) -> Vec<Object> {
    let names = Names { instance: "mcp".into(), namespace: "tools".into() };
    let replicas = spec.replicas;
    let record = record(spec);
    let context = Context { settings, names: &names, record: &record, root: "0-1-2", secrets_digest: "", replicas };
    objects(&context).unwrap()
}

fn http() -> ServiceSpec {
    ServiceSpec {
        image: "example.org/echo:1".into(),
        port: Some(8000),
        environment: [("PRICE".to_owned(), "$(5)".to_owned())].into(),
        tmpfs: [("/tmp".to_owned(), crate::domain::quantity::Bytes(64 << 20))].into(),
        health_check: HealthCheck { probe: Probe::Http("/health".into()), ..HealthCheck::default() },
        ..ServiceSpec::default()
    }
}

fn stdio() -> ServiceSpec {
    let entrypoint = Some(vec!["/mcp-echo".to_owned(), "--stdio".to_owned()]);
    ServiceSpec { transport: Transport::Stdio, entrypoint, replicas: 3, ..http() }
}

fn writing(replicas: u32) -> ServiceSpec {
    let mount = Mount { source: MountSource::Volume("data".into()), target: "/data".into(), read_only: false };
    ServiceSpec { volumes: vec![mount], replicas, ..http() }
}

fn of_kind(objects: &[Object], kind: Owned) -> &Value {
    &objects.iter().find(|object| object.kind == kind).unwrap().json
}

fn as_list(objects: Vec<Object>) -> Vec<Value> {
    objects.into_iter().map(|object| object.json).collect()
}

#[test]
fn the_objects_of_a_web_service() {
    insta::assert_json_snapshot!(as_list(made(http(), &settings())));
}

#[test]
fn the_objects_of_a_stdio_server_with_replicas() {
    insta::assert_json_snapshot!(as_list(made(stdio(), &settings())));
}

#[test]
fn the_workload_of_replicas_that_write_to_volumes() {
    insta::assert_json_snapshot!(of_kind(&made(writing(2), &settings()), Owned::StatefulSet));
}

#[test]
fn a_route_of_another_kind_takes_the_ingress_s_place_and_leads_to_the_same_service() {
    let by = |route: Route| {
        let settings = Settings {
            route,
            domain: "mcp.example.org".into(),
            ingress_class: Some("inner".into()),
            ingress_tls_secret: Some("certificate".into()),
            ..settings()
        };
        let extension = settings.extension().unwrap();
        let objects = made(http(), &settings);
        assert!(objects.iter().all(|object| object.kind != Owned::Ingress));
        let plain = made(http(), &Settings { ingress: false, ..settings.clone() });
        assert!(plain.iter().all(|object| !object.kind.is_extension()), "none is asked for");
        let portless = made(ServiceSpec { port: None, ..http() }, &settings);
        assert!(portless.iter().all(|object| !object.kind.is_extension()), "there is nothing to lead to");
        of_kind(&objects, extension).clone()
    };
    let traefik = by(Route::IngressRoute { entry_points: vec!["websecure".into()] });
    let gateway = Gateway { name: "front".into(), namespace: Some("edge".into()), section: Some("https".into()) };
    insta::assert_json_snapshot!([traefik, by(Route::HttpRoute(gateway))]);
}

#[test]
fn a_route_without_more_settings_leaves_the_choice_to_traefik_and_to_the_gateway() {
    let spec = |route: Route| {
        let settings = Settings { route, ..settings() };
        let objects = made(http(), &settings);
        of_kind(&objects, settings.extension().unwrap())["spec"].clone()
    };
    let services = json!([{"name": "mcp-echo", "port": "http"}]);
    assert_eq!(
        spec(Route::IngressRoute { entry_points: Vec::new() }),
        json!({"routes": [{"kind": "Rule", "match": "Host(`echo.localhost`)", "services": services}]})
    );
    let gateway = Gateway { name: "front".into(), namespace: None, section: None };
    assert_eq!(spec(Route::HttpRoute(gateway))["parentRefs"], json!([{"name": "front"}]));
}

#[test]
fn another_class_is_another_route() {
    let digest = |class: &str| {
        let route = Route::IngressRoute { entry_points: Vec::new() };
        let settings = Settings { route, ingress_class: Some(class.into()), ..settings() };
        made(http(), &settings).into_iter().find(|object| object.kind == Owned::IngressRoute).unwrap().digest
    };
    assert_ne!(digest("inner"), digest("outer"));
}

#[test]
fn one_replica_that_writes_is_stopped_before_the_next_is_started() {
    let objects = made(writing(1), &settings());
    assert_eq!(of_kind(&objects, Owned::Deployment)["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn every_container_keeps_to_the_restricted_profile_and_has_limits() {
    for spec in [http(), stdio(), writing(1), writing(2)] {
        let objects = made(spec, &settings());
        let workload = objects.iter().find(|object| object.kind.is_workload()).unwrap();
        let pod = &workload.json["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], json!(true));
        assert_eq!(pod["securityContext"]["seccompProfile"], json!({"type": "RuntimeDefault"}));
        assert_eq!(pod["automountServiceAccountToken"], json!(false));
        let containers = ["initContainers", "containers"].into_iter().filter_map(|list| pod[list].as_array()).flatten();
        for container in containers {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], json!(false));
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
            assert_eq!(security["readOnlyRootFilesystem"], json!(true));
            for resource in ["cpu", "memory", "ephemeral-storage"] {
                assert!(container["resources"]["limits"][resource].is_string(), "{container}");
                assert!(container["resources"]["requests"][resource].is_string(), "{container}");
            }
        }
        for volume in pod["volumes"].as_array().unwrap() {
            let bounded = volume["emptyDir"]["sizeLimit"].is_string() || volume["persistentVolumeClaim"].is_object();
            assert!(bounded, "{volume}");
        }
    }
}

#[test]
fn load_is_measured_against_what_a_replica_may_take() {
    let autoscaling = Some(Autoscaling { min: 1, max: 3, cpu_percent: 60, scale_down_after: "2m".parse().unwrap() });
    let objects = made(ServiceSpec { autoscaling, cpu_limit: MilliCpu(500), ..http() }, &settings());
    insta::assert_json_snapshot!(of_kind(&objects, Owned::HorizontalPodAutoscaler)["spec"], @r#"
    {
      "behavior": {
        "scaleDown": {
          "stabilizationWindowSeconds": 120
        }
      },
      "maxReplicas": 3,
      "metrics": [
        {
          "resource": {
            "name": "cpu",
            "target": {
              "averageValue": "300m",
              "type": "AverageValue"
            }
          },
          "type": "Resource"
        }
      ],
      "minReplicas": 1,
      "scaleTargetRef": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "mcp-echo"
      }
    }
    "#);
    assert!(objects.iter().any(|object| object.kind == Owned::PodDisruptionBudget), "there may be several");
}

#[test]
fn a_template_says_on_which_nodes_and_changes_nothing_else() {
    let section = json!({"node_selector": {"disk": "fast"}, "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}}});
    let placed = ServiceSpec { kubernetes: serde_json::from_value(section).unwrap(), ..http() };
    let pod = |spec: ServiceSpec| {
        of_kind(&made(spec, &settings()), Owned::Deployment)["spec"]["template"]["spec"].as_object().unwrap().clone()
    };
    let (plain, mut placed) = (pod(http()), pod(placed));
    assert_eq!(placed.remove("nodeSelector"), Some(json!({"disk": "fast"})));
    assert_eq!(placed.remove("tolerations"), Some(json!([{"key": "gpu", "operator": "Exists"}])));
    assert_eq!(placed.remove("affinity"), Some(json!({"nodeAffinity": {}})));
    assert_eq!(placed, plain);
}

#[test]
fn a_user_is_fixed_only_where_the_cluster_assigns_none() {
    let of = |spec: ServiceSpec, settings: &Settings| {
        let objects = made(spec, settings);
        of_kind(&objects, Owned::Deployment)["spec"]["template"]["spec"]["securityContext"].clone()
    };
    let assigned = Settings { run_as_user: None, ..settings() };
    assert_eq!(of(http(), &assigned)["runAsUser"], Value::Null);
    assert_eq!(of(http(), &settings())["runAsUser"], json!(65_532));
    assert_eq!(of(ServiceSpec { user: Some("1000:2000".into()), ..http() }, &settings())["runAsGroup"], json!(2000));
    assert_eq!(of(ServiceSpec { user: Some("node".into()), ..http() }, &settings())["runAsUser"], Value::Null);
}

#[test]
fn root_of_a_node_and_users_by_name_are_warned_of() {
    let warnings = |user: Option<&str>| {
        let spec = ServiceSpec { user: user.map(str::to_owned), ..http() };
        super::super::state::warnings(&record(spec)).join("\n")
    };
    for fine in [None, Some("1000"), Some("1000:2000"), Some("1000:0")] {
        assert_eq!(warnings(fine), "", "{fine:?}");
    }
    for root in ["0", "0:0", "00", "0:1000"] {
        assert!(warnings(Some(root)).contains("runs as root of its node"), "{root}");
    }
    for name in ["nobody", "nobody:nogroup", "1000:staff", "root"] {
        let said = warnings(Some(name));
        assert!(said.contains(&format!("'{name}' is not followed")) && said.contains("write the numbers"), "{said}");
    }
}

#[test]
fn what_is_open_is_open_by_name_and_metadata_never_is() {
    let egress = |spec: ServiceSpec| {
        let objects = made(spec, &settings());
        of_kind(&objects, Owned::NetworkPolicy)["spec"]["egress"].to_string()
    };
    assert!(!egress(http()).contains("0.0.0.0/0"));
    let open = egress(ServiceSpec { egress: true, ..http() });
    for closed in ["169.254.0.0/16", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32"] {
        assert!(open.contains("0.0.0.0/0") && open.contains(closed), "{closed} is open: {open}");
    }
}

#[test]
fn the_manager_is_let_in_from_its_own_namespace_alone() {
    let ingress = |settings: &Settings| {
        let objects = made(http(), settings);
        of_kind(&objects, Owned::NetworkPolicy)["spec"]["ingress"][0]["from"][1].clone()
    };
    let pods = json!({"matchLabels": {"app.kubernetes.io/name": "mcp-manager"}});
    assert_eq!(ingress(&settings()), json!({"podSelector": pods}));
    let elsewhere = Settings { manager_namespace: Some("ops".into()), ..settings() };
    let namespace = json!({"matchLabels": {"kubernetes.io/metadata.name": "ops"}});
    assert_eq!(ingress(&elsewhere), json!({"podSelector": pods, "namespaceSelector": namespace}));
}

fn digest(spec: ServiceSpec, settings: &Settings) -> String {
    made(spec, settings).into_iter().find(|object| object.kind.is_workload()).unwrap().digest
}

#[test]
fn another_version_of_the_bridge_replaces_no_pods() {
    let newer = Settings { bridge_image: Some("example.org/mcp-manager:2".into()), ..settings() };
    assert_eq!(digest(stdio(), &settings()), digest(stdio(), &newer));
}

#[test]
fn another_domain_replaces_the_pods_that_are_called_by_it_and_no_others() {
    let below = |domain: &str| Settings { domain: domain.into(), ..settings() };
    let sse = || ServiceSpec { transport: Transport::Sse, ..stdio() };
    for spec in [stdio(), sse()] {
        let digests = ["localhost", "one.example.org", "two.example.org"].map(|domain| digest(spec.clone(), &below(domain)));
        assert_eq!(digests.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{digests:?}");
    }
    assert_eq!(digest(http(), &settings()), digest(http(), &below("one.example.org")));
}

#[test]
fn a_volume_that_is_called_as_the_bridge_s_folder_is_another_one() {
    let mount = |volume: &str| Mount { source: MountSource::Volume(volume.into()), target: "/data".into(), read_only: false };
    let pod = |volume: &str, replicas: u32| {
        let spec = ServiceSpec { volumes: vec![mount(volume)], replicas, ..stdio() };
        let objects = made(spec, &settings());
        objects.iter().find(|object| object.kind.is_workload()).unwrap().json["spec"]["template"]["spec"].clone()
    };
    for replicas in [1, 2] {
        assert_eq!(folder(&pod("data", replicas)), "mcp-bridge");
        let both = pod("bridge", replicas);
        assert_eq!(folder(&both), "mcpbridge");
        assert_eq!(both["initContainers"][0]["volumeMounts"][0]["name"], "mcpbridge");
        let mounts = both["containers"][0]["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| mount["name"] == "mcp-bridge" && mount["mountPath"] == "/data"), "{mounts:?}");
    }
}

/// Name of the volume with the bridge, which is the pod's only one at that path.
fn folder(pod: &Value) -> String {
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let name = mounts.iter().find(|mount| mount["mountPath"] == "/.mcp-bridge").unwrap()["name"].clone();
    let of_that_name = |volume: &&Value| volume["name"] == name && volume["emptyDir"].is_object();
    assert_eq!(pod["volumes"].as_array().unwrap().iter().filter(of_that_name).count(), 1, "{pod}");
    name.as_str().unwrap().to_owned()
}

#[test]
fn a_secret_s_public_digest_is_the_keyed_one() {
    let names = Names { instance: "mcp".into(), namespace: "tools".into() };
    let record = record(http());
    let settings = settings();
    let context =
        |digest| Context { settings: &settings, names: &names, record: &record, root: "0", secrets_digest: digest, replicas: 1 };
    let data = |value: &str| BTreeMap::from([("env.KEY".to_owned(), value.to_owned())]);
    assert_eq!(secret(&context("a"), &data("x")).digest, secret(&context("a"), &data("y")).digest);
    assert_ne!(secret(&context("a"), &data("x")).digest, secret(&context("b"), &data("x")).digest);
}

//! A look at what services and the manager need of a cluster, for `mcp-manager doctor`: the account's rights, and what the
//! cluster provides. It asks, and changes nothing.

use futures_util::future::join_all;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::ApiResource;
use serde_json::json;

use super::reconcile::in_time;
use super::settings::{Gateway, Route, Settings};
use super::{connect, extension, kinds};
use crate::error::{Error, Kind, Result};

/// How one thing is. Without a remedy it is as it should be.
#[derive(Debug, Clone)]
pub struct Look {
    /// What was looked at, in a word or two.
    pub check: &'static str,
    /// How it is, and what that means.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Services cannot run like this.
    pub fails: bool,
}

/// Everything that the manager's account does in the namespace of services: group, resources, verbs. It is the Role of
/// `k8s/base/rbac.yaml`.
const RIGHTS: [(&str, &[&str], &[&str]); 15] = [
    ("", &["configmaps"], WRITE),
    ("", &["serviceaccounts"], KEEP),
    ("", &["services"], WRITE),
    ("", &["secrets"], &["get", "list", "watch", "create", "patch", "delete"]),
    ("apps", &["deployments", "statefulsets"], KEEP),
    ("networking.k8s.io", &["networkpolicies"], KEEP),
    ("networking.k8s.io", &["ingresses"], WRITE),
    ("autoscaling", &["horizontalpodautoscalers"], WRITE),
    ("policy", &["poddisruptionbudgets"], WRITE),
    ("", &["persistentvolumeclaims"], &["list", "create", "delete"]),
    ("", &["pods"], &["list", "watch"]),
    ("", &["pods/log"], &["get"]),
    ("", &["events"], &["list"]),
    ("metrics.k8s.io", &["pods"], &["list"]),
    ("coordination.k8s.io", &["leases"], &["get", "watch", "create", "patch"]),
];
const WRITE: &[&str] = &["list", "watch", "create", "patch", "delete"];
/// What every service has goes with its record, and is never deleted by itself.
const KEEP: &[&str] = &["list", "watch", "create", "patch"];

/// Networks that enforce policies, by how their workloads are called.
const ENFORCERS: [&str; 8] = ["calico", "cilium", "antrea", "weave", "kube-router", "ovn", "canal", "netpol"];

fn well(check: &'static str, message: impl Into<String>) -> Look {
    Look { check, message: message.into(), remedy: None, fails: false }
}

fn poor(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Look {
    Look { check, message: message.into(), remedy: Some(remedy.into()), fails: false }
}

fn bad(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Look {
    Look { fails: true, ..poor(check, message, remedy) }
}

/// Looks at the cluster that these settings lead to.
pub async fn examine(mut settings: Settings) -> Vec<Look> {
    let (client, namespace) = match connect::connect(&mut settings).await {
        Ok(found) => found,
        Err(error) => return vec![bad("cluster", error.detail, error.remedy.unwrap_or_default())],
    };
    let version = match in_time(client.apiserver_version(), "ask the cluster for its version").await {
        Ok(version) => version.git_version,
        Err(error) => return vec![bad("cluster", error.detail, error.remedy.unwrap_or_default())],
    };
    let mut looks = vec![well("cluster", format!("{version}, services in the namespace {namespace}"))];
    looks.push(rights(&client, &namespace).await);
    looks.push(security(&client, &namespace).await);
    looks.extend(route(&client, &namespace, &settings).await);
    let ingress = ("ingress class", kinds::resource("networking.k8s.io", "v1", "IngressClass", "ingressclasses"));
    if settings.ingress && settings.route == Route::Ingress {
        let remedy = "install an ingress controller, or set kubernetes.ingress_class; services are reached through the manager";
        looks.push(class(&client, ingress, "ingressclass.kubernetes.io", settings.ingress_class.as_deref(), remedy).await);
    }
    let storage = ("storage class", kinds::resource("storage.k8s.io", "v1", "StorageClass", "storageclasses"));
    let remedy = "make one the default, or set kubernetes.storage_class; services with volumes wait for ever otherwise";
    looks.push(class(&client, storage, "storageclass.kubernetes.io", settings.storage_class.as_deref(), remedy).await);
    looks.push(metrics(&client, &namespace).await);
    looks.push(policies(&client).await);
    looks
}

async fn rights(client: &Client, namespace: &str) -> Look {
    const CHECK: &str = "rights";
    let asked = RIGHTS.iter().flat_map(|(group, resources, verbs)| {
        resources.iter().flat_map(move |resource| verbs.iter().map(move |verb| (*group, *resource, *verb)))
    });
    let answers = join_all(asked.map(|right| may(client, namespace, right))).await;
    let answers: Result<Vec<Option<String>>> = answers.into_iter().collect();
    match answers.map(|answers| answers.into_iter().flatten().collect::<Vec<_>>()) {
        Err(error) => bad(CHECK, error.detail, error.remedy.unwrap_or_default()),
        Ok(missing) if missing.is_empty() => well(CHECK, "this account may do all that the manager does"),
        Ok(missing) => {
            let message = format!("this account may not: {}", missing.join(", "));
            bad(CHECK, message, "kubectl apply -f k8s/base/rbac.yaml, and run the manager with the account that it names")
        }
    }
}

/// Routes of a kind that is not every cluster's.
async fn route(client: &Client, namespace: &str, settings: &Settings) -> Option<Look> {
    const CHECK: &str = "routes";
    let kind = settings.extension()?;
    let name = kind.resource().kind;
    Some(match (extension::lack(client, namespace, kind).await, &settings.route) {
        (Err(error), _) => unseen(CHECK, &format!("whether there are {name}s"), &error),
        (Ok(Some(lack)), _) => poor(CHECK, format!("services get no {name}: {}", lack.what), lack.remedy),
        (Ok(None), Route::HttpRoute(wanted)) => gateway(client, namespace, wanted).await,
        (Ok(None), _) => well(CHECK, format!("the cluster has {name}s, and this account may write them")),
    })
}

/// Whether the Gateway of all routes is there; the manager itself need not see it.
async fn gateway(client: &Client, namespace: &str, wanted: &Gateway) -> Look {
    const CHECK: &str = "routes";
    let (name, namespace) = (&wanted.name, wanted.namespace.as_deref().unwrap_or(namespace));
    let kind = kinds::resource("gateway.networking.k8s.io", "v1", "Gateway", "gateways");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    match in_time(api.get(name), "look at the Gateway").await {
        Ok(_) => well(CHECK, format!("the Gateway '{name}' is there, in {namespace}, and this account may write HTTPRoutes")),
        Err(error) if error.kind == Kind::NotFound => {
            let remedy = "make it, or correct kubernetes.gateway and kubernetes.gateway_namespace";
            poor(CHECK, format!("there is no Gateway '{name}' in {namespace}, so nothing follows the HTTPRoutes"), remedy)
        }
        Err(error) => unseen(CHECK, "the Gateway", &error),
    }
}

/// The right as people read it, if the account lacks it.
pub(super) async fn may(client: &Client, namespace: &str, (group, resource, verb): (&str, &str, &str)) -> Result<Option<String>> {
    let (name, part) = resource.split_once('/').unwrap_or((resource, ""));
    let kind = kinds::resource("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews");
    let mut review = DynamicObject::new("", &kind);
    review.metadata.name = None;
    review.data = json!({"spec": {"resourceAttributes": {
        "namespace": namespace, "group": group, "resource": name, "subresource": part, "verb": verb,
    }}});
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let answer = in_time(api.create(&PostParams::default(), &review), "ask for the account's rights").await?;
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    Ok((answer.data["status"]["allowed"] != json!(true)).then(|| format!("{verb} {resource}{group}")))
}

/// What pods of the namespace are held to.
async fn security(client: &Client, namespace: &str) -> Look {
    const CHECK: &str = "pod security";
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kinds::resource("", "v1", "Namespace", "namespaces"));
    let found = match in_time(api.get(namespace), "look at the namespace").await {
        Ok(found) => found,
        Err(error) if error.kind == Kind::NotFound => {
            return bad(CHECK, format!("there is no namespace {namespace}"), format!("kubectl create namespace {namespace}"));
        }
        Err(error) => return unseen(CHECK, "how the namespace is labelled", &error),
    };
    let level = found.metadata.labels.unwrap_or_default().remove("pod-security.kubernetes.io/enforce");
    match level.as_deref() {
        Some("restricted") => well(CHECK, "the namespace enforces the restricted profile, which services keep to"),
        other => poor(
            CHECK,
            format!("the namespace enforces {}, so a service whose locks are opened runs", other.unwrap_or("no profile")),
            format!("kubectl label namespace {namespace} --overwrite pod-security.kubernetes.io/enforce=restricted"),
        ),
    }
}

/// A class that is named must be there; else one must be the default.
async fn class(
    client: &Client,
    (check, kind): (&'static str, ApiResource),
    prefix: &str,
    wanted: Option<&str>,
    remedy: &str,
) -> Look {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let found = match in_time(api.list(&ListParams::default()), "look at the cluster's classes").await {
        Ok(found) => found.items,
        Err(error) => return unseen(check, "which there are", &error),
    };
    let is_default = |class: &&DynamicObject| {
        let annotations = class.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(&format!("{prefix}/is-default-class"))).is_some_and(|value| value == "true")
    };
    let name = |class: &DynamicObject| class.metadata.name.clone().unwrap_or_default();
    let names = || found.iter().map(name).collect::<Vec<_>>().join(", ");
    match (wanted, found.iter().find(is_default)) {
        (Some(wanted), _) if found.iter().any(|class| name(class) == wanted) => well(check, format!("'{wanted}' is there")),
        (Some(wanted), _) => poor(check, format!("there is no '{wanted}'; there are: {}", names()), remedy),
        (None, Some(class)) => well(check, format!("'{}' is the default", name(class))),
        (None, None) if found.is_empty() => poor(check, "there is none", remedy),
        (None, None) => poor(check, format!("none is the default; there are: {}", names()), remedy),
    }
}

async fn metrics(client: &Client, namespace: &str) -> Look {
    const CHECK: &str = "metrics";
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kinds::pod_metrics());
    match in_time(api.list(&ListParams::default().limit(1)), "read metrics of pods").await {
        Ok(_) => well(CHECK, "the cluster measures pods"),
        Err(error) => {
            let message = format!("no 'stats' and no 'autoscaling': {}", error.detail);
            poor(CHECK, message, "install metrics-server, or wait until it is ready")
        }
    }
}

/// Nobody can be asked whether policies are enforced, so it is concluded from what runs.
async fn policies(client: &Client) -> Look {
    const CHECK: &str = "network policies";
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kinds::resource("apps", "v1", "DaemonSet", "daemonsets"));
    let found = match in_time(api.list(&ListParams::default()), "look at the cluster's network").await {
        Ok(found) => found.items,
        Err(error) => return unseen(CHECK, "what enforces them", &error),
    };
    let names = found.into_iter().filter_map(|daemon| daemon.metadata.name);
    let known = names.into_iter().find(|name| ENFORCERS.iter().any(|enforcer| name.contains(enforcer)));
    match known {
        Some(name) => well(CHECK, format!("'{name}' enforces them")),
        None => poor(
            CHECK,
            "nothing that is known to enforce them runs: services may reach each other, the API server and cloud metadata",
            "ask whoever runs the cluster's network; Calico, Cilium, Antrea and others enforce them, plain Flannel does not",
        ),
    }
}

/// What the account may not look at is no fault of the cluster.
fn unseen(check: &'static str, what: &str, error: &Error) -> Look {
    let message = format!("this account may not see {what} ({})", error.detail);
    poor(check, message, "run 'mcp-manager doctor' with an administrator's kubeconfig")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_what_the_manifests_grant() {
        let text = include_str!("../../../k8s/base/rbac.yaml");
        let list = |line: &str, key: &str| -> Option<Vec<String>> {
            let words = line.trim().trim_start_matches("- ").strip_prefix(key)?.trim().trim_matches(['[', ']']).to_owned();
            Some(words.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect())
        };
        let all = |key: &str| text.lines().filter_map(|line| list(line, key)).collect::<Vec<_>>();
        let (groups, resources, verbs) = (all("apiGroups:"), all("resources:"), all("verbs:"));
        let granted = groups.into_iter().zip(resources).zip(verbs).map(|((group, resources), verbs)| (group, resources, verbs));
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let asked = RIGHTS.iter().map(|(group, resources, verbs)| (owned(&[group]), owned(resources), owned(verbs)));
        assert_eq!(asked.collect::<Vec<_>>(), granted.collect::<Vec<_>>());
    }

    #[test]
    fn what_may_not_be_seen_is_said_and_is_no_failure() {
        let look = unseen("metrics", "them", &Error::new(Kind::NotSupported, "forbidden"));
        assert!(!look.fails && look.remedy.is_some_and(|remedy| remedy.contains("doctor")));
    }
}

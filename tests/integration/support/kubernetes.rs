//! A Kubernetes cluster beside the product, through its API: namespaces for tests, and what is left in them.

use std::path::PathBuf;

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use mcp_manager::backend::kubernetes::Access;
use serde_json::{Value, json};

use super::machine::{self, Part};
use super::podman::unique;

/// Every kind of object that a service may consist of: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 13] = [
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("networking.k8s.io", "v1", "Ingress", "ingresses"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
];

/// A namespace of one test's own; it goes with everything in it when the test ends.
pub struct Namespace {
    pub name: String,
    pub client: Client,
    /// Image of the echo server.
    pub image: String,
    path: PathBuf,
}

impl Namespace {
    /// A new one, in which the restricted profile is enforced and warned of, as in that of `k8s/`; `None` where the machine offers no cluster.
    pub async fn new() -> Option<Self> {
        let profile =
            json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"});
        Self::labelled(profile).await
    }

    /// One in which pods may do anything, for what stands beside the product.
    pub async fn open() -> Option<Self> {
        Self::labelled(json!({})).await
    }

    async fn labelled(mut labels: Value) -> Option<Self> {
        let path = PathBuf::from(machine::offered(Part::Kubernetes)?);
        let image = machine::beside_kubernetes("MCP_TEST_KUBE_IMAGE");
        let client = client(&path).await;
        let name = unique("mcp-test-");
        labels["mcp-manager-test"] = "yes".into();
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let namespaces: Api<DynamicObject> = Api::all_with(client.clone(), &resource("", "v1", "Namespace", "namespaces"));
        namespaces.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        Some(Self { name, client, image, path })
    }

    /// The file that leads to its cluster.
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.path
    }

    /// The same file for an account of this namespace, in whose name the administrator speaks.
    pub fn kubeconfig_of(&self, account: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let text = std::fs::read_to_string(&self.path).unwrap();
        let user = format!("user: {{as: 'system:serviceaccount:{}:{account}', client-certificate-data", self.name);
        assert!(text.contains("user: {client-certificate-data"), "the file is written in another way");
        std::fs::write(&path, text.replace("user: {client-certificate-data", &user)).unwrap();
        (folder, path)
    }

    /// The way to it, for the product.
    pub fn access(&self) -> Access {
        // The namespace is not part of the way: see `Settings::namespace`.
        Access::File { path: self.path.clone(), context: None }
    }

    /// Objects of a kind, by its group, version, kind and plural.
    pub fn api(&self, kind: (&str, &str, &str, &str)) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.name, &resource(kind.0, kind.1, kind.2, kind.3))
    }

    /// Creates an object, given as JSON.
    pub async fn create(&self, kind: (&str, &str, &str, &str), object: Value) -> DynamicObject {
        self.api(kind).create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    }

    /// Objects of a kind that are in no namespace.
    pub fn cluster_api(&self, kind: (&str, &str, &str, &str)) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource(kind.0, kind.1, kind.2, kind.3))
    }

    /// Everything of ours in it.
    pub async fn owned(&self) -> Vec<String> {
        let mut owned = Vec::new();
        for kind in KINDS {
            let ours = ListParams::default().labels("io.mcp-manager.owner");
            let listed = self.api(kind).list(&ours).await.unwrap();
            owned.extend(listed.items.into_iter().map(|object| format!("{} {}", kind.2, object.metadata.name.unwrap())));
        }
        owned
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let (path, name) = (self.path.clone(), self.name.clone());
        // The test's runtime may be ending; the deletion has one of its own.
        let deletion = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let resource = resource("", "v1", "Namespace", "namespaces");
                let namespaces: Api<DynamicObject> = Api::all_with(client(&path).await, &resource);
                let _ = namespaces.delete(&name, &DeleteParams::background()).await;
            });
        });
        let _ = deletion.join();
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

async fn client(path: &std::path::Path) -> Client {
    let read = Kubeconfig::read_from(path).unwrap();
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

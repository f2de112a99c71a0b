//! Volumes that a service cannot have, each for its own reason. Those of a driver are attached by nobody but the test.

use std::time::Instant;

use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use mcp_manager::backend::kubernetes::{Kubernetes, Settings};
use mcp_manager::domain::spec::{Mount, MountSource, ServiceSpec};
use serde_json::{Value, json};

use super::lost_node::spoken_for;
use super::{Kind, NODE, POD, says, told};
use crate::contract::{Manager, PATIENCE, name, running, spec};
use crate::support::kubernetes::Namespace;

const CLAIM: Kind = ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims");
const VOLUME: Kind = ("", "v1", "PersistentVolume", "persistentvolumes");
const ATTACHMENT: Kind = ("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments");
const DRIVER: Kind = ("storage.k8s.io", "v1", "CSIDriver", "csidrivers");

/// A service that writes to the volume `data`.
fn writing(namespace: &Namespace) -> ServiceSpec {
    let mount = Mount { source: MountSource::Volume("data".into()), target: "/data".into(), read_only: false };
    ServiceSpec { volumes: vec![mount], ..spec(namespace) }
}

/// A volume of the cluster with this text, and the claim that the service takes it by; the volume's name.
async fn volume(namespace: &Namespace, text: Value) -> String {
    let name = namespace.name.clone();
    let mut object = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {"mcp-manager-test": "yes"}},
        "spec": {"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": name, "name": "mcp-data"}}});
    object["spec"].as_object_mut().unwrap().extend(text.as_object().unwrap().clone());
    let volumes = namespace.cluster_api(VOLUME);
    volumes.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "mcp-data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name,
            "resources": {"requests": {"storage": "1Mi"}}}});
    namespace.create(CLAIM, claim).await;
    name
}

/// Takes a volume away that no pod uses any more.
async fn gone(namespace: &Namespace, volume: &str) {
    namespace.api(CLAIM).delete("mcp-data", &DeleteParams::default()).await.unwrap();
    namespace.cluster_api(VOLUME).delete(volume, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_of_volumes_that_there_is_not_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let settings = Settings { storage_class: Some("nobody-has".to_owned()), ..namespace.settings() };
    let manager = Manager::start_with(|tasks| Kubernetes::connect(settings, tasks)).await;
    manager.backend.create(&name("echo"), running(writing(&namespace))).await.unwrap();
    says(&manager, "volume_pending", &["nobody-has", "kubernetes.storage_class"]).await;
    manager.backend.remove(&name("echo"), true).await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_elsewhere_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["long-gone"]}]});
    let there = json!({"required": {"nodeSelectorTerms": [term]}});
    let volume = volume(&namespace, json!({"hostPath": {"path": "/data"}, "nodeAffinity": there})).await;
    told(&namespace, writing(&namespace), "volume_pending", &["node affinity", "delete the volume"]).await;
    gone(&namespace, &volume).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_cannot_be_mounted_is_named() {
    let Some(namespace) = Namespace::new().await else { return };
    let path = json!({"path": "/nobody/made/this", "type": "Directory"});
    let volume = volume(&namespace, json!({"hostPath": path})).await;
    let reason = told(&namespace, writing(&namespace), "volume_not_mounted", &["MountVolume", "/nobody/made/this"]).await;
    assert!(reason.instance.is_some() && !reason.permanent, "{reason:?}");
    gone(&namespace, &volume).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_cannot_be_attached_is_named_and_so_is_who_has_it() {
    let Some(namespace) = Namespace::new().await else { return };
    // The cluster asks for attachments of this driver, and nobody is there who would make them but the test.
    let driver = format!("{}.example.org", namespace.name);
    let object = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": driver},
        "spec": {"attachRequired": true}});
    let drivers = namespace.cluster_api(DRIVER);
    drivers.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let volume = volume(&namespace, json!({"csi": {"driver": driver, "volumeHandle": "disk"}})).await;
    let manager = Manager::start(&namespace).await;
    manager.backend.create(&name("echo"), running(writing(&namespace))).await.unwrap();
    let attachment = attachment(&namespace, &volume, |_| true).await;
    let attachments = namespace.cluster_api(ATTACHMENT);
    let status = |status: Value| Patch::Merge(json!({"status": status}));
    let error =
        json!({"attached": false, "attachError": {"message": "the disk is on fire", "time": jiff::Timestamp::now().to_string()}});
    attachments.patch_status(&attachment, &PatchParams::default(), &status(error)).await.unwrap();
    says(&manager, "volume_not_attached", &["the disk is on fire", "driver"]).await;
    manager.backend.remove(&name("echo"), false).await.unwrap();
    let node = spoken_for(&namespace, json!({}), "10").await;
    held_by(&namespace, &node).await;
    let elsewhere = attachment_on(&namespace, &volume, &node).await;
    attachments.patch_status(&elsewhere, &PatchParams::default(), &status(json!({"attached": true}))).await.unwrap();
    manager.backend.create(&name("echo"), running(writing(&namespace))).await.unwrap();
    says(&manager, "volume_not_attached", &["Multi-Attach", "another pod has the volume on another node"]).await;
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    namespace.api(POD).delete("holder", &at_once).await.unwrap();
    namespace.cluster_api(NODE).delete(&node, &DeleteParams::default()).await.unwrap();
    gone(&namespace, &volume).await;
    drivers.delete(&driver, &DeleteParams::default()).await.unwrap();
    // Nobody else says that it is detached.
    for found in attachments.list(&ListParams::default()).await.unwrap() {
        if found.data["spec"]["attacher"] == json!(driver) {
            let _ = attachments.delete(&found.metadata.name.unwrap(), &DeleteParams::default()).await;
        }
    }
}

/// A pod on this node that has the service's volume.
async fn held_by(namespace: &Namespace, node: &str) {
    let restricted = json!({"runAsNonRoot": true, "runAsUser": 1, "allowPrivilegeEscalation": false,
        "seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["ALL"]}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "holder"}, "spec": {
        "nodeName": node, "tolerations": [{"operator": "Exists"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "mcp-data"}}],
        "containers": [{"name": "x", "image": namespace.image, "securityContext": restricted,
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    }});
    namespace.create(POD, pod).await;
}

async fn attachment_on(namespace: &Namespace, volume: &str, node: &str) -> String {
    attachment(namespace, volume, |on| on == node).await
}

/// The name of the attachment of a volume to a node that is so, once the cluster asks for it.
async fn attachment(namespace: &Namespace, volume: &str, is_so: impl Fn(&str) -> bool) -> String {
    let attachments = namespace.cluster_api(ATTACHMENT);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed = attachments.list(&ListParams::default()).await.unwrap();
        let found = listed.items.into_iter().find(|found| {
            let spec = &found.data["spec"];
            spec["source"]["persistentVolumeName"] == json!(volume) && spec["nodeName"].as_str().is_some_and(&is_so)
        });
        if let Some(found) = found {
            return found.metadata.name.unwrap();
        }
        assert!(Instant::now() < deadline, "nobody asks for an attachment of {volume}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

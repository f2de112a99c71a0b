//! What makes a service's pods: a Deployment, or a StatefulSet where each replica needs volumes of its own.

use serde_json::{Value, json};

use super::super::kinds::Owned;
use super::super::names;
use super::{Context, Object, pod};
use crate::domain::spec::{MountSource, ServiceSpec};
use crate::domain::status::Record;
use crate::error::Result;

/// Old revisions that are kept, to look at.
const REVISIONS: u32 = 2;
/// Seconds beyond the longest pull and the budget of a start until a rollout that does not get on is said to be stuck.
const GRACE: u64 = 60;

/// Which kind of workload a spec needs.
pub(in crate::backend::kubernetes) fn kind(spec: &ServiceSpec) -> Owned {
    if has_own_claims(spec) { Owned::StatefulSet } else { Owned::Deployment }
}

/// Whether each replica has volumes of its own: several of them cannot write to one.
pub(super) fn has_own_claims(spec: &ServiceSpec) -> bool {
    let writes = |mount: &crate::domain::spec::Mount| !mount.read_only && matches!(mount.source, MountSource::Volume(_));
    spec.most_replicas() > 1 && spec.volumes.iter().any(writes)
}

/// The workload. Its digest is that of what the pods embody, not of its text: a manager that writes pods in another way
/// than the one before does not replace those that run.
pub(super) fn workload(context: &Context<'_>) -> Result<Object> {
    let (record, settings) = (context.record, context.settings);
    let spec = &record.spec;
    let kind = kind(spec);
    let template = pod::template(context)?;
    let mut embodied = format!("{} {} {:?}", spec.container_digest(), context.secrets_digest, settings.image_pull_secrets);
    embodied.extend(super::bridge::host(spec, settings).map(|host| format!(" {host}")));
    let mut body = json!({
        "replicas": context.replicas,
        "revisionHistoryLimit": REVISIONS,
        "selector": {"matchLabels": context.names.pod_selector(&record.name)},
        "template": template,
    });
    if kind == Owned::StatefulSet {
        body["serviceName"] = json!(context.names.headless(record.name.as_str()));
        body["podManagementPolicy"] = json!("Parallel");
        body["volumeClaimTemplates"] = volume_claim_templates(context);
    } else {
        body["progressDeadlineSeconds"] = json!((settings.max_wait + spec.start_timeout.duration()).as_secs() + GRACE);
        body["strategy"] = if spec.allows_overlap() {
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
        } else {
            json!({"type": "Recreate"})
        };
    }
    let digest = names::digest(&embodied);
    let mut object = context.object_made_from(kind, &context.name(), json!({"spec": body}), digest);
    object.json["metadata"]["annotations"][names::REPLICAS] = json!(asked_for(record).to_string());
    Ok(object)
}

/// How many replicas a record asks for; as many as there are to be unless somebody else scales.
pub(in crate::backend::kubernetes) fn asked_for(record: &Record) -> u32 {
    if record.desired == crate::domain::status::Desired::Running { record.spec.replicas } else { 0 }
}

/// With several replicas, one at a time may be taken away by those who empty nodes.
pub(super) fn disruption_budget(context: &Context<'_>) -> Option<Object> {
    let selector = json!({"matchLabels": context.names.pod_selector(&context.record.name)});
    let body = json!({"spec": {"maxUnavailable": 1, "selector": selector}});
    (context.record.spec.most_replicas() > 1).then(|| context.object(Owned::PodDisruptionBudget, &context.name(), body))
}

/// What changes the number of replicas by their load. That is measured against what they may take, not against the part
/// of it that they are promised.
pub(super) fn autoscaler(context: &Context<'_>) -> Option<Object> {
    let spec = &context.record.spec;
    let autoscaling = spec.autoscaling.as_ref()?;
    let resource = kind(spec).resource();
    let load = (spec.cpu_limit.0 * autoscaling.cpu_percent / 100).max(1);
    let target = json!({"type": "AverageValue", "averageValue": format!("{load}m")});
    let body = json!({"spec": {
        "scaleTargetRef": {"apiVersion": resource.api_version, "kind": resource.kind, "name": context.name()},
        "minReplicas": autoscaling.min,
        "maxReplicas": autoscaling.max,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": autoscaling.scale_down_after.duration().as_secs()}},
    }});
    Some(context.object(Owned::HorizontalPodAutoscaler, &context.name(), body))
}

/// The claims that a service shares with others and leaves behind, as they are created when they are missing.
pub(in crate::backend::kubernetes) fn claims(context: &Context<'_>) -> Vec<(String, Value)> {
    if has_own_claims(&context.record.spec) {
        return Vec::new();
    }
    named_volumes(&context.record.spec)
        .map(|volume| {
            let name = context.names.claim(volume);
            let mut claim = claim(context, &name);
            claim["apiVersion"] = json!("v1");
            claim["kind"] = json!("PersistentVolumeClaim");
            // No label of the service: a volume outlives it, and others may use it.
            claim["metadata"] = json!({"name": name, "namespace": context.names.namespace, "labels": {
                "app.kubernetes.io/managed-by": "mcp-manager", names::OWNER: context.names.instance,
            }});
            (name, claim)
        })
        .collect()
}

/// The names of the claims that a service of this spec shares with others.
pub(in crate::backend::kubernetes) fn shared_claims(known: &names::Names, spec: &ServiceSpec) -> Vec<String> {
    if has_own_claims(spec) { Vec::new() } else { named_volumes(spec).map(|volume| known.claim(volume)).collect() }
}

/// The names of the claims that a pod of such a service has.
pub(in crate::backend::kubernetes) fn claims_of(known: &names::Names, spec: &ServiceSpec, pod: &str) -> Vec<String> {
    let own = has_own_claims(spec);
    let name = |volume| if own { format!("{}-{pod}", known.claim(volume)) } else { known.claim(volume) };
    named_volumes(spec).map(name).collect()
}

fn volume_claim_templates(context: &Context<'_>) -> Value {
    named_volumes(&context.record.spec).map(|volume| claim(context, &context.names.claim(volume))).collect()
}

/// The volumes that are mounted by name.
pub(super) fn named_volumes(spec: &ServiceSpec) -> impl Iterator<Item = &str> {
    let names: std::collections::BTreeSet<&str> = spec
        .volumes
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Volume(name) => Some(name.as_str()),
            MountSource::Host(_) => None,
        })
        .collect();
    names.into_iter()
}

fn claim(context: &Context<'_>, name: &str) -> Value {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": context.settings.volume_size.to_string()}},
    });
    if let Some(class) = &context.settings.storage_class {
        spec["storageClassName"] = json!(class);
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

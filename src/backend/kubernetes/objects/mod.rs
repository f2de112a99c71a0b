//! From a record to the objects that a service consists of. Pure; snapshots of all of them stand beside.
//!
//! Everything is owned by the service's root object, so that deleting that deletes all. What is decided here is what is
//! asked for; when it is written is `plan`'s.

mod bridge;
mod network;
mod pod;
mod route;
#[cfg(test)]
mod tests;
mod workload;

use serde_json::{Value, json};

use super::kinds::Owned;
use super::names::{self, Names};
use super::settings::Settings;
use crate::domain::status::Record;
use crate::error::Result;

pub(super) use bridge::check as check_bridge;
pub(super) use network::service_names;
pub(super) use pod::{secret_key, user_warning};
pub(super) use workload::{asked_for, claims, claims_of, kind as workload_kind, shared_claims};

/// An object as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) kind: Owned,
    pub(super) name: String,
    /// Digest of what it is made from; it stands in the object, too.
    pub(super) digest: String,
    pub(super) json: Value,
}

/// What is known beside the record when objects are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) names: &'a Names,
    pub(super) record: &'a Record,
    /// UID of the root object, which owns all others.
    pub(super) root: &'a str,
    /// Keyed digest of the values of its secrets; empty without secrets.
    pub(super) secrets_digest: &'a str,
    /// How many replicas there are to be at this moment.
    pub(super) replicas: u32,
}

impl Context<'_> {
    fn name(&self) -> String {
        self.names.object(self.record.name.as_str())
    }

    /// Metadata of an object of the service.
    fn metadata(&self, name: &str) -> Value {
        json!({
            "name": name,
            "namespace": self.names.namespace,
            "labels": self.names.labels(&self.record.name),
            "ownerReferences": [owner(&self.name(), self.root)],
        })
    }

    /// An object whose digest is that of all its text.
    fn object(&self, kind: Owned, name: &str, body: Value) -> Object {
        let digest = names::digest(&body.to_string());
        self.object_made_from(kind, name, body, digest)
    }

    /// An object with an annotation beside its digest, which covers it.
    fn annotated(&self, kind: Owned, name: &str, body: Value, key: &str, value: &str) -> Object {
        let digest = names::digest(&format!("{body}{key}={value}"));
        let mut object = self.object_made_from(kind, name, body, digest);
        object.json["metadata"]["annotations"][key] = json!(value);
        object
    }

    fn object_made_from(&self, kind: Owned, name: &str, body: Value, digest: String) -> Object {
        let resource = kind.resource();
        let mut json = json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": self.metadata(name)});
        json["metadata"]["annotations"] = json!({names::APPLIED: digest});
        if let (Some(json), Value::Object(body)) = (json.as_object_mut(), body) {
            json.extend(body);
        }
        Object { kind, name: name.to_owned(), digest, json }
    }
}

/// Everything that the service consists of beside its secrets, in the order in which it is written.
pub(super) fn objects(context: &Context<'_>) -> Result<Vec<Object>> {
    let mut objects = vec![
        context.object(Owned::ServiceAccount, &context.name(), json!({"automountServiceAccountToken": false})),
        network::policy(context),
    ];
    objects.extend(network::services(context));
    objects.push(workload::workload(context)?);
    objects.extend(workload::disruption_budget(context));
    objects.extend(route::route(context));
    objects.extend(workload::autoscaler(context));
    Ok(objects)
}

/// The Secret of a service: the values that the manager knows, and the key of its sessions. Values are base64.
pub(super) fn secret(context: &Context<'_>, data: &std::collections::BTreeMap<String, String>) -> Object {
    // The digest is public, the values are not: so it is the keyed one.
    let digest = names::digest(&format!("{}{:?}", context.secrets_digest, data.keys()));
    context.object_made_from(Owned::Secret, &context.name(), json!({"type": "Opaque", "data": data}), digest)
}

/// Port of every Service, whatever its pods listen on.
const SERVICE_PORT: u16 = 80;

/// Key of the service's Secret under which its bridges find the key of their session ids.
pub(super) const SESSION_KEY: &str = "session-key";

/// The reference to the root object by which the cluster knows what goes with it.
pub(super) fn owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true})
}

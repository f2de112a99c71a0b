//! A service's root object: a ConfigMap whose annotation is the record. It owns everything else, so that its deletion is
//! the service's. Creating one whose name exists fails, and a change names the version it was made from: so records are
//! atomic among any number of managers.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::{DynamicObject, PartialObjectMeta};
use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::names::{self, Names};
use crate::domain::status::{Desired, Record};
use crate::error::{Error, Kind, Result};

/// The cluster keeps no more than this in all annotations of an object, in bytes; a part is left to others.
const MOST: usize = 240 << 10;

/// A root object as it was seen.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub(super) uid: String,
    /// The version that a change has to be made from.
    pub(super) version: String,
    /// Its deletion has been asked for.
    pub(super) deleting: bool,
    pub(super) record: Arc<Record>,
    /// Why the objects of its present record could not be written.
    pub(super) refusal: Option<Refusal>,
}

/// What who writes a service's objects tells the other managers when it cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    /// Of the record that it is about.
    pub(super) generation: u64,
    pub(super) kind: Kind,
    pub(super) detail: String,
    #[serde(default)]
    pub(super) remedy: String,
}

impl Refusal {
    /// Whether the record has to be changed before it can be carried out.
    pub(super) fn is_permanent(&self) -> bool {
        // The others are of a moment at which somebody else changed or deleted something, or of a slow server.
        matches!(self.kind, Kind::Invalid | Kind::LimitReached | Kind::NotSupported)
    }
}

impl Root {
    /// The root object with this metadata; `None` when it is not one, or cannot be read.
    pub(super) fn read(metadata: &ObjectMeta) -> Option<Self> {
        let record = metadata.annotations.as_ref()?.get(names::RECORD)?;
        let refusal = metadata.annotations.as_ref()?.get(names::REFUSED).and_then(|text| serde_json::from_str(text).ok());
        match serde_json::from_str::<Record>(record) {
            Ok(record) => Some(Self {
                refusal: refusal.filter(|refusal: &Refusal| refusal.generation == record.generation),
                uid: metadata.uid.clone()?,
                version: metadata.resource_version.clone()?,
                deleting: metadata.deletion_timestamp.is_some(),
                record: Arc::new(record),
            }),
            Err(error) => {
                tracing::warn!(object = metadata.name.as_deref().unwrap_or_default(), %error, "a record cannot be read");
                None
            }
        }
    }
}

impl Root {
    /// Its version as a number.
    pub(super) fn number(&self) -> u64 {
        number(&self.version)
    }

    /// Whether its service is being deleted, or is to be.
    pub(super) fn is_removed(&self) -> bool {
        self.deleting || self.record.desired == Desired::Removed
    }
}

/// A version as a number: what was written later has a greater one.
pub(super) fn number(version: &str) -> u64 {
    version.parse().unwrap_or_default()
}

/// Metadata as a watch of it tells.
pub(super) type Seen = PartialObjectMeta<DynamicObject>;

/// The root object of a new service.
pub(super) fn new(names: &Names, record: &Record) -> Result<Value> {
    let metadata = json!({
        "name": names.object(record.name.as_str()),
        "namespace": names.namespace,
        "labels": names.labels(&record.name),
        "annotations": annotations(record)?,
    });
    Ok(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
}

/// What a change writes, if the object still is of `version`.
pub(super) fn change(version: &str, record: &Record) -> Result<Value> {
    Ok(json!({"metadata": {"resourceVersion": version, "annotations": annotations(record)?}}))
}

/// What tells all managers why the objects of the present record could not be written, or that they could.
pub(super) fn refused(refusal: Option<&Refusal>) -> Result<Value> {
    let text = refusal.map(serde_json::to_string).transpose();
    let text = text.map_err(|error| Error::internal("the refusal cannot be written", error))?;
    Ok(json!({"metadata": {"annotations": {names::REFUSED: text}}}))
}

fn annotations(record: &Record) -> Result<BTreeMap<&'static str, String>> {
    let text = serde_json::to_string(record).map_err(|error| Error::internal("the record cannot be written", error))?;
    if text.len() > MOST {
        let message = format!("the service is described in {} KiB, more than a cluster keeps of one", text.len() >> 10);
        return Err(Error::invalid_field("", message, "pass large values as files in a volume"));
    }
    let template =
        record.template.as_ref().map_or_else(String::new, |template| format!("{}@{}", template.name, template.version));
    Ok([(names::RECORD, text), (names::TEMPLATE, template), (names::DIGEST, record.spec.container_digest())].into())
}

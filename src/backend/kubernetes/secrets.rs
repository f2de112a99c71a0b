//! The Secret of a service: the values that the manager knows for it, and the key of its sessions. The key also makes
//! the digest of the values, which stands in its pods, so that changed values replace them and nobody can guess values
//! from the digest.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use super::kinds::Owned;
use super::objects::{SESSION_KEY, secret_key};
use super::reconcile::in_time;
use super::root::Root;
use super::shared::Shared;
use super::world::Objects;
use crate::backend::bridge::is_needed;
use crate::domain::hex;
use crate::domain::spec::unknown_secrets;
use crate::error::Result;
use crate::random;

/// What a service's Secret holds.
pub(super) struct Held {
    /// Keyed digest of the values.
    pub(super) digest: String,
    /// Key to value, in base64.
    pub(super) data: BTreeMap<String, String>,
}

/// What the Secret of a service is to hold; `None` when it needs none.
pub(super) async fn of(shared: &Shared, root: &Root, objects: &Objects) -> Result<Option<Held>> {
    let spec = &root.record.spec;
    if spec.secrets.is_empty() && !is_needed(spec) {
        return Ok(None);
    }
    let (mut values, mut missing) = (BTreeMap::new(), Vec::new());
    for (variable, name) in &spec.secrets {
        match shared.settings.secret(name).await? {
            Some(value) => drop(values.insert(secret_key(variable), STANDARD.encode(value))),
            None => missing.push((variable.as_str(), name.as_str())),
        }
    }
    if !missing.is_empty() {
        return Err(unknown_secrets(missing, None));
    }
    let name = shared.names.object(root.record.name.as_str());
    let there = objects.written.contains_key(&(Owned::Secret, name.clone()));
    let known = if there { session_key(shared, &name).await? } else { None };
    let key = known.unwrap_or_else(|| STANDARD.encode(random::key()));
    let digest = if values.is_empty() { String::new() } else { keyed(&key, &values) };
    values.insert(SESSION_KEY.to_owned(), key);
    Ok(Some(Held { digest, data: values }))
}

/// The key that the Secret has already, in base64.
async fn session_key(shared: &Shared, name: &str) -> Result<Option<String>> {
    let secret = in_time(shared.api(&Owned::Secret.resource()).get_opt(name), "read the service's Secret").await?;
    let key = |secret: kube::api::DynamicObject| secret.data["data"][SESSION_KEY].as_str().map(str::to_owned);
    Ok(secret.and_then(key))
}

fn keyed(key: &str, values: &BTreeMap<String, String>) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
        // The HMAC takes keys of any length, so its making cannot fail.
        .unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default()));
    mac.update(Value::from_iter(values.clone()).to_string().as_bytes());
    hex(&mac.finalize().into_bytes()[..8])
}

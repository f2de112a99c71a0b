//! Secrets: values that the manager knows go to the engine's store; containers get them by name.
//!
//! The engine reads a secret at each start of a container, so it must exist for as long as one may be started. What
//! people created in the engine themselves is used and never changed.
//!
//! The engine does not tell values, and other managers write the same secrets. So what was written here counts for as long
//! as the engine's secret is still that very one, which its id says: each has another.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest as _, Sha256};
use tokio::sync::{RwLock, RwLockReadGuard};

use super::client::{Engine, EngineError};
use super::errors;
use super::names::Names;
use super::shared::Shared;
use crate::domain::spec::ServiceSpec;
use crate::error::Result;

/// So often a secret is made anew that somebody else has made in between: where managers cannot take turns.
const ATTEMPTS: u32 = 10;

/// What this process has written, by the names in the engine.
type Written = HashMap<String, Secret>;

/// A secret in the engine.
#[derive(Debug, PartialEq, Eq)]
struct Secret {
    id: String,
    /// Digest of its value.
    digest: [u8; 32],
}

/// The secrets that this process has written.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    // Replacing a secret deletes it for a moment. Starts hold this for reading, so that none falls into that moment; those
    // of other managers try again.
    written: RwLock<Written>,
}

/// Variable to the engine's name of its secret, valid while it is held.
pub(super) struct Held<'a> {
    pub(super) names: BTreeMap<String, String>,
    _written: Option<RwLockReadGuard<'a, Written>>,
}

impl Secrets {
    /// Makes sure that the engine has the secrets of a spec whose values the manager knows. Those that neither has are
    /// one error.
    pub(super) async fn hold(&self, shared: &Shared, spec: &ServiceSpec) -> Result<Held<'_>> {
        let (mut held, mut missing) = (BTreeMap::new(), Vec::new());
        for (variable, secret) in &spec.secrets {
            let own = shared.names.secret(secret);
            let name = if self.write(shared, secret, &own).await? {
                own
            } else {
                let theirs = shared.engine.secret_id(secret).await.map_err(|error| errors::engine(error, "look for a secret"))?;
                if theirs.is_none() {
                    missing.push((variable.as_str(), secret.as_str()));
                }
                secret.clone()
            };
            held.insert(variable.clone(), name);
        }
        if !missing.is_empty() {
            return Err(errors::no_secrets(missing));
        }
        let guard = if held.is_empty() { None } else { Some(self.written.read().await) };
        Ok(Held { names: held, _written: guard })
    }

    /// Has the engine's secret `name` hold the value that the manager knows; whether it knows one.
    async fn write(&self, shared: &Shared, secret: &str, name: &str) -> Result<bool> {
        let fault = |error| errors::engine(error, "store a secret");
        let Some(value) = shared.settings.secret(secret).await? else { return Ok(false) };
        if is_current(&*self.written.read().await, &shared.engine, name, &value).await.map_err(fault)? {
            return Ok(true);
        }
        let mut written = self.written.write().await;
        let _turn = shared.turns.wait().await;
        // Read in this turn: whoever writes after another manager has a value that is not older than that one's.
        let Some(value) = shared.settings.secret(secret).await? else { return Ok(false) };
        if !is_current(&written, &shared.engine, name, &value).await.map_err(fault)? {
            let id = replace(&shared.engine, name, &value).await.map_err(fault)?;
            written.insert(name.to_owned(), Secret { id, digest: Sha256::digest(&value).into() });
        }
        Ok(true)
    }

    /// Removes the secrets of `spec` that the manager made and that nobody in `others` uses.
    pub(super) async fn release<'a>(
        &self,
        engine: &Engine,
        names: &Names,
        spec: &ServiceSpec,
        others: impl Iterator<Item = &'a ServiceSpec> + Clone,
    ) -> Result<()> {
        for secret in spec.secrets.values() {
            if others.clone().any(|other| other.secrets.values().any(|used| used == secret)) {
                continue;
            }
            let name = names.secret(secret);
            let mut written = self.written.write().await;
            engine.remove_secret(&name).await.map_err(|error| errors::engine(error, "remove a secret"))?;
            written.remove(&name);
        }
        Ok(())
    }
}

/// Whether the engine's secret is the one that was written here, with this value.
async fn is_current(written: &Written, engine: &Engine, name: &str, value: &str) -> Result<bool, EngineError> {
    let Some(known) = written.get(name).filter(|known| known.digest == *Sha256::digest(value)) else { return Ok(false) };
    Ok(engine.secret_id(name).await?.as_ref() == Some(&known.id))
}

/// Gives a secret this value, whatever it had; the engine's id of it.
async fn replace(engine: &Engine, name: &str, value: &str) -> Result<String, EngineError> {
    let mut attempts = 0;
    loop {
        engine.remove_secret(name).await?;
        match engine.create_secret(name, value).await {
            Err(error) if error.says("secret name in use") && attempts < ATTEMPTS => attempts += 1,
            answer => return answer,
        }
    }
}

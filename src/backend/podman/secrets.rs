//! Secrets: values that the manager knows go to the engine's store; containers get them by name.
//!
//! The engine reads a secret at each start of a container, so it must exist for as long as one may be started. What
//! people created in the engine themselves is used and never changed.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest as _, Sha256};
use tokio::sync::{RwLock, RwLockReadGuard};

use super::client::Engine;
use super::errors;
use super::names::Names;
use super::settings::Settings;
use crate::domain::spec::ServiceSpec;
use crate::error::Result;

/// The secrets that this process has written, by their names in the engine, with a digest of the value.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    // Replacing a secret deletes it for a moment. Starts hold this for reading, so that none falls into that moment.
    written: RwLock<HashMap<String, [u8; 32]>>,
}

/// Variable to the engine's name of its secret, valid while it is held.
pub(super) struct Held<'a> {
    pub(super) names: BTreeMap<String, String>,
    _written: Option<RwLockReadGuard<'a, HashMap<String, [u8; 32]>>>,
}

impl Secrets {
    /// Makes sure that the engine has the secrets of a spec whose values the manager knows. Those that neither has are
    /// one error.
    pub(super) async fn hold(&self, engine: &Engine, names: &Names, settings: &Settings, spec: &ServiceSpec) -> Result<Held<'_>> {
        let (mut held, mut missing) = (BTreeMap::new(), Vec::new());
        for (variable, secret) in &spec.secrets {
            let name = if let Some(value) = settings.secret(secret).await? {
                let name = names.secret(secret);
                self.write(engine, &name, &value).await?;
                name
            } else {
                if !engine.has_secret(secret).await.map_err(|error| errors::engine(error, "look for a secret"))? {
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

    async fn write(&self, engine: &Engine, name: &str, value: &str) -> Result<()> {
        let digest: [u8; 32] = Sha256::digest(value).into();
        if self.written.read().await.get(name) == Some(&digest) {
            return Ok(());
        }
        let mut written = self.written.write().await;
        let fault = |error| errors::engine(error, "store a secret");
        // The engine does not tell values, so what an earlier manager wrote is replaced once.
        engine.remove_secret(name).await.map_err(fault)?;
        engine.create_secret(name, value).await.map_err(fault)?;
        written.insert(name.to_owned(), digest);
        Ok(())
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

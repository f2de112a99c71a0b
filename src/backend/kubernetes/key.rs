//! The key that the managers of an installation sign ids of MCP sessions with. They share no folder, so it is in a Secret
//! beside those of services, which the first of them makes. What is signed with it is not known here.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::json;

use super::connect;
use super::kinds::Owned;
use super::names::Names;
use super::objects::SESSION_KEY;
use super::reconcile::in_time;
use super::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::random;

/// How long an API server that is away is waited for at the start of a manager: less than a pod has to come up.
const RETURN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(500);
/// A shorter key is no key, in bytes.
const SHORTEST: usize = 32;

/// The key of this installation's managers, which is made when it is missing. `BackendUnavailable` when the API server does
/// not answer for some time.
pub async fn session_key(mut settings: Settings) -> Result<Vec<u8>> {
    let (client, namespace) = connect::connect(&mut settings).await?;
    let names = Names { instance: settings.instance, namespace };
    let secrets = Api::namespaced_with(client, &names.namespace, &Owned::Secret.resource());
    let began = Instant::now();
    loop {
        match known_or_made(&secrets, &names.managers()).await {
            Err(error) if error.kind == Kind::BackendUnavailable && began.elapsed() < RETURN => {
                tracing::debug!(%error, "the key of sessions is waited for");
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

async fn known_or_made(secrets: &Api<DynamicObject>, name: &str) -> Result<Vec<u8>> {
    if let Some(key) = known(secrets, name).await? {
        return Ok(key);
    }
    let key = random::key();
    let mut secret = DynamicObject::new(name, &Owned::Secret.resource());
    secret.metadata.labels = Some([("app.kubernetes.io/managed-by".to_owned(), "mcp-manager".to_owned())].into());
    // Managers read it once: a changed one would part those that have started from those that will.
    secret.data = json!({"type": "Opaque", "immutable": true, "data": {SESSION_KEY: STANDARD.encode(&key)}});
    match in_time(secrets.create(&PostParams::default(), &secret), "make the Secret of the managers").await {
        Ok(_) => Ok(key.into_bytes()),
        // Another manager was quicker: the first one counts.
        Err(error) if error.kind == Kind::AlreadyExists => {
            known(secrets, name).await?.ok_or_else(|| Error::new(Kind::BackendUnavailable, format!("the Secret {name} has gone")))
        }
        Err(error) => Err(error),
    }
}

async fn known(secrets: &Api<DynamicObject>, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(secret) = in_time(secrets.get_opt(name), "read the Secret of the managers").await? else { return Ok(None) };
    let text = secret.data["data"][SESSION_KEY].as_str().unwrap_or_default();
    let key = STANDARD.decode(text).ok().filter(|key| key.len() >= SHORTEST);
    key.map(Some).ok_or_else(|| {
        Error::new(Kind::Invalid, format!("the Secret {name} holds no key of at least {SHORTEST} bytes as '{SESSION_KEY}'"))
            .remedy("delete it, so that a new one is made, and start the managers again")
    })
}

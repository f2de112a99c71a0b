//! Images: whether they are there, fetching them, and why that failed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use podman_api::opts::RegistryAuth;
use serde::Deserialize;

use super::client::{Engine, EngineError, PullReport};
use super::{errors, local_images};
use crate::backend::{ImageInfo, RegistryCredentials};
use crate::domain::spec::PullPolicy;
use crate::domain::status::Progress;
use crate::error::{Error, Kind, Result};
use crate::telemetry::Metrics;

/// Tells how far a pull is.
pub(super) type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What is read of the engine's description of an image.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Image {
    id: String,
    repo_tags: Option<Vec<String>>,
    size: u64,
    architecture: String,
    user: String,
    config: ImageConfig,
}

/// What it runs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ImageConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

impl Image {
    /// The user that it runs as when nothing else is said.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// Its entrypoint and its command.
    pub(super) fn program(&self) -> (&[String], &[String]) {
        (self.config.entrypoint.as_deref().unwrap_or_default(), self.config.cmd.as_deref().unwrap_or_default())
    }
}

/// An image that is at hand.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The reference by which the engine knows it.
    pub(super) reference: String,
    pub(super) info: ImageInfo,
}

/// Fetches images, each one once at a time.
#[derive(Debug, Default)]
pub(super) struct Images {
    under_way: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// One request for an image.
pub(super) struct Wanted<'a> {
    pub(super) image: &'a str,
    pub(super) policy: PullPolicy,
    pub(super) credentials: Option<RegistryCredentials>,
    pub(super) timeout: Duration,
    /// Architecture of the engine's machine.
    pub(super) architecture: &'a str,
    pub(super) progress: OnProgress,
}

impl Images {
    /// Makes an image available. Dropping the future cancels the pull.
    pub(super) async fn fetch(&self, engine: &Engine, metrics: &Metrics, wanted: Wanted<'_>) -> Result<Fetched> {
        // Whoever waits here finds the image when it is there, instead of pulling it a second time.
        let turn = self.turn(wanted.image);
        let _turn = turn.lock().await;
        if wanted.policy != PullPolicy::Always {
            let present = engine.image::<Image>(wanted.image).await;
            if let Some(image) = present.map_err(|error| errors::engine(error, "look for the image"))? {
                return fetched(image, wanted.image, &wanted);
            }
            if wanted.policy == PullPolicy::Never {
                return Err(local_images::not_at_hand(wanted.image));
            }
        }
        let started = Instant::now();
        let pulled = match tokio::time::timeout(wanted.timeout, pull(engine, &wanted)).await {
            Ok(pulled) => pulled,
            Err(_) => Err(Error::new(
                Kind::Timeout,
                format!("the image {} was not pulled within {} seconds", wanted.image, wanted.timeout.as_secs()),
            )
            .remedy("try again, or raise the limit: the setting backend.pull_timeout")),
        };
        let result = pulled.as_ref().map_or_else(|error| error.kind.slug(), |_| "ok");
        metrics.pulls.with_label_values(&[result]).inc();
        metrics.pull_duration.with_label_values(&[result]).observe(started.elapsed().as_secs_f64());
        pulled
    }

    /// The lock of one image's name; forgotten with its last holder.
    pub(super) fn turn(&self, image: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = under_way.get(image).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        under_way.insert(image.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

/// How often an image is pulled of which the engine loses a layer meanwhile.
const PULLS: u32 = 5;

async fn pull(engine: &Engine, wanted: &Wanted<'_>) -> Result<Fetched> {
    let reference = full_name(wanted.image);
    let auth = wanted.credentials.as_ref().map(|credentials| {
        RegistryAuth::builder().username(&credentials.username).password(&credentials.password).build().serialize()
    });
    for pulls in 1.. {
        let mut failure = None;
        let mut parts = Parts::default();
        let answer = engine.pull(&reference, auth.clone(), |report| match report.error {
            Some(message) => failure = Some(message),
            None => (wanted.progress)(parts.after(report)),
        });
        match (answer.await, failure) {
            (_, Some(message)) | (Err(EngineError::Refused { message, .. }), None) => {
                // The engine had it of another image, which somebody has removed before this one was whole.
                if pulls == PULLS || !message.contains(errors::LOST_LAYER) {
                    return Err(errors::pull(wanted.image, &message));
                }
                tracing::info!(image = reference, "an image is pulled once more: a layer of it went with another image");
            }
            (Err(error), None) => return Err(errors::engine(error, "pull the image")),
            (Ok(()), None) => break,
        }
    }
    let image = engine.image::<Image>(&reference).await.map_err(|error| errors::engine(error, "look at the pulled image"))?;
    let missing = || Error::new(Kind::Internal, format!("the image {reference} was pulled and is not there"));
    let fetched = fetched(image.ok_or_else(missing)?, &reference, wanted);
    if fetched.is_err()
        && let Err(error) = engine.remove_image(&reference).await
    {
        // It is of no use here, and the next creation would take it for the one that it needs.
        tracing::warn!(image = reference, %error, "the pulled image, which cannot be used, could not be removed");
    }
    fetched
}

/// The layers of an image that is being pulled, as far as the engine has begun with them: how much of each has come, and
/// of how much, if the registry says so.
#[derive(Default)]
struct Parts(HashMap<String, (u64, Option<u64>)>);

impl Parts {
    /// How far the pull is after one more report.
    fn after(&mut self, report: PullReport) -> Progress {
        if report.bytes.total != 0 {
            self.0.insert(report.id, (report.bytes.current, u64::try_from(report.bytes.total).ok()));
        } else if report.status == "Download complete"
            && let Some((current, total)) = self.0.get_mut(&report.id)
        {
            *current = *total.get_or_insert(*current);
        }
        let done = self.0.values().map(|part| part.0).sum();
        let total = self.0.values().map(|part| part.1).sum::<Option<u64>>().filter(|total| *total > 0);
        let message = match total {
            None if self.0.is_empty() => "asking the registry",
            Some(total) if done >= total => "unpacking",
            _ => "downloading",
        };
        Progress { message: message.to_owned(), done, total }
    }
}

/// The reference with its registry: names without one mean Docker Hub to everybody.
fn full_name(image: &str) -> String {
    match image.split_once('/') {
        None => format!("docker.io/library/{image}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
    }
}

/// The engine pulls images for other machines with no more than a remark, so the architecture is compared here.
fn fetched(image: Image, reference: &str, wanted: &Wanted<'_>) -> Result<Fetched> {
    let (is, machine) = (image.architecture.as_str(), wanted.architecture);
    if !is.is_empty() && !machine.is_empty() && is != machine {
        return Err(errors::wrong_architecture(wanted.image, Some((is, machine))));
    }
    let info = ImageInfo { id: image.id, names: image.repo_tags.unwrap_or_default(), size_bytes: image.size };
    Ok(Fetched { reference: reference.to_owned(), info })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_registry_are_docker_hub_s() {
        assert_eq!(full_name("nginx:alpine"), "docker.io/library/nginx:alpine");
        assert_eq!(full_name("user/app"), "docker.io/user/app");
        for full in ["docker.io/library/nginx", "localhost/app", "127.0.0.1:5000/app", "ghcr.io/a/b:1"] {
            assert_eq!(full_name(full), full);
        }
    }

    #[test]
    fn a_pull_is_as_far_as_all_its_layers() {
        let mut parts = Parts::default();
        let mut after = |line: &str| parts.after(serde_json::from_str(line).unwrap());
        let begun = after(r#"{"status":"Pulling fs layer","progressDetail":{},"id":"a"}"#);
        assert_eq!((begun.done, begun.total), (0, None), "nothing is known yet");
        after(r#"{"status":"Downloading","progressDetail":{"current":10,"total":100},"progress":"[=>]","id":"a"}"#);
        let both = after(r#"{"status":"Downloading","progressDetail":{"current":20,"total":50},"id":"b"}"#);
        assert_eq!((both.done, both.total, both.message.as_str()), (30, Some(150), "downloading"));
        let one = after(r#"{"status":"Download complete","progressDetail":{},"id":"a"}"#);
        assert_eq!((one.done, one.total), (120, Some(150)), "a layer's last bytes are not reported");
        let all = after(r#"{"status":"Download complete","progressDetail":{},"id":"b"}"#);
        assert_eq!((all.done, all.total, all.message.as_str()), (150, Some(150), "unpacking"));
    }

    #[test]
    fn a_layer_whose_size_the_registry_does_not_say_leaves_the_whole_open_until_it_is_there() {
        let mut parts = Parts::default();
        let mut after = |line: &str| parts.after(serde_json::from_str(line).unwrap());
        after(r#"{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"a"}"#);
        let open = after(r#"{"status":"Downloading","progressDetail":{"current":20,"total":-1},"id":"b"}"#);
        assert_eq!((open.done, open.total, open.message.as_str()), (30, None, "downloading"));
        let known = after(r#"{"status":"Download complete","progressDetail":{},"id":"b"}"#);
        assert_eq!((known.done, known.total, known.message.as_str()), (30, Some(120), "downloading"));
    }

    #[test]
    fn an_image_for_another_machine_is_refused() {
        let wanted = Wanted {
            image: "x",
            policy: PullPolicy::Missing,
            credentials: None,
            timeout: Duration::ZERO,
            architecture: "amd64",
            progress: Arc::new(|_| ()),
        };
        let image = |architecture: &str| Image { architecture: architecture.to_owned(), ..Image::default() };
        assert_eq!(fetched(image("arm64"), "x", &wanted).unwrap_err().kind, Kind::WrongArchitecture);
        assert!(fetched(image("amd64"), "x", &wanted).is_ok());
        assert!(fetched(image(""), "x", &wanted).is_ok(), "an image that does not say is given a chance");
    }
}

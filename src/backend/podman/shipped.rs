//! Images of the templates that come with the manager: made where they are missing, instead of fetched.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::build;
use super::images::{Fetched, OnProgress};
use super::local_images;
use super::shared::Shared;
use crate::backend::{Build, Built, RegistryCredentials};
use crate::domain::package::Package;
use crate::domain::package::failure::failure;
use crate::domain::package::recipe::BASE_LABEL;
use crate::domain::package::shipped::{RECIPE_LABEL, Shipped, shipped};
use crate::domain::spec::PullPolicy;
use crate::error::{Error, Kind, Result};

/// Makes an image available: one that is missing and whose recipe the manager has is made, any other fetched. Asked for
/// `always`, it is made anew. Without `credentials` those of the settings are used. Dropping the future calls either off.
pub(super) async fn fetch(
    shared: &Arc<Shared>,
    image: &str,
    mut policy: PullPolicy,
    credentials: Option<RegistryCredentials>,
    progress: OnProgress,
) -> Result<Fetched> {
    if let Some(recipe) = shipped(image) {
        // Whoever waits here finds the image when it is there.
        let turn = shared.images.turn(&format!("the recipe of {image}"));
        let _turn = turn.lock().await;
        let anew = policy == PullPolicy::Always;
        if anew || build::look(&shared.engine, image).await?.is_none() {
            make(shared, &recipe, image, anew, progress.clone()).await?;
        }
        policy = PullPolicy::Never;
    }
    shared.fetch(image, policy, credentials, progress).await
}

async fn make(shared: &Arc<Shared>, recipe: &Shipped, image: &str, anew: bool, progress: OnProgress) -> Result<()> {
    tracing::info!(image, "an image of a shipped template is made");
    let base = shared.fetch(&recipe.base, PullPolicy::Missing, None, progress.clone()).await;
    let base = base.map_err(|error| unmade(error, image))?;
    let labels = [(RECIPE_LABEL, &recipe.digest), (BASE_LABEL, &recipe.base)];
    let request = Build {
        image: image.to_owned(),
        base: recipe.base.clone(),
        script: recipe.script.clone(),
        steps: recipe.steps,
        says_lock: false,
        capabilities: recipe.capabilities.clone(),
        environment: recipe.environment.clone(),
        entrypoint: recipe.entrypoint.clone(),
        command: recipe.command.clone(),
        user: recipe.user.clone(),
        directory: recipe.directory.clone(),
        labels: BTreeMap::from(labels.map(|(name, value)| (name.to_owned(), value.clone()))),
        refresh: anew,
    };
    match build::build(shared, request, base.reference, progress).await? {
        Built::Made => Ok(()),
        Built::Failed(code, lines) => {
            let what = Package { ecosystem: recipe.ecosystem(), name: recipe.name.to_owned(), version: None };
            Err(unmade(failure(&what, code, &lines), image))
        }
    }
}

/// Why an image could not be made, said of that image; nothing in the request is wrong.
fn unmade(error: Error, image: &str) -> Error {
    if error.kind == Kind::BackendUnavailable {
        return error;
    }
    let kind = if error.kind == Kind::Invalid { Kind::ImageNotFound } else { error.kind };
    let field = error.fields.first().map(|field| format!(" ({})", field.message)).unwrap_or_default();
    let remedy = error.remedy.clone().filter(|_| error.kind != Kind::Invalid).unwrap_or_else(|| local_images::remedy(image));
    let detail = format!("the image {image} is not on this machine, and making it failed: {}{field}", error.detail);
    Error::new(kind, detail).remedy(remedy).because(error)
}

//! Images: which are at hand, and fetching one ahead of its service.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::Manager;
use super::request::as_object;
use crate::backend::ImageInfo;
use crate::domain::access::{Actor, Operation};
use crate::domain::fields;
use crate::domain::spec::{PullPolicy, is_image};
use crate::domain::status::Progress;
use crate::error::{Error, Result};

/// Is told how far something is.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// An image to make available.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    /// Image reference, e.g. `docker.io/library/nginx:latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = true)]
    pub image: Option<String>,
    /// Whether the registry is asked: `always` (default), only when the image is `missing`, or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
}

impl PullRequest {
    /// Reads a request.
    pub fn read(document: &Value) -> Result<Self> {
        fields::read(as_object(document)?).map_err(|errors| Error::invalid("the request is not valid", errors))
    }
}

/// The images that the engine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, JsonSchema)]
pub struct ImageList {
    /// The images.
    pub images: Vec<ImageInfo>,
}

impl Manager {
    /// The images at hand.
    pub async fn list_images(self: &Arc<Self>, actor: &Actor) -> Result<ImageList> {
        let manager = self.clone();
        let work = async move { Ok(ImageList { images: manager.backend.images().await? }) };
        self.perform(actor, Operation::ImageList, "", work).await
    }

    /// Makes an image available and tells `progress` how far that is; `cancelled` breaks it off.
    pub async fn pull_image(
        self: &Arc<Self>,
        actor: &Actor,
        request: PullRequest,
        progress: OnProgress,
        cancelled: CancellationToken,
    ) -> Result<ImageInfo> {
        const REMEDY: &str = "name an image, e.g. docker.io/library/nginx:latest";
        let image = request.image.ok_or_else(|| Error::invalid_field("image", "is missing", REMEDY))?;
        if !is_image(&image) {
            return Err(Error::invalid_field("image", "is not an image reference", REMEDY));
        }
        let (manager, target) = (self.clone(), image.clone());
        let policy = request.pull_policy.unwrap_or(PullPolicy::Always);
        let work = async move {
            tokio::select! {
                pulled = manager.backend.pull(&image, policy, None, progress) => pulled,
                () = cancelled.cancelled() => {
                    Err(Error::called_off(format!("the pull of {image} was cancelled")))
                }
            }
        };
        self.perform(actor, Operation::ImagePull, &target, work).await
    }
}

//! Tools for packages, images and the manager itself.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Call, read};
use crate::error::{FieldError, Result};
pub(super) use crate::manager::{
    Diagnostics, ImageInfo as Image, ImageList as Images, PackageAnswer, PackageRequest as Package, PullRequest as Pull,
    SystemHealth as Health,
};

/// No arguments.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl read::Plain for Nothing {
    fn violations(&self) -> Vec<FieldError> {
        Vec::new()
    }
}

impl read::Arguments for Nothing {
    fn read(arguments: &Map<String, Value>, twice: Vec<FieldError>) -> Result<Self> {
        read::plain(arguments, &twice)
    }
}

impl read::Arguments for Pull {
    fn read(arguments: &Map<String, Value>, twice: Vec<FieldError>) -> Result<Self> {
        read::by(Self::read, arguments, &twice)
    }
}

impl read::Arguments for Package {
    fn read(arguments: &Map<String, Value>, twice: Vec<FieldError>) -> Result<Self> {
        read::by(Self::read, arguments, &twice)
    }
}

pub(super) async fn add_package(call: Call, request: Package) -> Result<PackageAnswer> {
    let progress = call.progress.unwrap_or_else(|| std::sync::Arc::new(|_| ()));
    call.manager.add_package(&call.actor, request, progress, call.cancelled).await
}

pub(super) async fn images(call: Call, _: Nothing) -> Result<Images> {
    call.manager.list_images(&call.actor).await
}

pub(super) async fn pull(call: Call, request: Pull) -> Result<Image> {
    let progress = call.progress.unwrap_or_else(|| std::sync::Arc::new(|_| ()));
    call.manager.pull_image(&call.actor, request, progress, call.cancelled).await
}

pub(super) async fn health(call: Call, _: Nothing) -> Result<Health> {
    call.manager.read_health(&call.actor).await
}

pub(super) async fn diagnostics(call: Call, _: Nothing) -> Result<Diagnostics> {
    call.manager.diagnostics(&call.actor).await
}

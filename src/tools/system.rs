//! Tools for packages, images and the manager itself.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Call, read};
use crate::error::Result;
pub(super) use crate::manager::{
    Diagnostics, ImageInfo as Image, ImageList as Images, PackageAnswer, PackageRequest as Package, PullRequest as Pull,
    SystemHealth as Health,
};

/// No arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl read::Arguments for Nothing {
    fn read(arguments: &Map<String, Value>) -> Result<Self> {
        read::plain(arguments)
    }
}

impl read::Arguments for Pull {
    fn read(arguments: &Map<String, Value>) -> Result<Self> {
        Self::read(&Value::Object(arguments.clone()))
    }
}

impl read::Arguments for Package {
    fn read(arguments: &Map<String, Value>) -> Result<Self> {
        Self::read(&Value::Object(arguments.clone()))
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

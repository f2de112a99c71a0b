//! The contract over real rootless Podman, each claim with an installation of its own.

use std::sync::Arc;

use async_trait::async_trait;
use mcp_manager::backend::Backend;
use mcp_manager::backend::podman::{Podman, Settings};
use mcp_manager::lifecycle::Tasks;
use mcp_manager::telemetry::Metrics;

use super::Engine;
use crate::support::podman::{self, ECHO_IMAGE, Turn};

/// An installation in the user's engine; its managers run the engine's service themselves.
struct Installation {
    instance: String,
    folder: tempfile::TempDir,
    _turn: Turn,
}

#[async_trait]
impl Engine for Installation {
    async fn backend(&self, tasks: &Tasks) -> Arc<dyn Backend> {
        let settings = Settings { instance: self.instance.clone(), ..Settings::new(self.folder.path().join("run")) };
        Podman::connect(settings, tasks.clone(), Metrics::new().unwrap()).await.unwrap()
    }

    fn image(&self) -> String {
        ECHO_IMAGE.to_owned()
    }

    fn missing_image(&self) -> String {
        "localhost/mcp/missing:latest".to_owned()
    }

    async fn leftovers(&self) -> Vec<String> {
        podman::owned_by(&self.instance).await
    }
}

async fn engine() -> Option<Installation> {
    if !podman::ready().await {
        return None;
    }
    let turn = podman::turn(false).await;
    Some(Installation { instance: podman::unique("c"), folder: tempfile::tempdir().unwrap(), _turn: turn })
}

crate::contract!(engine());

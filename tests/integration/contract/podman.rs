//! The contract over real rootless Podman, each claim with an installation of its own.

use std::sync::Arc;

use async_trait::async_trait;
use mcp_manager::backend::Backend;
use mcp_manager::backend::podman::{Podman, Settings};
use mcp_manager::lifecycle::Tasks;
use mcp_manager::telemetry::Metrics;

use super::Engine;
use crate::support::podman::{self, ECHO_IMAGE, Sharing, Sweep, Turn};

/// An installation in the user's engine; its managers run the engine's service themselves.
pub struct Installation {
    pub settings: Settings,
    /// For files of the test's own.
    pub folder: tempfile::TempDir,
    // In this order: it is swept while no other test has the engine for itself.
    _sweep: Sweep,
    _turn: Turn,
}

impl Installation {
    /// A new one; `None` where the machine has no rootless Podman.
    pub async fn new() -> Option<Self> {
        Self::sharing(Sharing::All).await
    }

    /// One that shares the engine with fewer tests.
    pub async fn sharing(sharing: Sharing) -> Option<Self> {
        if !podman::ready().await {
            return None;
        }
        let turn = podman::turn(sharing).await;
        let folder = tempfile::tempdir().unwrap();
        let instance = podman::unique("c");
        let settings = Settings { instance: instance.clone(), ..Settings::new(folder.path().join(&instance)) };
        Some(Self { settings, folder, _sweep: Sweep::instance(instance), _turn: turn })
    }
}

#[async_trait]
impl Engine for Installation {
    async fn backend(&self, tasks: &Tasks) -> Arc<dyn Backend> {
        Podman::connect(self.settings.clone(), tasks.clone(), Metrics::new().unwrap()).await.unwrap()
    }

    fn image(&self) -> String {
        ECHO_IMAGE.to_owned()
    }

    fn missing_image(&self) -> String {
        "localhost/mcp/missing:latest".to_owned()
    }

    async fn leftovers(&self) -> Vec<String> {
        podman::owned_by(&self.settings.instance).await
    }
}

crate::contract!(Installation::new());

//! The contract over a real Kubernetes cluster, each claim with a namespace of its own that enforces the restricted
//! profile of Pod Security.

use std::sync::Arc;

use async_trait::async_trait;
use mcp_manager::backend::Backend;
use mcp_manager::backend::kubernetes::{Kubernetes, Settings};
use mcp_manager::lifecycle::Tasks;

use super::Engine;
use crate::support::kubernetes::Namespace;

#[async_trait]
impl Engine for Namespace {
    async fn backend(&self, tasks: &Tasks) -> Arc<dyn Backend> {
        Kubernetes::connect(self.settings(), tasks.clone()).await.unwrap()
    }

    fn image(&self) -> String {
        self.image.clone()
    }

    fn missing_image(&self) -> String {
        "localhost/mcp/missing:latest".to_owned()
    }

    fn tells_streams(&self) -> bool {
        false
    }

    async fn leftovers(&self) -> Vec<String> {
        self.owned().await
    }
}

impl Namespace {
    /// Settings of a manager whose services are in this namespace.
    pub fn settings(&self) -> Settings {
        Settings {
            namespace: Some(self.name.clone()),
            allow_from_ranges: vec!["0.0.0.0/0".to_owned()],
            ..Settings::new(self.access())
        }
    }
}

crate::contract!(Namespace::new());

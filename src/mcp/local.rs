//! The host that is this process's own manager.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Host, Request};
use crate::domain::access::Actor;
use crate::error::{Error, Kind, Result};
use crate::manager::Manager;
use crate::tools::{self, Call, Policy, Tool};

/// This process's own manager.
pub(super) struct Local {
    pub(super) manager: Arc<Manager>,
    pub(super) policy: Policy,
    pub(super) stopping: CancellationToken,
}

#[async_trait]
impl Host for Local {
    async fn tools(&self, actor: Option<&Actor>) -> Vec<Value> {
        match actor {
            Some(actor) if self.manager.read_tools(actor).await.is_ok() => tools::described(&self.policy, Some(actor)),
            // The door lets nobody in without saying who it is.
            _ => Vec::new(),
        }
    }

    async fn must_confirm(&self, tool: &Tool) -> Result<bool> {
        Ok(self.policy.must_confirm(tool))
    }

    async fn call(&self, request: Request) -> Result<Value> {
        // The door lets nobody in without saying who it is.
        let nobody = || Error::new(Kind::Internal, "a call of a tool came from nobody");
        let Request { name, actor, arguments, progress, cancelled } = request;
        let actor = actor.ok_or_else(nobody)?;
        tools::call(
            &name,
            self.policy.compat,
            Call { manager: self.manager.clone(), actor, arguments, twice: Vec::new(), progress, cancelled },
        )
        .await
    }

    fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }
}

//! The contract over the memory backend.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mcp_manager::backend::Backend;
use mcp_manager::backend::memory::{Engine as Machine, Memory};
use mcp_manager::lifecycle::Tasks;

use super::Engine;

struct InMemory(Arc<Machine>);

#[async_trait]
impl Engine for InMemory {
    async fn backend(&self, tasks: &Tasks) -> Arc<dyn Backend> {
        Arc::new(Memory::over(self.0.clone(), tasks.clone()))
    }

    fn image(&self) -> String {
        "localhost/mcp/echo:latest".to_owned()
    }

    fn missing_image(&self) -> String {
        "localhost/missing:latest".to_owned()
    }

    async fn leftovers(&self) -> Vec<String> {
        let view = Memory::over(self.0.clone(), Tasks::default()).view();
        let snapshot = view.borrow().clone();
        snapshot.services.keys().map(ToString::to_string).collect()
    }
}

fn engine() -> InMemory {
    InMemory(Machine::new(Duration::from_millis(5)))
}

crate::contract!(std::future::ready(Some(engine())));

//! The contract of `backend::Backend`, as claims that every backend has to meet: one suite, run over each of them.

mod claims;
pub mod kubernetes;
mod memory;
pub mod podman;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mcp_manager::backend::{Backend, Change};
use mcp_manager::domain::name::ServiceName;
use mcp_manager::domain::spec::{HealthCheck, Probe, ServiceSpec};
use mcp_manager::domain::status::{Desired, ServiceState, Snapshot};
use mcp_manager::lifecycle::Tasks;

/// How long a claim waits for something that the engine has to do.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// An engine of its own for one claim; backends come and go over it, as managers do.
#[async_trait]
pub trait Engine: Send + Sync {
    /// A new backend over this engine, not yet running.
    async fn backend(&self, tasks: &Tasks) -> Arc<dyn Backend>;

    /// An image that the engine has, which listens on port 8000 and answers `GET /health`.
    fn image(&self) -> String;

    /// An image that no registry has.
    fn missing_image(&self) -> String;

    /// Whether it tells standard output from standard error.
    fn tells_streams(&self) -> bool {
        true
    }

    /// Everything of ours that is there outside of the backend's view: containers, records, secrets.
    async fn leftovers(&self) -> Vec<String>;
}

/// A running backend, as in a manager.
pub struct Manager {
    pub backend: Arc<dyn Backend>,
    tasks: Tasks,
}

impl Manager {
    /// Starts a backend over `engine` and waits until its view is complete.
    pub async fn start(engine: &dyn Engine) -> Self {
        let tasks = Tasks::default();
        let backend = engine.backend(&tasks).await;
        Self::over(backend, tasks).await
    }

    /// Starts the backend that `connect` makes.
    pub async fn start_with<B: Backend>(connect: impl AsyncFnOnce(Tasks) -> mcp_manager::error::Result<Arc<B>>) -> Self {
        let tasks = Tasks::default();
        let backend = connect(tasks.clone()).await.unwrap();
        Self::over(backend, tasks).await
    }

    async fn over(backend: Arc<dyn Backend>, tasks: Tasks) -> Self {
        let (running, stopping) = (backend.clone(), tasks.stopping());
        tasks.spawn("backend", async move { running.run(stopping).await });
        let manager = Self { backend, tasks };
        manager.until("the view is complete", |snapshot| snapshot.synced && snapshot.connected).await;
        manager
    }

    /// Ends it as a shutdown does; services go on.
    pub async fn stop(self) {
        assert!(self.tasks.stop(PATIENCE).await, "the backend's tasks did not end");
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut view = self.backend.view();
        let wait = view.wait_for(|snapshot| holds(snapshot));
        let Ok(snapshot) = tokio::time::timeout(PATIENCE, wait).await else {
            panic!("it never came about that {what}: {:#?}", self.backend.view().borrow());
        };
        snapshot.unwrap().clone()
    }

    /// Waits until `holds` is true of the service.
    pub async fn service(&self, name: &ServiceName, what: &str, holds: impl Fn(&ServiceState) -> bool) -> Arc<ServiceState> {
        let snapshot = self.until(what, |snapshot| snapshot.services.get(name).is_some_and(|service| holds(service))).await;
        snapshot.services[name].clone()
    }
}

pub fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

/// A small service of the engine's image.
pub fn spec(engine: &dyn Engine) -> ServiceSpec {
    ServiceSpec {
        image: engine.image(),
        port: Some(8000),
        health_check: HealthCheck {
            probe: Probe::Http("/health".into()),
            interval: "500ms".parse().unwrap(),
            ..HealthCheck::default()
        },
        stop_timeout: "3s".parse().unwrap(),
        ..ServiceSpec::default()
    }
}

pub fn running(spec: ServiceSpec) -> Change {
    Change { spec: Arc::new(spec), template: None, desired: Desired::Running }
}

/// Makes a module with one test for each claim, over the engine that `$engine` makes; `None` leaves the test out.
#[macro_export]
macro_rules! contract {
    ($engine:expr; $($claim:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                let Some(engine) = $engine.await else { return };
                $crate::contract::claims::$claim(&engine).await;
                assert_eq!($crate::contract::Engine::leftovers(&engine).await, Vec::<String>::new(), "left behind");
            }
        )*
    };
    ($engine:expr) => {
        $crate::contract!($engine;
            a_created_service_runs_and_is_in_the_view,
            a_name_is_given_once,
            a_plan_says_what_a_change_takes_and_changes_nothing,
            a_change_of_a_stale_generation_conflicts,
            replicas_come_and_go,
            a_changed_spec_replaces_the_containers,
            what_was_stopped_stays_stopped_over_a_restart_of_the_manager,
            what_runs_goes_on_over_a_restart_of_the_manager,
            a_restart_starts_each_replica_anew,
            removal_ends_a_creation,
            an_image_that_does_not_exist_fails_with_that_reason,
            logs_tell_replicas_and_streams_apart,
            followed_logs_end_with_the_service,
            what_is_not_there_is_not_found,
            events_tell_the_story_of_a_service,
        );
    };
}

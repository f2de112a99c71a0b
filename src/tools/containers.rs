//! Tools for containers, which are the manager's services.

use std::collections::BTreeMap;
use std::pin::pin;

use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Call, read};
use crate::domain::name::ServiceName;
use crate::domain::spec::{self, EnvironmentValue};
use crate::domain::status::{Progress, ReplicaStats};
use crate::error::{FieldError, Result};
pub(super) use crate::manager::views::{
    ServiceDetail as Shown, ServiceDetail as Created, ServiceList as Listed, ServicePlan as Planned,
};
pub(super) use crate::manager::{ListRequest as List, LogPage};
use crate::manager::{LogRequest, PatchRequest, Patience, Purpose, ServiceRequest, Wait};
pub(super) use Create as Apply;

/// When a change answers.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
struct WaitArgument {
    /// When to answer: at once (`none`), when its processes run (`started`), or when it is healthy or its start timeout
    /// ends (`healthy`, the default).
    wait: Option<Wait>,
}

/// A container's name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    /// Name of the container.
    #[schemars(required)]
    name: Option<String>,
}

/// A container's name, and when to answer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedAndWait {
    /// Name of the container.
    #[schemars(required)]
    name: Option<String>,
    /// When to answer: at once (`none`), when its processes run (`started`), or when it is healthy or its start timeout
    /// ends (`healthy`, the default). A stop answers when it has stopped, unless `none`.
    wait: Option<Wait>,
}

/// What to create.
#[derive(Debug, JsonSchema)]
pub(super) struct Create {
    #[serde(flatten)]
    wait: WaitArgument,
    #[serde(flatten)]
    request: ServiceRequest,
}

/// What to plan.
#[derive(Debug, JsonSchema)]
pub(super) struct Plan {
    #[serde(flatten)]
    request: ServiceRequest,
}

/// What to delete.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Remove {
    /// Name of the container.
    #[schemars(required)]
    name: Option<String>,
    /// Delete its named volumes with their data, too (default false).
    volumes: Option<bool>,
}

/// What has been deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Removal {
    /// Its name.
    name: String,
    /// Always true: nothing of it is left, but for its volumes unless those were to be deleted.
    removed: bool,
    /// Whether its named volumes were deleted.
    volumes: bool,
}

/// Which log lines.
#[derive(Debug, JsonSchema)]
pub(super) struct Logs {
    #[serde(flatten)]
    named: Named,
    #[serde(flatten)]
    request: LogRequest,
}

/// The engine's own words.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Inspection {
    /// The engine's own description of each replica.
    replicas: Vec<Value>,
}

/// What a container uses.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Stats {
    /// What each running replica uses.
    replicas: Vec<ReplicaStats>,
}

/// New values of variables.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateEnvironment {
    /// Name of the container.
    #[schemars(required)]
    name: Option<String>,
    /// Environment variables to set; `null` removes one.
    #[schemars(required)]
    environment: Option<BTreeMap<String, Option<EnvironmentValue>>>,
    /// When to answer: at once (`none`), when its processes run (`started`), or when it is healthy (`healthy`, the default).
    wait: Option<Wait>,
}

/// A number of replicas.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Scale {
    /// Name of the container.
    #[schemars(required)]
    name: Option<String>,
    /// How many replicas run it.
    #[schemars(required, transform = spec::within(spec::REPLICAS))]
    replicas: Option<u32>,
    /// When to answer: at once (`none`), when its processes run (`started`), or when it is healthy (`healthy`, the default).
    wait: Option<Wait>,
}

impl read::Arguments for Create {
    fn read(arguments: &Map<String, Value>, twice: Vec<FieldError>) -> Result<Self> {
        let (wait, rest) = read::part::<WaitArgument>(arguments);
        let is_told = |error: &FieldError| twice.iter().any(|twice| twice.field == error.field);
        let wrong = wait.errors.into_iter().filter(|error| !is_told(error)).collect();
        let request = ServiceRequest::read(&Value::Object(rest), None)?.but(wrong).but(twice);
        Ok(Self { wait: wait.value, request })
    }
}

impl read::Arguments for Plan {
    fn read(arguments: &Map<String, Value>, twice: Vec<FieldError>) -> Result<Self> {
        Ok(Self { request: ServiceRequest::read(&Value::Object(arguments.clone()), None)?.but(twice) })
    }
}

impl read::Arguments for Logs {
    fn read(arguments: &Map<String, Value>, twice: Vec<FieldError>) -> Result<Self> {
        let (named, request) = read::both(arguments, &twice)?;
        Ok(Self { named, request })
    }
}

macro_rules! read_plainly {
    ($($arguments:ty: |$read:ident| $violations:expr;)*) => { $(
        impl read::Plain for $arguments {
            fn violations(&self) -> Vec<FieldError> {
                let $read = self;
                $violations
            }
        }
        impl read::Arguments for $arguments {
            fn read(arguments: &Map<String, Value>, twice: Vec<FieldError>) -> Result<Self> {
                read::plain(arguments, &twice)
            }
        }
    )* };
}
read_plainly! {
    Named: |named| read::wrong_name(named.name.as_ref());
    NamedAndWait: |named| read::wrong_name(named.name.as_ref());
    Remove: |remove| read::wrong_name(remove.name.as_ref());
    UpdateEnvironment: |update| {
        let missing = update.environment.is_none().then(no_environment);
        read::wrong_name(update.name.as_ref()).into_iter().chain(missing).collect()
    };
    Scale: |scale| {
        let missing = scale.replicas.is_none().then(no_replicas);
        read::wrong_name(scale.name.as_ref()).into_iter().chain(missing).collect()
    };
    List: |list| Self::violations(list);
}

impl read::Plain for LogRequest {
    fn violations(&self) -> Vec<FieldError> {
        Self::violations(self, false)
    }
}

fn no_environment() -> FieldError {
    FieldError::new("environment", "is missing", "give {\"NAME\": \"value\"}; null removes one")
}

fn no_replicas() -> FieldError {
    FieldError::new("replicas", "is missing", "use 1 to 100")
}

impl Call {
    fn patience(&self, wait: Option<Wait>) -> Patience {
        Patience { wait: wait.unwrap_or_default(), cancelled: self.cancelled.clone() }
    }

    /// Does `work` and tells meanwhile what happens to the service.
    async fn watched<T>(&self, name: &ServiceName, work: impl Future<Output = T>) -> T {
        let Some(progress) = &self.progress else { return work.await };
        // Who may not follow events may still do the work, and is told its result only.
        let Ok(events) = self.manager.service_events(&self.actor, None).await else { return work.await };
        // Those without a number tell where services stand at the beginning.
        let events = events.filter_map(|event| std::future::ready(event.ok()));
        let mut events = events.filter(|event| std::future::ready(event.service == *name && event.sequence > 0));
        let mut work = pin!(work);
        let mut done = 0;
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                Some(event) = events.next() => {
                    done += 1;
                    progress(Progress { message: event.message, done, total: None });
                }
            }
        }
    }
}

pub(super) async fn create(call: Call, create: Create) -> Result<Created> {
    let name = call.manager.name_in(&create.request)?;
    let work = call.manager.create_service(&call.actor, create.request, call.patience(create.wait.wait));
    call.watched(&name, Box::pin(work)).await
}

pub(super) async fn apply(call: Call, apply: Apply) -> Result<Shown> {
    let name = call.manager.name_in(&apply.request)?;
    let work = call.manager.apply_service(&call.actor, &name, apply.request, call.patience(apply.wait.wait));
    call.watched(&name, Box::pin(work)).await
}

pub(super) async fn plan(call: Call, plan: Plan) -> Result<Planned> {
    let name = call.manager.name_in(&plan.request)?;
    call.manager.plan_service(&call.actor, &name, plan.request, Purpose::Apply).await
}

pub(super) async fn list(call: Call, list: List) -> Result<Listed> {
    call.manager.list_services(&call.actor, list.query()?).await
}

pub(super) async fn get(call: Call, named: Named) -> Result<Shown> {
    call.manager.get_service(&call.actor, &read::service_name(named.name)?).await
}

pub(super) async fn start(call: Call, start: NamedAndWait) -> Result<Shown> {
    let name = read::service_name(start.name)?;
    call.watched(&name, call.manager.start_service(&call.actor, &name, None, call.patience(start.wait))).await
}

pub(super) async fn stop(call: Call, stop: NamedAndWait) -> Result<Shown> {
    let name = read::service_name(stop.name)?;
    call.watched(&name, call.manager.stop_service(&call.actor, &name, call.patience(stop.wait))).await
}

pub(super) async fn restart(call: Call, restart: NamedAndWait) -> Result<Shown> {
    let name = read::service_name(restart.name)?;
    call.watched(&name, call.manager.restart_service(&call.actor, &name, call.patience(restart.wait))).await
}

pub(super) async fn remove(call: Call, remove: Remove) -> Result<Removal> {
    let (name, volumes) = (read::service_name(remove.name)?, remove.volumes.unwrap_or_default());
    call.watched(&name, call.manager.delete_service(&call.actor, &name, volumes)).await?;
    Ok(Removal { name: name.to_string(), removed: true, volumes })
}

pub(super) async fn logs(call: Call, logs: Logs) -> Result<LogPage> {
    let name = read::service_name(logs.named.name)?;
    call.manager.service_log_page(&call.actor, &name, logs.request).await
}

pub(super) async fn inspect(call: Call, named: Named) -> Result<Inspection> {
    let name = read::service_name(named.name)?;
    Ok(Inspection { replicas: call.manager.inspect_service(&call.actor, &name).await? })
}

pub(super) async fn stats(call: Call, named: Named) -> Result<Stats> {
    let name = read::service_name(named.name)?;
    Ok(Stats { replicas: call.manager.service_stats(&call.actor, &name).await? })
}

pub(super) async fn update_environment(call: Call, update: UpdateEnvironment) -> Result<Shown> {
    let name = read::service_name(update.name)?;
    let patch = PatchRequest { environment: update.environment, ..PatchRequest::default() };
    let work = call.manager.patch_service(&call.actor, &name, patch, call.patience(update.wait));
    call.watched(&name, Box::pin(work)).await
}

pub(super) async fn scale(call: Call, scale: Scale) -> Result<Shown> {
    let name = read::service_name(scale.name)?;
    let patch = PatchRequest { replicas: scale.replicas, ..PatchRequest::default() };
    let work = call.manager.patch_service(&call.actor, &name, patch, call.patience(scale.wait));
    call.watched(&name, Box::pin(work)).await
}

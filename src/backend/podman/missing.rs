//! Records that are not where they were: their service was deleted by another manager, or somebody took them away.
//!
//! A deletion takes the record last. So a service with containers and without a record was never deleted, and its record
//! is written again; but a manager that has not heard of the deletion yet may have made a container in its last moment,
//! which it takes away as soon as it notices. Therefore only what is found so twice counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use podman_api::models::ListContainer;
use tracing::Span;

use super::client::EngineError;
use super::names;
use super::observed::Listed;
use super::records::{self, Stored};
use super::shared::Shared;
use crate::domain::name::ServiceName;
use crate::domain::status::{Desired, Record};

/// Time between the two looks: longer than a manager takes from a creation to the look at its record.
const SETTLED: Duration = Duration::from_secs(3);

/// What has become of a record.
#[derive(Debug)]
pub(super) enum Fate {
    /// There is one, this or another one.
    Found(Stored),
    /// The service was deleted.
    Deleted,
    /// Somebody took it away; it was written again.
    Restored,
    /// The engine could not be asked, or the record not be written.
    Unknown,
}

/// Finds out what has become of a record, and writes it again if its service still has containers.
pub(super) async fn fate(shared: &Shared, record: &Record) -> Fate {
    let fate = async {
        if let Some(stored) = records::get(&shared.engine, &shared.names, &record.name, record.generation).await? {
            return Ok(Fate::Found(stored));
        }
        for last in [false, true] {
            // Containers first: those that are listed had their record then, unless it was taken away.
            let containers = containers_of(shared, &record.name).await?;
            if let Some(stored) = records::newest(&shared.engine, &shared.names, &record.name).await? {
                return Ok(Fate::Found(stored));
            }
            if containers.is_empty() {
                return Ok(Fate::Deleted);
            }
            if !last {
                tokio::time::sleep(SETTLED).await;
            }
        }
        Ok::<_, EngineError>(if rewrite(shared, record).await { Fate::Restored } else { Fate::Unknown })
    };
    fate.await.unwrap_or_else(|error| {
        tracing::debug!(service = %record.name, %error, "the record could not be looked for");
        Fate::Unknown
    })
}

/// Whether a container may be made for a record: it is there, or a newer one of the same service that is to stay.
pub(super) async fn stands(shared: &Shared, record: &Record) -> Result<bool, EngineError> {
    if records::get(&shared.engine, &shared.names, &record.name, record.generation).await?.is_some() {
        return Ok(true);
    }
    let newest = records::newest(&shared.engine, &shared.names, &record.name).await?;
    Ok(newest.is_some_and(|stored| stored.record.created_at == record.created_at && stored.record.desired != Desired::Removed))
}

/// All containers of a service, whoever made them.
pub(super) async fn containers_of(shared: &Shared, service: &ServiceName) -> Result<Vec<ListContainer>, EngineError> {
    let mut listed = shared.engine.containers(names::SERVICE, service.as_str()).await?;
    let owner = |one: &ListContainer| one.labels.as_ref().and_then(|labels| labels.get(names::OWNER).cloned());
    listed.retain(|one| owner(one).as_deref() == Some(shared.names.owner()));
    Ok(listed)
}

async fn rewrite(shared: &Shared, record: &Record) -> bool {
    let (service, generation) = (&record.name, record.generation);
    tracing::warn!(%service, generation, "the record of a service was gone; it is written again");
    let written = records::write(&shared.engine, &shared.names, record, false).await;
    if let Err(error) = &written {
        tracing::error!(%service, %error, "the record could not be written again");
    }
    written.is_ok()
}

/// Containers without a record and without a task, and since when.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    since: HashMap<ServiceName, Instant>,
}

impl Orphans {
    /// Takes in what a look has found. Those that were found before, long enough ago, are handed back with a record that
    /// has been written again, as the newest of their containers carries it; the second value says when to look at the
    /// others again.
    pub(super) async fn found(
        &mut self,
        shared: &Shared,
        orphans: impl IntoIterator<Item = (ServiceName, Vec<Listed>)>,
    ) -> (Vec<(Stored, Vec<Listed>)>, Option<Duration>) {
        let (mut restored, mut since) = (Vec::new(), HashMap::new());
        for (service, containers) in orphans {
            let carried = containers.iter().filter_map(|orphan| orphan.record.clone());
            let Some(record) = carried.max_by_key(|record| (record.created_at, record.generation)) else {
                tracing::warn!(%service, "containers of a service have no record and carry none that can be read; they are left alone");
                continue;
            };
            let first = self.since.get(&service).copied().unwrap_or_else(Instant::now);
            if first.elapsed() < SETTLED {
                since.insert(service, first);
            } else if rewrite(shared, &record).await {
                let record = Arc::clone(&record);
                restored.push((Stored { record, remove_volumes: false, cause: Span::none(), written_here: false }, containers));
            }
        }
        self.since = since;
        (restored, (!self.since.is_empty()).then_some(SETTLED))
    }
}

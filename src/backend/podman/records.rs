//! Records of services: labels of empty volumes, one a generation. The newest generation is what counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use podman_api::models::Volume;
use tracing::Span;

use super::client::{Engine, EngineError};
use super::container::record_labels;
use super::errors;
use super::names::{self, Names};
use crate::domain::name::ServiceName;
use crate::domain::status::Record;
use crate::error::{Error, Kind, Result};

/// A record as it was found.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) record: Arc<Record>,
    /// It is the record of a deletion that takes the named volumes too.
    pub(super) remove_volumes: bool,
    /// The request that wrote it, whose lines those are that are logged while it is carried out; none where it was found.
    pub(super) cause: Span,
    /// This manager has just written it.
    pub(super) written_here: bool,
}

impl Stored {
    /// Whether it takes the place of `other`. Generations begin anew when a service is deleted and another one gets its
    /// name, so the service's age comes first.
    pub(super) fn is_newer_than(&self, other: &Record) -> bool {
        (self.record.created_at, self.record.generation) > (other.created_at, other.generation)
    }

    /// Whether it is another record than `other`.
    pub(super) fn is_other_than(&self, other: &Record) -> bool {
        (self.record.created_at, self.record.generation) != (other.created_at, other.generation)
    }
}

/// Writes a record. `Conflict` when one of its generation exists already, written by somebody else.
pub(super) async fn write(engine: &Engine, names: &Names, record: &Record, remove_volumes: bool) -> Result<()> {
    let labels = record_labels(names, record)?;
    let mut labels: HashMap<&str, String> = labels.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    if remove_volumes {
        labels.insert(names::REMOVE_VOLUMES, "true".to_owned());
    }
    match engine.create_volume(&names.record(&record.name, record.generation), labels).await {
        Ok(()) => Ok(()),
        Err(error) if error.says("already exists") => Err(overtaken(&record.name)),
        Err(error) => Err(errors::engine(error, "write the record of the service")),
    }
}

/// The answer to whoever changes what somebody else has changed in the meantime.
pub(super) fn overtaken(service: &ServiceName) -> Error {
    Error::new(Kind::Conflict, format!("the service '{service}' was changed by somebody else in the meantime"))
        .remedy("look at it again and repeat the change if it is still wanted")
}

/// The record in a volume; `None` when it holds none of this installation.
fn read(names: &Names, volume: &str, labels: &HashMap<String, String>) -> Option<Stored> {
    if labels.get(names::OWNER).map(String::as_str) != Some(names.owner()) {
        return None;
    }
    let (service, generation) = names.parse_record(volume)?;
    match serde_json::from_str::<Record>(labels.get(names::RECORD)?) {
        Ok(record) if record.name == service && record.generation == generation => Some(Stored {
            record: Arc::new(record),
            remove_volumes: labels.contains_key(names::REMOVE_VOLUMES),
            cause: Span::none(),
            written_here: false,
        }),
        Ok(_) => None,
        Err(error) => {
            tracing::error!(volume, %error, "a record cannot be read; the service in it is left alone");
            None
        }
    }
}

/// The record of one generation, if it is there.
pub(super) async fn get(
    engine: &Engine,
    names: &Names,
    service: &ServiceName,
    generation: u64,
) -> Result<Option<Stored>, EngineError> {
    let volume = names.record(service, generation);
    Ok(engine.volume_labels(&volume).await?.and_then(|labels| read(names, &volume, &labels)))
}

/// The newest record of a service.
pub(super) async fn newest(engine: &Engine, names: &Names, service: &ServiceName) -> Result<Option<Stored>, EngineError> {
    Ok(sort(names, &engine.volumes(names::SERVICE, service.as_str()).await?).newest.remove(service))
}

/// What the volumes of the engine say.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest record of each service.
    pub(super) newest: BTreeMap<ServiceName, Stored>,
    /// Volumes with records that newer ones have replaced.
    pub(super) outdated: Vec<String>,
}

/// Sorts volumes into records that count and records that do not.
pub(super) fn sort(names: &Names, volumes: &[Volume]) -> Found {
    let mut found = Found::default();
    for volume in volumes {
        let Some(stored) = read(names, &volume.name, &volume.labels) else { continue };
        let name = stored.record.name.clone();
        let older = match found.newest.get(&name) {
            Some(known) if known.record.generation > stored.record.generation => Some(stored.record.generation),
            _ => found.newest.insert(name.clone(), stored).map(|known| known.record.generation),
        };
        found.outdated.extend(older.map(|generation| names.record(&name, generation)));
    }
    found
}

/// All records of the installation.
pub(super) async fn load(engine: &Engine, names: &Names) -> Result<Found, EngineError> {
    Ok(sort(names, &engine.volumes(names::OWNER, names.owner()).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::ServiceSpec;
    use crate::domain::status::Desired;

    fn volume(name: &str, generation: u64) -> Volume {
        let names = Names::new("mcp").unwrap();
        let record = Record {
            name: name.parse().unwrap(),
            generation,
            desired: Desired::Running,
            spec: Arc::new(ServiceSpec::default()),
            template: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            updated_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let labels = record_labels(&names, &record).unwrap().into_iter().collect::<HashMap<_, _>>();
        let json = serde_json::json!({
            "Name": names.record(&record.name, generation), "Driver": "local", "Mountpoint": "/", "Scope": "local",
            "Labels": labels, "Options": {}
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_newest_generation_wins_whatever_the_order() {
        let names = Names::new("mcp").unwrap();
        for order in [[1, 2, 3], [3, 1, 2], [2, 3, 1], [3, 2, 1]] {
            let found = sort(&names, &order.map(|generation| volume("echo", generation)));
            assert_eq!(found.newest["echo"].record.generation, 3, "{order:?}");
            let mut outdated = found.outdated;
            outdated.sort();
            assert_eq!(outdated, ["mcp-echo.r1", "mcp-echo.r2"], "{order:?}");
        }
    }

    #[test]
    fn another_service_of_the_same_name_counts_though_its_generations_begin_anew() {
        let names = Names::new("mcp").unwrap();
        let old = sort(&names, &[volume("echo", 5)]).newest["echo"].clone();
        let mut next = Record::clone(&old.record);
        (next.generation, next.created_at) = (1, jiff::Timestamp::MAX);
        let next = Stored { record: Arc::new(next), remove_volumes: false, cause: Span::none(), written_here: false };
        assert!(next.is_newer_than(&old.record) && !old.is_newer_than(&next.record));
        assert!(!old.is_newer_than(&old.record) && !old.is_other_than(&old.record) && old.is_other_than(&next.record));
    }

    #[test]
    fn volumes_of_other_owners_and_damaged_records_are_left_alone() {
        let names = Names::new("mcp").unwrap();
        let mut foreign = volume("a", 1);
        foreign.labels.insert(names::OWNER.to_owned(), "other".to_owned());
        let mut damaged = volume("b", 1);
        damaged.labels.insert(names::RECORD.to_owned(), "{".to_owned());
        let mut renamed = volume("c", 1);
        renamed.name = "mcp-d.r1".to_owned();
        let found = sort(&names, &[foreign, damaged, renamed]);
        assert!(found.newest.is_empty() && found.outdated.is_empty());
    }
}

//! What things are called in the engine: volumes, containers, secrets, labels. Pure.

use crate::domain::name::ServiceName;
use crate::error::{Error, Result};

/// Label: which installation owns it.
pub(super) const OWNER: &str = "io.mcp-manager.owner";
/// Label: which service it belongs to.
pub(super) const SERVICE: &str = "io.mcp-manager.service";
/// Label: the service's record, as JSON.
pub(super) const RECORD: &str = "io.mcp-manager.record";
/// Label: number of the replica.
pub(super) const ORDINAL: &str = "io.mcp-manager.ordinal";
/// Label: digest of the spec that the container was made from.
pub(super) const DIGEST: &str = "io.mcp-manager.spec-digest";
/// Label on the record of a deletion: the service's named volumes go with it.
pub(super) const REMOVE_VOLUMES: &str = "io.mcp-manager.remove-volumes";

/// The names of one installation.
#[derive(Debug, Clone)]
pub(super) struct Names {
    instance: String,
}

impl Names {
    /// Names that start with `instance`: lower-case letters and digits, so that no two installations share a name.
    pub(super) fn new(instance: &str) -> Result<Self> {
        let plain = instance.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if instance.is_empty() || instance.len() > 16 || !plain {
            let message = format!("'{}' is not a name of an installation", instance.escape_debug());
            return Err(Error::invalid_field("instance", message, "use 1 to 16 lower-case letters and digits"));
        }
        Ok(Self { instance: instance.to_owned() })
    }

    /// The value of the owner's label.
    pub(super) fn owner(&self) -> &str {
        &self.instance
    }

    /// The volume that holds a record.
    pub(super) fn record(&self, service: &ServiceName, generation: u64) -> String {
        format!("{}-{service}.r{generation}", self.instance)
    }

    /// The service and generation whose record a volume of this name would hold.
    pub(super) fn parse_record(&self, volume: &str) -> Option<(ServiceName, u64)> {
        let (service, generation) = volume.strip_prefix(&self.instance)?.strip_prefix('-')?.rsplit_once(".r")?;
        Some((service.parse().ok()?, generation.parse().ok()?))
    }

    /// A container. The generation keeps the names of a replica and of its successor apart while both exist.
    pub(super) fn container(&self, service: &ServiceName, generation: u64, ordinal: u32) -> String {
        format!("{}-{service}-{generation}-{ordinal}", self.instance)
    }

    /// The container in which an image is made. The dots keep it apart from those of services; the tag tells images apart, so
    /// that two makers of one image meet.
    pub(super) fn build(&self, image: &str) -> String {
        let tag = image.rsplit(':').next().unwrap_or(image);
        format!("{}.build.{tag}", self.instance)
    }

    /// The engine's secret with a service's key for session ids. Names that people give begin with a letter or digit, so
    /// two dots keep it apart from those.
    pub(super) fn session_key(&self, service: &ServiceName) -> String {
        format!("{}..{service}.session-key", self.instance)
    }

    /// The engine's secret that holds a value which the manager knows. The dot keeps it apart from what people name:
    /// the engine tells no labels of secrets, so the name alone says whose it is.
    pub(super) fn secret(&self, name: &str) -> String {
        format!("{}.{name}", self.instance)
    }
}

/// Whether a volume of this name would hold a record, of whatever installation. No service may use such a volume: it
/// would take the place of a record, or take one away with its own volumes.
pub(super) fn is_record(volume: &str) -> bool {
    let generation = volume.rsplit_once(".r").map_or("", |(_, generation)| generation);
    volume.contains('-') && !generation.is_empty() && generation.bytes().all(|byte| byte.is_ascii_digit())
}

/// The generation in the name of a container.
pub(super) fn generation_of_container(name: &str) -> u64 {
    name.rsplit('-').nth(1).and_then(|generation| generation.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("mcp").unwrap()
    }

    #[test]
    fn a_record_s_name_reads_back_as_its_service_and_generation() {
        for service in ["echo", "a-1", "x-echo", "0"] {
            let service: ServiceName = service.parse().unwrap();
            assert_eq!(names().parse_record(&names().record(&service, 17)), Some((service, 17)));
        }
    }

    #[test]
    fn volumes_of_others_are_not_taken_for_records() {
        for name in ["echo.r1", "mcp-echo", "mcp-echo.r", "mcp-echo.rx", "mcpx-echo.r1", "mcp-.r1", "mcp-Echo.r1", "data"] {
            assert_eq!(names().parse_record(name), None, "{name}");
        }
    }

    #[test]
    fn containers_of_services_whose_names_end_in_numbers_never_share_a_name() {
        let mut seen = std::collections::BTreeSet::new();
        for service in ["a", "a-1", "a-1-1", "a-11"] {
            for generation in [1, 11] {
                for ordinal in [1, 11] {
                    let name = names().container(&service.parse().unwrap(), generation, ordinal);
                    assert_eq!(generation_of_container(&name), generation);
                    assert!(seen.insert(name.clone()), "{name} is used twice");
                }
            }
        }
    }

    #[test]
    fn an_installation_s_name_cannot_contain_the_separator() {
        assert!(Names::new("mcp-x").is_err());
        assert!(Names::new("").is_err());
    }

    #[test]
    fn a_volume_that_could_be_a_record_is_told_from_others() {
        let echo = "echo".parse().unwrap();
        assert!(is_record(&names().record(&echo, 12)) && is_record("other-my-app.r1"));
        for other in ["data", "mcp-echo", "mcp-echo.r", "mcp-echo.r1x", "v1.r2"] {
            assert!(!is_record(other), "{other}");
        }
    }
}

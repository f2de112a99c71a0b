//! From a service's spec to the engine's request for one container. Pure: the locks of a container are decided here.
//!
//! Default locks: no capabilities, no new privileges, a read-only root, limits, its own user namespace, ports on the
//! publish address only, and the internal network only. Each is opened by a field of the spec, and by nothing else.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::abilities::Abilities;
use super::bridge::Invocation;
use super::names::{self, Names};
use super::settings::Settings;
use crate::domain::spec::{MountSource, ServiceSpec};
use crate::domain::status::Record;
use crate::error::{Error, Result};

/// CPU time is given out anew this often, in microseconds.
const CPU_PERIOD: u64 = 100_000;
/// How many ids a container's user namespace has.
const IDS: u32 = 65_536;
/// First id of containers of an engine that runs as root: far above the ids of people and subordinate ranges.
const ROOTFUL_BASE: u32 = 1_000_000_000;

/// Everything that one container is made from.
pub(super) struct Blueprint<'a> {
    pub(super) settings: &'a Settings,
    pub(super) names: &'a Names,
    pub(super) abilities: &'a Abilities,
    pub(super) record: &'a Record,
    pub(super) digest: &'a str,
    pub(super) ordinal: u32,
    /// Image reference or id, as the engine knows it.
    pub(super) image: &'a str,
    /// The user that the image names, when it had to be looked at.
    pub(super) image_user: Option<&'a str>,
    /// Variable to the engine's name of its secret.
    pub(super) secrets: &'a BTreeMap<String, String>,
    /// A small init process reaps children and passes signals on.
    pub(super) init: bool,
    /// What runs instead of the image's program, and the replica's name among its peers.
    pub(super) bridged: Option<(Invocation, String)>,
}

impl Blueprint<'_> {
    /// The body of the request that creates the container.
    pub(super) fn request(&self) -> Result<Value> {
        let spec = &*self.record.spec;
        let (uids, gids) = id_maps(spec, self.image_user, self.abilities.rootless)?;
        let mut request = json!({
            "name": self.names.container(&self.record.name, self.record.generation, self.ordinal),
            "image": self.image,
            // Replicas are told apart by it, in logs and answers.
            "hostname": format!("{}-{}", self.record.name, self.ordinal),
            "env": spec.environment,
            "httpproxy": false,
            "labels": self.labels()?,
            "cap_drop": ["all"],
            "cap_add": spec.cap_add,
            "no_new_privileges": spec.no_new_privileges,
            "read_only_filesystem": spec.read_only,
            "mounts": mounts(spec),
            "volumes": volumes(spec),
            "userns": {"nsmode": "private"},
            "idmappings": {"HostUIDMapping": false, "HostGIDMapping": false, "UIDMap": uids, "GIDMap": gids},
            "netns": {"nsmode": "bridge"},
            "networks": self.networks(),
            "portmappings": self.ports(),
            // Ports below 1024 need no capability inside the container's own network namespace.
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
            // Restarts are the manager's: it knows backoff, crash loops and what the user wants.
            "restart_policy": "no",
            "stop_timeout": spec.stop_timeout.0.div_ceil(1000),
            "log_configuration": {"driver": "k8s-file", "size": self.settings.log_bytes},
            // The bridge is its own.
            "init": self.init && self.bridged.is_none(),
        });
        let command = self.bridged.as_ref().map_or(&spec.command, |(run, _)| &run.command);
        let optional = [
            (
                "entrypoint",
                self.bridged.as_ref().map(|(run, _)| &run.entrypoint).or(spec.entrypoint.as_ref()).map(|words| json!(words)),
            ),
            ("command", Some(command).filter(|words| !words.is_empty()).map(|words| json!(words))),
            ("work_dir", spec.working_dir.as_ref().map(|path| json!(path))),
            ("user", spec.user.as_ref().map(|user| json!(user))),
            ("secret_env", (!self.secrets.is_empty()).then(|| json!(self.secrets))),
            ("resource_limits", self.resource_limits()),
            ("storage_opts", self.storage_options()),
        ];
        if let Value::Object(fields) = &mut request {
            fields.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        Ok(request)
    }

    /// Our labels win over the user's, those that were computed for a proxy, too, which reads them in any case.
    fn labels(&self) -> Result<BTreeMap<String, String>> {
        let mut labels = (self.settings.labels)(self.record);
        let mut own = self.record.spec.labels.clone();
        own.retain(|name, _| !labels.contains_key(&name.to_ascii_lowercase()));
        labels.extend(own);
        labels.extend(record_labels(self.names, self.record)?);
        labels.insert(names::ORDINAL.to_owned(), self.ordinal.to_string());
        labels.insert(names::DIGEST.to_owned(), self.digest.to_owned());
        Ok(labels)
    }

    fn networks(&self) -> Map<String, Value> {
        let spec = &self.record.spec;
        let egress = spec.egress.then(|| self.settings.egress_network());
        let names = [self.settings.network.clone()].into_iter().chain(egress).chain(spec.networks.iter().cloned());
        let aliases: Vec<&str> =
            [self.record.name.as_str()].into_iter().chain(self.bridged.as_ref().map(|(_, owner)| owner.as_str())).collect();
        names.map(|name| (name, json!({"aliases": aliases}))).collect()
    }

    fn ports(&self) -> Vec<Value> {
        let spec = &self.record.spec;
        // Host port 0: the engine takes a free one.
        let own = spec.front_port().filter(|port| !spec.ports.contains_key(port)).map(|port| (port, 0));
        let all = own.into_iter().chain(spec.ports.iter().map(|(container, host)| (*container, *host)));
        let address = self.settings.publish_address;
        all.map(
            |(container, host)| json!({"container_port": container, "host_ip": address, "host_port": host, "protocol": "tcp"}),
        )
        .collect()
    }

    /// Only limits that are enforced are asked for: a limit whose controller is missing would fail the start.
    fn resource_limits(&self) -> Option<Value> {
        let spec = &self.record.spec;
        let mut limits = Map::new();
        if self.abilities.enforces_pids() {
            limits.insert("pids".to_owned(), json!({"limit": spec.pids_limit}));
        }
        if self.abilities.enforces_memory() {
            // Swap counts from the same limit: a service cannot push the machine into swapping.
            limits.insert("memory".to_owned(), json!({"limit": spec.memory_limit.0, "swap": spec.memory_limit.0}));
        }
        if self.abilities.enforces_cpu() {
            let quota = u64::from(spec.cpu_limit.0) * CPU_PERIOD / 1000;
            limits.insert("cpu".to_owned(), json!({"quota": quota, "period": CPU_PERIOD}));
        }
        (!limits.is_empty()).then_some(Value::Object(limits))
    }

    fn storage_options(&self) -> Option<Value> {
        let limit = self.record.spec.storage_limit?;
        self.abilities.enforces_storage().then(|| json!({"size": limit.0.to_string()}))
    }
}

/// The labels that say whose and what something is: on records and on containers.
pub(super) fn record_labels(names: &Names, record: &Record) -> Result<BTreeMap<String, String>> {
    let text = serde_json::to_string(record).map_err(|error| Error::internal("a record cannot be written as JSON", error))?;
    Ok(BTreeMap::from([
        (names::OWNER.to_owned(), names.owner().to_owned()),
        (names::SERVICE.to_owned(), record.name.to_string()),
        (names::RECORD.to_owned(), text),
    ]))
}

fn mode(read_only: bool) -> &'static str {
    if read_only { "ro" } else { "rw" }
}

fn mounts(spec: &ServiceSpec) -> Vec<Value> {
    let memory = spec.tmpfs.iter().map(|(path, size)| {
        let options = ["rw".to_owned(), format!("size={}", size.0), "mode=1777".to_owned(), "nosuid".into(), "nodev".into()];
        json!({"type": "tmpfs", "source": "tmpfs", "destination": path, "options": options})
    });
    let host = spec.volumes.iter().filter_map(|mount| {
        let MountSource::Host(path) = &mount.source else { return None };
        let options = [mode(mount.read_only), "rbind", "nosuid", "nodev"];
        Some(json!({"type": "bind", "source": path, "destination": mount.target, "options": options}))
    });
    memory.chain(host).collect()
}

fn volumes(spec: &ServiceSpec) -> Vec<Value> {
    let named = spec.volumes.iter().filter_map(|mount| {
        let MountSource::Volume(name) = &mount.source else { return None };
        Some(json!({"Name": name, "Dest": mount.target, "Options": [mode(mount.read_only), "nosuid", "nodev"]}))
    });
    named.collect()
}

/// Whether the image must be asked for its user before the container can be described.
pub(super) fn needs_image_user(spec: &ServiceSpec) -> bool {
    spec.user.is_none() && has_host_mounts(spec)
}

fn has_host_mounts(spec: &ServiceSpec) -> bool {
    spec.volumes.iter().any(|mount| matches!(mount.source, MountSource::Host(_)))
}

/// User and group id maps, in the engine's form. In a rootless engine id 0 outside is the engine's user itself and 1 to
/// 65535 are its subordinate ids.
///
/// All services share one map, because the engine keeps one copy of an image for each map. It leaves the user itself to
/// id 65535 inside, which nothing runs as, so that `/dev/stdout` can be opened again (its pipe belongs to the user).
/// With a host directory the user is whoever the service runs as, for otherwise its files belonged to nobody inside.
fn id_maps(spec: &ServiceSpec, image_user: Option<&str>, rootless: bool) -> Result<(Vec<Value>, Vec<Value>)> {
    if !rootless {
        let all = vec![json!({"container_id": 0, "host_id": ROOTFUL_BASE, "size": IDS})];
        return Ok((all.clone(), all));
    }
    if !has_host_mounts(spec) {
        return Ok((default_id_map(), default_id_map()));
    }
    let user = spec.user.as_deref().or(image_user).unwrap_or_default();
    let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
    let number = |text: &str| match text {
        "" | "root" => Some(0),
        text => text.parse().ok().filter(|id| *id < IDS),
    };
    let unknown = || {
        Error::invalid_field(
            "user",
            format!("'{}' cannot be matched with the owner of the host directories", user.escape_debug()),
            format!("name the user by number, UID or UID:GID, below {IDS}"),
        )
    };
    let uid = number(uid).ok_or_else(unknown)?;
    let gid = gid.map_or(Some(uid), number).ok_or_else(unknown)?;
    Ok((map_with_owner_at(uid), map_with_owner_at(gid)))
}

/// The map of all that shares no files with the user: root inside is nobody outside.
pub(super) fn default_id_map() -> Vec<Value> {
    map_with_owner_at(IDS - 1)
}

/// A map of [`IDS`] ids in which `owner` inside is the engine's user and all others are subordinate ids.
fn map_with_owner_at(owner: u32) -> Vec<Value> {
    let ranges = [(0, 1, owner), (owner, 0, 1), (owner + 1, owner + 1, IDS - 1 - owner)];
    let some = ranges.into_iter().filter(|(_, _, size)| *size > 0);
    some.map(|(inside, outside, size)| json!({"container_id": inside, "host_id": outside, "size": size})).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::spec::Mount;
    use crate::domain::status::Desired;

    fn record(spec: ServiceSpec) -> Record {
        Record {
            name: "echo".parse().unwrap(),
            generation: 3,
            desired: Desired::Running,
            spec: Arc::new(spec),
            template: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            updated_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn request(spec: ServiceSpec, abilities: &Abilities) -> Result<Value> {
        let record = record(spec);
        let blueprint = Blueprint {
            settings: &Settings {
                labels: Arc::new(|_| BTreeMap::from([("traefik.enable".to_owned(), "true".to_owned())])),
                ..Settings::new("/run/x".into())
            },
            names: &Names::new("mcp").unwrap(),
            abilities,
            record: &record,
            digest: "d1",
            ordinal: 2,
            image: "localhost/echo:1",
            image_user: None,
            secrets: &BTreeMap::new(),
            init: true,
            bridged: None,
        };
        blueprint.request()
    }

    fn rootless() -> Abilities {
        Abilities { rootless: true, ..Abilities::default() }
    }

    fn outside_of(map: &Value, inside: u64) -> Option<u64> {
        map.as_array().unwrap().iter().find_map(|range| {
            let start = range["container_id"].as_u64().unwrap();
            let size = range["size"].as_u64().unwrap();
            (start..start + size).contains(&inside).then(|| range["host_id"].as_u64().unwrap() + inside - start)
        })
    }

    #[test]
    fn a_container_is_locked_down_by_default() {
        let request = request(ServiceSpec { port: Some(8080), ..ServiceSpec::default() }, &rootless()).unwrap();
        assert_eq!(request["name"], "mcp-echo-3-2");
        assert_eq!(request["cap_drop"], json!(["all"]));
        assert_eq!(request["no_new_privileges"], true);
        assert_eq!(request["read_only_filesystem"], true);
        assert_eq!(request["resource_limits"]["memory"], json!({"limit": 512 << 20, "swap": 512 << 20}));
        assert_eq!(request["resource_limits"]["cpu"], json!({"quota": 50_000, "period": 100_000}));
        assert_eq!(request["networks"], json!({"mcp-network": {"aliases": ["echo"]}}));
        let ports = json!([{"container_port": 8080, "host_ip": "127.0.0.1", "host_port": 0, "protocol": "tcp"}]);
        assert_eq!(request["portmappings"], ports);
        assert_eq!(outside_of(&request["idmappings"]["UIDMap"], 0), Some(1), "root inside is not the user outside");
    }

    #[test]
    fn limits_that_nothing_enforces_are_not_asked_for() {
        let unenforced = ["memory_limit", "cpu_limit", "pids_limit"].map(|limit| (limit.to_owned(), String::new()));
        let abilities = Abilities { rootless: true, unenforced: unenforced.into(), ..Abilities::default() };
        assert_eq!(request(ServiceSpec::default(), &abilities).unwrap().get("resource_limits"), None);
    }

    #[test]
    fn the_owner_of_host_directories_is_whoever_the_service_runs_as() {
        for (user, uid, gid) in
            [(None, 0, 0), (Some("1000"), 1000, 1000), (Some("10:20"), 10, 20), (Some("65535"), 65_535, 65_535)]
        {
            let mount = Mount { source: MountSource::Host("/data".into()), target: "/data".into(), read_only: false };
            let spec = ServiceSpec { user: user.map(str::to_owned), volumes: vec![mount], ..ServiceSpec::default() };
            let request = request(spec, &rootless()).unwrap();
            let (uids, gids) = (&request["idmappings"]["UIDMap"], &request["idmappings"]["GIDMap"]);
            assert_eq!((outside_of(uids, uid), outside_of(gids, gid)), (Some(0), Some(0)), "{user:?}");
            let mut all: Vec<_> = (0..u64::from(IDS)).map(|inside| outside_of(uids, inside).unwrap()).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..u64::from(IDS)), "{user:?}: every id is mapped once");
        }
    }

    #[test]
    fn a_user_by_name_cannot_own_host_directories() {
        let mount = Mount { source: MountSource::Host("/data".into()), target: "/data".into(), read_only: false };
        let spec = ServiceSpec { user: Some("node".into()), volumes: vec![mount], ..ServiceSpec::default() };
        let error = request(spec, &rootless()).unwrap_err();
        assert_eq!(error.fields[0].field, "user");
    }

    #[test]
    fn the_user_s_labels_cannot_replace_ours() {
        let forged = [(names::OWNER, "me"), ("traefik.enable", "false"), ("Traefik.Enable", "false"), ("a", "b")];
        let forged = forged.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let request = request(ServiceSpec { labels: forged, ..ServiceSpec::default() }, &rootless()).unwrap();
        assert_eq!(request["labels"][names::OWNER], "mcp");
        assert_eq!(request["labels"]["a"], "b");
        assert_eq!((&request["labels"]["traefik.enable"], &request["labels"]["Traefik.Enable"]), (&json!("true"), &Value::Null));
    }
}

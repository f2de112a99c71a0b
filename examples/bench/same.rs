//! Whether two containers differ in nothing that costs time or opens a lock: `podman inspect` of both, field by field.
//! What may differ is named here, so that everything else that Podman tells must be equal, also what it tells one day.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// Fields that may differ, with all below them.
const MAY_DIFFER: [&str; 21] = [
    // Which container it is, and where its files lie.
    "/Id",
    "/Name",
    "/Created",
    "/State",
    "/StaticDir",
    "/OCIConfigPath",
    "/ConmonPidFile",
    "/PidFile",
    "/HostnamePath",
    "/HostsPath",
    "/ResolvConfPath",
    "/GraphDriver/Data",
    "/HostConfig/LogConfig/Path",
    "/Config/Hostname",
    // How it was asked for.
    "/Config/CreateCommand",
    "/Config/Annotations",
    "/Config/Labels",
    "/Config/sdNotifyMode",
    // 10 MiB against 10 MB, and the manager restarts containers itself.
    "/HostConfig/LogConfig/Size",
    "/HostConfig/RestartPolicy/Name",
    // `podman run` asks for limits of files and processes that are the user's own in any case.
    "/HostConfig/Ulimits",
];

/// Fields below networks and ports that are each container's own.
const ITS_OWN: [&str; 5] = ["IPAddress", "MacAddress", "SandboxKey", "HostPort", "Aliases"];

/// Fails with the fields in which two containers, as `podman inspect` describes them, differ though they must not.
pub fn ensure_same(one: &str, other: &str) -> anyhow::Result<()> {
    let (one, other) = (fields(one)?, fields(other)?);
    ensure!(one.contains_key("/HostConfig/ReadonlyRootfs"), "podman inspect shows no locks any more");
    let nothing = String::from("nothing");
    let names = one.keys().chain(other.keys()).collect::<std::collections::BTreeSet<_>>();
    let mut differences = Vec::new();
    for name in names {
        let (left, right) = (one.get(name).unwrap_or(&nothing), other.get(name).unwrap_or(&nothing));
        let its_own = ITS_OWN.iter().any(|field| name.rsplit('/').next() == Some(field));
        if left != right && !its_own && !MAY_DIFFER.iter().any(|prefix| below(name, prefix)) {
            differences.push(format!("{name}: {left} against {right}"));
        }
    }
    ensure!(differences.is_empty(), "the containers are not equally locked:\n{}", differences.join("\n"));
    Ok(())
}

fn below(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Every value of the first container, by its place.
fn fields(inspected: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let containers: Value = serde_json::from_str(inspected).context("podman inspect printed no JSON")?;
    let mut fields = BTreeMap::new();
    gather(containers.get(0).context("podman inspect shows no container")?, String::new(), &mut fields);
    Ok(fields)
}

fn gather(value: &Value, place: String, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| gather(value, format!("{place}/{name}"), fields)),
        // Lists of words: capabilities, environment. Their order says nothing, and each container's name is its own.
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let mut words: Vec<_> =
                items.iter().filter_map(Value::as_str).filter(|word| !word.starts_with("HOSTNAME=")).collect();
            words.sort_unstable();
            fields.insert(place, words.join(" "));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| gather(value, format!("{place}/{index}"), fields));
        }
        // Mount options, in any order.
        Value::String(text) if text.contains(',') => {
            let mut options: Vec<_> = text.split(',').collect();
            options.sort_unstable();
            fields.insert(place, options.join(","));
        }
        other => {
            fields.insert(place, other.to_string());
        }
    }
}

//! The dynamic configuration that Traefik's HTTP provider fetches from the manager.

use serde_json::{Map, Value, json};

use super::{Settings, routed_addresses};
use crate::domain::mcp_path::mcp_path;
use crate::domain::name::{RESERVED, ServiceName};
use crate::domain::spec::{ServiceSpec, SessionMode, Transport};
use crate::domain::status::Snapshot;

/// Name of the objects that are always in the document. A service cannot be called so.
const MANAGER: &str = "manager";

/// How ids of sessions begin that name the replica that has the session.
pub const NAMED_SESSION: &str = "r1.";

/// The routes to all ready replicas, as one Traefik document.
///
/// Traefik drops a document without a single object and goes on with the one before, and it refuses one that holds an
/// empty collection. So the document is never empty: with a fallback URL it always holds the route there, without one
/// a middleware that nobody uses.
#[must_use]
pub fn traefik_document(snapshot: &Snapshot, settings: &Settings) -> Value {
    let (mut routers, mut services) = (Map::new(), Map::new());
    for (name, state) in &snapshot.services {
        let servers: Vec<Value> = routed_addresses(state).map(|address| json!({ "url": format!("http://{address}") })).collect();
        if servers.is_empty() {
            continue;
        }
        routers.insert(name.to_string(), router(name.as_str(), &host_rule(name, settings), settings));
        let several = servers.len() > 1;
        services.insert(name.to_string(), json!({ "loadBalancer": { "servers": servers } }));
        if settings.fallback_url.is_some() && keeps_sessions(&state.record.spec) {
            let rule = session_rule(name, &state.record.spec, several, settings);
            // No service has an underscore in its name.
            routers.insert(format!("{name}_sessions"), router(MANAGER, &rule, settings));
        }
    }
    let mut http = Map::new();
    if let Some(url) = &settings.fallback_url {
        let mut fallback = router(MANAGER, &fallback_rule(settings), settings);
        fallback["priority"] = json!(1);
        routers.insert(MANAGER.to_owned(), fallback);
        services.insert(MANAGER.to_owned(), json!({ "loadBalancer": { "servers": [{ "url": url }] } }));
    } else {
        // The header is one that Traefik would set to the same value anyway.
        let idle = json!({ "headers": { "customRequestHeaders": { "X-Forwarded-By": MANAGER } } });
        http.insert("middlewares".to_owned(), json!({ MANAGER: idle }));
    }
    for (key, objects) in [("routers", routers), ("services", services)] {
        if !objects.is_empty() {
            http.insert(key.to_owned(), Value::Object(objects));
        }
    }
    json!({ "http": http })
}

/// The rule that matches a service's host. Both parts are DNS names by their types, so neither can end the string.
pub(super) fn host_rule(name: &ServiceName, settings: &Settings) -> String {
    format!("Host(`{name}.{}`)", settings.domain)
}

/// Whether a client's MCP session may live in one of several replicas: a server of its own kind keeps it in memory,
/// where the bridge's sessions find their owner by themselves.
#[must_use]
pub fn keeps_sessions(spec: &ServiceSpec) -> bool {
    spec.transport == Transport::Http && spec.session_mode == SessionMode::PerSession && mcp_path(&spec.labels).is_some()
}

/// Matches requests for MCP of the revisions with sessions. Traefik can choose a replica by cookie or by the client's
/// address, neither of which tells a session of MCP, so the manager's gateway chooses for it. Of a single replica only
/// what belongs to a session whose id names its replica goes there: the server knows it by its own id alone.
fn session_rule(name: &ServiceName, spec: &ServiceSpec, several: bool, settings: &Settings) -> String {
    let path = mcp_path(&spec.labels).unwrap_or_default();
    let sessions = if several {
        "!Header(`Mcp-Protocol-Version`, `2026-07-28`)".to_owned()
    } else {
        format!("HeaderRegexp(`Mcp-Session-Id`, `^{}`)", NAMED_SESSION.replace('.', "[.]"))
    };
    format!("{} && Path(`{path}`) && {sessions}", host_rule(name, settings))
}

/// Matches every host below the domain but those of the installation itself.
fn fallback_rule(settings: &Settings) -> String {
    let domain = settings.domain.as_str();
    let others: Vec<String> = RESERVED.iter().map(|name| format!("!Host(`{name}.{domain}`)")).collect();
    format!(r"HostRegexp(`^[^.]+\.{}$`) && {}", domain.replace('.', r"\."), others.join(" && "))
}

fn router(service: &str, rule: &str, settings: &Settings) -> Value {
    let mut router = json!({ "rule": rule, "service": service });
    if !settings.entrypoints.is_empty() {
        router["entryPoints"] = json!(settings.entrypoints);
    }
    if !settings.middlewares.is_empty() {
        router["middlewares"] = json!(settings.middlewares);
    }
    router
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::properties::{snapshot, state};

    #[test]
    fn the_document_lists_ready_replicas_only() {
        let snapshot = snapshot(vec![
            state("echo", &[(true, Some(41001)), (false, Some(41002)), (true, Some(41003))]),
            state("down", &[(false, Some(41004))]),
            state("worker", &[(true, None)]),
        ]);
        insta::assert_json_snapshot!(traefik_document(&snapshot, &Settings::default()));
    }

    #[test]
    fn sessions_of_several_replicas_go_through_the_gateway_where_there_is_one() {
        let view =
            snapshot(vec![state("one", &[(true, Some(41001))]), state("two", &[(true, Some(41002)), (true, Some(41003))])]);
        let sessions = |settings: &Settings| {
            let document = traefik_document(&view, settings);
            let routers = document["http"]["routers"].as_object().unwrap().clone();
            routers.into_iter().filter(|(name, _)| name.ends_with("_sessions")).collect::<Vec<_>>()
        };
        let gateway = Settings { fallback_url: Some("http://127.0.0.1:8000".into()), ..Settings::default() };
        let found = sessions(&gateway);
        assert!(found.iter().all(|(_, router)| router["service"] == MANAGER), "{found:#?}");
        let rules: Vec<_> = found.iter().map(|(_, router)| router["rule"].as_str().unwrap()).collect();
        let left_of_several = "Host(`one.localhost`) && Path(`/mcp`) && HeaderRegexp(`Mcp-Session-Id`, `^r1[.]`)";
        let all = "Host(`two.localhost`) && Path(`/mcp`) && !Header(`Mcp-Protocol-Version`, `2026-07-28`)";
        assert_eq!(rules, [left_of_several, all]);
        assert_eq!(sessions(&Settings::default()), []);
    }

    #[test]
    fn the_document_carries_the_installations_settings() {
        let settings = Settings {
            domain: "mcp.example.org".parse().unwrap(),
            entrypoints: vec!["websecure".into()],
            middlewares: vec!["security-headers@file".into()],
            fallback_url: Some("http://127.0.0.1:8000".into()),
            ..Settings::default()
        };
        insta::assert_json_snapshot!(traefik_document(&snapshot(vec![state("echo", &[(true, Some(41001))])]), &settings));
    }
}

//! Generated documents for property tests.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Any JSON value, some levels deep, with names that occur in templates and names that do not.
pub fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-10..70_000_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..6).prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

/// A way to write each field of a spec so that it can be read and keeps the rules, or nearly so.
pub fn spec_document() -> impl Strategy<Value = Value> {
    let fields = [
        ("image", vec![json!("nginx"), json!("docker.io/library/nginx:1.27"), json!("localhost:5000/a/b:c")]),
        ("entrypoint", vec![json!(["/bin/x", 1, true]), json!("run 'a b'"), json!([])]),
        ("command", vec![json!("serve --port 80"), json!(["serve"])]),
        ("args", vec![json!(["-v"]), json!("")]),
        ("working_dir", vec![json!("/app"), json!("/")]),
        ("user", vec![json!("1000:1000"), json!("app")]),
        ("port", vec![json!(80), json!(65535), Value::Null]),
        ("ports", vec![json!({"80": 8080, "81/tcp": "8081"}), json!({})]),
        ("environment", vec![json!({"A": 1, "B": true, "C": "$$x $y ${HOME_DIR} ${UNSET:-z}", "D": -15}), json!({"A": "ä\n\t"})]),
        ("secrets", vec![json!({"KEY": "name-of-secret"})]),
        (
            "volumes",
            vec![json!({"data": "/data", "./x": "/y:ro"}), json!(["data:/data:rw", {"source": "/srv/a", "target": "/b/"}])],
        ),
        ("tmpfs", vec![json!({"/run/": "16m"}), json!({"/tmp": 1_000_000})]),
        ("memory_limit", vec![json!("512m"), json!(67_108_864), json!("1.5 GiB")]),
        ("cpu_limit", vec![json!("0.5"), json!(2), json!(0.300_000_000_000_000_04), json!("250m")]),
        ("pids_limit", vec![json!(64)]),
        ("storage_limit", vec![json!("1g")]),
        ("restart_policy", vec![json!("no"), json!("always"), json!("on-failure:3"), json!("unless_stopped")]),
        (
            "health_check",
            vec![json!({"path": "/h", "interval": "10s", "retries": 2}), json!({"cmd": ["CMD", "true"], "start_period": 5})],
        ),
        ("health_check_path", vec![json!("/health")]),
        ("health_check_interval", vec![json!("1m30s")]),
        ("labels", vec![json!({"team": "a", "n": 3})]),
        ("network", vec![json!("mine")]),
        ("networks", vec![json!(["a", "b", "a"])]),
        ("transport", vec![json!("http"), json!("stdio"), json!("streamable-http"), json!("sse")]),
        ("session_mode", vec![json!("shared"), json!("per_session")]),
        ("max_sessions", vec![json!(40)]),
        ("session_idle_timeout", vec![json!("1h"), json!(30)]),
        ("replicas", vec![json!(1), json!(3)]),
        ("autoscaling", vec![json!({"max": 4}), json!({"min": 1, "max": 3, "cpu_percent": 50, "scale_down_after": "1m"})]),
        ("kubernetes", vec![json!({"tolerations": [{"key": "a", "operator": "Exists"}], "affinity": {"nodeAffinity": {}}})]),
        ("pull_policy", vec![json!("missing"), json!("IfNotPresent")]),
        ("start_timeout", vec![json!("30s")]),
        ("stop_timeout", vec![json!(0)]),
        ("read_only", vec![json!(false), json!(true)]),
        ("no_new_privileges", vec![json!(false)]),
        ("cap_add", vec![json!(["chown", "CAP_KILL"])]),
        ("egress", vec![json!(true)]),
    ];
    let members: Vec<_> = fields
        .into_iter()
        .map(|(name, values)| {
            let often = if name == "image" { 0.9 } else { 0.2 };
            prop::option::weighted(often, prop::sample::select(values)).prop_map(move |value| (name, value))
        })
        .collect();
    members.prop_map(|members| {
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
    })
}

/// A template that keeps the rules, or one where something was put in another's place.
pub fn template_document() -> impl Strategy<Value = Value> {
    let whole =
        (spec_document(), prop::option::of(spec_document()), prop::option::of(prop::sample::select(vec!["1.0", "2-rc.1"])));
    let right = whole.prop_map(|(mut document, nested, version)| {
        document["name"] = "sample".into();
        document["capabilities"] = json!(["tools"]);
        document["allowed_env"] = json!(["HOME_DIR", "UNSET"]);
        if let Some(version) = version {
            document["version"] = version.into();
        }
        if let Some(nested) = nested {
            document["default_config"] = nested;
        }
        document
    });
    (right, prop::collection::vec((any::<prop::sample::Index>(), any_json()), 0..3)).prop_map(|(mut document, changes)| {
        for (place, value) in changes {
            let mut places = 0;
            for_each_place(&mut document, &mut |_| places += 1);
            let chosen = place.index(places);
            let mut number = 0;
            for_each_place(&mut document, &mut |found| {
                if number == chosen {
                    *found = value.clone();
                }
                number += 1;
            });
        }
        document
    })
}

/// Visits every value in a document, the inner ones first.
fn for_each_place(value: &mut Value, visit: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::Object(object) => object.values_mut().for_each(|value| for_each_place(value, visit)),
        Value::Array(list) => list.iter_mut().for_each(|value| for_each_place(value, visit)),
        _ => {}
    }
    visit(value);
}

/// A name as it stands in templates, or another one.
pub fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "name",
            "version",
            "image",
            "port",
            "environment",
            "volumes",
            "health_check",
            "command",
            "cmd",
            "default_config",
            "required_env_vars",
            "capabilities",
            "labels",
            "memory_limit",
            "cpu_limit",
            "replicas",
            "tmpfs",
            "path",
            "host_path",
            "container_path",
            "source",
            "target",
            "read_only",
            "transport",
            "interval",
            "ports",
            "secrets",
        ])
        .prop_map(str::to_owned),
        text(),
    ]
}

/// Text that people write into templates, or anything else.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            "512m",
            "1.5g",
            "0.5",
            "30s",
            "1m30s",
            "on-failure:3",
            "no",
            "http",
            "stdio",
            "streamable-http",
            "/data",
            "/data:/x:ro",
            "data:/x",
            "nginx:latest",
            "a b 'c",
            "${HOME}",
            "$$",
            "CHOWN",
            "missing",
            "80",
            "80/tcp",
            "../..",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
        any::<String>().prop_map(|text| text.chars().take(20).collect()),
    ]
}

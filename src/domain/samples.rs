//! Generated documents for property tests.

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Any JSON value, some levels deep, with names that occur in templates and names that do not.
pub fn json() -> impl Strategy<Value = Value> {
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

//! Claims about the published schema: where it says what a value may be, it says what the rules say.

use proptest::prelude::*;

use super::super::rules;
use super::*;
use crate::domain::samples::any_json;
use crate::domain::template::{Template, json_schema};

/// A place in a document: its name, the members around a value there, values that are taken and values that are not.
type Place = (&'static str, fn(&Value) -> Value, Value, Value);

fn place(name: &'static str, around: fn(&Value) -> Value, taken: Value, refused: Value) -> Place {
    (name, around, taken, refused)
}

/// A value as the name of an entry.
fn key(value: &Value) -> String {
    value.as_str().unwrap_or("A").to_owned()
}

/// Places in specs about whose values the schema says all that the rules say.
fn places() -> Vec<Place> {
    let long = "a".repeat(300);
    vec![
        place("port", |v| json!({"port": v}), json!([1, 65535, 80.0, null]), json!([0, 65536, -1, 1.5, "80"])),
        place("pids_limit", |v| json!({"pids_limit": v}), json!([1, 4_194_304]), json!([0, 4_194_305])),
        place("max_sessions", |v| json!({"max_sessions": v}), json!([1, 10_000, null]), json!([0, 10_001])),
        place("replicas", |v| json!({"replicas": v}), json!([1, 100]), json!([0, 101])),
        place("retries", |v| json!({"health_check": {"retries": v}}), json!([1, 100]), json!([0, 101])),
        place("autoscaling.min", |v| json!({"autoscaling": {"min": v, "max": 100}}), json!([1, 100, null]), json!([0, 101])),
        place("autoscaling.max", |v| json!({"autoscaling": {"max": v}}), json!([1, 100]), json!([0, 101, null])),
        place("autoscaling", |v| json!({"autoscaling": v}), json!([null, {"max": 2}]), json!([{}, {"min": 1}, 2])),
        place("cpu_percent", |v| json!({"autoscaling": {"max": 2, "cpu_percent": v}}), json!([1, 100]), json!([0, 101])),
        place("user", |v| json!({"user": v}), json!(["app", "1000:1000"]), json!(["", "a b", long, 1000])),
        place("health_check_path", |v| json!({"health_check_path": v}), json!(["/", "/a?b"]), json!(["a", "", "/a b", "/ä"])),
        place("path", |v| json!({"health_check": {"path": v}}), json!(["/", "/a"]), json!(["a", "", "/\n"])),
        place("network", |v| json!({"network": v}), json!(["a", "hosts"]), json!(["", "host", "none", "a/b", "-a", long])),
        place("networks", |v| json!({"networks": [v]}), json!(["a"]), json!(["", "bridge", "a b", null])),
        place(
            "cap_add",
            |v| json!({"cap_add": [v]}),
            json!(["CHOWN", "cap_Kill", "setuid"]),
            json!(["SYS_ADMIN", "", "CAP_", null]),
        ),
        place("secrets", |v| json!({"secrets": {"A": v}}), json!(["a.b_c-d"]), json!(["", "a b", "_a", long, null])),
        place("names of secrets", |v| json!({"secrets": {key(v): "a"}}), json!(["A", "a/b"]), json!(["", "A=B", "A B", long])),
        place(
            "names in environment",
            |v| json!({"environment": {key(v): "a"}}),
            json!(["A", "1/b"]),
            json!(["", "A=B", "é", long]),
        ),
        place(
            "labels",
            |v| json!({"labels": {key(v): "a"}}),
            json!(["a.b", "io.mcp-managers"]),
            json!(["", "io.mcp-manager.a", "a b"]),
        ),
        place(
            "operator",
            |v| json!({"kubernetes": {"tolerations": [{"operator": v}]}}),
            json!(["Equal", null]),
            json!(["", "Like"]),
        ),
        place("effect", |v| json!({"kubernetes": {"tolerations": [{"effect": v}]}}), json!(["NoExecute"]), json!(["", "No"])),
        place("affinity", |v| json!({"kubernetes": {"affinity": {key(v): {}}}}), json!(["nodeAffinity"]), json!(["", "A"])),
    ]
}

/// Likewise, of values that are plain numbers.
fn quantities() -> Vec<Place> {
    vec![
        place(
            "memory_limit",
            |v| json!({"memory_limit": v}),
            json!([6 << 20, 1_u64 << 46]),
            json!([0, (6 << 20) - 1, (1_u64 << 46) + 1]),
        ),
        place("storage_limit", |v| json!({"storage_limit": v}), json!([1 << 20]), json!([(1 << 20) - 1, -1])),
        place("tmpfs", |v| json!({"tmpfs": {"/a": v}}), json!([4096]), json!([4095])),
        place("cpu_limit", |v| json!({"cpu_limit": v}), json!([0.01, 2, 4096]), json!([0, 0.009, 4097])),
        place("interval", |v| json!({"health_check": {"interval": v}}), json!([0.1, 3600]), json!([0, 0.09, 3601])),
        place("health_check_interval", |v| json!({"health_check_interval": v}), json!([0.1, 3600]), json!([0, 3601])),
        place("timeout", |v| json!({"health_check": {"timeout": v}}), json!([0.01, 3600]), json!([0, 3601])),
        place("start_period", |v| json!({"health_check": {"start_period": v}}), json!([0, 3600]), json!([-1, 3601])),
        place("start_timeout", |v| json!({"start_timeout": v}), json!([0.1]), json!([0, 3601])),
        place("session_idle_timeout", |v| json!({"session_idle_timeout": v}), json!([1, 86_400]), json!([0, 0.9, 86_401])),
        place("stop_timeout", |v| json!({"stop_timeout": v}), json!([0, 3600]), json!([-1, 3601])),
        place("scale_down_after", |v| json!({"autoscaling": {"max": 2, "scale_down_after": v}}), json!([0, 3600]), json!([3601])),
    ]
}

/// Likewise, of what a template says about itself.
fn of_templates() -> Vec<Place> {
    let (long, line) = ("a".repeat(65), "a".repeat(4097));
    vec![
        place("name", |v| json!({"name": v}), json!(["a", "0_.-", null]), json!(["", "A", "-a", long])),
        place("version", |v| json!({"version": v}), json!(["1.0+b", null]), json!(["", "1 0", long])),
        place("description", |v| json!({"description": v}), json!(["", "ä b"]), json!(["a\nb", "\u{7f}", line])),
        place("required_env_vars", |v| json!({"required_env_vars": [v]}), json!(["A"]), json!(["", "A=B", "A B"])),
        place("allowed_env", |v| json!({"allowed_env": [v]}), json!(["A"]), json!(["", "A=B", null])),
        place("capabilities", |v| json!({"capabilities": [v]}), json!(["ä b"]), json!(["", "\n", "a".repeat(257)])),
    ]
}

/// Places of which the schema says less than the rules, with values that both know.
fn others() -> Vec<Place> {
    vec![
        place(
            "image",
            |v| json!({"image": v}),
            json!(["nginx", "r.io:1/a/b@sha256:00000000000000000000000000000000"]),
            json!(["", "x y", "-x", "/x", 3]),
        ),
        place("working_dir", |v| json!({"working_dir": v}), json!(["/", "/a b/c"]), json!(["", "a", "/a/", "//", "/\n"])),
        place(
            "ports",
            |v| json!({"ports": {key(v): 80}}),
            json!(["80", "080", "80/tcp"]),
            json!(["A", "0", "80/udp", "123456", ""]),
        ),
        place("host ports", |v| json!({"ports": {"80": v}}), json!([1, "080"]), json!([0, "0", "a", 65536, null])),
        place("tmpfs", |v| json!({"tmpfs": {key(v): "1m"}}), json!(["/a", "/a/"]), json!(["", "/", "a", "//a", "/a//"])),
        place(
            "volumes",
            |v| json!({"volumes": [v]}),
            json!(["a:/b", "./a:/b/:ro", {"name": "a", "target": "/b", "read_only": null}, {"source": "a/b", "container_path": "/b"}]),
            json!([{}, {"source": "a"}, {"target": "/b"}, {"source": "a", "name": "a", "target": "/b"}, "a:b", "a:/", {"source": "~/a", "target": "/b"},
                {"source": "a b", "target": "/b"}, {"source": "a", "target": "b"}, {"source": null, "target": "/b"}]),
        ),
        place(
            "map of volumes",
            |v| json!({"volumes": {key(v): "/a"}}),
            json!(["a", "./a", "/a b"]),
            json!(["", "a b", "~", "~/a"]),
        ),
        place("targets", |v| json!({"volumes": {"a": v}}), json!(["/a", "/a/:ro"]), json!(["", "/", "a", "/a:x", "ro"])),
        place("command", |v| json!({"health_check": {"command": v}}), json!(["true", ["true"]]), json!(["", [], [null]])),
    ]
}

/// A template with these members, in either shape.
fn template(members: Value, nested: bool) -> Value {
    let mut document = json!({"image": "i", "port": 80});
    for (name, value) in object(members) {
        document[name] = value;
    }
    if nested { json!({"default_config": document}) } else { document }
}

fn is_taken(document: &Value) -> bool {
    Template::from_document(document, Some("x")).is_ok()
}

#[test]
fn the_schema_takes_and_refuses_what_the_rules_take_and_refuse() {
    let validator = jsonschema::validator_for(&json_schema()).unwrap();
    let specs = [places(), quantities(), others()].concat();
    let all = specs.into_iter().map(|place| (place, true)).chain(of_templates().into_iter().map(|place| (place, false)));
    let mut wrong = Vec::new();
    for ((name, around, taken, refused), may_be_nested) in all {
        for (values, right) in [(taken, true), (refused, false)] {
            for (value, nested) in values.as_array().unwrap().iter().flat_map(|value| [(value, false), (value, may_be_nested)]) {
                let document = template(around(value), nested);
                let judged = (is_taken(&document), validator.is_valid(&document));
                if judged != (right, right) {
                    wrong.push(format!("{name}, as (rules, schema) see it: {judged:?} {document}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_template_has_an_image_somewhere_that_is_not_null() {
    let validator = jsonschema::validator_for(&json_schema()).unwrap();
    for (document, right) in [
        (json!({"image": null}), false),
        (json!({"image": null, "default_config": {"image": null}}), false),
        (json!({"image": null, "default_config": {"image": "i"}}), true),
        (json!({"image": "i", "default_config": {"image": null}}), true),
        (json!({"image": "i", "default_config": null}), true),
        (json!({"default_config": null}), false),
    ] {
        assert_eq!((is_taken(&document), validator.is_valid(&document)), (right, right), "{document}");
    }
}

/// Numbers at and around all the bounds that there are.
fn number() -> impl Strategy<Value = Value> {
    let whole = [rules::PIDS, rules::REPLICAS, rules::RETRIES, rules::CPU_PERCENT, rules::MAX_SESSIONS].map(Bounded::bounds);
    let bytes = [rules::MEMORY, rules::STORAGE, rules::TMPFS].map(Bounded::bounds);
    let spans =
        [rules::INTERVAL, rules::PROBE_TIMEOUT, rules::START, rules::UP_TO_AN_HOUR, rules::SESSION_IDLE].map(Bounded::bounds);
    let others = [u16::bounds(PORTS), MilliCpu::bounds(rules::CPU)];
    let all = [whole.as_slice(), &bytes, &spans, &others].concat().into_iter().flatten();
    let edges: Vec<f64> = all.map(|(_, edge)| edge.as_f64().unwrap()).collect();
    let steps = [-1.0, -0.5, -0.01, -0.001, -0.0001, 0.0, 0.0001, 0.001, 0.01, 0.5, 1.0];
    let near = (prop::sample::select(edges), prop::sample::select(steps.to_vec())).prop_map(|(edge, step)| edge + step);
    let numbers = prop_oneof![near, any::<f64>(), -10.0..5000.0];
    // What is whole is written as such, or with a point; there is no quantity that is written -0.
    let written = (numbers, any::<bool>()).prop_map(|(number, plain)| {
        let whole = format!("{number}").parse::<i64>().ok().filter(|_| plain);
        whole.map_or_else(|| Value::from(number), Value::from)
    });
    written.prop_filter("is minus nought", |number| {
        !number.as_f64().is_some_and(|number| number == 0.0 && number.is_sign_negative())
    })
}

/// Any value, and often a text of letters that matter somewhere.
fn value() -> impl Strategy<Value = Value> {
    let words: Vec<_> =
        [places(), of_templates()].concat().into_iter().flat_map(|(.., taken, refused)| [taken, refused]).collect();
    let known: Vec<Value> = words.iter().flat_map(|list| list.as_array().unwrap().clone()).collect();
    prop_oneof![
        "[A-Za-z0-9._:/@ =+~\n-]{0,8}".prop_map(Value::from),
        "/[ -~]{0,4}".prop_map(Value::from),
        "(?i)(cap_)?(chown|kill|setfcap|sys_chroot|net_admin)".prop_map(Value::from),
        prop::sample::select(known),
        number(),
        any_json(),
    ]
}

proptest! {
    #[test]
    fn simple_bounds_are_the_same_in_the_schema_and_in_the_rules(value in value(), number in number(), nested: bool) {
        static VALIDATOR: std::sync::LazyLock<jsonschema::Validator> =
            std::sync::LazyLock::new(|| jsonschema::validator_for(&json_schema()).unwrap());
        let specs = places().into_iter().map(|place| (place, &value, nested));
        let quantities = quantities().into_iter().map(|place| (place, &number, nested));
        let templates = of_templates().into_iter().map(|place| (place, &value, false));
        for ((name, around, ..), value, nested) in specs.chain(quantities).chain(templates) {
            let document = template(around(value), nested);
            prop_assert_eq!(is_taken(&document), VALIDATOR.is_valid(&document), "{}, as (rules, schema) see it: {}", name, document);
        }
    }
}

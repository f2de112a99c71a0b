//! Claims about specs as a whole: what is refused, what is filled in, and laws that hold for any input.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::samples::{any_json, spec_document};
use crate::error::FieldError;

fn resolved(document: Value) -> Result<ServiceSpec, Vec<FieldError>> {
    let defaults =
        Defaults { allowed_host_paths: vec!["/srv".into()], working_directory: "/srv/app".into(), ..Defaults::default() };
    let variables = |name: &str| (name == "HOME_DIR").then(|| "/home".to_owned());
    resolve(serde_json::from_value(document).unwrap(), &defaults, &["HOME_DIR".into(), "UNSET".into()], &variables)
}

#[test]
fn all_violations_are_reported_at_once() {
    let errors = resolved(json!({
        "port": 0, "replicas": 0, "memory_limit": "1k", "cap_add": ["SYS_ADMIN"], "labels": {"io.mcp-manager.owner": "x"},
        "environment": {"A\u{1}": "x", "B": "${SECRET}", "C": "${UNSET}", "GOOD": "$$ ${HOME_DIR} ${UNSET:-d}"},
        "volumes": {"/etc": "/x", "/srv/../etc/passwd": "/y", "data": "relative", "../../etc": "/z"},
    }))
    .unwrap_err();
    insta::assert_snapshot!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_minimal_spec_is_locked_down() {
    let spec = resolved(json!({"image": "nginx", "port": 80})).unwrap();
    assert!(spec.read_only && spec.no_new_privileges && spec.cap_add.is_empty() && !spec.egress);
    assert!(spec.loosened().is_empty());
    assert_eq!(spec.health_check.probe, Probe::Tcp);
}

#[test]
fn every_open_lock_is_told() {
    let open = json!({"image": "x", "read_only": false, "no_new_privileges": false, "cap_add": ["CHOWN"], "egress": true,
        "networks": ["office"], "volumes": {"/srv/app": "/data:ro"}});
    let loosened = resolved(open).unwrap().loosened();
    for lock in ["root file system", "privileges", "CHOWN", "outside", "'office'", "/srv/app"] {
        assert!(loosened.iter().any(|line| line.contains(lock)), "{lock}: {loosened:?}");
    }
}

/// Which digest a record of today gets when it is read by a later manager. Another one would replace every container
/// there is: a new field is left out of what is written while it has its default.
#[test]
fn what_a_container_embodies_is_the_same_for_later_managers() {
    let stored = concat!(
        r#"{"image":"example.org/echo:1","tmpfs":{},"memory_limit":"512m","cpu_limit":"0.5","pids_limit":256,"#,
        r#""restart_policy":"unless-stopped","health_check":{"probe":"process","interval":"30s","timeout":"5s","retries":3,"#,
        r#""start_period":"30s"},"transport":"http","session_mode":"per_session","replicas":1,"pull_policy":"missing","#,
        r#""start_timeout":"1m","stop_timeout":"10s","read_only":true,"no_new_privileges":true,"egress":false}"#,
    );
    let spec: ServiceSpec = serde_json::from_str(stored).unwrap();
    assert_eq!(serde_json::to_string(&spec).unwrap(), stored);
    assert_eq!(spec.container_digest(), "95622a04eed81f54b65de8da5683576c");
}

#[test]
fn environment_references_need_the_allow_list() {
    let spec = resolved(json!({"image": "x", "environment": {"A": "$$1 ${HOME_DIR}/x ${UNSET:-d} $plain"}})).unwrap();
    assert_eq!(spec.environment["A"], "$1 /home/x d $plain");
}

#[test]
fn relative_host_paths_stay_below_the_allow_list() {
    let spec = resolved(json!({"image": "x", "volumes": {"./data": "/data"}})).unwrap();
    assert_eq!(spec.volumes[0].source, MountSource::Host("/srv/app/data".into()));
}

/// The input that says all of `spec`, so that nothing is left to defaults.
fn said(spec: ServiceSpec) -> SpecInput {
    let volume = |mount: Mount| VolumeInput {
        host_path: Some(match mount.source {
            MountSource::Host(path) => path,
            MountSource::Volume(name) => name,
        }),
        container_path: Some(mount.target),
        read_only: Some(mount.read_only),
        key: None,
    };
    let (path, command) = match spec.health_check.probe {
        Probe::Http(path) => (Some(path), None),
        Probe::Command(command) => (None, Some(Words(command))),
        Probe::Tcp | Probe::Process => (None, None),
    };
    let text = |map: BTreeMap<String, String>| map.into_iter().map(|(key, value)| (key, EnvironmentValue(value))).collect();
    SpecInput {
        image: Some(spec.image),
        entrypoint: spec.entrypoint.map(Words),
        command: Some(Words(spec.command)),
        args: None,
        working_dir: spec.working_dir,
        user: spec.user,
        port: spec.port,
        ports: Some(spec.ports.into_iter().map(|(container, host)| (container.to_string(), PortNumber(host))).collect()),
        environment: Some(text(spec.environment.into_iter().map(|(key, value)| (key, value.replace('$', "$$"))).collect())),
        secrets: Some(spec.secrets),
        volumes: Some(Volumes(spec.volumes.into_iter().map(volume).collect())),
        tmpfs: Some(spec.tmpfs),
        memory_limit: Some(spec.memory_limit),
        cpu_limit: Some(spec.cpu_limit),
        pids_limit: Some(spec.pids_limit),
        storage_limit: spec.storage_limit,
        restart_policy: Some(spec.restart_policy),
        health_check: Some(HealthCheckInput {
            path,
            command,
            interval: Some(spec.health_check.interval),
            timeout: Some(spec.health_check.timeout),
            retries: Some(spec.health_check.retries),
            start_period: Some(spec.health_check.start_period),
        }),
        health_check_path: None,
        health_check_interval: None,
        labels: Some(text(spec.labels)),
        network: None,
        networks: Some(spec.networks),
        transport: Some(spec.transport),
        session_mode: Some(spec.session_mode),
        max_sessions: spec.max_sessions,
        session_idle_timeout: spec.session_idle_timeout,
        replicas: Some(spec.replicas),
        autoscaling: spec.autoscaling.map(|autoscaling| AutoscalingInput {
            min: Some(autoscaling.min),
            max: Some(autoscaling.max),
            cpu_percent: Some(autoscaling.cpu_percent),
            scale_down_after: Some(autoscaling.scale_down_after),
        }),
        pull_policy: Some(spec.pull_policy),
        start_timeout: Some(spec.start_timeout),
        stop_timeout: Some(spec.stop_timeout),
        read_only: Some(spec.read_only),
        no_new_privileges: Some(spec.no_new_privileges),
        cap_add: Some(spec.cap_add),
        egress: Some(spec.egress),
        kubernetes: spec.kubernetes,
    }
}

fn input(document: Value) -> SpecInput {
    serde_json::from_value(document).unwrap()
}

#[test]
fn what_a_reference_stands_for_cannot_grow_without_end() {
    let long = "x".repeat(30_000);
    let value = "${BIG}".repeat(5_000);
    let set = |_: &str| Some(long.clone());
    let errors = resolve(input(json!({"image": "i", "environment": {"A": value}})), &Defaults::default(), &["BIG".into()], &set);
    assert!(errors.unwrap_err()[0].message.contains("32 KiB"));
}

#[test]
fn a_spec_that_would_not_fit_into_labels_is_refused() {
    let environment: serde_json::Map<_, _> = (0..20).map(|number| (format!("V{number}"), "x".repeat(20_000).into())).collect();
    let errors = resolved(json!({"image": "i", "environment": environment})).unwrap_err();
    assert!(errors[0].message.contains("256 KiB"), "{errors:?}");
}

#[test]
fn however_much_is_wrong_the_list_of_errors_ends() {
    let labels: serde_json::Map<_, _> = (0..50_000).map(|number| (format!("io.mcp-manager.{number}"), 1.into())).collect();
    let errors = resolved(json!({"image": "i", "labels": labels})).unwrap_err();
    assert_eq!(errors.len(), crate::domain::fields::MAX_ERRORS + 1);
    assert!(errors.last().unwrap().message.contains("more errors"));
}

#[test]
fn conflicts_within_a_spec_are_found() {
    let said = |document: Value| resolved(document).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(said(json!({
        "image": "i", "ports": {"80": 8080, "80/tcp": 8081, "81": 8080, "+82": 1}, "replicas": 2,
        "health_check": {"command": ["CMD"], "retries": 0}, "health_check_path": "no-slash",
        "volumes": ["data:/data", "other:/data/", "x:/proc/1", "~/x:/home"], "tmpfs": {"/data": "1m", "/run": "1m", "/run/": "2m", "/dev": "1m"},
        "environment": {"KEY": "x"}, "secrets": {"KEY": "a b"}, "networks": ["ok", "host", "a/b"], "network": "",
        "working_dir": "app", "user": "a b", "start_timeout": "2h", "cpu_limit": 0, "storage_limit": 1, "pids_limit": 0
    })));
}

/// The same said without short forms.
fn in_long_forms(mut document: Value) -> Value {
    let fields = document.as_object_mut().unwrap();
    for (short, long) in [("health_check_path", "path"), ("health_check_interval", "interval")] {
        if let Some(value) = fields.remove(short) {
            fields.entry("health_check").or_insert_with(|| json!({}))[long] = value;
        }
    }
    if let Some(network) = fields.remove("network") {
        fields.entry("networks").or_insert_with(|| json!([])).as_array_mut().unwrap().push(network);
    }
    document
}

#[test]
fn a_request_says_what_its_template_says_in_whichever_form() {
    let laid = |below: Value, above: Value| {
        let below = input(json!({"image": "i", "port": 80})).overlaid(input(below));
        resolve(below.overlaid(input(above)), &Defaults::default(), &[], &|_| None)
    };
    let health = |below: Value, above: Value| {
        let check = laid(below, above).unwrap().health_check;
        (check.probe, check.interval, check.retries)
    };
    let long = || json!({"health_check": {"path": "/below", "interval": "10s", "retries": 7}});
    let other = || Probe::Http("/other".into());
    assert_eq!(health(long(), json!({"health_check_path": "/other"})), (other(), Span(10_000), 7));
    assert_eq!(health(long(), json!({"health_check_interval": 5})), (Probe::Http("/below".into()), Span(5_000), 7));
    let command = health(long(), json!({"health_check": {"command": "true"}}));
    assert_eq!(command, (Probe::Command(vec!["true".into()]), Span(10_000), 7));
    assert_eq!(health(json!({"health_check_path": "/below"}), json!({"health_check": {"path": "/other"}})).0, other());
    assert_eq!(health(json!({"health_check": {"command": "true"}}), json!({"health_check_path": "/other"})).0, other());
    assert_eq!(laid(json!({"networks": ["a"]}), json!({"network": "b"})).unwrap().networks, ["b"]);
    assert_eq!(laid(long(), json!({"health_check_path": "bad"})).unwrap_err()[0].field, "health_check_path");
}

#[test]
fn one_layer_does_not_say_two_things_of_its_health() {
    let said = |health: Value| {
        let document =
            json!({"image": "i", "port": 80, "health_check_path": "/a", "health_check_interval": "5s", "health_check": health});
        resolved(document).map_err(|errors| errors.into_iter().map(|error| error.field).collect::<Vec<_>>())
    };
    assert!(said(json!({"path": "/a", "interval": 5})).is_ok());
    assert_eq!(said(json!({"path": "/b"})).unwrap_err(), ["health_check_path"]);
    assert_eq!(said(json!({"interval": "6s"})).unwrap_err(), ["health_check_interval"]);
}

#[test]
fn as_many_checks_as_make_a_service_unhealthy_fit_into_an_interval() {
    let timeout = |health: Value| resolved(json!({"image": "i", "health_check": health})).unwrap().health_check.timeout;
    assert_eq!(timeout(json!({})), Span(5_000));
    assert_eq!(timeout(json!({"interval": "9s"})), Span(3_000));
    assert_eq!(timeout(json!({"interval": "18s", "retries": 9})), Span(2_000));
    assert_eq!(timeout(json!({"interval": "1s"})), Span(1_000));
    assert_eq!(timeout(json!({"interval": "100ms", "retries": 100})), Span(1_000));
    assert_eq!(timeout(json!({"interval": "1s", "timeout": "5s"})), Span(5_000));
}

proptest! {
    #[test]
    fn no_host_path_escapes_the_allow_list(path in "[./a-z]{0,30}") {
        if let Ok(spec) = resolved(json!({"image": "x", "volumes": [{"host_path": path, "container_path": "/data"}]}))
            && let MountSource::Host(path) = &spec.volumes[0].source
        {
            prop_assert!(path == "/srv" || path.starts_with("/srv/"));
            prop_assert!(!path.split('/').any(|part| part == ".."));
        }
    }

    #[test]
    fn laying_nothing_over_or_under_an_input_changes_nothing(document in spec_document()) {
        let spec = input(document);
        prop_assert_eq!(&spec.clone().overlaid(SpecInput::default()), &spec);
        prop_assert_eq!(SpecInput::default().overlaid(spec.clone()), spec);
    }

    #[test]
    fn inputs_may_be_laid_over_each_other_in_any_grouping(a in spec_document(), b in spec_document(), c in spec_document()) {
        let (a, b, c) = (input(a), input(b), input(c));
        prop_assert_eq!(a.clone().overlaid(b.clone()).overlaid(c.clone()), a.overlaid(b.overlaid(c)));
    }

    #[test]
    fn what_lies_on_top_wins_field_by_field_and_key_by_key(below in spec_document(), above in spec_document()) {
        let both = input(below.clone()).overlaid(input(above.clone()));
        let both = serde_json::to_value(both).unwrap();
        for (field, value) in serde_json::to_value(input(above)).unwrap().as_object().unwrap() {
            if ["environment", "labels", "secrets", "health_check"].contains(&field.as_str()) {
                for (key, value) in value.as_object().unwrap() {
                    prop_assert_eq!(&both[field][key], value);
                }
            } else {
                prop_assert_eq!(&both[field], value);
            }
        }
    }

    #[test]
    fn it_does_not_matter_in_which_form_a_layer_says_something(layers in prop::collection::vec(spec_document(), 1..4)) {
        let lay = |layers: Vec<Value>| {
            let both = layers.into_iter().fold(SpecInput::default(), |below, above| below.overlaid(input(above)));
            resolved(serde_json::to_value(both).unwrap()).ok()
        };
        // What says two things at once is an error of its own.
        let says_twice = |layer: &Value| {
            let both = |short: &str, long: &str| layer.get(short).is_some() && layer["health_check"].get(long).is_some();
            both("health_check_path", "path") || both("health_check_interval", "interval")
        };
        prop_assume!(!layers.iter().any(says_twice));
        let long = layers.iter().cloned().map(in_long_forms).collect();
        prop_assert_eq!(lay(layers), lay(long));
    }

    #[test]
    fn resolving_what_was_resolved_changes_nothing(document in spec_document()) {
        if let Ok(spec) = resolved(document) {
            let again = serde_json::to_value(said(spec.clone())).unwrap();
            prop_assert_eq!(resolved(again), Ok(spec));
        }
    }

    #[test]
    fn a_spec_survives_its_record_and_fits_into_a_label(document in spec_document()) {
        if let Ok(spec) = resolved(document) {
            let text = serde_json::to_string(&spec).unwrap();
            prop_assert!(!text.chars().any(char::is_control) && text.len() <= 256 << 10);
            prop_assert_eq!(serde_json::from_str::<ServiceSpec>(&text).unwrap(), spec.clone());
            prop_assert_eq!(serde_json::from_str::<ServiceSpec>(&text).unwrap().container_digest(), spec.container_digest());
        }
    }

    #[test]
    fn a_record_of_another_version_is_read(document in spec_document(), key in "[a-z_]{3,10}x", value in any_json()) {
        if let Ok(spec) = resolved(document) {
            let mut record = serde_json::to_value(&spec).unwrap();
            record[key] = value;
            prop_assert_eq!(serde_json::from_value::<ServiceSpec>(record).unwrap(), spec);
        }
    }
}

//! Claims about specs as a whole: what is refused, what is filled in, and laws that hold for any input.

use super::*;
use crate::error::FieldError;
use proptest::prelude::*;
use serde_json::{Value, json};

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
}

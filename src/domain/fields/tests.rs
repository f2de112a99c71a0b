//! Claims about reading with all errors.

use serde_json::json;

use super::*;
use crate::domain::spec::SpecInput;

fn errors(document: Value) -> Vec<String> {
    let Value::Object(object) = document else { panic!("not an object") };
    read::<SpecInput>(&object).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn every_wrong_field_is_reported_at_once_with_its_remedy() {
    let found = errors(json!({
        "imge": "x", "port": 99999, "memory_limit": "512q", "environment": {"A": "1", "B": [1], "C": null},
        "health_check": {"intervall": 3, "timeout": "soon"}, "volumes": [{"host_path": 3}]
    }));
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn a_right_document_is_read() {
    let Value::Object(object) = json!({"image": "nginx", "port": 80, "environment": {"A": 1, "B": true}}) else { panic!() };
    let read = read::<SpecInput>(&object).unwrap();
    assert_eq!(read.port, Some(80));
    assert_eq!(read.environment.unwrap()["B"].0, "true");
}

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

#[test]
fn a_number_without_a_fraction_is_a_whole_number_however_it_is_written() {
    let Value::Object(object) = serde_json::from_str(
        r#"{"port": 8080.0, "replicas": 2e0, "pids_limit": 64.0, "health_check": {"retries": 3.0}, "ports": {"80": 8081.0}}"#,
    )
    .unwrap() else {
        panic!()
    };
    let read = read::<SpecInput>(&object).unwrap();
    assert_eq!((read.port, read.replicas, read.pids_limit), (Some(8080), Some(2), Some(64)));
    assert_eq!((read.health_check.unwrap().retries, read.ports.unwrap()["80"].0), (Some(3), 8081));
    for wrong in [json!(80.5), json!(1e300), json!(-80.0), json!(70_000.0)] {
        let found = errors(json!({"port": wrong, "ports": {"80": wrong}}));
        assert!(found.len() == 2 && found.iter().all(|error| error.contains("1 to 65535")), "{found:?}");
    }
}

#[test]
fn a_list_is_no_object() {
    let Value::Object(object) = json!({"health_check": ["/health"]}) else { panic!() };
    let errors = read::<SpecInput>(&object).unwrap_err();
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), ["health_check: is a list (write an object)"]);
}

#[test]
fn both_parts_of_an_object_say_what_they_know() {
    #[derive(Default, serde::Deserialize)]
    struct Header {
        #[serde(default)]
        name: Option<String>,
    }
    let Value::Object(object) = json!({"name": 3, "image": "i", "port": "x", "nonsense": 1}) else { panic!() };
    let (header, spec) = read_both::<Header, SpecInput>(&object, &[]);
    let told = |errors: &[FieldError]| errors.iter().map(|error| error.field.clone()).collect::<Vec<_>>();
    assert_eq!((told(&header.errors), told(&spec.errors)), (vec!["nonsense".into(), "name".into()], vec!["port".into()]));
    assert_eq!((header.value.name, spec.value.image.as_deref()), (None, Some("i")));
    assert_eq!(spec.unread, BTreeSet::from(["port".to_owned()]));
}

#[test]
fn the_names_of_fields_include_their_other_names() {
    assert!(field_names::<crate::domain::spec::HealthCheckInput>().contains(&"cmd"));
}

#[test]
fn somebody_elses_text_is_quoted_short_and_without_control_characters() {
    let Value::Object(object) =
        json!({"memory_limit": "\u{1b}[31m".repeat(1000), "port": "x".repeat(100_000), "k\n".repeat(9999): 1})
    else {
        panic!()
    };
    for error in read::<SpecInput>(&object).unwrap_err() {
        let text = error.to_string();
        assert!(text.len() < 1500 && !text.chars().any(char::is_control), "{text}");
    }
}

/// Hostile documents of about a megabyte. A walk that is quadratic in any of them takes minutes.
#[test]
fn reading_takes_one_walk_however_hostile_the_document() {
    let many = |member: &dyn Fn(usize) -> (String, Value)| Value::Object((0..100_000).map(member).collect());
    let deep = |inner: Value| (0..120).fold(inner, |value, _| Value::Array(vec![value]));
    let documents = [
        many(&|number| (format!("wrong{number}"), number.into())),
        json!({"environment": many(&|number| (format!("V{number}"), Value::Null))}),
        json!({"environment": many(&|number| (format!("V{number:06}"), if number < 99_000 { 1.into() } else { Value::Null }))}),
        json!({"volumes": vec![json!({"host_path": 3}); 50_000]}),
        json!({"volumes": vec!["no-target"; 50_000]}),
        json!({"port": deep(vec![1; 300_000].into())}),
        json!({"health_check": Value::Object((0..4_000).map(|number| (format!("wrong{number}"), deep(number.into()))).collect())}),
        json!({"k".repeat(1_000_000): 1}),
        json!({"image": "i", "environment": {"A": "${".repeat(500_000)}}),
        json!({"image": "i", "environment": {"A": "${A}$$".repeat(100_000)}, "allowed_env": vec!["A"; 100_000]}),
    ];
    let start = std::time::Instant::now();
    for document in &documents {
        let errors = crate::domain::template::Template::from_document(document, Some("x")).unwrap_err();
        assert!(!errors.is_empty() && errors.len() <= MAX_ERRORS + 1);
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

mod laws {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::samples::{any_json, spec_document, template_document};

    proptest! {
        #[test]
        fn reading_agrees_with_serde_json_but_for_lists_as_objects(
            document in prop_oneof![spec_document(), template_document(), any_json()],
        ) {
            if let Value::Object(object) = &document
                && !object.get("health_check").is_some_and(Value::is_array)
            {
                let (ours, theirs) = (read::<SpecInput>(object).ok(), serde_json::from_value::<SpecInput>(document.clone()).ok());
                prop_assert_eq!(ours, theirs);
            }
        }

        #[test]
        fn every_error_names_its_field_and_a_remedy(document in any_json()) {
            if let Value::Object(object) = &document {
                for error in read::<SpecInput>(object).err().unwrap_or_default() {
                    prop_assert!(!error.message.is_empty() && error.remedy.is_some_and(|remedy| !remedy.is_empty()));
                    prop_assert!(!error.field.is_empty() || object.contains_key(""));
                }
            }
        }

        #[test]
        fn the_same_mistakes_are_found_wherever_they_stand_among_right_fields(
            right in spec_document(),
            mistakes in prop::collection::btree_map("[A-Z]{1,6}", prop::sample::select(vec![json!([1]), json!(null), json!({})]), 1..40),
            volumes in prop::collection::vec(any::<bool>(), 1..30),
        ) {
            let mut document = right;
            let mut expected: Vec<String> = mistakes.keys().map(|name| format!("environment.{name}")).collect();
            let mut environment: Map<_, _> = (0..20).map(|number| (format!("right{number}"), number.into())).collect();
            environment.extend(mistakes);
            document["environment"] = environment.into();
            let volume = |right: &bool| json!(if *right { "a:/b" } else { "a" });
            document["volumes"] = volumes.iter().map(volume).collect();
            expected.extend(volumes.iter().enumerate().filter(|(_, right)| !**right).map(|(index, _)| format!("volumes[{index}]")));
            let found = read::<SpecInput>(document.as_object().unwrap()).unwrap_err();
            prop_assert_eq!(found.into_iter().map(|error| error.field).collect::<Vec<_>>(), expected);
        }
    }
}

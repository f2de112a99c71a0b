//! Claims about template documents.

use serde_json::json;

use super::*;
use crate::domain::samples::{any_json, template_document};

#[test]
fn both_shapes_make_the_same_service() {
    let flat = json!({"name": "x", "image": "i:1", "port": 8000, "environment": {"A": "1"}, "memory_limit": "64m"});
    let nested = json!({"name": "x", "image": "i:1", "default_config": {"port": 8000, "environment": {"A": "1"}, "memory_limit": "64m"},
        "required_env_vars": ["A"], "capabilities": ["c"]});
    let make = |document: &Value| {
        let template = Template::from_document(document, None).unwrap();
        template.instantiate(SpecInput::default(), &Defaults::default(), &|_| None).unwrap()
    };
    assert_eq!(make(&flat), make(&nested));
}

#[test]
fn all_errors_of_a_template_are_listed() {
    let errors = Template::from_document(&json!({"nme": "x", "prot": 1, "port": "x", "version": "a b"}), None).unwrap_err();
    insta::assert_snapshot!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_required_variable_must_be_given() {
    let template = Template::from_document(&json!({"name": "x", "image": "i", "required_env_vars": ["KEY"]}), None).unwrap();
    let error = template.instantiate(SpecInput::default(), &Defaults::default(), &|_| None).unwrap_err();
    assert_eq!(error.fields[0].field, "environment.KEY");
}

#[test]
fn errors_name_the_place_where_the_field_was_written() {
    let errors = Template::from_document(
        &json!({"name": "x", "image": "i", "replicas": 0, "environment": {"A": "${NO}", "C": "1"}, "port": "x",
            "default_config": {"environment": {"B": "${NO}"}, "pids_limit": 0, "memory_limit": "1q",
            "health_check_interval": "1ms", "volumes": {"data": "relative"}}}),
        None,
    );
    let mut fields: Vec<String> = errors.unwrap_err().into_iter().map(|error| error.field).collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "default_config.environment.B",
            "default_config.health_check_interval",
            "default_config.memory_limit",
            "default_config.pids_limit",
            "default_config.volumes.data",
            "environment.A",
            "port",
            "replicas"
        ]
    );
}

#[test]
fn an_error_in_a_map_of_volumes_has_the_line_of_its_entry() {
    let text = r#"{
        "image": "i",
        "volumes": {
            "zdata": "relative",
            "./a.b[0]": "/x",
            "bad name": "/y"
        }
    }"#;
    let document = crate::domain::document::Document::parse(text.as_bytes()).unwrap();
    let errors = document.with_lines(Template::from_document(&document.value, Some("x")).unwrap_err());
    let lines: Vec<_> = errors.iter().map(|error| (error.field.as_str(), error.line)).collect();
    assert_eq!(lines, [("volumes.bad name", Some(6)), ("volumes.zdata", Some(4))]);
}

#[test]
fn what_default_config_lies_on_top_of_keeps_the_rules_too() {
    let wrong = |document: Value| {
        let errors = Template::from_document(&document, Some("x")).err().unwrap_or_default();
        errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
    };
    let inside = json!({"image": "i", "replicas": 2, "health_check": {"path": "/a"}, "port": 80, "networks": ["a"]});
    let outside =
        json!({"image": "a b", "replicas": 0, "health_check_path": "a", "networks": ["a", "b c"], "default_config": inside});
    assert_eq!(wrong(outside), ["image", "health_check_path", "networks[1]", "replicas"]);
    // Rules about several members are about those that count.
    let outside = json!({"replicas": 5, "health_check_path": "/a", "autoscaling": {"max": 3},
        "default_config": {"image": "i", "port": 80, "replicas": 1, "ports": {"80": 80}, "autoscaling": {"max": 1}}});
    assert_eq!(wrong(outside), Vec::<String>::new());
    let twice = json!({"replicas": 0, "environment": {"A B": 1}, "default_config": {"image": "i"}});
    assert_eq!(wrong(twice), ["environment.A B", "replicas"], "each is told once");
}

#[test]
fn lists_are_replaced_with_what_is_wrong_in_them() {
    let wrong = |document: Value| {
        let errors = Template::from_document(&document, Some("x")).unwrap_err();
        errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
    };
    let nested = json!({"networks": ["a b", 5, "c d"]});
    let fields = wrong(json!({"image": "i", "networks": [7, "ok"], "default_config": nested}));
    assert_eq!(fields, ["default_config.networks[1]", "networks[0]", "default_config.networks[0]", "default_config.networks[2]"]);
    assert_eq!(wrong(json!({"image": "i", "allowed_env": ["PATH", "home dir", 5, "x y"]})).len(), 3);
}

#[test]
fn only_what_services_are_made_of_changes_the_digest() {
    let digest = |text: &str| Template::from_document(&serde_json::from_str(text).unwrap(), None).unwrap().digest;
    let left = digest(r#"{"name": "x", "image": "i", "environment": {"A": 1, "B": 2}}"#);
    let right = digest(r#"{"image": "i", "environment": {"B": 2, "A": 1}, "name": "x"}"#);
    assert_eq!(left, right);
    let described = r#"{"name": "x", "description": "d", "capabilities": ["c"], "default_config": {"image": "i"},
        "environment": {"A": "1", "B": 2}}"#;
    assert_eq!(left, digest(described));
    assert_ne!(left, digest(r#"{"image": "i", "environment": {"B": 2, "A": 3}, "name": "x"}"#));
    assert_ne!(left, digest(r#"{"image": "i", "environment": {"A": 1, "B": 2}, "name": "x", "required_env_vars": ["A"]}"#));
}

#[test]
fn a_document_that_is_no_object_is_refused() {
    for document in [json!(null), json!(3), json!("x"), json!([1])] {
        assert_eq!(Template::from_document(&document, Some("x")).unwrap_err().len(), 1);
    }
}

#[test]
fn what_a_template_says_about_itself_is_checked() {
    let errors = Template::from_document(
        &json!({"name": "Über", "version": "1 0", "description": "two\nlines", "image": "i",
            "required_env_vars": ["A", "B=C", ""], "allowed_env": ["x y"], "capabilities": ["ok", "\u{7}"]}),
        None,
    );
    let fields: Vec<String> = errors.unwrap_err().into_iter().map(|error| error.field).collect();
    let expected =
        ["name", "version", "description", "required_env_vars[1]", "required_env_vars[2]", "allowed_env[0]", "capabilities[1]"];
    assert_eq!(fields, expected);
}

#[test]
fn a_field_that_cannot_be_read_is_not_also_missing() {
    let errors = Template::from_document(
        &json!({"name": "x", "image": 3, "port": "http", "health_check_path": "/health", "default_config": {"prot": 1}}),
        None,
    );
    let fields: Vec<String> = errors.unwrap_err().into_iter().map(|error| error.field).collect();
    assert_eq!(fields, ["default_config.prot", "image", "port"]);
}

#[test]
fn every_name_that_is_read_is_in_the_schema() {
    let schema = json_schema();
    let has = |properties: &Value, name: &str| assert!(properties.get(name).is_some(), "the schema lacks {name}");
    for name in fields::field_names::<TemplateHeader>() {
        has(&schema["properties"], name);
    }
    for name in fields::field_names::<SpecInput>() {
        has(&schema["properties"], name);
        has(&schema["$defs"]["SpecInput"]["properties"], name);
    }
}

/// Ways to get one field wrong, for fields that do not depend on each other.
const MISTAKES: [(&str, &str); 14] = [
    ("user", "[]"),
    ("memory_limit", "\"lots\""),
    ("cpu_limit", "-1"),
    ("pids_limit", "0"),
    ("replicas", "1000"),
    ("restart_policy", "\"sometimes\""),
    ("transport", "\"pigeon\""),
    ("pull_policy", "true"),
    ("start_timeout", "\"2h\""),
    ("stop_timeout", "{}"),
    ("read_only", "\"yes\""),
    ("working_dir", "\"relative\""),
    ("network", "\"a b\""),
    ("egress", "1"),
];

mod laws {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;

    use super::*;

    /// The last rule: a document the schema refuses is refused by the reader.
    fn agree(validator: &jsonschema::Validator, document: &Value) {
        if Template::from_document(document, None).is_ok() {
            let errors: Vec<_> =
                validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{document} was read: {errors:?}");
        }
    }

    proptest! {
        #[test]
        fn any_document_is_a_template_or_has_errors_with_remedies(document in prop_oneof![any_json(), template_document()]) {
            for error in Template::from_document(&document, None).err().unwrap_or_default() {
                prop_assert!(!error.message.is_empty() && error.remedy.is_some_and(|remedy| !remedy.is_empty()));
            }
        }

        #[test]
        fn every_mistake_is_found_in_either_shape(chosen in prop::sample::subsequence(MISTAKES.to_vec(), 1..MISTAKES.len()), nested: bool) {
            let wrong = chosen.iter().map(|(field, text)| ((*field).to_owned(), serde_json::from_str(text).unwrap()));
            let mut document: Map<_, _> = wrong.collect();
            if nested {
                document = [(NESTED.to_owned(), document.into())].into_iter().collect();
            }
            document.insert("name".to_owned(), "x".into());
            document.insert("image".to_owned(), "i".into());
            let errors = Template::from_document(&document.into(), None).unwrap_err();
            let mut found: Vec<&str> = errors.iter().map(|error| error.field.trim_start_matches("default_config.")).collect();
            let mut expected: Vec<&str> = chosen.iter().map(|(field, _)| *field).collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn every_mistake_in_a_list_is_found_at_its_place(elements in prop::collection::vec(0..3_usize, 0..12), nested: bool) {
            let lists = [
                ("networks", [json!("ok"), json!("not ok"), json!(5)]),
                ("cap_add", [json!("KILL"), json!("SYS_ADMIN"), json!({})]),
                ("volumes", [json!("data:/proc"), json!("data:/sys"), json!("no-target")]),
                ("allowed_env", [json!("OK"), json!("not ok"), json!([])]),
            ];
            for (list, kinds) in lists {
                let written: Vec<_> = elements.iter().map(|kind| kinds[*kind].clone()).collect();
                let is_nested = nested && list != "allowed_env";
                let (document, before) = if is_nested {
                    (json!({"image": "i", NESTED: {list: written}}), "default_config.")
                } else {
                    (json!({"image": "i", list: written}), "")
                };
                let errors = Template::from_document(&document, Some("x")).err().unwrap_or_default();
                let found: BTreeSet<_> = errors.into_iter().map(|error| error.field).collect();
                let is_wrong = |kind: usize| kind > 0 || list == "volumes";
                let wrong = elements.iter().enumerate().filter(|(_, kind)| is_wrong(**kind));
                let expected: BTreeSet<_> = wrong.map(|(index, _)| format!("{before}{list}[{index}]")).collect();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn what_was_read_once_is_read_again_from_its_document(document in template_document()) {
            if let Ok(template) = Template::from_document(&document, None) {
                let text = serde_json::to_string_pretty(&template.document).unwrap();
                let again = Template::from_document(&serde_json::from_str(&text).unwrap(), None);
                prop_assert_eq!(again, Ok(template));
            }
        }
    }

    #[test]
    fn the_schema_takes_whatever_the_reader_takes() {
        let validator = jsonschema::validator_for(&json_schema()).unwrap();
        let mut runner = proptest::test_runner::TestRunner::default();
        runner
            .run(&template_document(), |document| {
                agree(&validator, &document);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn the_samples_are_worth_testing_with() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let read = (0..200).filter(|_| {
            let document = template_document().new_tree(&mut runner).unwrap().current();
            Template::from_document(&document, None).is_ok()
        });
        let read = read.count();
        assert!((20..=180).contains(&read), "{read} of 200 samples are valid");
    }
}

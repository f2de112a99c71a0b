//! Laws of the scanner over generated texts, and the cases that a law does not reach.

use proptest::prelude::*;

use super::*;

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(|number| serde_json::json!(number)),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_json_text_passes(value in value(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        prop_assert_eq!(check(&text), Ok(Span { start: 0, end: text.len() }));
    }

    #[test]
    fn what_is_refused_or_passed_is_what_a_json_parser_refuses_or_passes(value in value(), cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = serde_json::to_vec(&value).unwrap();
        let at = cut.index(text.len());
        text[at] = byte;
        let parsed = serde_json::from_slice::<serde_json::Value>(&text);
        // A parser also refuses lone surrogates and numbers that it cannot hold, which the grammar allows.
        if parsed.is_ok() {
            prop_assert!(check(&text).is_ok());
        } else if !text.windows(2).any(|two| two == b"\\u") && !text.iter().any(|byte| b"eE".contains(byte)) {
            prop_assert!(check(&text).is_err());
        }
    }

    #[test]
    fn members_are_those_that_a_parser_finds(map in prop::collection::hash_map(any::<String>(), value(), 0..8)) {
        let object = serde_json::Value::Object(map.clone().into_iter().collect());
        let text = serde_json::to_vec(&object).unwrap();
        let whole = check(&text).unwrap();
        let found: Vec<_> = members(&text, whole).map(Result::unwrap).collect();
        prop_assert_eq!(found.len(), map.len());
        for (name, value) in &map {
            let [span] = find(&text, Some(whole), [name.as_str()]);
            let parsed: serde_json::Value = serde_json::from_slice(span.unwrap().of(&text)).unwrap();
            prop_assert_eq!(&parsed, &serde_json::from_slice::<serde_json::Value>(&serde_json::to_vec(value).unwrap()).unwrap());
        }
    }
}

#[test]
fn a_name_is_found_however_it_is_escaped_and_the_last_one_counts() {
    let text = br#"{"a":1,"\u0061":2}"#;
    let [found] = find(text, Some(check(text).unwrap()), ["a"]);
    assert_eq!(found.unwrap().of(text), b"2");
}

#[test]
fn deep_nesting_is_refused_without_harm() {
    assert!(check("[".repeat(200_000).as_bytes()).is_err());
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(check(nested.as_bytes()).is_ok());
}

#[test]
fn ids_are_the_same_however_they_are_written() {
    assert!(same_scalar(br#""a\u00e9""#, "\"aé\"".as_bytes()));
    assert!(same_scalar(b"1", b"1.0"));
    assert!(!same_scalar(b"1", br#""1""#));
}

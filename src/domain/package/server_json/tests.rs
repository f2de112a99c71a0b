//! What is read from the registry's documents, what is refused of them, and that what is written is read as the same.

use proptest::prelude::*;

use super::super::import::tests::any_json;
use super::*;

proptest! {
    #[test]
    fn no_document_brings_the_reader_down(document in any_json()) {
        let _ = (is_one(&document), read(&document));
    }

    #[test]
    fn whatever_is_written_is_read_as_the_same(
        arguments in proptest::collection::vec("[a-z-]{1,8}(=[a-z0-9{}]{0,5})?", 0..4),
        environment in proptest::collection::btree_map("[B-D]{1,4}", "[a-z0-9 {}]{1,8}", 0..3),
        required in proptest::collection::btree_set("[F-H]{1,4}", 0..3),
        listens in proptest::option::of((any::<bool>(), 1..=u16::MAX, "/[a-z.]{0,5}")),
    ) {
        // What says by itself that it is a secret is in no template.
        prop_assume!(!arguments.iter().any(|argument| looks_secret(argument)));
        let mut server = Imported::of("a", "npm:@a/b@1.0.0".parse().unwrap());
        server.description = Some("A".to_owned());
        (server.arguments, server.environment, server.required) = (arguments, environment, required.into_iter().collect());
        server.secrets = [("X_TOKEN".to_owned(), None)].into();
        if let Some((sse, port, path)) = listens {
            server.transport = if sse { Transport::Sse } else { Transport::Http };
            server.port = Some(port);
            server.path = Some(path).filter(|path| path != usual_path(server.transport));
        }
        prop_assert_eq!(read(&write("x/a", "1.0.0", &server)).unwrap().servers, [server]);
    }
}

#[test]
fn names_are_a_domain_and_a_word() {
    for name in ["io.github.me/weather", "a/b", "com.example-x/a_b.c"] {
        assert!(is_name(name), "{name}");
    }
    for name in ["weather", "a/b/c", "/b", "a/", "a/-b", "a b/c"] {
        assert!(!is_name(name), "{name}");
    }
}

#[test]
fn what_the_registry_s_api_wraps_is_read_and_another_registry_is_not_taken_for_the_usual_one() {
    let wrapped = json!({"server": document(), "_meta": {}});
    assert!(is_one(&wrapped));
    assert_eq!(read(&wrapped).unwrap(), read(&document()).unwrap());
    let other = json!({"name": "a/b", "packages": [{"registryType": "npm", "registryBaseUrl": "https://packages.example.com", "identifier": "b"}]});
    assert!(read(&other).unwrap().left_out[0].1.contains("registry of its own"));
}

fn document() -> Value {
    json!({
        "$schema": SCHEMA, "name": "io.github.me/weather", "description": "Weather", "version": "1.0.2",
        "packages": [
            {"registryType": "mcpb", "identifier": "https://example.com/x.mcpb"},
            {"registryType": "npm", "identifier": "@me/weather", "version": "1.0.2", "transport": {"type": "stdio"},
             "packageArguments": [
                {"type": "positional", "value": "serve"},
                {"type": "named", "name": "--unit", "default": "c"},
                {"type": "named", "name": "--place"}],
             "environmentVariables": [
                {"name": "WEATHER_API_KEY", "isRequired": true, "isSecret": true},
                {"name": "LANG_CODE", "default": "en"},
                {"name": "OPTIONAL"},
                {"name": "REGION", "isRequired": true}]},
        ],
    })
}

#[test]
fn the_first_package_that_can_be_run_is_taken() {
    let import = read(&document()).unwrap();
    let [server] = import.servers.as_slice() else { panic!("{import:?}") };
    assert_eq!((server.name.as_str(), server.source.to_string().as_str()), ("weather", "npm:@me/weather@1.0.2"));
    assert_eq!(server.arguments, ["serve", "--unit=c"]);
    assert_eq!(server.secrets.keys().collect::<Vec<_>>(), ["WEATHER_API_KEY"]);
    assert_eq!(server.environment["LANG_CODE"], "en");
    assert_eq!(server.required, ["REGION"]);
    assert_eq!(server.notes.len(), 1, "{:?}", server.notes);
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let mut server = read(&document()).unwrap().servers.remove(0);
    server.notes.clear();
    let written = write("io.github.me/weather", "1.0.2", &server);
    assert!(is_one(&written));
    assert_eq!(read(&written).unwrap().servers, [server]);
}

#[test]
fn what_cannot_be_run_is_left_out_with_its_reason() {
    let remote = json!({"name": "a/b", "remotes": [{"type": "streamable-http", "url": "https://x/mcp"}]});
    assert_eq!(read(&remote).unwrap().left_out[0].1, "it runs elsewhere, at https://x/mcp");
    let silent = json!({"name": "a/b", "packages": [{"registryType": "oci", "identifier": "x:1", "transport": {"type": "streamable-http"}}]});
    assert!(read(&silent).unwrap().left_out[0].1.contains("port"));
}

/// A document of a package that says this besides its name.
fn package(more: &Value) -> Value {
    let mut package = json!({"registryType": "npm", "identifier": "b"});
    package.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"name": "a/b", "packages": [package]})
}

fn taken(more: &Value) -> Imported {
    let import = read(&package(more)).unwrap();
    let [server] = import.servers.as_slice() else { panic!("{import:?}") };
    server.clone()
}

fn refused(more: &Value) -> String {
    let import = read(&package(more)).unwrap();
    assert!(import.servers.is_empty(), "{import:?}");
    import.left_out[0].1.clone()
}

#[test]
fn variables_of_arguments_and_of_the_environment_get_their_values() {
    let folder = json!({"root": {"default": "/data"}, "name": {"value": "x", "isRequired": true}});
    let server = taken(&json!({
        "packageArguments": [
            {"type": "named", "name": "--root", "value": "{root}/{name}/{other}", "variables": folder},
            {"type": "positional", "value": "{root}", "variables": folder},
            {"type": "positional", "value": "{root}"},
            {"type": "positional", "valueHint": "more", "value": "{x}", "variables": {"x": {}}}],
        "environmentVariables": [
            {"name": "ROOT", "value": "{root}:{root}", "variables": folder},
            {"name": "SHAPE", "default": "{\"a\": 1}"},
            {"name": "GREETING", "value": "Hello {who}", "variables": {"who": {"isRequired": true}}},
            {"name": "LOGIN", "value": "Basic {login}", "variables": {"login": {"isRequired": true, "isSecret": true}}},
            {"name": "MAYBE", "value": "{who}", "variables": {"who": {}}}],
    }));
    assert_eq!(server.arguments, ["--root=/data/x/{other}", "/data", "{root}"]);
    let environment = [("ROOT", "/data:/data"), ("SHAPE", "{\"a\": 1}")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(server.environment, environment.into());
    assert_eq!((server.required, server.secrets), (vec!["GREETING".to_owned()], [("LOGIN".to_owned(), None)].into()));
    let notes = server.notes.join("\n");
    for word in ["more has no value", "GREETING is to be 'Hello {who}'", "LOGIN is to be 'Basic {login}'"] {
        assert!(notes.contains(word), "{notes}");
    }
}

#[test]
fn an_argument_that_has_to_be_given_is_asked_for_by_its_place_in_the_file() {
    let place = json!({"type": "named", "name": "--place", "isRequired": true});
    let reason = refused(&json!({"packageArguments": [{"type": "positional", "value": "x"}, place]}));
    assert!(reason.contains("--place needs a value") && reason.contains("packages[0].packageArguments[1].value"), "{reason}");
    let mount =
        json!({"type": "positional", "value_hint": "dir", "value": "{src}/x", "variables": {"src": {"is_required": true}}});
    let reason = refused(&json!({"package_arguments": [mount]}));
    assert!(reason.contains("dir needs a value") && reason.contains("packageArguments[0].variables.src.value"), "{reason}");
}

#[test]
fn a_secret_argument_is_in_no_template() {
    let variables = json!({"key": {"isSecret": true, "default": "hunter2"}});
    for argument in [
        json!({"type": "named", "name": "--api-key", "isSecret": true, "isRequired": true}),
        json!({"type": "named", "name": "--api-key", "is_secret": true, "default": "hunter2"}),
        json!({"type": "positional", "valueHint": "--api-key", "value": "x:{key}", "variables": variables}),
        json!({"type": "named", "name": "--api-key", "value": "postgres://me:hunter2@h/x"}),
    ] {
        let reason = refused(&json!({"packageArguments": [argument]}));
        assert!(reason.contains("--api-key is a secret") && !reason.contains("hunter2"), "{reason}");
    }
    let server = taken(&json!({"packageArguments": [{"type": "named", "name": "--api-key", "isSecret": true}]}));
    assert!(server.arguments.is_empty() && server.notes[0].contains("is a secret and is left out"), "{server:?}");
    let option = json!({"type": "positional", "value": "--auth-type=none"});
    assert_eq!(taken(&json!({"packageArguments": [option]})).arguments, ["--auth-type=none"]);
}

#[test]
fn port_and_path_are_those_of_the_address_with_what_it_names() {
    let listens = |url: &str| {
        json!({"transport": {"type": "streamable-http", "url": url, "headers": [{"name": "X-Key", "isRequired": true}, {"name": "X-More"}]},
            "packageArguments": [{"type": "named", "name": "--port", "default": "3001"}, {"type": "positional", "valueHint": "none"}],
            "environmentVariables": [{"name": "BASE", "default": "tools"}, {"name": "TOKEN", "default": "x", "isSecret": true}]})
    };
    for (url, port, path) in [
        ("http://localhost:80/mcp", 80, None),
        ("http://localhost:3000", 3000, None),
        ("http://localhost:{port}/mcp", 3001, None),
        ("http://[::1]:{--port}/{BASE}/x?y=z", 3001, Some("/tools/x")),
        ("http://localhost:3000/", 3000, Some("/")),
    ] {
        let server = taken(&listens(url));
        assert_eq!((server.port, server.path.as_deref()), (Some(port), path), "{url}");
        assert_eq!(server.notes.iter().filter(|note| note.contains("the header X-Key")).count(), 1, "{:?}", server.notes);
        assert!(!server.notes.iter().any(|note| note.contains("X-More")), "{:?}", server.notes);
    }
    for (url, word) in [
        ("http://localhost/mcp", "on which port"),
        ("http://localhost:{unknown}/mcp", "on which port"),
        ("http://localhost:{none}/mcp", "a value for 'none'"),
        ("http://localhost:80/{TOKEN}", "a value for 'TOKEN'"),
        ("http://localhost:80/a b", "signs"),
    ] {
        assert!(refused(&listens(url)).contains(word), "{url}: {}", refused(&listens(url)));
    }
}

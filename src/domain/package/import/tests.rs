//! What is read from clients' files, what is left out of them, and that no secret gets where it may be read.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Any JSON, with the names that matter here among its names.
pub(in super::super) fn any_json() -> impl Strategy<Value = Value> {
    let names = "mcpServers|servers|mcp|projects|command|path|args|env|url|name|packages|registryType|identifier|version|\
                 transport|type|value|server|[a-z]{1,4}";
    let texts = prop_oneof![
        "\\PC{0,12}",
        "npx|uvx|uv|npm|exec|--with|npx -y x|docker|-it|run|-y|-e|--from|npm|pypi|oci|stdio|named|positional"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        texts.prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(names, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_brings_the_reader_down_and_what_is_read_can_be_named(document in any_json()) {
        for server in clients_file(&document).map(|import| import.servers).unwrap_or_default() {
            prop_assert!(server.name.parse::<crate::domain::name::ServiceName>().is_ok(), "{}", server.name);
            prop_assert!(server.source.to_string().parse::<Source>().is_ok());
        }
    }

    #[test]
    fn the_value_of_a_secret_is_nowhere_but_among_secrets(value in "[a-zA-Z0-9]{12,30}", name in "[A-Z]{1,5}_(TOKEN|API_KEY|PASSWORD)") {
        let file = json!({"mcpServers": {"x": {"command": "npx", "args": ["x"], "env": {(name.as_str()): value, "URL": format!("db://me:{value}@h/x")}}}});
        let mut server = clients_file(&file).unwrap().servers.remove(0);
        prop_assert_eq!(server.secrets.remove(&name), Some(Some(value.clone())));
        prop_assert!(server.secrets.remove("URL").is_some());
        let rest = format!("{server:?}");
        prop_assert!(!rest.contains(&value));
    }

    #[test]
    fn a_secret_among_arguments_is_neither_taken_over_nor_repeated(value in "[a-zA-Z0-9]{12,30}", flag in "--(token|api-key|db-password)", joined in any::<bool>()) {
        let words = if joined { vec!["x".to_owned(), format!("{flag}={value}")] } else { vec!["x".to_owned(), flag, value.clone()] };
        let import = clients_file(&json!({"mcpServers": {"x": {"command": "npx", "args": words}}})).unwrap();
        prop_assert!(import.servers.is_empty());
        prop_assert!(!import.left_out[0].1.contains(&value), "{:?}", import);
    }
}

#[test]
fn servers_of_every_usual_kind_are_taken_over_and_others_are_left_out_with_a_reason() {
    let import = clients_file(&json!({"mcpServers": {
        "everything": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-everything@1.2.3", "stdio"]},
        "My Time": {"command": "/usr/bin/uvx", "args": ["mcp-server-time", "--local-timezone=UTC"], "env": {"TZ": "UTC"}},
        "from": {"command": "uvx", "args": ["--from", "mcp-server-git==2025.1.1", "mcp-server-git"]},
        "other": {"command": "npx", "args": ["-y", "--package=@a/b", "c", "-x"]},
        "github": {"command": "docker", "args": ["run", "-i", "--rm", "-e", "GITHUB_TOKEN", "-e", "A=b", "-v", "/x:/y", "ghcr.io/github/github-mcp-server", "stdio"],
            "env": {"GITHUB_TOKEN": "ghp_x", "HOST": "${input:host}"}},
        "passed": {"command": "docker", "args": ["run", "-e", "REGION", "-e", "API_KEY", "-e", "SAID", "x/y", "/data"], "env": {"SAID": "1"}},
        "elsewhere": {"command": "npx", "args": ["x", "/Users/me/Desktop", "--root=C:\\x", "${workspaceFolder}", "$HOME", "a/b"],
            "env": {"API_HEADER": "Bearer ${input:tok}", "URL": "https://${HOST}/x", "REGION": "$REGION", "HASH": "$2b$10$abc"}},
        "secret": {"command": "npx", "args": ["x"], "env": {"PASSPHRASE": "p", "SENTRY_DSN": "d", "DB": "mysql://u:p@h/d",
            "CONN": "Server=h;Password=p;", "ENABLE_AUTH": "true"}},
        "header": {"command": "npx", "args": ["x", "--header", "Authorization: Bearer abc"]},
        "key": {"command": "npx", "args": ["x", "--header=X-API-Key: abc"]},
        "token": {"command": "npx", "args": ["x", "--passphrase", "abc"]},
        "win": {"command": "cmd", "args": ["/c", "npx", "-y", "x"]},
        "remote": {"type": "http", "url": "https://example.com/mcp"},
        "local": {"command": "python", "args": ["server.py"]},
        "odd": {"command": "npx", "args": ["--loglevel", "silly", "x"]},
        "nothing": 3,
        "my-time": {"command": "uvx", "args": ["mcp-server-time"]},
    }}))
    .unwrap();
    insta::assert_debug_snapshot!(import);
}

#[test]
fn a_file_without_servers_is_an_error() {
    assert!(clients_file(&json!([])).is_err());
    assert!(clients_file(&json!({"mcpServers": {}})).is_err());
    assert!(clients_file(&json!({"mcpServers": 5})).is_err());
    assert!(clients_file(&json!({"mcp": {"inputs": [], "servers": {}}})).is_err());
    assert!(clients_file(&json!({"mcpServers": {}, "projects": {"/x": {"mcpServers": {}}}})).is_err());
}

/// What a server of a client's file becomes.
fn taken(server: &Value) -> Result<Imported, String> {
    let mut import = clients_file(&json!({"mcpServers": {"x": server}})).unwrap();
    import.servers.pop().ok_or_else(|| import.left_out.remove(0).1)
}

/// The same for a command line.
fn started(line: &str) -> Result<Imported, String> {
    taken(&json!({"command": shlex::split(line).unwrap()}))
}

/// Variables with these values.
fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn what_stands_for_a_value_of_the_client_has_to_be_given() {
    let import = clients_file(&json!({"mcp": {"oc": {"type": "local", "command": ["npx", "-y", "x", "{env:HOME}"],
        "environment": {"PLACE": "{env:HOME}", "GH_TOKEN": "{env:GH_TOKEN}", "URL": "https://{env:HOST}/x", "TEXT": "{file:~/x}",
            "PATTERN": "{name}", "OTHER": "{env:"}}}}))
    .unwrap();
    let server = &import.servers[0];
    assert_eq!(server.secrets, BTreeMap::from([("GH_TOKEN".into(), None)]));
    assert_eq!(server.environment, variables(&[("OTHER", "{env:"), ("PATTERN", "{name}")]));
    let mut required = server.required.clone();
    required.sort();
    assert_eq!(required, ["PLACE", "TEXT", "URL"]);
    assert!(server.notes[0].contains("'{env:HOME}' was meant for where the client ran"), "{:?}", server.notes);
}

#[test]
fn servers_are_found_wherever_clients_have_them() {
    let (one, two) = (json!({"command": "npx", "args": ["one"]}), json!({"command": "npx", "args": ["two"]}));
    for (file, names) in [
        (json!({"mcp": {"inputs": [], "servers": {"a": one, "b": two}}, "editor.fontSize": 12}), &["a", "b"][..]),
        (json!({"mcp": {"servers": one, "a": two}}), &["a", "servers"]),
        (json!({"mcpServers": {}, "servers": {"a": one}}), &["a"]),
        (json!({"mcpServers": {"a": one}, "servers": {"b": two}}), &["a", "b"]),
        (json!({"mcpServers": {"mcp": one, "servers": two}}), &["mcp", "servers"]),
        (json!({"mcp": one}), &["mcp"]),
        (json!({"a": one, "servers": two}), &["a", "servers"]),
        (json!({"numStartups": 3, "projects": {"/x": {"mcpServers": {"a": one}}, "/y": {}, "/z": 3}}), &["a"]),
        (json!({"mcpServers": {"a": one}, "projects": {"/x": {"mcpServers": {"b": two}}}}), &["a", "b"]),
    ] {
        let import = clients_file(&file).unwrap();
        let found: Vec<&str> = import.servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!((found, import.left_out), (names.to_vec(), Vec::new()), "{file}");
    }
}

#[test]
fn servers_of_projects_say_of_which_also_those_that_are_left_out() {
    let server = |package: &str| json!({"command": "npx", "args": [package]});
    let import = clients_file(&json!({"mcpServers": {"a": server("one")}, "projects": {
        "/home/me/p": {"mcpServers": {"a": server("two"), "b": server("three"), "c": {"url": "https://example.com"}}},
        "/home/me/q": {"mcpServers": {"B": server("four")}},
    }}))
    .unwrap();
    let told: Vec<String> = import.servers.iter().map(|server| format!("{} {}", server.source, server.notes.join(";"))).collect();
    assert_eq!(told, ["npm:one ", "npm:three it is that of the project /home/me/p"]);
    let left_out: Vec<&str> = import.left_out.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(
        left_out,
        [
            "that of the project /home/me/p: there is another in this file that is 'a' here; rename one of them there",
            "that of the project /home/me/p: it runs elsewhere, at https://example.com",
            "that of the project /home/me/q: there is another in this file that is 'b' here; rename one of them there",
        ]
    );
}

#[test]
fn what_installs_a_package_and_starts_it_is_read_whatever_it_is_called() {
    // The command line; the source, what is installed with it, the program where it is another, and the arguments.
    for (line, expected) in [
        ("npx -y @x/y --a", "npm:@x/y [] - --a"),
        ("npx -y -- x -- --a", "npm:x [] - -- --a"),
        ("npx -p a@1 -p @s/b b c", "npm:@s/b [a@1] b c"),
        ("npx -p a -p b c", "npm:a [b] c"),
        ("bunx --bun x", "npm:x [] -"),
        ("bun x --bun x@1 a", "npm:x@1 [] - a"),
        ("bun --bun x x", "npm:x [] -"),
        ("pnpm dlx x a", "npm:x [] - a"),
        ("pnpm --silent dlx --package=@a/b c", "npm:@a/b [] c"),
        ("yarn dlx -q x", "npm:x [] -"),
        ("npm exec -y x -- --a", "npm:x [] - --a"),
        ("npm exec -- x --a", "npm:x [] - --a"),
        ("npm x --package=@a/b -- c --d", "npm:@a/b [] c --d"),
        ("uvx x@latest", "pypi:x [] -"),
        ("uvx --with 'mcp<2' x --a", "pypi:x [mcp<2] - --a"),
        ("uvx --with 'a, b>=1, <2' --with=c[d,e] x", "pypi:x [a b>=1,<2 c[d,e]] -"),
        ("uvx --from x==1 y", "pypi:x@1 [] y"),
        ("uvx 'x[cli]' a", "pypi:x [x[cli]] - a"),
        ("uvx --refresh 'x[cli,dev]==1.2'", "pypi:x@1.2 [x[cli,dev]] -"),
        ("uvx --from 'x[cli]>=1, <2' --with y z", "pypi:x [x[cli]>=1,<2 y] z"),
        ("uv tool run --from x y", "pypi:x [] y"),
        ("pipx run --spec x==1 y", "pypi:x@1 [] y"),
        ("uv run --with mcp --with a_b==1 a-b --c", "pypi:a_b@1 [mcp] a-b --c"),
        ("uv run --no-project --with x x", "pypi:x [] -"),
    ] {
        let server = started(line).unwrap_or_else(|reason| panic!("{line}: {reason}"));
        let begin = format!("{} [{}] {}", server.source, server.with.join(" "), server.program.as_deref().unwrap_or("-"));
        let told = [vec![begin], server.arguments].concat().join(" ");
        assert_eq!((told.as_str(), server.notes), (expected, Vec::new()), "{line}");
    }
    let server = started("uvx --python 3.12 x").unwrap();
    assert_eq!(server.source.to_string(), "pypi:x");
    assert_eq!(server.notes, ["--python 3.12 is left out; the Python of its image counts"]);
    for (line, reason) in [
        ("npm run x", "it starts 'npm', which is a program of this machine"),
        ("uv run server.py", "it starts 'server.py', which is a program of this machine"),
        ("uv run --with mcp python -m x", "it starts 'python', which is a program of this machine"),
        ("uv --directory /x run y", "it starts 'uv'"),
        ("uvx --with git+https://x y", "'git+https://x', which names no package that could be added"),
        ("uvx --from git+https://x y", "'git+https://x', which names no package that could be added"),
        ("uvx ./x", "'./x' has a name that no package has"),
        ("npx x@^1", "ranges are not taken"),
        ("npx --registry=https://me:secret@h x", "it is started with '--registry', which has no meaning here"),
        ("npx -y", "it names no package"),
        ("uvx --with", "it ends within an option"),
    ] {
        let said = started(line).unwrap_err();
        assert!(said.contains(reason), "{line}: {said}");
    }
}

#[test]
fn what_a_container_engine_is_told_is_taken_over_or_said() {
    let limit = |text: &str| text.parse().ok();
    for (options, variables, memory_limit, note) in [
        ("-ti --rm", "", None, ""),
        ("-dit --read-only -q", "", None, ""),
        ("--interactive=true -i=true", "", None, ""),
        ("-eA=1 -e=B=2 -ie C=3 -e D=4=5", "A=1 B=2 C=3 D=4=5", None, ""),
        ("--memory 512m", "", limit("512m"), ""),
        ("-m1g --", "", limit("1g"), ""),
        ("--memory=1k", "", None, "--memory 1k is left out; add it to the template where it is meant"),
        ("--env-file /home/me/.env", "", None, "the variables in /home/me/.env are left out; give them to the service"),
        ("-v/x:/y", "", None, "-v /x:/y is left out; add it to the template where it is meant"),
        ("--cap-drop=ALL", "", None, "--cap-drop ALL is left out; add it to the template where it is meant"),
    ] {
        let server = started(&format!("docker run {options} i/x a")).unwrap_or_else(|reason| panic!("{options}: {reason}"));
        let said: Vec<String> = server.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!((server.source.to_string().as_str(), server.arguments.join(" ").as_str()), ("image:i/x", "a"), "{options}");
        assert_eq!((said.join(" ").as_str(), server.memory_limit), (variables, memory_limit), "{options}");
        assert_eq!(server.notes.join(";"), note, "{options}");
    }
    assert!(started("podman container run -i i/x").is_ok());
    for words in ["run --privileged i/x", "run --entrypoint sh i/x", "run -iX i/x", "exec i/x", "run -e", "run -"] {
        assert!(started(&format!("docker {words}")).is_err(), "{words}");
    }
}

#[test]
fn a_command_is_read_in_each_of_its_forms_and_what_is_not_taken_over_is_said() {
    for server in [
        json!({"command": "npx -y @x/y 'a b'"}),
        json!({"command": ["npx -y @x/y 'a b'"]}),
        json!({"command": ["npx", "-y"], "args": ["@x/y", "a b"]}),
        json!({"command": {"path": "npx", "args": ["-y", "@x/y", "a b"]}}),
        json!({"command": "cmd", "args": ["/c", "npx -y @x/y 'a b'"]}),
        json!({"command": "C:\\Program Files\\nodejs\\npx.cmd", "args": ["-y", "@x/y", "a b"]}),
    ] {
        let read = taken(&server).unwrap_or_else(|reason| panic!("{server}: {reason}"));
        assert_eq!((read.source.to_string(), read.arguments), ("npm:@x/y".to_owned(), vec!["a b".to_owned()]), "{server}");
    }
    assert!(taken(&json!({"command": "python server.py"})).unwrap_err().contains("it starts 'python'"));
    let of_command = json!({"command": {"path": "uvx", "args": ["x"], "env": {"A": "b"}}, "env": {"N": null, "M": 1}});
    let server = taken(&of_command).unwrap();
    assert_eq!((server.environment, server.required), (variables(&[("A", "b"), ("M", "1")]), Vec::new()), "null is no value");
    let server =
        taken(&json!({"command": "npx", "args": ["x"], "envFile": "${workspaceFolder}/.env", "cwd": "/home/me"})).unwrap();
    let notes = [
        "the variables in ${workspaceFolder}/.env (envFile) are left out; give them to the service",
        "cwd /home/me is left out; the server starts in the folder that its image says",
    ];
    assert_eq!(server.notes, notes);
}

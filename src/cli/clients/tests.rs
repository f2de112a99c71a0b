//! Claims about every client and every format: what is written, what survives, what comes back.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::file::ClientFile;
use super::form::{Client, Key, Target};
use super::format::Format;
use super::node::Node;
use super::place::{Machine, System};
use super::table::CLIENTS;
use crate::config::Environment;

const SERVER: &str = "http://127.0.0.1:8000";

fn target(name: &str) -> Target {
    let url = format!("{SERVER}/mcp/s/{name}");
    let arguments = ["client", "relay", &url].map(str::to_owned).to_vec();
    Target { name: name.to_owned(), url, program: "mcp-manager".to_owned(), arguments, approved: vec!["read".to_owned()] }
}

fn entries(client: &Client, names: &[&str]) -> Vec<(String, Node)> {
    names.iter().map(|name| ((*name).to_owned(), client.entry(&target(name), &Key::None, false).unwrap())).collect()
}

fn ours(node: &Node) -> bool {
    node.any_text(&|text: &str| text.starts_with(SERVER))
}

fn client(name: &str) -> &'static Client {
    super::find(name).unwrap()
}

/// Connects `names` to a file that says `text`, disconnects them one by one, and gives what the file says at each step.
fn steps(client: &'static Client, directory: &Path, text: Option<&str>, names: &[&str]) -> Vec<Option<String>> {
    let path = directory.join("file");
    let _ = fs::remove_file(&path);
    if let Some(text) = text {
        fs::write(&path, text).unwrap();
    }
    let file = ClientFile::new(client, &path);
    let mut seen = Vec::new();
    for name in names {
        let change = file.connect(&entries(client, &[name]), &ours, false).unwrap();
        file.make(&change).unwrap();
        seen.push(fs::read_to_string(&path).ok());
    }
    for name in names {
        let change = file.disconnect(&[(*name).to_owned()], &ours).unwrap();
        file.make(&change).unwrap();
        seen.push(fs::read_to_string(&path).ok());
    }
    seen
}

#[test]
fn every_client_has_a_name_of_its_own_a_file_on_each_system_and_sources() {
    for (index, client) in CLIENTS.iter().enumerate() {
        assert!(CLIENTS[..index].iter().all(|other| other.name != client.name), "{}", client.name);
        assert!(client.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", client.name);
        assert!(!client.sources.is_empty() && client.sources.iter().all(|url| url.starts_with("https://")), "{}", client.name);
        let document = include_str!("../../../docs/clients.md");
        assert!(document.contains(&format!("`{}`", client.name)), "docs/clients.md lacks {}", client.name);
        for places in [client.places.linux, client.places.macos, client.places.windows] {
            assert!(!places.is_empty(), "{}", client.name);
        }
    }
}

#[test]
fn files_are_where_the_system_and_the_variables_of_the_client_say() {
    let variables = [("HOME", "/home/u"), ("USERPROFILE", "/users/u"), ("APPDATA", "/users/u/AppData/Roaming")];
    let environment = Environment::from_iter(variables);
    let mut lines = Vec::new();
    for client in CLIENTS {
        let file = |system| Machine { system, environment: &environment }.file(client).unwrap().display().to_string();
        lines.push(format!("{}\n  {}\n  {}\n  {}", client.name, file(System::Linux), file(System::MacOs), file(System::Windows)));
    }
    insta::assert_snapshot!("places", lines.join("\n"));
    let environment = Environment::from_iter([("HOME", "/h"), ("XDG_CONFIG_HOME", "/x"), ("CODEX_HOME", "/c")]);
    let machine = Machine { system: System::Linux, environment: &environment };
    assert_eq!(machine.file(client("codex")).unwrap(), Path::new("/c/config.toml"));
    assert_eq!(machine.file(client("zed")).unwrap(), Path::new("/x/zed/settings.json"));
    assert_eq!(machine.file(client("cursor")).unwrap(), Path::new("/h/.cursor/mcp.json"));
}

#[test]
fn every_client_gets_servers_as_it_writes_them() {
    for client in CLIENTS {
        let file = ClientFile::new(client, Path::new("unused"));
        let mut shown = Vec::new();
        let forms = [
            ("", Key::None, false),
            ("key by reference", Key::Reference, false),
            ("the key itself", Key::Literal("KEY".into()), false),
            ("stdio", Key::None, true),
        ];
        for (form, key, stdio) in forms {
            let Some(entry) = client.entry(&target("files"), &key, stdio) else {
                shown.push(format!("--- {form}: not possible"));
                continue;
            };
            shown.push(format!("--- {form}\n{}", file.with(None, &[("files".to_owned(), entry)]).unwrap()));
        }
        insta::assert_snapshot!(client.name, shown.join("\n"));
    }
}

#[test]
fn a_file_that_was_not_there_goes_again() {
    let directory = tempfile::tempdir().unwrap();
    for client in CLIENTS {
        let seen = steps(client, directory.path(), None, &["one", "two"]);
        assert!(seen[2].is_some() && seen[2] != seen[1], "{}: one of two is left", client.name);
        assert_eq!(seen[3], None, "{}", client.name);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{}: something is left", client.name);
    }
}

#[test]
fn connecting_again_changes_nothing_and_another_address_replaces_the_entry() {
    let directory = tempfile::tempdir().unwrap();
    for client in CLIENTS {
        let path = directory.path().join(client.name);
        let file = ClientFile::new(client, &path);
        file.make(&file.connect(&entries(client, &["one", "two"]), &ours, false).unwrap()).unwrap();
        assert!(file.connect(&entries(client, &["one", "two"]), &ours, false).unwrap().is_none(), "{}", client.name);
        let mut other = target("one");
        other.url.push_str("/elsewhere");
        other.arguments[2].push_str("/elsewhere");
        let entry = client.entry(&other, &Key::None, false).unwrap();
        file.make(&file.connect(&[("one".to_owned(), entry.clone())], &ours, false).unwrap()).unwrap();
        let entries = file.entries().unwrap();
        assert_eq!(entries.len(), 2, "{}", client.name);
        assert!(entries.contains(&("one".to_owned(), entry)), "{}: {entries:?}", client.name);
    }
}

#[test]
fn servers_of_others_are_neither_replaced_nor_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mcp.json");
    let text = "{\"mcpServers\": {\"files\": {\"url\": \"https://example.com/mcp\"}}}";
    fs::write(&path, text).unwrap();
    let file = ClientFile::new(client("cursor"), &path);
    assert!(file.connect(&entries(client("cursor"), &["files"]), &ours, false).is_err());
    assert!(file.disconnect(&["files".to_owned()], &ours).is_err());
    assert!(file.disconnect(&[], &ours).unwrap().is_none());
    file.make(&file.connect(&entries(client("cursor"), &["files"]), &ours, true).unwrap()).unwrap();
    assert!(ours(&file.entries().unwrap()[0].1));
    file.make(&file.disconnect(&[], &ours).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "what was replaced is back");
}

#[test]
fn what_somebody_else_changed_meanwhile_stays_when_our_entries_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("settings.json");
    fs::write(&path, "{\n  // mine\n  \"theme\": \"dark\"\n}\n").unwrap();
    let file = ClientFile::new(client("gemini-cli"), &path);
    file.make(&file.connect(&entries(client("gemini-cli"), &["one"]), &ours, false).unwrap()).unwrap();
    let changed = fs::read_to_string(&path).unwrap().replace("dark", "light");
    fs::write(&path, changed).unwrap();
    file.make(&file.disconnect(&[], &ours).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\n  // mine\n  \"theme\": \"light\",\n  \"mcpServers\": {}\n}\n");
    assert!(file.copy().exists(), "the copy is the only way back to what was there before");
}

#[test]
fn a_file_that_changes_between_look_and_write_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mcp.json");
    fs::write(&path, "{}").unwrap();
    let file = ClientFile::new(client("cursor"), &path);
    let change = file.connect(&entries(client("cursor"), &["one"]), &ours, false).unwrap();
    fs::write(&path, "{\"a\": 1}").unwrap();
    assert!(file.make(&change).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\": 1}");
}

#[test]
fn what_cannot_be_read_is_refused_with_its_line() {
    let cases = [
        ("cursor", "{\n  \"a\": 1\n  \"b\": 2\n}", Some(2)),
        ("cursor", "[]", Some(1)),
        ("cursor", "{\n\"mcpServers\": []}", None),
        ("cursor", "{\"a\": 1,\n\"a\": 2}", Some(2)),
        ("codex", "a = 1\nb = = 2\n", Some(2)),
        ("codex", "mcp_servers = 3\n", None),
        ("goose", "a: 1\nb: [1\n", Some(3)),
        ("goose", "- a\n", Some(1)),
        ("continue", "a: 1\n---\nb: 2\n", None),
    ];
    for (name, text, line) in cases {
        let client = client(name);
        let refused = ClientFile::new(client, Path::new("unused")).with(Some(text), &entries(client, &["one"])).unwrap_err();
        assert_eq!(refused.line, line, "{name}: {text:?}: {refused:?}");
    }
}

#[test]
fn entries_go_where_people_wrote_the_others() {
    let cases = [
        ("vscode", "{\n\t\"servers\": {\n\t\t\"x\": {\"url\": \"u\"}, // last\n\t},\n}\n"),
        ("cursor", "{\"mcpServers\":{\"x\":{\"url\":\"u\"}}}"),
        ("cursor", "{\r\n    \"mcpServers\": {}\r\n}\r\n"),
        ("zed", "// settings\n{\n  \"theme\": \"One\" /* t */\n  // end\n}\n"),
        ("codex", "model = \"m\" # which\n\n[mcp_servers.x]\nurl = \"u\"\n\n# the end\n"),
        ("mistral-vibe", "mcp_servers = []\nother = 1\n"),
        ("mistral-vibe", "[[mcp_servers]]\nname = \"x\"\ntransport = \"stdio\"\n\n[tools]\na = 1\n"),
        ("goose", "GOOSE_MODE: auto # m\nextensions:\n    dev:\n        enabled: true # e\n    # tail\n\nafter: |\n  text\n\n"),
        ("goose", "extensions: {} # none\nafter: 1\n"),
        ("continue", "name: n\nmcpServers:\n- name: x\n  url: u\n# c\nmodels: []\n"),
        ("continue", "mcpServers: [{name: x, url: u}]\n"),
    ];
    let shown = cases.map(|(name, text)| {
        let client = client(name);
        let file = ClientFile::new(client, Path::new("unused"));
        format!("{name}\n<<<\n{text}\n>>>\n{}\n", file.with(Some(text), &entries(client, &["one", "two"])).unwrap())
    });
    insta::assert_snapshot!("beside_others", shown.join("\n"));
}

/// Numbers the comments, so that each can be told from the others.
fn numbered(text: &str) -> String {
    let mut parts = text.split('@');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.enumerate().fold(first, |text, (number, part)| format!("{text}c{number}c{part}"))
}

fn blank() -> impl Strategy<Value = String> {
    let blanks = ["", "", " ", "\n", "\n  ", "\n\n\t", " // @\n", " /* @ */ ", "\r\n  ", "\n  /* @\n */\n"];
    prop::sample::select(blanks.to_vec()).prop_map(str::to_owned)
}

fn json_value() -> BoxedStrategy<String> {
    let scalar = prop_oneof![
        prop::sample::select(vec!["1", "-2.50e3", "true", "null", "\"\"", "\"// no\"", "\"\\u00e9\\n}\"", "\"é😀\""])
            .prop_map(str::to_owned),
    ];
    scalar
        .prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                (blank(), prop::collection::vec((blank(), inner.clone(), blank()), 0..3)).prop_map(|(blank, items)| {
                    let items: Vec<String> =
                        items.into_iter().map(|(before, item, after)| format!("{before}{item}{after}")).collect();
                    format!("[{blank}{}]", items.join(","))
                }),
                json_object(inner, &["x", "y", "mcpServers"]),
            ]
        })
        .boxed()
}

fn json_object(value: impl Strategy<Value = String> + Clone, names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let pair = (blank(), blank(), blank(), value, blank());
    (prop::sample::subsequence(names, 0..=names.len()), prop::collection::vec(pair, names.len()), blank(), any::<bool>())
        .prop_map(|(names, pairs, blank, comma)| {
            let pairs: Vec<String> =
                names.iter().zip(pairs).map(|(name, (a, b, c, value, d))| format!("{a}\"{name}\"{b}:{c}{value}{d}")).collect();
            let comma = if comma && !pairs.is_empty() { "," } else { "" };
            format!("{{{}{comma}{blank}}}", pairs.join(","))
        })
}

fn json_text() -> impl Strategy<Value = String> {
    let servers = json_object(json_value(), &["a", "b", "c"]);
    let rest = json_object(json_value(), &["k", "l"]);
    (blank(), rest, prop::option::of((blank(), servers, blank())), blank(), any::<bool>()).prop_map(
        |(before, rest, servers, after, first)| {
            let body = match servers {
                None => rest,
                Some((a, servers, b)) => {
                    let inner = rest[1..rest.len() - 1].to_owned();
                    let own = format!("{a}\"mcpServers\": {servers}{b}");
                    let has_pairs = inner.contains("\"k\"") || inner.contains("\"l\"");
                    let ends = inner.trim_end().ends_with(',');
                    // A comment at the end of the others may hide a comma, so ours goes behind them only after one.
                    match (has_pairs, first || !ends) {
                        (false, _) => format!("{{{own}{inner}}}"),
                        (true, true) => format!("{{{own},{inner}}}"),
                        (true, false) => format!("{{{inner}{own}}}"),
                    }
                }
            };
            numbered(&format!("{before}{body}{after}"))
        },
    )
}

fn toml_text() -> impl Strategy<Value = String> {
    let top = prop::sample::subsequence(
        vec![
            "a = 1 # @\n",
            "# @\n",
            "\n",
            "b.c = \"x\"\n",
            "d = [\n  1, # @\n  2,\n]\n",
            "e = '''\n[mcp_servers.no]\n'''\n",
            "t = 1979-05-27T07:32:00Z\n",
        ],
        0..=7,
    );
    let tables = prop::sample::subsequence(
        vec![
            "[x]\ny = { z = 1 } # @\n\n",
            "# @\n[mcp_servers.own] # @\nurl = \"u\" # @\n\n",
            "  [mcp_servers.own.env]\n  A = \"b\"\n",
            "[mcp_servers.\"dotted.name\"]\ncommand = \"c\"\nargs = [\n  \"a\",\n]\n# @\n",
            "[[list]]\nname = \"q\"\n\n[[list]]\nname = \"r\"\n",
            "[tools.a]\nb = \"[mcp_servers.one]\"\n\n\n# @\n",
        ],
        0..=6,
    );
    (top, tables, any::<bool>(), any::<bool>()).prop_map(|(top, tables, cut, dos)| {
        let mut text = numbered(&format!("{}{}", top.concat(), tables.concat()));
        if cut {
            text.truncate(text.trim_end().len());
        }
        if dos { text.replace('\n', "\r\n") } else { text }
    })
}

fn yaml_text(key: &'static str, list: bool) -> impl Strategy<Value = String> {
    let blocks = prop::sample::subsequence(
        vec![
            "# @\n",
            "a: 1 # @\n",
            "b: 'x: y'\n\n",
            "c: |\n  # no comment\n  text\n",
            "d: [1, 2] # @\n",
            "e:\n  f: \"é😀\"\n  # @\n",
            "g: &g {h: 1}\ni: *g\n",
        ],
        0..=7,
    );
    let servers = if list {
        vec![
            "",
            ":\n",
            ": []  # @\n",
            ":\n- name: x\n  url: u # @\n\n# @\n",
            ":\n  # @\n  - name: x # @\n    env:\n      A: b\n  -\n    name: y\n",
            ": [{name: x}] # @\n",
        ]
    } else {
        vec![
            "",
            ":\n",
            ": {} # @\n",
            ": ~ # @\n",
            ":\n  x:\n    url: u # @\n  # @\n",
            ":\n    x: # @\n        url: u\n    \"y z\": {url: u}\n\n",
            ": {x: {url: u}} # @\n",
        ]
    };
    (blocks, prop::sample::select(servers), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        move |(mut blocks, servers, at, dos)| {
            let own = if servers.is_empty() { String::new() } else { format!("{key}{servers}") };
            let at = at.index(blocks.len() + 1);
            blocks.insert(at, &own);
            let text = numbered(&blocks.concat());
            if dos { text.replace('\n', "\r\n") } else { text }
        },
    )
}

fn comments(text: &str) -> Vec<String> {
    (0..99).map(|number| format!("c{number}c")).take_while(|comment| text.contains(comment.as_str())).collect()
}

/// What holds for every document of a client.
fn holds(name: &str, text: &str) -> Result<(), TestCaseError> {
    let client = client(name);
    let (format, section): (Format, _) = (client.format, client.section);
    let file = ClientFile::new(client, Path::new("unused"));
    let added = entries(client, &["one", "two"]);
    let with = file.with(Some(text), &added).map_err(|refusal| TestCaseError::fail(format!("{refusal:?} in {text}")))?;
    let mut meant = format.entries(text, section).unwrap();
    meant.extend(added.clone());
    prop_assert_eq!(format.entries(&with, section).unwrap(), meant, "{}", &with);
    for comment in comments(text) {
        prop_assert!(with.contains(&comment), "{} is gone in {}", comment, with);
    }
    prop_assert_eq!(&file.with(Some(&with), &added).unwrap(), &with, "not the same when done again");
    // Where somebody has changed something else, the entries are taken out of the text.
    let without = ["two", "one"].iter().try_fold(with.clone(), |text, name| format.without(&text, section, name));
    let without = without.map_err(|refusal| TestCaseError::fail(format!("{refusal:?} in {with}")))?;
    prop_assert_eq!(format.entries(&without, section).unwrap(), format.entries(text, section).unwrap());
    for comment in comments(text) {
        prop_assert!(without.contains(&comment), "{} is gone in {}", comment, without);
    }
    // Where nobody has, everything is as it was, byte for byte.
    let directory = tempfile::tempdir().unwrap();
    let seen = steps(client, directory.path(), Some(text), &["one", "two"]);
    prop_assert_eq!(seen[3].as_deref(), Some(text));
    prop_assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a copy is left");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn json_files_keep_what_others_wrote(text in json_text()) {
        holds("cursor", &text)?;
    }

    #[test]
    fn toml_files_keep_what_others_wrote(text in toml_text()) {
        holds("codex", &text)?;
        holds("mistral-vibe", &text.replace("[mcp_servers.", "[other."))?;
    }

    #[test]
    fn yaml_maps_keep_what_others_wrote(text in yaml_text("extensions", false)) {
        holds("goose", &text)?;
    }

    #[test]
    fn yaml_lists_keep_what_others_wrote(text in yaml_text("mcpServers", true)) {
        holds("continue", &text)?;
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,80}", cut in any::<prop::sample::Index>(), json in json_text()) {
        let mut cut = cut.index(json.len() + 1);
        while !json.is_char_boundary(cut) {
            cut -= 1;
        }
        for name in ["cursor", "codex", "mistral-vibe", "goose", "continue"] {
            for text in [&text, &json[..cut]] {
                let file = ClientFile::new(client(name), Path::new("unused"));
                if let Ok(with) = file.with(Some(text), &entries(client(name), &["one"])) {
                    let _ = client(name).format.without(&with, client(name).section, "one");
                }
            }
        }
    }
}

//! Claims about every client: what is written, what survives, what comes back.

mod properties;
mod several;
mod undo;

use std::fs;
use std::path::Path;

use serde_json::json;

use super::file::ClientFile;
use super::form::{Client, Key, Target};
use super::format::Format;
use super::node::Node;
use super::place::{Machine, System};
use super::table::clients;
use crate::config::Environment;

const SERVER: &str = "http://127.0.0.1:8000";

fn target(name: &str) -> Target {
    target_on(SERVER, name)
}

fn target_on(server: &str, name: &str) -> Target {
    let url = format!("{server}/mcp/s/{name}");
    let arguments = ["client", "relay", &url].map(str::to_owned).to_vec();
    Target {
        name: name.to_owned(),
        url,
        program: "mcp-manager".to_owned(),
        arguments,
        has_key_file: false,
        approved: vec!["read".to_owned()],
    }
}

fn entries(client: &Client, names: &[&str]) -> Vec<(String, Node)> {
    names.iter().map(|name| ((*name).to_owned(), client.entry(&target(name), &Key::None, false).unwrap())).collect()
}

fn ours(node: &Node) -> bool {
    node.says(&|text: &str| text.starts_with(SERVER))
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
        let change = file.connect(&entries(file.form().unwrap(), &[name]), &ours, false).unwrap();
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
    for (index, client) in clients().enumerate() {
        assert!(clients().take(index).all(|other| other.name != client.name), "{}", client.name);
        assert!(client.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", client.name);
        assert!(!client.sources.is_empty() && client.sources.iter().all(|url| url.starts_with("https://")), "{}", client.name);
        let document = include_str!("../../../docs/clients.md");
        assert!(document.contains(&format!("`{}`", client.name)), "docs/clients.md lacks {}", client.name);
        assert!(client.newer.is_none_or(|newer| newer.format == client.format), "{}", client.name);
        let within = [Some(client), client.newer].into_iter().flatten().filter(|form| form.section.within.is_some());
        assert!(within.clone().all(|form| form.format == Format::Json), "{}: only JSON is edited below the top", client.name);
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
    for client in clients() {
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
fn of_several_variables_the_first_that_is_set_says_where_the_file_is() {
    let variables = [("HOME", "/h"), ("CLINE_DIR", "/c"), ("CLINE_DATA_DIR", "/d"), ("CLINE_MCP_SETTINGS_PATH", "/f.json")];
    let files =
        ["/h/.cline/data/settings", "/c/data/settings", "/d/settings"].map(|folder| format!("{folder}/cline_mcp_settings.json"));
    for (count, file) in files.into_iter().chain(["/f.json".to_owned()]).enumerate() {
        let environment = Environment::from_iter(variables[..=count].to_vec());
        let machine = Machine { system: System::Linux, environment: &environment };
        assert_eq!(machine.file(client("cline")).unwrap(), Path::new(&file));
    }
}

#[test]
fn a_newer_place_counts_as_soon_as_its_directory_is_there() {
    let home = tempfile::tempdir().unwrap();
    let environment = Environment::from_iter([("HOME", home.path().to_str().unwrap())]);
    let machine = Machine { system: System::Linux, environment: &environment };
    let file = || machine.file(client("antigravity")).unwrap().strip_prefix(home.path()).unwrap().to_owned();
    fs::create_dir_all(home.path().join(".gemini/antigravity")).unwrap();
    fs::write(home.path().join(".gemini/antigravity/mcp_config.json"), "{}").unwrap();
    assert_eq!(file(), Path::new(".gemini/antigravity/mcp_config.json"));
    fs::create_dir(home.path().join(".gemini/config")).unwrap();
    assert_eq!(file(), Path::new(".gemini/config/mcp_config.json"));
}

#[test]
fn every_client_gets_servers_as_it_writes_them() {
    for client in clients() {
        let file = ClientFile::new(client, Path::new("unused"));
        let mut shown = Vec::new();
        let forms = [
            ("", Key::None, false),
            ("key by reference", Key::Reference, false),
            ("the key itself", Key::Literal("KEY".into()), false),
            ("stdio", Key::None, true),
            ("stdio, key by reference", Key::Reference, true),
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
    for client in clients() {
        let seen = steps(client, directory.path(), None, &["one", "two"]);
        assert!(seen[2].is_some() && seen[2] != seen[1], "{}: one of two is left", client.name);
        assert_eq!(seen[3], None, "{}", client.name);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{}: something is left", client.name);
    }
}

#[test]
fn connecting_again_changes_nothing_and_another_address_replaces_the_entry() {
    let directory = tempfile::tempdir().unwrap();
    for client in clients() {
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

/// Connects a file of `opencode` that says `text` to two services and takes everything of ours out again.
fn opencode(text: &str) -> (serde_json::Value, serde_json::Value) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("opencode.json");
    fs::write(&path, text).unwrap();
    let file = ClientFile::new(client("opencode"), &path);
    let says = || serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    file.make(&file.connect(&entries(file.form().unwrap(), &["files", "notes"]), &ours, false).unwrap()).unwrap();
    let connected = says();
    file.make(&file.disconnect(&[], &ours).unwrap()).unwrap();
    (connected, says())
}

#[test]
fn a_map_of_servers_is_not_taken_for_a_server_that_leads_to_us() {
    let text = r#"{"mcp": {"timeout": {"catalog": 5}, "servers": {
        "own": {"type": "remote", "url": "https://example.com"},
        "files": {"type": "remote", "url": "http://127.0.0.1:8000/mcp/s/files"}
    }}}"#;
    let (connected, disconnected) = opencode(text);
    let notes = json!({"type": "remote", "url": "http://127.0.0.1:8000/mcp/s/notes"});
    assert_eq!(connected["mcp"]["servers"]["notes"], notes, "servers go where the others are, as they are written there");
    let own = json!({"own": {"type": "remote", "url": "https://example.com"}});
    assert_eq!(disconnected, json!({"mcp": {"timeout": {"catalog": 5}, "servers": own}}));
}

#[test]
fn a_server_in_an_older_form_makes_way_for_the_same_one_in_the_newer() {
    let text = r#"{"mcp": {
        "files": {"type": "remote", "url": "http://127.0.0.1:8000/mcp/s/files", "enabled": true},
        "old": {"type": "remote", "url": "http://127.0.0.1:8000/mcp/s/old", "enabled": true},
        "else": {"type": "remote", "url": "https://example.com"}, "servers": {}
    }}"#;
    let (connected, disconnected) = opencode(text);
    let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        (names(&connected["mcp"]), names(&connected["mcp"]["servers"])),
        ("else old servers".into(), "files notes".into())
    );
    assert_eq!(disconnected, json!({"mcp": {"else": {"type": "remote", "url": "https://example.com"}, "servers": {}}}));
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
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\n  // mine\n  \"theme\": \"light\"\n}\n");
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
fn halves_of_surrogate_pairs_are_left_as_programs_wrote_them() {
    let directory = tempfile::tempdir().unwrap();
    let own = r#""own": {"command": "\udfff\uD83D\uDE00\\ud800"}"#;
    let text = format!(r#"{{"a": "\ud800", "b\udc00": ["\uD83D\uD83D\uDE00"], "mcpServers": {{{own}}}}}"#);
    let seen = steps(client("cursor"), directory.path(), Some(&text), &["one"]);
    let with = seen[0].as_ref().unwrap();
    assert!(with.starts_with(text.strip_suffix("}}").unwrap()) && with.contains("/mcp/s/one"), "{with}");
    assert_eq!(seen[1].as_deref(), Some(text.as_str()));
    // What is put in again says what it said, too.
    let file = ClientFile::new(client("cursor"), &directory.path().join("file"));
    file.make(&file.connect(&entries(client("cursor"), &["own"]), &ours, true).unwrap()).unwrap();
    fs::write(&file.path, format!("{}\n", fs::read_to_string(&file.path).unwrap())).unwrap();
    file.make(&file.disconnect(&[], &ours).unwrap()).unwrap();
    assert!(fs::read_to_string(&file.path).unwrap().contains(r#""\udfff\uD83D\uDE00\\ud800""#));
    let refused = file.with(Some("{\n\"a\": \"\\ud80\"}"), &[]).and_then(|text| client("cursor").format.whole(&text));
    assert_eq!(refused.unwrap_err().line, Some(2));
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

#[test]
fn a_comment_behind_servers_in_one_line_of_toml_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let listed = "mcp_servers = [ {name = \"x\", transport = \"stdio\"} ] # c\n";
    for (name, text) in [("mistral-vibe", listed), ("codex", "mcp_servers = { x = { command = \"y\" } } # c\n")] {
        let seen = steps(client(name), directory.path(), Some(text), &["echo"]);
        assert_eq!(seen[0].as_ref().unwrap().matches("# c").count(), 1, "{seen:?}");
        assert_eq!(seen[1].as_deref(), Some(text));
    }
}

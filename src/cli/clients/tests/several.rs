//! Claims about several managers, or one by several addresses, in one file: none of them costs the user anything.

use std::fs;
use std::path::Path;

use super::super::file::ClientFile;
use super::super::form::{Client, Key};
use super::super::node::Node;
use super::{client, target_on};

const SERVERS: [&str; 3] = ["http://localhost:8000", "http://127.0.0.1:8000", "https://mcp.example.com"];

/// How managers come and go: by their numbers.
const ORDERS: [&[usize]; 8] = [&[0, 1], &[1, 0], &[0, 1, 2], &[0, 2, 1], &[1, 0, 2], &[1, 2, 0], &[2, 0, 1], &[2, 1, 0]];

/// Files without and with an entry `files` of the user.
const TEXTS: [(&str, Option<&str>); 12] = [
    ("cursor", None),
    ("cursor", Some("{}")),
    ("cursor", Some("{\"mcpServers\":{\"files\":{\"url\":\"mine\"}}}")),
    ("cursor", Some("{\"mcpServers\":{\"files\":{\"url\":\"http://elsewhere:8000/mcp/s/files\"}, \"own\": {}}}\n")),
    ("opencode", Some("{\"mcp\": {\"files\": {\"command\": [\"x\", \"y\"]}, \"servers\": {\"own\": {}}}}")),
    ("zed", Some("// settings\n{\n  \"theme\": \"One\" /* t */\n  // end\n}\n")),
    ("codex", None),
    ("codex", Some("[mcp_servers.files]\ncommand = \"x\"\nn = 2.0\n[mcp_servers.files.env]\nA = \"b\"\n")),
    ("mistral-vibe", Some("[[mcp_servers]]\nname = \"files\"\ncommand = \"x\"\n\n[tools]\na = 1\n")),
    ("goose", None),
    ("goose", Some("extensions:\n  files:\n    cmd: x\n    on: true\n")),
    ("continue", Some("mcpServers:\n- name: files\n  command: \"x: y\"\n")),
];

fn ours(server: &str) -> impl Fn(&Node) -> bool {
    let base = format!("{server}/");
    move |node| node.says(&|text: &str| text.starts_with(&base))
}

fn connect(client: &'static Client, path: &Path, server: &str, name: &str) {
    let file = ClientFile::new(client, path);
    let entry = file.form().unwrap().entry(&target_on(server, name), &Key::None, false).unwrap();
    file.make(&file.connect(&[(name.to_owned(), entry)], &ours(server), true).unwrap()).unwrap();
}

fn disconnect(client: &'static Client, path: &Path, server: &str) {
    let file = ClientFile::new(client, path);
    file.make(&file.disconnect(&[], &ours(server)).unwrap()).unwrap();
}

#[test]
fn a_file_is_what_it_was_when_all_managers_have_gone_in_whatever_order() {
    let ways = ORDERS.iter().flat_map(|come| ORDERS.iter().map(move |go| (come, go)));
    for (come, go) in ways.filter(|(come, go)| come.len() == go.len()) {
        for (name, text) in TEXTS {
            // All by one name, each in the place of the one before, or each by its own.
            for names in [["files"; 3], ["files", "one", "two"]] {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("file");
                if let Some(text) = text {
                    fs::write(&path, text).unwrap();
                }
                for manager in *come {
                    connect(client(name), &path, SERVERS[*manager], names[*manager]);
                }
                for manager in *go {
                    disconnect(client(name), &path, SERVERS[*manager]);
                }
                let way = format!("{name}: {text:?}, {names:?}: {come:?}, then {go:?}");
                assert_eq!(fs::read_to_string(&path).ok().as_deref(), text, "{way}");
                assert_eq!(fs::read_dir(directory.path()).unwrap().count(), usize::from(text.is_some()), "{way}");
            }
        }
    }
}

#[test]
fn an_entry_of_another_manager_stays_when_one_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "{\"theme\": 1}").unwrap();
    for (server, name) in SERVERS.into_iter().zip(["files", "one", "two"]) {
        connect(client("cursor"), &path, server, name);
    }
    disconnect(client("cursor"), &path, SERVERS[1]);
    let entries = ClientFile::new(client("cursor"), &path).entries().unwrap();
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["files", "two"]);
}

#[test]
fn no_copy_of_an_earlier_time_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for number in 0..4 {
        // Written anew in between, so that the copy stays; and without ours, so that the next is of another time.
        fs::write(&path, format!("{{\"time\": {number}}}")).unwrap();
        connect(client("cursor"), &path, SERVERS[0], "files");
    }
    let mut said: Vec<String> =
        fs::read_dir(directory.path()).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    said.retain(|text| !text.contains("files"));
    said.sort();
    assert_eq!(said, [0, 1, 2, 3].map(|number| format!("{{\"time\": {number}}}")));
}

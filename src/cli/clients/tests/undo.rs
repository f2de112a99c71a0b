//! Claims about taking a connection back where the file has become something else meanwhile, and about links to no file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::super::file::{Change, ClientFile};
use super::super::form::Client;
use super::super::table::clients;
use super::{client, entries, ours};

/// A file of a client in a directory of its own.
struct Place {
    client: &'static Client,
    directory: tempfile::TempDir,
}

impl Place {
    fn of(client: &'static Client, text: Option<&str>) -> Self {
        let place = Self { client, directory: tempfile::tempdir().unwrap() };
        if let Some(text) = text {
            place.put(text);
        }
        place
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("file")
    }

    fn file(&self) -> ClientFile<'static> {
        ClientFile::new(self.client, &self.path())
    }

    fn put(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn text(&self) -> Option<String> {
        fs::read_to_string(self.path()).ok()
    }

    fn change(&self, from: &str, to: &str) {
        let text = self.text().unwrap();
        assert!(text.contains(from), "{text}");
        self.put(&text.replace(from, to));
    }

    /// What a client does that writes its file anew: the text is another, what it says is not.
    fn write_anew(&self) {
        self.put(&format!("{}\n", self.text().unwrap()));
    }

    fn connect(&self, names: &[&str]) {
        let file = self.file();
        file.make(&file.connect(&entries(file.form().unwrap(), names), &ours, true).unwrap()).unwrap();
    }

    fn disconnect(&self, names: &[&str]) -> Change {
        let file = self.file();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let change = file.disconnect(&names, &ours).unwrap();
        file.make(&change).unwrap();
        change
    }

    fn files(&self) -> usize {
        fs::read_dir(self.directory.path()).unwrap().count()
    }
}

#[test]
fn a_link_to_a_file_that_is_not_there_yet_is_followed() {
    let place = Place::of(client("cursor"), None);
    let directory = place.directory.path();
    for folder in ["dotfiles", "data"] {
        fs::create_dir(directory.join(folder)).unwrap();
    }
    symlink("dotfiles/mcp.json", place.path()).unwrap();
    symlink("../data/mcp.json", directory.join("dotfiles/mcp.json")).unwrap();
    place.connect(&["one"]);
    assert!(place.path().is_symlink() && directory.join("dotfiles/mcp.json").is_symlink());
    assert!(fs::read_to_string(directory.join("data/mcp.json")).unwrap().contains("/mcp/s/one"));
    place.disconnect(&[]);
    assert!(place.path().is_symlink() && !directory.join("data/mcp.json").exists());
}

#[test]
fn a_link_into_a_folder_that_is_not_there_is_refused_and_stays() {
    let place = Place::of(client("cursor"), None);
    symlink("away/mcp.json", place.path()).unwrap();
    let file = place.file();
    let refused = file.connect(&entries(client("cursor"), &["one"]), &ours, false).unwrap_err();
    assert!(refused.detail.contains("is a link to away/mcp.json, and there is no folder for that"), "{refused:?}");
    assert!(place.path().is_symlink() && place.files() == 1);
}

#[test]
fn a_file_that_was_made_for_our_entries_goes_also_when_its_client_has_written_it_anew() {
    for client in clients() {
        let place = Place::of(client, None);
        place.connect(&["one", "two"]);
        place.write_anew();
        place.disconnect(&["one"]);
        assert!(place.text().unwrap().contains("/mcp/s/two"), "{}", client.name);
        place.disconnect(&[]);
        assert_eq!((place.text(), place.files()), (None, 0), "{}", client.name);
    }
}

#[test]
fn a_file_that_was_made_for_our_entries_stays_with_what_others_put_into_it_and_without_an_empty_section() {
    let cases = [
        ("cursor", "{\n  \"mcpServers\"", "{\n  \"theme\": 1,\n  \"mcpServers\"", "{\n  \"theme\": 1\n}\n"),
        ("cursor", "{\n  \"mcpServers\"", "{\n  // mine\n  \"mcpServers\"", "{\n  // mine\n}\n"),
        ("goose", "extensions:", "# mine\nextensions:", "# mine\n"),
        ("goose", "extensions:", "a: 1\nextensions:", "a: 1\n"),
        ("continue", "schema: v1\n", "schema: v1\nmodels: []\n", "name: Local Config\nversion: 1.0.0\nschema: v1\nmodels: []\n"),
        ("codex", "[mcp_servers.one]", "a = 1\n\n[mcp_servers]\n[mcp_servers.one]", "a = 1\n"),
    ];
    for (name, from, to, after) in cases {
        let place = Place::of(client(name), None);
        place.connect(&["one"]);
        place.change(from, to);
        place.disconnect(&[]);
        assert_eq!(place.text().as_deref(), Some(after), "{name}");
    }
}

#[test]
fn what_was_there_without_servers_stays_and_a_section_with_a_comment_too() {
    let kept = "{\n  \"mcpServers\": {\n    // mine\n  }\n}\n";
    let cases = [
        ("cursor", "{}", "{}\n"),
        ("cursor", "{\"mcpServers\": {}}", "{\"mcpServers\": {}}\n"),
        ("cursor", kept, &format!("{kept}\n")),
        ("goose", "extensions: {}\n", "extensions: {}\n\n"),
        ("goose", "", "\n"),
        ("codex", "[mcp_servers]\n", "[mcp_servers]\n\n"),
    ];
    for (name, before, after) in cases {
        let place = Place::of(client(name), Some(before));
        place.connect(&["one"]);
        place.write_anew();
        place.disconnect(&[]);
        assert_eq!(place.text().as_deref(), Some(after), "{name}: {before}");
    }
}

/// A file with a server of somebody else, as its client writes one.
const OTHERS: [(&str, &str); 7] = [
    ("cursor", "{\"mcpServers\": {\"files\": {\"command\": \"x\", \"n\": 1.50, \"env\": {\"A\": \"b\"}}}, \"theme\": 1}"),
    ("opencode", "{\"mcp\": {\"files\": {\"command\": [\"x\", \"y\"]}, \"servers\": {\"own\": {}}}}"),
    ("codex", "[mcp_servers.files]\ncommand = \"x\"\nn = 2.0\nat = 1979-05-27\n[mcp_servers.files.env]\nA = \"b\"\n"),
    ("mistral-vibe", "[[mcp_servers]]\nname = \"files\"\ncommand = \"x\"\n"),
    ("goose", "extensions:\n  files:\n    cmd: x\n    envs:\n      A: b\n    on: true\n"),
    ("continue", "mcpServers:\n- name: files\n  command: \"x: y\"\n"),
    ("cursor", "{\"mcpServers\": {\"own\": {\"url\": \"u\"}, \"files\": {}}}"),
];

#[test]
fn what_ours_replaced_is_put_in_again_where_the_file_has_changed() {
    for (name, text) in OTHERS {
        let place = Place::of(client(name), Some(text));
        let before = place.file().entries().unwrap();
        place.connect(&["one", "files"]);
        place.write_anew();
        place.disconnect(&["files"]);
        assert!(place.text().unwrap().contains("/mcp/s/one") && !place.text().unwrap().contains("/mcp/s/files"), "{name}");
        place.disconnect(&[]);
        let after = place.file().entries().unwrap();
        assert!(before.len() == after.len() && before.iter().all(|entry| after.contains(entry)), "{name}: {after:?}");
        assert!(place.file().copy().exists(), "{name}: how it was written is to be seen in the copy alone");
    }
}

#[test]
fn what_is_replaced_by_a_later_connection_comes_back_too() {
    for changes in [false, true] {
        let place = Place::of(client("cursor"), None);
        place.connect(&["one"]);
        place.change("\"mcpServers\": {\n", "\"mcpServers\": {\n    \"files\": {\n      \"url\": \"u\"\n    },\n");
        place.connect(&["files"]);
        if changes {
            place.write_anew();
        }
        place.disconnect(&[]);
        let entries = place.file().entries().unwrap();
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert_eq!(entries[0].1.get("url").and_then(|url| url.as_text()), Some("u"));
    }
}

#[test]
fn what_somebody_removed_or_renamed_before_ours_came_does_not_come_back() {
    for changes in [false, true] {
        let place = Place::of(client("cursor"), Some("{\"mcpServers\": {\"files\": {\"url\": \"u\"}}}"));
        place.connect(&["one"]);
        place.change("\"files\": {\"url\"", "\"mine\": {\"url\"");
        place.connect(&["files"]);
        if changes {
            place.write_anew();
        }
        place.disconnect(&[]);
        let names: Vec<String> = place.file().entries().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["mine"]);
    }
}

#[test]
fn an_entry_that_was_changed_to_lead_elsewhere_stays_and_is_told() {
    let place = Place::of(client("cursor"), Some("{\"mcpServers\": {\"files\": {\"url\": \"u\"}}}"));
    place.connect(&["files", "one"]);
    place.change("http://127.0.0.1:8000/mcp/s/files", "https://example.com");
    let change = place.disconnect(&[]);
    assert_eq!((change.changed, change.lost), (vec!["files".to_owned()], Vec::new()));
    let entries = place.file().entries().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].1.get("url").and_then(|url| url.as_text()), Some("https://example.com"));
}

#[test]
fn what_cannot_be_put_in_again_is_named_and_stays_in_the_copy() {
    let before = "a: &a {url: u}\nextensions:\n  files: *a\n";
    let place = Place::of(client("goose"), Some(before));
    place.connect(&["files"]);
    place.write_anew();
    let change = place.disconnect(&[]);
    assert_eq!(change.lost, ["files"]);
    assert!(place.file().entries().unwrap().is_empty());
    assert_eq!(fs::read_to_string(place.file().copy()).unwrap(), before);
}

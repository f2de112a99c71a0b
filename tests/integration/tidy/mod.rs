//! Claims about the source as text: what ARCHITECTURE.md and CONTRIBUTING.md say about files and modules holds. What a
//! lint can see is left to the lints (Cargo.toml, clippy.toml).

mod imports;

use std::path::{Path, PathBuf};

/// Most lines of a file of source. CONTRIBUTING.md asks for about 400; a file beyond this has two reasons to change.
const MOST_LINES: usize = 450;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `folder` for which `wanted` holds, as paths below the root.
fn files(folder: &str, wanted: impl Fn(&Path) -> bool + Copy) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let found = entries.flat_map(|entry| {
        let path = entry.unwrap().path();
        let below = path.strip_prefix(root()).unwrap().to_owned();
        let is_left_by_tools =
            ["target", "node_modules", "__pycache__", "corpus", "artifacts"].iter().any(|name| path.ends_with(name));
        match path.is_dir() {
            // What it leads to is told of where that is.
            _ if path.is_symlink() => Vec::new(),
            true if is_left_by_tools => Vec::new(),
            true => files(below.to_str().unwrap(), wanted),
            false => Some(below).filter(|path| wanted(path)).into_iter().collect(),
        }
    });
    let mut found: Vec<PathBuf> = found.collect();
    found.sort();
    found
}

/// Folders that hold Rust; not all need to be there.
fn rust_files() -> Vec<PathBuf> {
    let folders = ["src", "tests", "examples", "fuzz"].into_iter().filter(|folder| root().join(folder).is_dir());
    let found: Vec<PathBuf> =
        folders.flat_map(|folder| files(folder, |path| path.extension().is_some_and(|ending| ending == "rs"))).collect();
    assert!(found.len() > 100, "only {} files of Rust were found", found.len());
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn modules_import_what_the_table_allows() {
    let table = imports::Table::read(&read(Path::new("ARCHITECTURE.md")));
    let sources = files("src", |path| path.extension().is_some_and(|ending| ending == "rs"));
    let violations = sources.iter().flat_map(|path| table.violations(path.strip_prefix("src").unwrap(), &read(path)));
    none(&violations.collect::<Vec<_>>());
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let violations = rust_files().into_iter().filter(|path| !read(path).strip_prefix("//! ").is_some_and(is_sentence));
    let rust = violations.map(|path| format!("{}:1: open with '//! ' and what the file is for", path.display()));
    let others =
        ["scripts", "docker", "traefik", "templates", "k8s", ".ci"].into_iter().flat_map(|folder| files(folder, has_comments));
    let silent = others.filter(|path| !opening_comment(&read(path)).is_some_and(is_sentence));
    let others = silent.map(|path| format!("{}:1: open with a comment that says what the file is for", path.display()));
    none(&rust.chain(others).collect::<Vec<_>>());
}

/// Whether a file is of a kind that can say what it is for.
fn has_comments(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().into_owned());
    !matches!(ending.as_deref(), Some("json" | "md" | "txt" | "shellcheckrc")) && !path.ends_with(".shellcheckrc")
}

/// The first line of a text that speaks to people: behind the interpreter and what is meant for checkers.
fn opening_comment(text: &str) -> Option<&str> {
    let mut lines = text.lines().skip_while(|line| line.starts_with("#!") || line.starts_with("# shellcheck"));
    let line = lines.next()?;
    // Shell and the like, Python, Lua.
    ["# ", "\"\"\"", "-- "].into_iter().find_map(|beginning| line.strip_prefix(beginning))
}

/// Whether a text begins like a sentence and not like a name.
fn is_sentence(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    line.split_whitespace().count() >= 3
}

#[test]
fn no_file_of_source_is_long() {
    let others = files("scripts", has_comments);
    let long = rust_files().into_iter().chain(others).filter_map(|path| {
        let lines = read(&path).lines().count();
        let too_long = lines > MOST_LINES;
        too_long
            .then(|| format!("{}:{lines}: has more than {MOST_LINES} lines; split it by its reasons to change", path.display()))
    });
    none(&long.collect::<Vec<_>>());
}

//! Which module names which: paths in the source against the table of ARCHITECTURE.md. Macros are read like all other
//! code; names that come by a glob or a trait's method are not seen, but the `use` that brings them is.

use std::collections::BTreeMap;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path as the crate's root would write it, and the line it stands in.
type Named = (Vec<String>, usize);

/// What each module may name beside itself. Keys and entries are modules without `crate::`; a key is the module and all
/// that is inside, but for what has a row of its own.
pub struct Table(BTreeMap<String, Vec<String>>);

impl Table {
    /// Reads the rows of the table under the heading "Imports".
    pub fn read(architecture: &str) -> Self {
        let section = architecture.split("\n## Imports\n").nth(1).expect("ARCHITECTURE.md has a section 'Imports'");
        let rows = section.split("\n## ").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
        let mut table = BTreeMap::new();
        for (modules, allowed) in rows {
            let quoted =
                |cell: &str| cell.split('`').filter(|name| name.starts_with(char::is_alphabetic)).map(str::to_owned).collect();
            let (modules, allowed): (Vec<String>, Vec<String>) = (quoted(modules), quoted(allowed));
            for module in modules {
                assert!(table.insert(module.clone(), allowed.clone()).is_none(), "two rows for {module}");
            }
        }
        assert!(table.len() > 10, "the table was not found: {table:?}");
        Self(table)
    }

    /// What is wrong with the imports of one file, given as its path below `src` and its text.
    pub fn violations(&self, file: &Path, text: &str) -> Vec<String> {
        let (row, module) = place(file);
        let stream: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut named = Vec::new();
        let own_crate = module.is_some();
        let module = module.unwrap_or_default();
        paths(stream, &module, own_crate, &mut named);
        let row = row.unwrap_or_else(|| self.row(&module).unwrap_or_else(|| module.join("::")));
        if row.is_empty() {
            return Vec::new();
        }
        let Some(allowed) = self.0.get(&row) else {
            return vec![format!(
                "src/{}:1: the module {row} has no row in the table of imports in ARCHITECTURE.md",
                file.display()
            )];
        };
        let mut violations = Vec::new();
        for (path, line) in named {
            let target = self.row(&path).unwrap_or_else(|| path.first().cloned().unwrap_or_default());
            if target != row && !target.is_empty() && !allowed.contains(&target) {
                let place = format!("src/{}:{line}", file.display());
                violations.push(format!("{place}: {row} may not use {target}; see the table of imports in ARCHITECTURE.md"));
            }
        }
        violations
    }

    /// The key that speaks for a path: the longest that it begins with.
    fn row(&self, path: &[String]) -> Option<String> {
        (1..=path.len()).rev().map(|length| path[..length].join("::")).find(|key| self.0.contains_key(key))
    }
}

/// The row of a program, which has a crate of its own; or the module of the library that a file is.
fn place(file: &Path) -> (Option<String>, Option<Vec<String>>) {
    let steps = file.with_extension("").iter().map(|step| step.to_string_lossy().into_owned()).collect::<Vec<_>>();
    match steps.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["main"] => (Some("main".to_owned()), None),
        ["bin", program, ..] => (Some(program.to_owned()), None),
        ["lib"] => (None, Some(Vec::new())),
        [.., "mod"] => (None, Some(steps[..steps.len() - 1].to_vec())),
        _ => (None, Some(steps)),
    }
}

/// Finds the paths that begin at the library's root, or go up from `module`.
fn paths(stream: TokenStream, module: &[String], own_crate: bool, found: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) = (tokens.get(at), tokens.get(at + 1)) {
                    paths(body.stream(), &[module, &[name.to_string()]].concat(), own_crate, found);
                    at += 2;
                }
            }
            TokenTree::Ident(word) if is_separator(&tokens, at) => {
                let start = match word.to_string().as_str() {
                    "crate" if own_crate => Vec::new(),
                    "mcp_manager" if !own_crate => Vec::new(),
                    "self" if own_crate => module.to_vec(),
                    "super" if own_crate => module[..module.len().saturating_sub(1)].to_vec(),
                    _ => continue,
                };
                at = follow(&tokens, at, start, word.span().start().line, found);
            }
            TokenTree::Group(group) => paths(group.stream(), module, own_crate, found),
            _ => {}
        }
    }
}

/// Follows a path whose next token is at `at`, through the groups of a `use` too; where it ends.
fn follow(tokens: &[TokenTree], mut at: usize, mut path: Vec<String>, line: usize, found: &mut Vec<Named>) -> usize {
    while is_separator(tokens, at) {
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(name)) if name == "super" => drop(path.pop()),
            Some(TokenTree::Ident(name)) => path.push(name.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for branch in inner.split(|token| matches!(token, TokenTree::Punct(sign) if sign.as_char() == ',')) {
                    let Some(TokenTree::Ident(name)) = branch.first() else { continue };
                    let mut path = path.clone();
                    if name != "self" {
                        path.push(name.to_string());
                    }
                    follow(branch, 1, path, name.span().start().line, found);
                }
                return at + 3;
            }
            _ => break,
        }
        at += 3;
    }
    found.push((path, line));
    at
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(sign)) if sign.as_char() == ':');
    is_colon(tokens.get(at)) && is_colon(tokens.get(at + 1))
}

#[test]
fn a_path_is_found_however_it_is_written() {
    let table = Table(BTreeMap::from([
        ("low".to_owned(), vec![]),
        ("high".to_owned(), vec!["low".to_owned()]),
        ("high::deep".to_owned(), vec![]),
    ]));
    let lines = |file: &str, text: &str| {
        let violations = table.violations(Path::new(file), text);
        violations.iter().map(|one| one.split(':').nth(1).unwrap().parse().unwrap()).collect::<Vec<usize>>()
    };
    let uses = "use crate::low;\nuse crate::{low::x,\n high};\nuse super::high::y;\nfn f() { g!(crate::high::z()) }\n\
        mod tests { use super::*; use super::super::high; mod inner { use super::super::f; } }\n// crate::high\n\"crate::high\"";
    assert_eq!(lines("low.rs", uses), [3, 4, 5, 6]);
    assert_eq!(lines("high/mod.rs", "use self::deep::x;\nuse crate::low;\nuse super::low;\npub(in super::super) fn f() {}"), [1]);
    assert_eq!(lines("high/deep/other.rs", "use super::f;\nuse super::super::g;\nuse super::super::{h, deep};"), [2, 3]);
    assert_eq!(lines("other.rs", "fn f() {}"), [1], "no row");
}

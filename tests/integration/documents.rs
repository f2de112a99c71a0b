//! Claims about the documents of the repository: what the product has is in them, and their links lead somewhere.
//! Whether their sentences are true is for people to check.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mcp_manager::domain::status::Phase;
use mcp_manager::domain::template::{Template, json_schema};
use mcp_manager::error::Kind;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The things in `wanted` for which `document` has none of their spellings.
fn missing<T: AsRef<str>>(document: &str, wanted: impl IntoIterator<Item = T>) -> Vec<String> {
    let text = read(document);
    let wanted: Vec<String> = wanted.into_iter().map(|one| one.as_ref().to_owned()).collect();
    assert!(!wanted.is_empty(), "nothing to look for in {document}");
    wanted.into_iter().filter(|one| !text.contains(one.as_str())).collect()
}

/// The first cells of all rows of all tables of a document.
fn first_cells(document: &str) -> BTreeSet<String> {
    let text = read(document);
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    rows.map(|(cell, _)| cell.to_owned()).collect()
}

fn properties(schema: &Value) -> impl Iterator<Item = &String> {
    schema["properties"].as_object().unwrap().keys()
}

#[test]
fn every_endpoint_is_described() {
    let document = mcp_manager::rest::openapi_document(false);
    let paths = document["paths"].as_object().unwrap();
    // Tools have a document of their own.
    let paths = paths.iter().filter(|(path, _)| !path.starts_with("/tools/"));
    let each = paths.flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| format!("`{} {path}`", method.to_uppercase()))
    });
    assert_eq!(missing("docs/api.md", each), Vec::<String>::new());
}

#[test]
fn the_document_of_the_tools_says_what_the_table_says() {
    let text = read("docs/tools.md");
    let (_, written) = text.split_once("<!-- From here on: mcp-manager reference tools -->\n\n").expect("the mark");
    assert_eq!(written, mcp_manager::tools::markdown(), "write it again with: mcp-manager reference tools");
}

#[test]
fn every_problem_is_described_with_its_status() {
    let text = read("docs/api.md");
    for kind in Kind::ALL {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{}` |", kind.slug())));
        let row = row.unwrap_or_else(|| panic!("no row for {}", kind.slug()));
        let status = format!("| {}", mcp_manager::problem::status(kind).as_u16());
        assert!(row.contains(&status), "{row}: not {status}");
    }
}

#[test]
fn every_status_of_a_service_is_described() {
    assert_eq!(missing("docs/api.md", Phase::ALL.map(|phase| format!("`{}`", phase.as_str()))), Vec::<String>::new());
}

#[test]
fn every_field_of_a_template_is_described() {
    let schema = json_schema();
    let cells = first_cells("docs/templates.md").into_iter().collect::<Vec<_>>().join(" ");
    // What is nested is described under its full name.
    let health = properties(&schema["$defs"]["HealthCheckInput"]).filter(|name| *name != "cmd");
    let nested = health.map(|name| format!("`health_check.{name}`"));
    let flat = properties(&schema).filter(|name| *name != "health_check").map(|name| format!("`{name}`"));
    let missing: Vec<String> = flat.chain(nested).filter(|name| !cells.contains(name.as_str())).collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_metric_is_described_and_no_other() {
    let source = read("src/telemetry/metrics.rs");
    // Each metric is made under its name without the prefix, on the same line or the next.
    let made = source.split("make.").skip(1).filter_map(|made| {
        let (kind, rest) = made.split_once('(')?;
        let is_maker = ["counter", "counters", "gauge", "gauges", "histograms"].contains(&kind);
        is_maker.then(|| rest.split('"').nth(1)).flatten()
    });
    let made: BTreeSet<String> = made.map(|name| format!("`mcp_manager_{name}`")).collect();
    assert!(made.len() > 15, "{made:?}");
    let described = first_cells("docs/metrics.md").into_iter().filter(|cell| cell.starts_with('`')).collect();
    assert_eq!(made, described);
}

#[test]
fn every_shipped_template_is_in_the_readme_and_this_version_in_the_changelog() {
    let files = std::fs::read_dir(root().join("templates")).unwrap().map(|entry| entry.unwrap().path());
    let names = files.filter_map(|path| path.file_stem().map(|stem| format!("`{}`", stem.to_string_lossy())));
    assert_eq!(missing("README.md", names), Vec::<String>::new());
    assert_eq!(missing("CHANGELOG.md", [env!("CARGO_PKG_VERSION")]), Vec::<String>::new());
    let recipe = std::fs::read_to_string(root().join("docker/Dockerfile")).unwrap();
    let versions: Vec<&str> = recipe.lines().filter_map(|line| line.strip_prefix("ARG VERSION=")).collect();
    assert!(!versions.is_empty() && versions.iter().all(|version| *version == env!("CARGO_PKG_VERSION")), "{versions:?}");
}

#[test]
fn every_example_in_json_is_valid_and_so_are_the_templates_among_them() {
    let (mut templates, mut examples) = (0, 0);
    for file in markdown(root()) {
        let text = std::fs::read_to_string(&file).unwrap();
        for block in text.split("```json\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block) {
            let example: Value =
                serde_json::from_str(block).unwrap_or_else(|error| panic!("{}: {error} in {block}", file.display()));
            examples += 1;
            if example.get("image").is_some() && example.get("name").is_some() {
                Template::from_document(&example, None).unwrap_or_else(|errors| panic!("{}: {errors:?}", file.display()));
                templates += 1;
            }
        }
    }
    assert!(templates >= 2 && examples > templates, "only {templates} templates among {examples} examples were found");
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for file in markdown(root()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let folder = file.parent().unwrap();
        for target in links(&text).filter(|target| !target.contains("://")) {
            seen += 1;
            let (path, heading) = target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
            let to = if path.is_empty() { file.clone() } else { folder.join(path) };
            let found =
                to.exists() && heading.is_none_or(|heading| headings(&std::fs::read_to_string(&to).unwrap()).contains(heading));
            if !found {
                broken.push(format!("{}: {target}", file.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(seen > 20, "only {seen} links were found");
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn every_path_named_in_a_document_exists() {
    let folders =
        ["src", "tests", "examples", "fuzz", "scripts", "docs", "docker", "templates", "traefik", "k8s", ".ci", ".cargo"];
    let (mut missing, mut seen) = (Vec::new(), 0);
    for file in markdown(root()) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            // Words of code and of commands; what stands for something else is written in capitals or with a star.
            let words = line.split(|sign: char| sign.is_whitespace() || "`()[]{}<>|\"',;=:#…*".contains(sign));
            let words = words.map(|word| word.trim_start_matches("./").trim_end_matches(['.', '/', '!', '?']));
            let paths = words
                .filter(|word| word.split_once('/').is_some_and(|(folder, rest)| folders.contains(&folder) && !rest.is_empty()));
            for path in paths.filter(|path| !stands_for_many(line, path)) {
                seen += 1;
                if !root().join(path).exists() {
                    missing.push(format!("{}:{}: {path}", file.strip_prefix(root()).unwrap().display(), number + 1));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} paths were found");
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_manifests_carry_the_shipped_templates() {
    let written = read("k8s/base/templates.yaml");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root().join("templates")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        // Some are different in a cluster.
        let own = root().join("k8s/templates").join(name);
        let text = std::fs::read_to_string(if own.exists() { &own } else { file }).unwrap();
        let lines: String =
            text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") }).collect();
        assert!(written.contains(&format!("  {name}: |\n{lines}")), "{name} differs; the file's head says how it is written");
    }
    assert_eq!(written.matches(".json: |").count(), files.len());
    // The chart reads them where they are.
    for (link, folder) in [("files", "templates"), ("cluster", "k8s/templates")] {
        let linked = root().join("k8s/helm/mcp-manager").join(link).canonicalize().unwrap();
        assert_eq!(linked, root().join(folder).canonicalize().unwrap());
    }
}

#[test]
fn the_chart_grants_what_the_manifests_grant_and_every_right_is_explained() {
    let rules = |path: &str| -> Vec<String> {
        let text = read(path);
        // What only some clusters ask for stands under a condition.
        let text = text
            .split("{{- if ")
            .enumerate()
            .map(|(index, part)| if index == 0 { part } else { part.split_once("{{- end }}").unwrap().1 });
        let lines: String = text.collect();
        let of_rules =
            |line: &&str| ["- apiGroups:", "resources:", "verbs:"].iter().any(|key| line.trim_start().starts_with(key));
        lines.lines().filter(of_rules).map(|line| line.trim().to_owned()).collect()
    };
    let granted = rules("k8s/base/rbac.yaml");
    assert!(granted.len() > 20, "{granted:?}");
    assert_eq!(rules("k8s/helm/mcp-manager/templates/rbac.yaml"), granted);
    let list = |line: &str| line.split(['[', ']', ',']).skip(1).map(|word| word.trim().to_owned()).collect::<Vec<_>>();
    let document = read("k8s/README.md");
    for rule in granted.chunks(3) {
        let verbs = list(&rule[2]);
        for resource in list(&rule[1]).into_iter().filter(|resource| !resource.is_empty()) {
            let group = if rule[0].contains("metrics") { " of `metrics.k8s.io`" } else { "" };
            let explained = |line: &&str| {
                let cells: Vec<&str> = line.split('|').collect();
                let names = cells.get(1).is_some_and(|cell| cell.contains(&format!("`{resource}`{group}")));
                names
                    && cells
                        .get(2)
                        .is_some_and(|cell| verbs.iter().filter(|verb| !verb.is_empty()).all(|verb| cell.contains(verb)))
            };
            assert!(document.lines().any(|line| explained(&line)), "{resource}: {verbs:?} are not in k8s/README.md");
        }
    }
}

#[test]
fn every_reason_of_a_cluster_is_described_with_the_tests_that_bring_it_about() {
    let text = read("k8s/README.md");
    let (_, table) = text.split_once("| reason |").expect("the table of reasons");
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    // A row may be about several.
    let described = rows.iter().flat_map(|cells| cells[0].split('`').skip(1).step_by(2));
    let described: BTreeSet<&str> = described.filter(|code| !code.ends_with('…')).collect();
    assert_eq!(described, BTreeSet::from(mcp_manager::backend::kubernetes::REASONS));
    let folders = ["tests/integration/cluster", "tests/integration/contract", "src/backend/kubernetes"];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(root().join(folder)).unwrap());
    let paths = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let tests: String = paths.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for cells in rows {
        let named: Vec<&str> = cells[cells.len() - 1].split('`').skip(1).step_by(2).collect();
        let unknown: Vec<_> = named.iter().filter(|name| !tests.contains(&format!("fn {name}("))).collect();
        assert!(!named.is_empty() && unknown.is_empty(), "{cells:?} names {unknown:?}");
    }
}

/// Whether a path has a place for a name (`docker/NAME/Dockerfile`, `templates/*.json`).
fn stands_for_many(line: &str, path: &str) -> bool {
    let is_placeholder = |part: &str| part.len() > 1 && part.chars().all(|sign| sign.is_ascii_uppercase() || sign == '_');
    let goes_on = |sign: &str| line.contains(&format!("{path}{sign}")) || line.contains(&format!("{path}/{sign}"));
    path.split(['/', '.', '@']).any(is_placeholder) || ["{", "<", "*", "…"].into_iter().any(goes_on)
}

/// Every Markdown file below `folder`, but for what builds and tools leave there.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
            found.extend(markdown(&path));
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
    found
}

/// The text without its fenced blocks, whose contents are no Markdown.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// The names by which headings are linked: lower case, spaces as dashes, without other signs.
fn headings(text: &str) -> BTreeSet<String> {
    let lines = prose(text).filter_map(|line| line.strip_prefix('#'));
    let anchor = |line: &str| {
        let plain = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        plain.chars().filter(|sign| sign.is_alphanumeric() || "-_".contains(*sign)).collect::<String>()
    };
    lines.map(anchor).collect()
}

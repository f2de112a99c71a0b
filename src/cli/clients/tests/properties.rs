//! Claims about texts of every format that nobody thought of: everything that others wrote survives.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::super::file::ClientFile;
use super::{client, entries, steps};

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
        prop::sample::select(vec![
            "1",
            "-2.50e3",
            "true",
            "null",
            "\"\"",
            "\"// no\"",
            "\"\\u00e9\\n}\"",
            "\"é😀\"",
            "\"\\ud800 \\uD83D\\uDE00\""
        ])
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
    let file = ClientFile::new(client, Path::new("unused"));
    let form = file.form_of(text).unwrap();
    let (format, section) = (form.format, form.section);
    let added = entries(form, &["one", "two"]);
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
    fn files_with_servers_in_two_forms_keep_what_others_wrote(text in json_text()) {
        holds("opencode", &format!("{{\"mcp\": {}}}", text.replace("mcpServers", "servers")))?;
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

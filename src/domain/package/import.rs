//! Servers that people have already: the `mcpServers` of a client's file, read into what each would be here. Nothing is
//! built or started by this; what cannot be taken over is said with its reason.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Package, Source, label};
use crate::domain::secret::{self, is_secret, is_switch, looks_secret};
use crate::domain::spec::{REDACTED, Transport};
use crate::error::FieldError;

/// A server that can be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Name of its template and service.
    pub name: String,
    /// One sentence for people.
    pub description: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// The package's program, when another than its own is started.
    pub program: Option<String>,
    /// Arguments.
    pub arguments: Vec<String>,
    /// How clients talk to it.
    pub transport: Transport,
    /// Port on which it listens, where it does.
    pub port: Option<u16>,
    /// Its path there, where it is another than the usual one.
    pub path: Option<String>,
    /// Variables with values.
    pub environment: BTreeMap<String, String>,
    /// Variables that hold secrets, and their values where the file says them.
    pub secrets: BTreeMap<String, Option<String>>,
    /// Variables that each service has to be given.
    pub required: Vec<String>,
    /// What is not taken over of it.
    pub notes: Vec<String>,
}

/// What a file holds: servers that can be taken over, and why others cannot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// Servers that can be taken over.
    pub servers: Vec<Imported>,
    /// Names of others, with the reason.
    pub left_out: Vec<(String, String)>,
}

impl Imported {
    /// A server without anything but its source.
    #[must_use]
    pub fn of(name: &str, source: Source) -> Self {
        Self {
            name: label(name),
            description: None,
            source,
            program: None,
            arguments: Vec::new(),
            transport: Transport::Stdio,
            port: None,
            path: None,
            environment: BTreeMap::new(),
            secrets: BTreeMap::new(),
            required: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Takes a variable over: as a secret when its name or the document says that it is one, as something to be given when
    /// its value stands elsewhere.
    pub fn variable(&mut self, name: &str, value: Option<&str>, secret: bool) {
        // It may have been there with less said of it.
        self.required.retain(|required| required != name);
        self.environment.remove(name);
        self.secrets.remove(name);
        let is_secret = (is_secret(name) && !value.is_some_and(is_switch)) || value.is_some_and(looks_secret);
        let value = value.filter(|value| !is_placeholder(value));
        if secret || is_secret {
            self.secrets.insert(name.to_owned(), value.map(str::to_owned));
        } else if let Some(value) = value {
            self.environment.insert(name.to_owned(), value.to_owned());
        } else {
            self.required.push(name.to_owned());
        }
    }

    /// Variables whose values nothing says.
    fn without_value(&self) -> Vec<String> {
        let secrets = self.secrets.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name);
        self.required.iter().chain(secrets).cloned().collect()
    }
}

/// The name under which a variable's secret is kept for a template.
#[must_use]
pub fn secret_name(template: &str, variable: &str) -> String {
    format!("{template}-{}", label(variable))
}

/// Reads the servers of a client's file: under `mcpServers`, `servers`, `context_servers`, `mcp`, or nothing.
pub fn clients_file(document: &Value) -> Result<Import, Vec<FieldError>> {
    let wrong = |message: &str| vec![FieldError::new("", message, "write {\"mcpServers\": {\"NAME\": {\"command\": …}}}")];
    let Value::Object(document) = document else { return Err(wrong("is not a JSON object")) };
    let keys = ["mcpServers", "servers", "context_servers", "amp.mcpServers", "mcp"];
    let servers = match keys.iter().find_map(|key| document.get(*key)) {
        Some(Value::Object(servers)) => servers,
        // A server may have such a name; one alone that is none is a mistake.
        Some(_) if document.len() == 1 => return Err(wrong("holds no servers")),
        _ => document,
    };
    let mut import = Import::default();
    for (name, entry) in servers {
        match entry.as_object().map_or_else(|| Err("it is no object".to_owned()), |entry| server(name, entry)) {
            // What is of one would be taken for the other's.
            Ok(server) if import.servers.iter().any(|other| other.name == server.name) => {
                let reason = format!("there is another in this file that is '{}' here; rename one of them there", server.name);
                import.left_out.push((name.clone(), reason));
            }
            Ok(server) => import.servers.push(server),
            Err(reason) => import.left_out.push((name.clone(), reason)),
        }
    }
    if import.servers.is_empty() && import.left_out.is_empty() {
        return Err(wrong("holds no servers"));
    }
    Ok(import)
}

fn server(name: &str, entry: &Map<String, Value>) -> Result<Imported, String> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let says = |name: &str, value: bool| entry.get(name) == Some(&Value::Bool(value));
    if says("disabled", true) || says("enabled", false) {
        return Err("it is turned off there".to_owned());
    }
    if let Some(url) = ["url", "serverUrl", "httpUrl", "uri"].iter().find_map(|name| text(name)) {
        return Err(format!("it runs elsewhere, at {url}"));
    }
    let (command, mut words) = match entry.get("command") {
        Some(Value::String(command)) => (command.clone(), texts(entry.get("args"))),
        Some(list @ Value::Array(_)) => {
            let mut words = texts(Some(list));
            if words.is_empty() {
                return Err("it names no command".to_owned());
            }
            (words.remove(0), words)
        }
        _ => return Err("it names no command".to_owned()),
    };
    // `cmd /c npx …` is how it is written on Windows.
    let mut program = file_name(&command).to_owned();
    if program == "cmd" && words.first().is_some_and(|word| word.eq_ignore_ascii_case("/c")) && words.len() > 1 {
        file_name(&words[1]).clone_into(&mut program);
        words.drain(..2);
    }
    let mut server = match program.as_str() {
        "npx" | "bunx" | "pnpx" => runner(name, "npm", &words, &["-p", "--package"], &["-y", "--yes", "-q", "--quiet"])?,
        "uvx" | "pipx" => runner(name, "pypi", &words, &["--from", "--spec"], &["run", "-q", "--quiet"])?,
        "uv" if words.starts_with(&["tool".to_owned(), "run".to_owned()]) => {
            runner(name, "pypi", &words[2..], &["--from"], &["-q"])?
        }
        "docker" | "podman" => container(name, &words)?,
        other => return Err(format!("it starts '{other}', which is a program of this machine and not a package")),
    };
    let unsaid = server.without_value();
    for (variable, value) in ["env", "environment", "envs"].iter().filter_map(|name| entry.get(*name)?.as_object()).flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        server.variable(variable, Some(&value), false);
    }
    for variable in server.without_value().into_iter().filter(|variable| unsaid.contains(variable)) {
        server.notes.push(format!("{variable} came from where the client ran; give it to the service"));
    }
    if let Some(word) = secret_argument(&server.arguments) {
        return Err(format!(
            "its argument '{word}' holds a secret, and arguments stand in templates for everybody to read; give it \
                            by a variable, where the server reads one"
        ));
    }
    // Of an image's arguments, paths are those in it.
    let of_machine = |word: &str| matches!(server.source, Source::Package(_)) && is_path_of_machine(word);
    let meant_there = server.arguments.iter().filter(|word| is_placeholder(word) || of_machine(word));
    let notes =
        meant_there.map(|word| format!("its argument '{word}' was meant for where the client ran; correct it in the template"));
    let notes: Vec<String> = notes.collect();
    server.notes.extend(notes);
    Ok(server)
}

/// What `npx`, `uvx` and their like are told.
fn runner(name: &str, kind: &str, words: &[String], named: &[&str], ignored: &[&str]) -> Result<Imported, String> {
    let mut package = None;
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.peek().copied().filter(|word| word.starts_with('-') || ignored.contains(word)) {
        words.next();
        let (flag, value) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
        if named.contains(&flag) {
            package = value.or_else(|| words.next());
        } else if !ignored.contains(&word) {
            return Err(format!("it is started with '{word}', which has no meaning here"));
        }
    }
    let first = words.next().ok_or("it names no package")?;
    let (package, program) = match package {
        Some(package) => (package, Some(first.to_owned())),
        None => (first, None),
    };
    let source: Source = format!("{kind}:{package}").parse().map_err(|error: crate::error::Error| error.detail)?;
    let program = program.filter(|program| !matches!(&source, Source::Package(Package { name, .. }) if name == program));
    Ok(Imported { program, arguments: words.map(str::to_owned).collect(), ..Imported::of(name, source) })
}

/// What `docker run` is told.
fn container(name: &str, words: &[String]) -> Result<Imported, String> {
    let mut words = words.iter().map(String::as_str);
    if words.next() != Some("run") {
        return Err("it starts a container engine for something else than 'run'".to_owned());
    }
    let (mut variables, mut notes) = (Vec::new(), Vec::new());
    let image = loop {
        let word = words.next().ok_or("it names no image")?;
        let (flag, value) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
        let mut value = || value.or_else(|| words.next()).ok_or("it ends within an option");
        match flag {
            "-i" | "--interactive" | "--rm" | "--init" | "-t" | "--tty" | "-it" | "-d" => {}
            "-e" | "--env" => variables.push(value()?),
            "--name" | "--pull" | "--platform" => {
                value()?;
            }
            "-v" | "--volume" | "--mount" | "--network" | "--net" | "-p" | "--publish" | "-u" | "--user" | "-w" | "--workdir" => {
                notes.push(format!("{flag} {} is left out; add it to the template where it is meant", value()?));
            }
            flag if flag.starts_with('-') => return Err(format!("it is started with '{flag}', which has no meaning here")),
            image => break image,
        }
    };
    let source: Source = format!("image:{image}").parse().map_err(|error: crate::error::Error| error.detail)?;
    let mut server = Imported { arguments: words.map(str::to_owned).collect(), notes, ..Imported::of(name, source) };
    for variable in variables {
        // Without a value, it stands in `env`, which comes after this, or in the client's environment.
        match variable.split_once('=') {
            Some((name, value)) => server.variable(name, Some(value), false),
            None => server.variable(variable, None, false),
        }
    }
    Ok(server)
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let texts = list.and_then(Value::as_array).into_iter().flatten();
    texts.map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)).collect()
}

fn file_name(command: &str) -> &str {
    let name = command.rsplit(['/', '\\']).next().unwrap_or(command);
    name.trim_end_matches(".exe").trim_end_matches(".cmd")
}

/// Whether a value stands for one that the client knew: `${input:x}` and `${env:X}` anywhere, or `$X` alone.
fn is_placeholder(value: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    value.split_once("${").is_some_and(|(_, rest)| rest.contains('}')) || value.strip_prefix('$').is_some_and(is_name)
}

/// Whether an argument names a file by its whole path: `/home/me/x`, `~/x`, `C:\x`, also behind `--option=`.
fn is_path_of_machine(word: &str) -> bool {
    let path = word.split_once('=').filter(|(option, _)| option.starts_with('-')).map_or(word, |(_, value)| value);
    let drive = || path.get(1..3).is_some_and(|rest| rest == ":\\" || rest == ":/") && path.as_bytes()[0].is_ascii_alphabetic();
    path.starts_with('/') || path.starts_with("~/") || drive()
}

/// The argument that holds a secret: `--token VALUE`, `--api-key=VALUE`, or a value that says so itself. Not its value.
fn secret_argument(words: &[String]) -> Option<String> {
    let shown = secret::arguments(words);
    words.iter().zip(&shown).enumerate().find_map(|(index, (word, shown))| {
        let value = word.split_once('=').map_or(word.as_str(), |(_, value)| value);
        match shown.as_str() {
            REDACTED => Some(words[index.checked_sub(1)?].clone()),
            shown if shown != word => Some(shown.to_owned()),
            _ => looks_secret(value).then(|| "(a value)".to_owned()),
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Any JSON, with the names that matter here among its names.
    pub(in super::super) fn any_json() -> impl Strategy<Value = Value> {
        let names = "mcpServers|command|args|env|url|name|packages|registryType|identifier|version|transport|type|value|server|[a-z]{1,4}";
        let texts = prop_oneof!["\\PC{0,12}", "npx|uvx|docker|run|-y|-e|--from|npm|pypi|oci|stdio|named|positional"];
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
    }
}

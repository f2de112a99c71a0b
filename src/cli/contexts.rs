//! Contexts: managers that are known by a name, with the file of the key for each, so that commands need not name address
//! and key again and again. What is known is one file of the user's; keys themselves are not in it.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::arguments::{Common, DEFAULT_SERVER};
use super::client::Client;
use super::exit::Outcome;
use super::output::{Output, Value};
use crate::config::{Directories, Environment};
use crate::error::{Error, Kind, Result};
use crate::whole_file;

/// The manager of this machine; there without being recorded.
const DEFAULT: &str = "default";
const NAME_REMEDY: &str = "use 1 to 63 letters, digits, '-', '_' and '.', and begin with a letter or digit";

#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List contexts.
    Ls,
    /// Show a context; the one in use when none is named.
    Show {
        /// Name of the context.
        name: Option<String>,
    },
    /// Remember --server, --api-key-file and --ca-file under a name; of a known one those change that are given.
    Set {
        /// Name of the context.
        name: String,
        /// Use it from now on.
        #[arg(long = "use")]
        uses: bool,
    },
    /// Let commands ask this manager from now on; 'default' is the one of this machine.
    Use {
        /// Name of the context.
        name: String,
    },
    /// Forget contexts. Managers and keys are left as they are.
    Rm {
        /// Names of contexts.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// One manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
}

/// What the file says.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

impl Context {
    fn of_this_machine() -> Self {
        Self { server: DEFAULT_SERVER.to_owned(), api_key_file: None, ca_file: None }
    }
}

impl Known {
    fn read(file: &Path) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(Kind::Invalid, format!("{} {why}", file.display()))
                .remedy("correct it, or delete it and make contexts anew with 'mcp-manager context set'")
        };
        match std::fs::read_to_string(file) {
            Ok(text) => toml::from_str(&text).map_err(|error| wrong(format!("is not understood: {error}"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(wrong(format!("cannot be read: {error}"))),
        }
    }

    fn write(&self, file: &Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|error| Error::internal("contexts cannot be written", error))?;
        let made = whole_file::make_folder_of(file);
        made.and_then(|()| whole_file::write(file, text.as_bytes(), Some(Permissions::from_mode(0o600)))).map_err(|error| {
            Error::new(Kind::Invalid, format!("{} cannot be written: {error}", file.display()))
                .remedy("make its folder writable, or set XDG_CONFIG_HOME to another one")
        })
    }

    fn current(&self) -> &str {
        self.current.as_deref().unwrap_or(DEFAULT)
    }

    fn get(&self, name: &str) -> Result<Context> {
        match self.contexts.get(name) {
            Some(context) => Ok(context.clone()),
            None if name == DEFAULT => Ok(Context::of_this_machine()),
            None => Err(self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let names = self.contexts.keys().map(String::as_str).chain([DEFAULT]);
        let error = Error::not_found("context", name, names);
        match error.remedy {
            Some(_) => error,
            None => error.remedy("'mcp-manager context ls' lists those that there are"),
        }
    }

    /// A context as results show it.
    fn document(&self, name: &str, context: &Context) -> Json {
        json!({
            "name": name,
            "current": name == self.current(),
            "server": context.server,
            "api_key_file": context.api_key_file,
            "ca_file": context.ca_file,
        })
    }
}

/// The options with the address, and what belongs to it, of the context that is meant. Who names an address gets nothing of
/// any context: a key is for the manager that it was made for.
pub fn resolve(common: &Common, environment: &Environment) -> Result<Common> {
    if common.server.is_some() {
        if common.context.is_some() {
            let remedy = "give one of --server and --context; MCP_MANAGER_SERVER and MCP_MANAGER_CONTEXT count as given";
            return Err(Error::invalid_field("--context", "is given, and so is --server", remedy));
        }
        return Ok(common.clone());
    }
    let Some(file) = file(environment) else { return Ok(common.clone()) };
    let known = Known::read(&file)?;
    let name = common.context.as_deref().unwrap_or(known.current());
    let context = known.get(name).map_err(|error| match common.context {
        Some(_) => error,
        None => error.remedy("choose another one with 'mcp-manager context use'"),
    })?;
    Ok(Common {
        server: Some(context.server),
        api_key_file: common.api_key_file.clone().or(context.api_key_file),
        ca_file: common.ca_file.clone().or(context.ca_file),
        ..common.clone()
    })
}

/// `mcp-manager context`.
pub fn command(output: &Output, common: &Common, command: &ContextCommand, environment: &Environment) -> Outcome {
    let remedy = "set HOME or XDG_CONFIG_HOME";
    let file = file(environment).ok_or_else(|| Error::new(Kind::NotSupported, "you have no home").remedy(remedy))?;
    let mut known = Known::read(&file)?;
    match command {
        ContextCommand::Ls => list(output, &known),
        ContextCommand::Show { name } => {
            let name = name.as_deref().unwrap_or(known.current());
            show(output, &known, name)
        }
        ContextCommand::Set { name, uses } => {
            let context = given(common, known.contexts.get(name))?;
            name_check(name)?;
            // Says what is wrong with the address, the key and the certificates.
            Client::new(&Common {
                server: Some(context.server.clone()),
                api_key_file: context.api_key_file.clone(),
                ca_file: context.ca_file.clone(),
                ..common.clone()
            })?;
            if common.api_key.is_some() && context.api_key_file.is_none() {
                output.note("the key itself is not remembered; name the file that holds it with --api-key-file");
            }
            known.contexts.insert(name.clone(), context);
            if *uses {
                known.current = Some(name.clone());
            }
            known.write(&file)?;
            show(output, &known, name)
        }
        ContextCommand::Use { name } => {
            known.get(name)?;
            known.current = (name != DEFAULT).then(|| name.clone());
            known.write(&file)?;
            show(output, &known, name)
        }
        ContextCommand::Rm { names } => {
            for name in names {
                known.contexts.remove(name).ok_or_else(|| known.unknown(name))?;
            }
            if names.iter().any(|name| name == known.current()) {
                known.current = None;
                output.note(&format!("commands ask {DEFAULT_SERVER} again"));
            }
            known.write(&file)?;
            if output.json { output.document(&json!({"removed": names})) } else { Ok(()) }
        }
    }
}

/// Where contexts are recorded.
fn file(environment: &Environment) -> Option<PathBuf> {
    Directories::new(environment, PathBuf::new(), "/".as_ref()).contexts_file()
}

fn name_check(name: &str) -> Result<()> {
    let usable = name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
    if !usable {
        return Err(Error::invalid_field("NAME", format!("'{}' cannot name a context", name.escape_debug()), NAME_REMEDY));
    }
    if name == DEFAULT {
        let remedy = "choose another name";
        return Err(Error::invalid_field("NAME", format!("'{DEFAULT}' is the manager of this machine"), remedy));
    }
    Ok(())
}

/// A context of what the options say, and for the rest of what is known already.
fn given(common: &Common, known: Option<&Context>) -> Result<Context> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let server = common.server.clone().or_else(|| known.map(|known| known.server.clone()));
    let missing = || Error::invalid_field("--server", "is missing", "name the manager's address: --server https://HOST");
    Ok(Context {
        server: server.ok_or_else(missing)?,
        api_key_file: common.api_key_file.as_ref().map(absolute).or_else(|| known?.api_key_file.clone()),
        ca_file: common.ca_file.as_ref().map(absolute).or_else(|| known?.ca_file.clone()),
    })
}

fn list(output: &Output, known: &Known) -> Outcome {
    let machine = (DEFAULT.to_owned(), Context::of_this_machine());
    let all: Vec<(String, Context)> = std::iter::once(machine).chain(known.contexts.clone()).collect();
    if output.json {
        return output.document(&all.iter().map(|(name, context)| known.document(name, context)).collect::<Vec<_>>());
    }
    if output.quiet {
        return all.iter().try_for_each(|(name, _)| output.text(name));
    }
    let shown = |path: &Option<PathBuf>| Value::plain(path.as_ref().map(|path| path.display().to_string()).unwrap_or_default());
    let rows = all.iter().map(|(name, context)| {
        let mark = if name == known.current() { "*" } else { "" };
        let files = [shown(&context.api_key_file), shown(&context.ca_file)];
        [Value::plain(mark), Value::plain(name), Value::plain(&context.server)].into_iter().chain(files).collect()
    });
    output.table(&["", "NAME", "SERVER", "KEY FILE", "CA FILE"], rows.collect())
}

fn show(output: &Output, known: &Known, name: &str) -> Outcome {
    let context = known.get(name)?;
    if output.json {
        return output.document(&known.document(name, &context));
    }
    let mut pairs = vec![("name", name.to_owned()), ("server", context.server)];
    let files = [("key file", context.api_key_file), ("CA file", context.ca_file)];
    pairs.extend(files.into_iter().filter_map(|(what, path)| Some((what, path?.display().to_string()))));
    pairs.push(("in use", if name == known.current() { "yes" } else { "no" }.to_owned()));
    output.pairs(&pairs)
}

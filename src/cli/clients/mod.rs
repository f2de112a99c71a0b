//! `mcp-manager client`: writes this manager's servers into the files of MCP clients, and takes them out again.
//!
//! [`table`] says where each client keeps its servers and how it writes one; everything else is the same for all of them.
//! [`place`] finds the file, [`form`] makes the entry, [`mod@format`] changes the text, [`mod@file`] the file. [`mod@relay`] is what
//! clients start that know no servers but programs. The manager decides nothing here, and a client is never started.

pub mod arguments;
mod file;
mod form;
mod format;
mod json;
mod node;
mod place;
mod relay;
mod select;
mod table;
mod toml;
mod yaml;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde_json::json;

use super::arguments::Common;
use super::exit::Outcome;
use super::output::{Judgement, Output, Value};
use crate::config::Environment;
use crate::error::Error;
use arguments::{ClientChange, ClientCommand, ClientEntries, ClientRemoval};
use file::{Change, ClientFile};
use form::Client;
use node::Node;
use place::Machine;
use table::clients;

pub use relay::relay;

/// `mcp-manager client …`, but `client relay`.
pub async fn command(output: &Output, common: &Common, command: &ClientCommand, environment: &Environment) -> Outcome {
    let machine = Machine::this(environment);
    match command {
        ClientCommand::List => list(output, common, &machine),
        ClientCommand::Config(entries) => config(output, common, &machine, entries).await,
        ClientCommand::Connect(change) => connect(output, common, &machine, change).await,
        ClientCommand::Disconnect(removal) => disconnect(output, common, &machine, removal),
        ClientCommand::Relay { .. } => Ok(()),
    }
}

/// The client called `name`.
fn find(name: &str) -> Result<&'static Client, Error> {
    clients()
        .find(|client| client.name == name)
        .ok_or_else(|| Error::not_found("client", name, clients().map(|client| client.name)))
}

/// Where the client's file is, as the user or the table says.
fn file_of(machine: &Machine<'_>, client: &'static Client, named: Option<&PathBuf>) -> Result<ClientFile<'static>, Error> {
    let path = named
        .cloned()
        .or_else(|| machine.file(client))
        .ok_or_else(|| Error::invalid_field("--file", "is needed, since HOME does not say where the file is", "name the file"))?;
    Ok(ClientFile::new(client, &path))
}

/// `mcp-manager client list`.
fn list(output: &Output, common: &Common, machine: &Machine<'_>) -> Outcome {
    let ours = select::ours(common);
    let mut documents = Vec::new();
    let mut rows = Vec::new();
    for client in clients() {
        let found = machine.evidence(client).map(|path| machine.shown(&path));
        let file = machine.file(client);
        let entries = file.as_ref().map(|path| ClientFile::new(client, path).entries());
        let (connected, trouble) = match entries {
            Some(Ok(entries)) => (names_of(entries, &ours), None),
            Some(Err(error)) => (Vec::new(), Some(error.detail)),
            None => (Vec::new(), None),
        };
        let shown = file.map(|path| machine.shown(&path)).unwrap_or_default();
        if output.quiet && !output.json {
            if found.is_some() {
                output.text(client.name)?;
            }
            continue;
        }
        documents.push(json!({
            "client": client.name, "title": client.title, "installed": found.is_some(), "found": found, "file": shown,
            "connected": connected, "error": trouble, "sources": client.sources,
            "unknown": Some(client.unknown).filter(|unknown| !unknown.is_empty()),
        }));
        rows.push(vec![
            Value::plain(client.name),
            Value::plain(client.title),
            found.map(|found| Value::judged(found, Judgement::Good)).unwrap_or_default(),
            trouble.map_or_else(|| Value::plain(connected.join(", ")), |trouble| Value::judged(trouble, Judgement::Bad)),
            Value::plain(shown),
        ]);
    }
    if output.json {
        return output.document(&documents);
    }
    if output.quiet { Ok(()) } else { output.table(&["CLIENT", "NAME", "FOUND", "CONNECTED", "FILE"], rows) }
}

fn names_of(entries: Vec<(String, Node)>, ours: &impl Fn(&Node) -> bool) -> Vec<String> {
    let mut names = Vec::new();
    for (name, _) in entries.into_iter().filter(|(_, node)| ours(node)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// `mcp-manager client config`: what `connect` would write, for files that people write themselves.
async fn config(output: &Output, common: &Common, machine: &Machine<'_>, wanted: &ClientEntries) -> Outcome {
    let client = find(&wanted.client)?;
    let entries = select::entries(output, common, machine.environment, client, wanted).await?;
    let file = file_of(machine, client, wanted.file.as_ref()).unwrap_or_else(|_| ClientFile::new(client, &PathBuf::new()));
    let text = file.with(None, &entries).map_err(|refusal| Error::internal(refusal.message.clone(), refusal.message))?;
    output.note(&format!("for {}", machine.shown(&file.path)));
    if output.explicit_json {
        let entries: serde_json::Map<_, _> = entries.iter().map(|(name, node)| (name.clone(), node.to_json())).collect();
        return output.document(&json!({"client": client.name, "file": file.path, "text": text, "entries": entries}));
    }
    output.content(&text)
}

/// `mcp-manager client connect`.
async fn connect(output: &Output, common: &Common, machine: &Machine<'_>, wanted: &ClientChange) -> Outcome {
    let client = find(&wanted.entries.client)?;
    let file = file_of(machine, client, wanted.entries.file.as_ref())?;
    let entries = select::entries(output, common, machine.environment, file.form()?, &wanted.entries).await?;
    let change = file.connect(&entries, &select::ours(common), wanted.force)?;
    if !wanted.dry_run {
        file.make(&change)?;
    }
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    let done = if change.is_none() { "unchanged" } else { "connected" };
    tell(output, machine, client, &file, &change, &Told { done, names: &names, dry_run: wanted.dry_run })
}

/// `mcp-manager client disconnect`.
fn disconnect(output: &Output, common: &Common, machine: &Machine<'_>, wanted: &ClientRemoval) -> Outcome {
    let client = find(&wanted.client)?;
    let file = file_of(machine, client, wanted.file.as_ref())?;
    let ours = select::ours(common);
    let before = names_of(file.entries()?, &ours);
    let change = file.disconnect(&wanted.names, &ours)?;
    if !wanted.dry_run {
        file.make(&change)?;
    }
    let names: Vec<&str> = before
        .iter()
        .map(String::as_str)
        .filter(|name| wanted.names.is_empty() || wanted.names.iter().any(|other| other == name))
        .collect();
    let (shown, copy) = (machine.shown(&file.path), machine.shown(&file.copy()));
    for name in &change.changed {
        output
            .note(&format!("note: '{name}' in {shown} is not this manager's, so it stays; it was something else before: {copy}"));
    }
    for name in &change.lost {
        output.note(&format!("note: the '{name}' that had been replaced cannot be put into {shown} again; it is in {copy}"));
    }
    let done = if change.is_none() { "unchanged" } else { "disconnected" };
    tell(output, machine, client, &file, &change, &Told { done, names: &names, dry_run: wanted.dry_run })
}

/// What is told about a change.
struct Told<'t> {
    done: &'static str,
    names: &'t [&'t str],
    dry_run: bool,
}

fn tell(
    output: &Output,
    machine: &Machine<'_>,
    client: &Client,
    file: &ClientFile<'_>,
    change: &Change,
    told: &Told<'_>,
) -> Outcome {
    let shown = machine.shown(&file.path);
    let copy = file.copy();
    let copy = Some(copy).filter(|copy| copy.exists()).map(|copy| machine.shown(&copy));
    if output.explicit_json || (output.json && !told.dry_run) {
        return output.document(&json!({
            "client": client.name, "file": file.path, "outcome": told.done, "servers": told.names,
            "dry_run": told.dry_run, "backup": copy, "diff": told.dry_run.then(|| change.diff(&shown)),
        }));
    }
    if told.dry_run {
        output.note(&format!("nothing was written; {shown} would become:"));
        return output.content(&change.diff(&shown));
    }
    if output.quiet {
        return told.names.iter().try_for_each(|name| output.text(name));
    }
    let names = told.names.join(", ");
    output.text(&match (told.done, copy) {
        ("unchanged", _) => format!("{}: nothing to do in {shown}", client.title),
        (done, Some(copy)) => format!("{}: {done} {names} in {shown}; as it was before: {copy}", client.title),
        (done, None) => format!("{}: {done} {names} in {shown}", client.title),
    })
}

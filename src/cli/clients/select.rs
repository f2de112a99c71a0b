//! Which servers are meant, and their entries: services by name, the manager's own endpoint, all services behind one.

use std::path::Path;

use super::super::arguments::Common;
use super::super::client::{self, Client as Manager, Query, service_path};
use super::super::exit::{Code, Outcome, Trouble};
use super::super::output::Output;
use super::arguments::{ClientEntries, KeyForm};
use super::form::{Approve, Client, KEY_VARIABLE, Key, Target};
use super::node::Node;
use super::relay;
use crate::config::Environment;
use crate::error::{Error, Kind};
use crate::manager::views::ServiceDetail;

/// Name of the entry for the manager's own tools.
const OWN: &str = "mcp-manager";

/// Name of the entry for all services behind one endpoint.
const ALL: &str = "mcp-manager-services";

/// Tells the entries of the manager that the options name from those of others: they lead to it.
pub fn ours(common: &Common) -> impl Fn(&Node) -> bool {
    let endpoint = format!("{}/mcp", base(common));
    move |entry| {
        entry.says(&|text: &str| text.strip_prefix(&endpoint).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

/// Whether an entry leads to what [`entries`] gives a name like its own, on whichever manager.
pub fn is_a_managers(name: &str, entry: &Node) -> bool {
    let of_services = [format!("/mcp/s/{name}"), format!("/mcp/g/{name}")];
    let own = [(OWN, "/mcp"), (ALL, "/mcp/all")].into_iter().filter(|(own, _)| *own == name).map(|(_, path)| path);
    let paths: Vec<&str> = of_services.iter().map(String::as_str).chain(own).collect();
    let is_address = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    entry.says(&|text: &str| is_address(text) && paths.iter().any(|path| text.ends_with(path)))
}

fn base(common: &Common) -> &str {
    common.server().trim_end_matches('/')
}

/// The entries that are asked for, by name.
pub async fn entries(
    output: &Output,
    common: &Common,
    environment: &Environment,
    client: &Client,
    wanted: &ClientEntries,
) -> Outcome<Vec<(String, Node)>> {
    let manager = Manager::new(common)?;
    let key = key(common, wanted)?;
    let program = program(environment);
    let mut targets = Vec::new();
    for name in &wanted.services {
        exists(output, &manager, name).await?;
        targets.push((name.clone(), format!("/mcp/s/{name}")));
    }
    for group in &wanted.group {
        // A group becomes part of an address and of a file.
        service_path(group, "")?;
        targets.push((group.clone(), format!("/mcp/g/{group}")));
    }
    if wanted.manager {
        targets.push((OWN.to_owned(), "/mcp".to_owned()));
    }
    if wanted.all || targets.is_empty() {
        targets.push((ALL.to_owned(), "/mcp/all".to_owned()));
    }
    if let Some((name, _)) = targets.iter().find(|(name, _)| client.section.holding.contains(&name.as_str())) {
        let message = format!("cannot be '{name}' for {}, which keeps other things under that name", client.title);
        return Err(Error::invalid_field("SERVICE", message, "connect it in a group or with --all").into());
    }
    let approves_beforehand = match client.approve {
        Approve::Always(_) => true,
        Approve::WhenAsked(_) => wanted.auto_approve,
        Approve::Never if wanted.auto_approve => {
            let message = format!("does not fit: {} has no list of tools that run without a question", client.title);
            return Err(Error::invalid_field("--auto-approve", message, "leave it out").into());
        }
        Approve::Never => false,
    };
    let mut entries = Vec::new();
    for (name, path) in targets {
        let url = format!("{}{path}", base(common));
        let approved = if approves_beforehand { read_only_tools(output, common, &url).await } else { Vec::new() };
        let mut arguments = vec!["client".to_owned(), "relay".to_owned(), url.clone()];
        let key_file = common.api_key_file.as_ref().filter(|_| key == Key::Reference);
        if let Some(file) = key_file {
            arguments.extend(["--api-key-file".to_owned(), absolute(file)]);
        }
        if let Some(file) = common.ca_file.as_ref().filter(|_| url.starts_with("https:")) {
            arguments.extend(["--ca-file".to_owned(), absolute(file)]);
        }
        let has_key_file = key_file.is_some();
        let leads_to = Target { name: name.clone(), url, program: program.clone(), arguments, has_key_file, approved };
        let entry = client.entry(&leads_to, &key, wanted.stdio).ok_or_else(|| no_reference(client, wanted.stdio))?;
        entries.push((name, entry));
    }
    Ok(entries)
}

/// The path as programs find it that are started elsewhere.
fn absolute(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

/// The error for clients that cannot be told where the key is.
fn no_reference(client: &Client, stdio: bool) -> Error {
    let title = client.title;
    let (message, remedy) = if stdio || client.remote.is_none() {
        let message = format!("cannot be 'reference' for {title}, which is not known to hand it to programs that it starts");
        (
            message,
            "name a file that holds the key with --api-key-file, or give '--key literal' to put the key itself into the file",
        )
    } else {
        let message = format!("cannot be 'reference' for {title}, whose file is not known to refer to variables");
        let remedy = "give '--key literal' to put the key itself into the file, or --stdio with --api-key-file, so that a \
                      program reads it from a file of yours";
        (message, remedy)
    };
    Error::invalid_field("--key", message, remedy)
}

/// How the entries are to hold the key. By reference when one is in use here, so that the key itself stays out of files.
fn key(common: &Common, wanted: &ClientEntries) -> Outcome<Key> {
    let given = common.api_key.is_some() || common.api_key_file.is_some();
    let form = wanted.key.unwrap_or(if given { KeyForm::Reference } else { KeyForm::None });
    Ok(match form {
        KeyForm::None => Key::None,
        KeyForm::Reference => Key::Reference,
        KeyForm::Literal => {
            let remedy = format!("set {KEY_VARIABLE} to the key");
            let none = || Error::invalid_field("--key", "is 'literal', and there is no key", remedy);
            Key::Literal(client::key(common)?.ok_or_else(none)?)
        }
    })
}

/// This program, as a client is to start it: by its name where that leads to it, else by its place.
fn program(environment: &Environment) -> String {
    let name = "mcp-manager";
    let here = std::env::current_exe().ok();
    let found = environment.get("PATH").and_then(|path| {
        let mut files = std::env::split_paths(path).map(|directory| directory.join(name)).filter(|file| file.is_file());
        files.next().and_then(|file| std::fs::canonicalize(file).ok())
    });
    match here {
        Some(here) if found.as_ref() != Some(&here) => here.display().to_string(),
        _ => name.to_owned(),
    }
}

/// A service must exist, if the manager can be asked.
async fn exists(output: &Output, manager: &Manager, name: &str) -> Outcome {
    let path = service_path(name, "")?;
    match manager.get::<ServiceDetail>(&path, &Query::new()).await {
        Ok(_) => Ok(()),
        Err(Trouble::Error(Code::Unreachable, error)) if error.kind == Kind::BackendUnavailable => {
            output.note(&format!("note: {}, so nobody looked whether there is a service '{name}'", error.detail));
            Ok(())
        }
        Err(trouble) => Err(trouble),
    }
}

/// The tools of an endpoint that say of themselves that they only read. None when it cannot be asked.
async fn read_only_tools(output: &Output, common: &Common, url: &str) -> Vec<String> {
    match relay::tools(common, url).await {
        Ok(tools) => tools
            .iter()
            .filter(|tool| tool["annotations"]["readOnlyHint"] == true)
            .filter_map(|tool| Some(tool["name"].as_str()?.to_owned()))
            .collect(),
        Err(Trouble::Error(_, error)) => {
            output.note(&format!("note: {}, so no tools are approved beforehand", error.detail));
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

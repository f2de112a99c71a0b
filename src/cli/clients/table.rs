//! The clients that can be connected: where each keeps its servers, and how it writes one. This is data; a client is an
//! entry in [`editors`] or [`terminals`], and nothing else in the program names one.
//!
//! Every fact has its source beside it. What its makers' documents or code do not say is named in `unknown` and not made up.

mod editors;
mod terminals;

use super::form::{Approve, Bearer, Client, Handed, Remote, Stdio, Variable};
use super::format::{Format, Section};
use super::place::Places;

/// All clients, in the order in which they are listed.
pub fn clients() -> impl Iterator<Item = &'static Client> + Clone {
    editors::EDITORS.iter().chain(terminals::TERMINALS)
}

const MCP_SERVERS: Section = Section::map("mcpServers");

/// `{"url": …, "headers": {…}}` under `mcpServers`, the form that most clients took from one another.
const COMMON: Client = Client {
    name: "",
    title: "",
    places: Places::NOWHERE,
    variables: &[],
    programs: &[],
    trace: None,
    format: Format::Json,
    section: MCP_SERVERS,
    newer: None,
    starter: "",
    remote: Some(Remote { lead: &[], url: "url", tail: &[] }),
    stdio: Stdio { lead: &[], command: "command", env: "env", joined: false, key: Handed::ByReference, tail: &[] },
    bearer: Bearer::Header("headers"),
    reference: Variable::Unknown,
    approve: Approve::Never,
    sources: &[],
    unknown: "",
};

//! mcp-manager: run any MCP server as a locked-down container, with a stable URL.
//!
//! The map of the code (see ARCHITECTURE.md for the invariants):
//!
//! | module | what it is for |
//! |---|---|
//! | [`domain`] | pure types and rules |
//! | [`error`] | the one error |
//! | [`config`] | settings and where each came from |
//! | [`audit`], [`auth`] | who did what, who is asking |
//! | [`backend`] | where services run |
//! | [`bridge`] | stdio servers as Streamable HTTP; a program of its own |
//! | [`gateway`] | the embedded host router |
//! | [`lifecycle`] | start and end of background work |
//! | [`manager`] | every capability, once |
//! | [`mcp`] | the MCP server |
//! | [`memory`] | settings of the allocator |
//! | [`peers`] | several managers behind one address |
//! | [`problem`] | errors as HTTP sees them |
//! | [`random`] | keys and names that nobody can guess |
//! | [`registry`] | templates from files |
//! | [`rest`] | the HTTP API |
//! | [`cli`] | the command line |
//! | [`routing`] | who is reached by which name |
//! | [`rpc`] | JSON-RPC messages of our own |
//! | [`server`] | the HTTP listener |
//! | [`telemetry`] | metrics and logs |
//! | [`tools`] | what agents can do: one table over the manager's functions |

pub mod app;
pub mod audit;
pub mod auth;
pub mod backend;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod domain;
pub mod error;
pub mod gateway;
pub mod http_client;
pub mod lifecycle;
pub mod manager;
pub mod mcp;
pub mod memory;
pub mod pages;
pub mod peers;
pub mod problem;
pub mod random;
pub mod registry;
pub mod rest;
pub mod routing;
pub mod rpc;
pub mod server;
pub mod telemetry;
pub mod tools;
pub mod whole_file;

//! mcp-manager: run any MCP server as a locked-down container, with a stable URL.
//!
//! The map of the code (see ARCHITECTURE.md for the invariants):
//!
//! | module | what it is for |
//! |---|---|
//! | [`domain`] | pure types and rules |
//! | [`error`] | the one error |
//! | [`backend`] | where services run |
//! | [`lifecycle`] | start and end of background work |
//! | [`registry`] | templates from files |
//! | [`telemetry`] | metrics and logs |

pub mod backend;
pub mod domain;
pub mod error;
pub mod lifecycle;
pub mod registry;
pub mod telemetry;

//! MCP on the command line: the manager's tools for a client that starts programs, and a client that looks at services.

pub mod arguments;
mod inspect;
mod stdio;
mod verbatim;

pub use inspect::{call, tools};
pub use stdio::serve;

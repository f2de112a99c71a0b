//! Claims about the bundled example server.

mod controls;
mod http;
mod mcp;
mod process;
mod scripts;

//! `mcp-echo`, the bundled example server.
fn main() {}

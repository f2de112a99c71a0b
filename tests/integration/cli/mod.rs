//! The command line, run as a program: against `mcp-manager serve` on the memory backend, against managers that misbehave,
//! on a terminal, and alone.

mod alone;
mod calls;
mod clients;
mod contexts;
mod install;
mod misbehaving;
mod relay;
mod services;
mod terminal;

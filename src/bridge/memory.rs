//! How the bridge's memory is managed: what a large message or a connection took goes back to the system at once. Left to
//! itself the allocator keeps it, and a bridge that has seen a hundred large messages stays a hundred times its size.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Read by the C library when a program starts, so it cannot be set from within.
const VARIABLE: &str = "GLIBC_TUNABLES";
/// Blocks from a page on have pages of their own, unless the 256 KiB that are kept ready have room for them; what is free
/// beyond twice that is given back; one heap for all threads.
const SETTINGS: &str =
    "glibc.malloc.mmap_threshold=4096:glibc.malloc.top_pad=262144:glibc.malloc.trim_threshold=524288:glibc.malloc.arena_max=1";

/// Starts this program again in its place with its settings of the allocator, unless it has some. Must come before
/// anything is opened or started. Where that is not possible everything works all the same, with more memory.
pub fn settle() {
    if setting().is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut words = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    // It returns only if it fails.
    let _failed = command.args(words).env(VARIABLE, SETTINGS).exec();
}

/// Keeps the bridge's own settings from a server, which has its own ways.
pub fn keep_from(command: &mut Command) {
    if setting().is_some_and(|setting| setting == SETTINGS) {
        command.env_remove(VARIABLE);
    }
}

#[expect(clippy::disallowed_methods, reason = "the bridge is a program of its own; the C library reads this variable")]
fn setting() -> Option<std::ffi::OsString> {
    std::env::var_os(VARIABLE)
}

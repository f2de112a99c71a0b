//! How a program's memory is managed: what the C library's allocator keeps for itself, which is most of what a small
//! program has. Its settings are read when a program starts, so a program that wants its own starts itself again.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Read by the C library when a program starts, so it cannot be set from within.
const VARIABLE: &str = "GLIBC_TUNABLES";

/// The programs whose memory is managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Large messages find the memory of those before them, and pages are not asked for anew with each, which would take
    /// longer than all else that is done about a message. What a load took goes back when it is over ([`Rest`]): left
    /// to itself the allocator keeps it, and a bridge that has seen a hundred large messages stays a hundred times its size.
    Bridge,
    /// Few heaps, so that what the start or a look at everything left free serves the next: with a heap for each thread,
    /// as the allocator has it, each grows to its own largest moment. What remains between them goes back in quiet moments.
    Manager,
}

impl Program {
    fn settings(self) -> &'static str {
        match self {
            // Blocks from 4 MiB on have pages of their own; the heap keeps 8 MiB that are free; one heap for all threads.
            Self::Bridge => {
                "glibc.malloc.mmap_threshold=4194304:glibc.malloc.top_pad=262144:\
                 glibc.malloc.trim_threshold=8388608:glibc.malloc.arena_max=1"
            }
            // Answers of the engine have pages of their own.
            Self::Manager => {
                "glibc.malloc.mmap_threshold=65536:glibc.malloc.top_pad=65536:\
                 glibc.malloc.trim_threshold=131072:glibc.malloc.arena_max=1"
            }
        }
    }
}

/// Starts this program again in its place with its settings of the allocator, unless it has some. Must come before
/// anything is opened or started. Where that is not possible everything works all the same, with more memory.
pub fn settle(program: Program) {
    if setting().is_some() {
        return;
    }
    let Ok(file) = std::env::current_exe() else { return };
    let mut words = std::env::args_os();
    let mut command = Command::new(file);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    // It returns only if it fails.
    let _failed = command.args(words).env(VARIABLE, program.settings()).exec();
}

// The declaration of a function that takes a number, touches nothing of ours and may be called at any time.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library's own way to give memory back has no other door, and Rust's library none at all")]
unsafe extern "C" {
    safe fn malloc_trim(keep: usize) -> std::ffi::c_int;
}

/// Gives what is free in the heap back to the system, also where something small that is still in use lies behind it. Takes
/// a millisecond for some megabytes, so it is for moments in which nothing else is to be done.
fn give_back() {
    #[cfg(target_env = "gnu")]
    let _given = malloc_trim(0);
}

/// Finds the moments in which memory is given back: what a load took lies between what is still in use, and goes back once
/// nothing has happened for a while.
#[derive(Debug, Default)]
pub struct Rest<T> {
    seen: Option<T>,
    given_at: Option<T>,
}

impl<T: Copy + PartialEq> Rest<T> {
    /// To be called now and then, with the number of things that have happened since the start. Gives back what is free when
    /// nothing has happened since the last look, unless that was done at this number. What the start took is the first load.
    pub fn look(&mut self, happened: T) {
        let before = self.seen.replace(happened);
        if before == Some(happened) && self.given_at != Some(happened) {
            self.given_at = Some(happened);
            give_back();
        }
    }
}

/// Keeps our own settings from another program, which has its own ways.
pub fn keep_from(command: &mut Command) {
    let ours = [Program::Bridge, Program::Manager].map(Program::settings);
    if setting().is_some_and(|setting| ours.iter().any(|ours| setting == *ours)) {
        command.env_remove(VARIABLE);
    }
}

#[expect(clippy::disallowed_methods, reason = "the C library reads this variable; it is no setting of ours")]
fn setting() -> Option<std::ffi::OsString> {
    std::env::var_os(VARIABLE)
}

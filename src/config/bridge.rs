//! Section `bridge`: the program that speaks HTTP for servers that speak stdio.

use std::path::PathBuf;

use super::section::{Check, section};

section! {
    /// The program that speaks HTTP for servers that speak stdio.
    pub struct Bridge in "bridge" {
        /// The bridge's program, which is copied into the containers of such servers; `mcp-bridge` beside the manager's own
        /// program unless set.
        path: Option<PathBuf> = None;
    }
}

impl Bridge {
    #[expect(
        clippy::unused_self,
        reason = "every section has this function; whether the program is there shows when it is needed"
    )]
    fn validate(&self, _: &mut Check) {}
}

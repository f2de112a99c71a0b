//! Section `templates`: where templates come from.

use std::path::PathBuf;

use super::section::{Check, section};

section! {
    /// Where templates come from.
    pub struct Templates in "templates" {
        /// Directory of template files. Unless set: `./templates`, the user's `mcp-manager/templates` data directory, or
        /// `/usr/share/mcp-manager/templates`, whichever exists first.
        dir: PathBuf = PathBuf::new();
    }
}

impl Templates {
    fn validate(&self, check: &mut Check) {
        check.that(!self.dir.as_os_str().is_empty(), "dir", "is empty", "name a directory");
    }
}

//! Section `audit`: where the record of who did what goes.

use std::path::PathBuf;

use super::section::{Check, section};

section! {
    /// Where the record of who did what goes.
    pub struct Audit in "audit" {
        /// File that every audited operation is appended to, one JSON object a line; the log alone unless set.
        file: Option<PathBuf> = None;
    }
}

impl Audit {
    #[expect(clippy::unused_self, reason = "every section has this function; whether the file can be written shows at the start")]
    fn validate(&self, _: &mut Check) {}
}

//! Section `audit`: where the record of who did what goes.

use std::path::PathBuf;

use super::section::{Check, section};

section! {
    /// Where the record of who did what goes.
    pub struct Audit in "audit" {
        /// File that every audited operation is appended to, one JSON object a line; the log alone unless set.
        file: Option<PathBuf> = None;
        /// PostgreSQL database whose table `mcp_audit` gets every audited operation, for managers that share no file:
        /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. The table is made when it is missing. There is no TLS.
        database_url: Option<String> = None, secret true;
    }
}

impl Audit {
    fn validate(&self, check: &mut Check) {
        let database = |url: &String| {
            ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
                && url.parse::<tokio_postgres::Config>().is_ok()
        };
        let remedy = "write postgres://USER:PASSWORD@HOST:PORT/DATABASE";
        check.that(
            self.database_url.as_ref().is_none_or(database),
            "database_url",
            "is not the address of a PostgreSQL database",
            remedy,
        );
    }
}

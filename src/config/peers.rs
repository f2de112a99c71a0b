//! Section `peers`: several managers behind one address.

use std::path::PathBuf;

use super::section::{Check, section};

section! {
    /// Several managers behind one address.
    pub struct Peers in "peers" {
        /// `HOST:PORT` at which the other managers reach this one, when they pass on requests of MCP sessions that it has. Unless
        /// set, the address of `server.listen`, or that of this machine's name where it listens on all.
        address: Option<String> = None;
        /// File with the key that managers sign ids of MCP sessions with; it is made when it is missing. Unless set: with Redis it
        /// is there, else beside the socket of the engine. In a cluster: in a
        /// Secret beside those of services.
        key_file: Option<PathBuf> = None;
    }
}

impl Peers {
    fn validate(&self, check: &mut Check) {
        let port = |address: &String| {
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        check.that(self.address.as_ref().is_none_or(port), "address", "has no port", "write HOST:PORT");
    }
}

//! The command line of the bridge: parsed by clap, then resolved once into values that nothing checks again.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::error::{Error, Result};

/// The variable that holds the service's key for session ids. The server does not inherit it.
pub const KEY_VARIABLE: &str = "MCP_BRIDGE_SESSION_KEY";

/// How long a server may say nothing to `server/discover` before it is initialised as well, where that is less than half of
/// the time that it has to start.
const SILENCE: Duration = Duration::from_secs(10);

/// A session that is idle for less than this keeps its place when there are as many as there may be. Models pause for seconds
/// between two calls, and a client that has just opened its session has not called yet; whoever waits longer begins anew once.
const GRACE: Duration = Duration::from_secs(5);

/// Turns a stdio MCP server into a Streamable HTTP endpoint.
#[derive(Debug, Clone, Parser)]
#[command(name = "mcp-bridge", version)]
pub struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The MCP endpoint.
    #[arg(long, default_value = "/mcp")]
    path: String,
    /// One child for each session, or one for all.
    #[arg(long, value_enum, value_name = "MODE", default_value = "per_session")]
    session_mode: SessionMode,
    /// Sessions, and children, at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_sessions: u32,
    /// Seconds until a session without requests and open streams ends.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: u64,
    /// Children started ahead of sessions.
    #[arg(long, value_name = "N", default_value_t = 1)]
    spare: u32,
    /// Bytes of one message, either way.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    max_message: usize,
    /// Unanswered requests of one child, and as many subscriptions.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_pending: usize,
    /// Unread bytes of a slow reader before its stream is cut.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    max_queue: usize,
    /// Bytes kept of a stream for `Last-Event-ID`.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    replay: usize,
    /// Seconds until a request is given up and cancelled; 0 is never.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    request_timeout: u64,
    /// Seconds until a started child has answered for the first time.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    start_timeout: u64,
    /// Seconds until the headers of a request have come.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    header_timeout: u64,
    /// Seconds until the body of a request has come.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    body_timeout: u64,
    /// Seconds from SIGTERM until what is pending is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    drain_timeout: u64,
    /// The server's era, if it is known.
    #[arg(long, value_enum, default_value = "auto")]
    era: EraChoice,
    /// HTTP+SSE of revision 2024-11-05 at /sse and /messages as well.
    #[arg(long)]
    sse: bool,
    /// The server speaks HTTP+SSE of revision 2024-11-05 here instead of standard input and output.
    #[arg(long, value_name = "URL")]
    sse_server: Option<http::Uri>,
    /// Further value of Host and of Origin's host: a name, `*.example.com`, or `*`.
    #[arg(long, value_name = "HOST")]
    allowed_host: Vec<String>,
    /// This replica's name in session ids, or its address, under which its peers reach it; the host name if none is given.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Where replica {owner} is reached, `http://{owner}:8080`.
    #[arg(long, value_name = "PATTERN")]
    peer: Option<String>,
    /// Milliseconds until a replica that does not accept is gone.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500)]
    peer_timeout: u64,
    /// File with the service's key for session ids.
    #[arg(long, value_name = "FILE")]
    session_key_file: Option<PathBuf>,
    /// Sessions belong to the value of this header.
    #[arg(long, value_name = "NAME")]
    caller_header: Option<http::HeaderName>,
    /// The server and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Who shares a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SessionMode {
    /// Each session has its own.
    PerSession,
    /// All sessions have one.
    Shared,
}

/// What is known of the server's era beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EraChoice {
    /// Nothing: it is asked.
    Auto,
    /// It wants `initialize`.
    Legacy,
    /// It speaks revision 2026-07-28.
    Modern,
}

/// How the bridge runs; all of it is valid.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are documented once, as flags and constants")]
pub struct Options {
    pub listen: SocketAddr,
    pub path: String,
    pub session_mode: SessionMode,
    pub max_sessions: usize,
    pub idle_timeout: Duration,
    pub grace: Duration,
    pub spare: usize,
    pub max_message: usize,
    pub max_pending: usize,
    pub max_queue: usize,
    pub replay: usize,
    pub request_timeout: Option<Duration>,
    pub start_timeout: Duration,
    pub silence: Duration,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub drain_timeout: Duration,
    pub era: EraChoice,
    pub sse: bool,
    pub sse_server: Option<http::Uri>,
    pub allowed_hosts: Vec<String>,
    pub owner: String,
    pub peer: Option<String>,
    pub peer_timeout: Duration,
    pub session_key: Vec<u8>,
    pub caller_header: Option<http::HeaderName>,
    pub command: Vec<OsString>,
}

impl Arguments {
    /// Checks the arguments and reads the key.
    pub fn resolve(self) -> Result<Options> {
        let seconds = Duration::from_secs;
        if !self.path.starts_with('/') {
            return Err(Error::invalid_field("path", "it does not start with '/'", "write /mcp"));
        }
        if self.peer.as_ref().is_some_and(|peer| !peer.starts_with("http://") || !peer.contains("{owner}")) {
            return Err(Error::invalid_field("peer", "it is no address of a replica", "write http://{owner}:8080"));
        }
        let is_address = |uri: &http::Uri| uri.scheme_str() == Some("http") && uri.authority().is_some();
        if self.sse_server.as_ref().is_some_and(|uri| !is_address(uri)) {
            return Err(Error::invalid_field("sse-server", "it is no address", "write http://127.0.0.1:8000/sse"));
        }
        let owner = if let Some(owner) = self.owner {
            super::owner::of_address(&owner).unwrap_or(owner)
        } else {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            host.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).take(63).collect()
        };
        if !super::owner::is_owner(&owner) {
            let remedy = "use letters, digits and '-', at most 63";
            return Err(Error::invalid_field("owner", "the name cannot stand in session ids", remedy));
        }
        let session_key = session_key(self.session_key_file)?;
        if self.peer.is_some() && session_key.is_none() {
            let remedy = format!("set {KEY_VARIABLE} or --session-key-file to the same value for all replicas");
            return Err(Error::invalid_field("peer", "replicas need the service's key to know each other's sessions", remedy));
        }
        let mut allowed_hosts: Vec<_> = self.allowed_host.iter().map(|host| host.to_ascii_lowercase()).collect();
        // Other replicas reach this one by the same pattern.
        let suffix = self.peer.as_ref().and_then(|peer| peer.split_once("{owner}.")).map(|(_, suffix)| suffix);
        allowed_hosts.extend(suffix.map(|suffix| format!("*.{}", suffix.split([':', '/']).next().unwrap_or_default())));
        Ok(Options {
            listen: self.listen,
            path: self.path,
            session_mode: self.session_mode,
            max_sessions: self.max_sessions as usize,
            idle_timeout: seconds(self.idle_timeout),
            grace: GRACE,
            // A session of a server that speaks HTTP needs no process of its own.
            spare: if self.sse_server.is_some() { 0 } else { self.spare.min(self.max_sessions) as usize },
            max_message: self.max_message,
            // The bridge itself may ask two questions at once to find out the server's era.
            max_pending: self.max_pending.max(2),
            max_queue: self.max_queue,
            replay: self.replay,
            request_timeout: (self.request_timeout > 0).then(|| seconds(self.request_timeout)),
            start_timeout: seconds(self.start_timeout),
            silence: SILENCE.min(seconds(self.start_timeout) / 2),
            header_timeout: seconds(self.header_timeout),
            body_timeout: seconds(self.body_timeout),
            drain_timeout: seconds(self.drain_timeout),
            // The transport ended with an earlier era.
            era: if self.sse_server.is_some() { EraChoice::Legacy } else { self.era },
            sse: self.sse,
            sse_server: self.sse_server,
            allowed_hosts,
            owner,
            peer: self.peer,
            peer_timeout: Duration::from_millis(self.peer_timeout),
            session_key: session_key.unwrap_or_else(|| rand::random::<[u8; 32]>().to_vec()),
            caller_header: self.caller_header,
            command: self.command,
        })
    }
}

/// The key from the file or from the environment. A short one could be guessed.
fn session_key(file: Option<PathBuf>) -> Result<Option<Vec<u8>>> {
    #[expect(clippy::disallowed_methods, reason = "the bridge is a program of its own; this is the only variable that it reads")]
    let variable = || std::env::var_os(KEY_VARIABLE).map(OsString::into_encoded_bytes);
    let key = match file {
        Some(path) => {
            let read = std::fs::read(&path);
            Some(read.map_err(|error| Error::internal(format!("the session key cannot be read: {}", path.display()), error))?)
        }
        None => variable(),
    };
    let key = key.map(|key| key.trim_ascii().to_vec());
    if key.as_ref().is_some_and(|key| key.len() < 16) {
        return Err(Error::invalid_field("session key", "it is shorter than 16 bytes", "use 32 random bytes in hexadecimal"));
    }
    Ok(key)
}

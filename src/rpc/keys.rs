//! The members of `_meta` that MCP has names for; nobody else's begin so.

/// How all of them begin.
pub const RESERVED: &str = "io.modelcontextprotocol/";
/// The revision of a request.
pub const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// What the client can do.
pub const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Who the client is.
pub const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
/// The log level of a request.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Who the server is.
pub const SERVER: &str = "io.modelcontextprotocol/serverInfo";
/// Which subscription a notification belongs to.
pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

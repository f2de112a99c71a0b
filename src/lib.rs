//! mcp-manager: run any MCP server as a locked-down container, with a stable URL.

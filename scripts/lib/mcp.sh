# shellcheck shell=bash
# Speaks MCP over Streamable HTTP to one endpoint, as a client of each protocol era. Needs http.sh.

mcp_headers=(--header 'content-type: application/json' --header 'accept: application/json, text/event-stream')

# stateless URL METHOD NAME PARAMS: one request of revision 2026-07-28. NAME is of the tool, or empty; PARAMS are
# members of "params", each followed by a comma.
stateless() {
  local version=2026-07-28 named=()
  if [ -n "$3" ]; then named=(--header "mcp-name: $3"); fi
  local meta="\"io.modelcontextprotocol/protocolVersion\": \"$version\",
    \"io.modelcontextprotocol/clientInfo\": {\"name\": \"test-mcp\", \"version\": \"1\"},
    \"io.modelcontextprotocol/clientCapabilities\": {}"
  ask POST "$1" "${mcp_headers[@]}" --header "mcp-protocol-version: $version" --header "mcp-method: $2" \
    ${named[@]+"${named[@]}"} --data "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"$2\", \"params\": {$4 \"_meta\": {$meta}}}"
  asked="$asked ($version $2${3:+ $3})"
}

session=''
# in_session URL MESSAGE: one message of revision 2025-11-25, in the open session if there is one.
in_session() {
  local open=()
  if [ -n "$session" ]; then open=(--header "mcp-session-id: $session" --header 'mcp-protocol-version: 2025-11-25'); fi
  ask POST "$1" "${mcp_headers[@]}" ${open[@]+"${open[@]}"} --data "$2"
  asked="$asked (2025-11-25 $(sed -nE 's/.*"method": "([^"]*)".*/\1/p' <<<"$2"))"
}

# check_stateless_era URL: discovery, the list of tools, calls with and without progress; no session anywhere.
check_stateless_era() {
  stateless "$1" server/discover '' ''
  expect_status 200
  expect_text '"2026-07-28"'
  stateless "$1" tools/list '' ''
  expect_status 200
  expect_member resultType '"complete"'
  expect_member name '"echo"'
  stateless "$1" tools/call echo '"name": "echo", "arguments": {"message": "hello 🦜"},'
  expect_status 200
  expect_member text '"hello 🦜"'
  [ -z "$(header mcp-session-id)" ] || wrong "no session" "mcp-session-id: $(header mcp-session-id)"
  stateless "$1" tools/call add '"name": "add", "arguments": {"a": 2, "b": 3},'
  expect_member text '"5"'
  stateless "$1" tools/call no_such_tool '"name": "no_such_tool", "arguments": {},'
  expect_member code '-32602'
}

# check_session_era URL: the handshake, the list of tools, calls with progress, and the end of the session.
check_session_era() {
  session=''
  in_session "$1" '{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test-mcp", "version": "1"}}}'
  expect_status 200
  expect_member protocolVersion '"2025-11-25"'
  session=$(header mcp-session-id)
  [ -n "$session" ] || wrong "the header mcp-session-id" "no such header"
  in_session "$1" '{"jsonrpc": "2.0", "method": "notifications/initialized"}'
  expect_status 202
  in_session "$1" '{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}'
  expect_status 200
  expect_member name '"echo"'
  in_session "$1" '{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "hello 🦜"}}}'
  expect_status 200
  expect_member text '"hello 🦜"'
  in_session "$1" '{"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "slow_echo", "arguments": {"message": "late", "steps": 2, "step_ms": 10}, "_meta": {"progressToken": "steps"}}}'
  expect_text 'notifications/progress'
  expect_member text '"late"'
  ask DELETE "$1" --header "mcp-session-id: $session" --header 'mcp-protocol-version: 2025-11-25'
  [ "$status" -lt 300 ] || wrong "the session to end" "$(shown)"
  in_session "$1" '{"jsonrpc": "2.0", "id": 4, "method": "tools/list", "params": {}}'
  expect_status 404
}

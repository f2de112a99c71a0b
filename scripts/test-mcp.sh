#!/usr/bin/env bash
# Checks a running installation and stops at the first wrong answer with exit status 1: the echo service over MCP, as
# clients of both protocol eras call it, and the manager's API with a service of its own that it deletes again.
#
#   ./scripts/test-mcp.sh [MANAGER_URL [ECHO_URL]]     default: http://localhost:8000 http://echo.localhost:8000
#
# MANAGER_URL '-' leaves the manager out (for an echo service that runs alone). MCP_MANAGER_API_KEY is sent to a manager
# that asks for keys. Needs bash and curl.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/common.sh"
case ${1:-} in -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
. "$(dirname "$0")/lib/http.sh"
. "$(dirname "$0")/lib/mcp.sh"
manager_url=${1:-http://localhost:8000}
[ "$manager_url" = - ] || manager_url=$(base_url "$manager_url")
echo_url=$(base_url "${2:-http://echo.localhost:8000}")

# api METHOD PATH [CURL ARGUMENT...]: asks the manager. A creation answers when the service is healthy.
api() {
  local method=$1 path=$2 key=()
  shift 2
  if [ -n "${MCP_MANAGER_API_KEY:-}" ]; then key=(--header "x-api-key: $MCP_MANAGER_API_KEY"); fi
  ask "$method" "$manager_url$path" ${key[@]+"${key[@]}"} --header 'content-type: application/json' "$@"
}

service=test-mcp-$$
# remove_service: whatever happened, nothing of ours stays.
remove_service() {
  local result=$?
  trap - EXIT
  (api DELETE "/containers/$service") >/dev/null 2>&1 || true
  rm -rf "$answers"
  exit "$result"
}

check_manager() {
  api GET /health
  expect_status 200
  expect_member status '"healthy"'
  api GET /ready
  expect_status 200
  api GET /metrics
  expect_status 200
  expect_text '# TYPE '
  api GET /openapi.json
  expect_status 200
  expect_text '"openapi":"3.'
}

check_templates() {
  api GET /templates
  expect_status 200
  expect_member name '"echo"'
  api GET /templates/echo
  expect_status 200
  expect_text mcp/echo
  api GET /templates/no-such-template
  expect_status 404
  expect_header content-type application/problem+json
}

check_service() {
  trap remove_service EXIT
  trap 'exit 130' INT TERM
  local request="{\"service_name\": \"$service\", \"template\": \"echo\", \"environment\": {\"MCP_SERVICE_NAME\": \"$service\"}}" url
  api POST /containers --data "$request"
  expect_status 201
  expect_member status '"running"'
  url=$(text_member url)
  api POST /containers --data "$request"
  expect_status 409
  expect_member type '"urn:mcp-manager:problem:already-exists"'
  api POST /containers --data '{"service_name": "x", "tmplate": "echo"}'
  expect_status 422
  expect_text template

  api GET /containers
  expect_status 200
  expect_member name "\"$service\""
  for path in "/containers/$service" "/containers/$service/status"; do
    api GET "$path"
    expect_status 200
    expect_member status '"running"'
    expect_member ready_replicas 1
  done
  ask GET "$url/info"
  expect_status 200
  expect_member service "\"$service\""
  api GET "/containers/$service/logs?tail=50"
  expect_status 200
  expect_text 'mcp-echo listening'

  api POST "/containers/$service/stop"
  expect_status 200
  expect_member status '"stopped"'
  api POST "/containers/$service/start"
  expect_status 200
  expect_member status '"running"'
  ask GET "$url/health"
  expect_status 200

  api DELETE "/containers/$service"
  expect_status 204
  api GET "/containers/$service"
  expect_status 404
  expect_member type '"urn:mcp-manager:problem:not-found"'
  ask GET "$url/health"
  expect_status 404
}

step "MCP at $echo_url/mcp, revision 2026-07-28 without sessions"
check_stateless_era "$echo_url/mcp"
step "MCP at $echo_url/mcp, revision 2025-11-25 with a session"
check_session_era "$echo_url/mcp"
if [ "$manager_url" != - ]; then
  step "the manager at $manager_url"
  check_manager
  check_templates
  step "a service of its own, $service"
  check_service
fi
step "all $checks answers are right"

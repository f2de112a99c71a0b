#!/usr/bin/env bash
# Asks a running echo service for everything it offers, and stops at the first wrong answer with exit status 1.
#
#   ./scripts/test-echo.sh [ECHO_URL]          default: http://echo.localhost:8000
#
# The service may run behind the gateway, behind Traefik, or alone (PORT=8123 mcp-echo). Needs bash and curl.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/common.sh"
case ${1:-} in -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
. "$(dirname "$0")/lib/http.sh"
echo_url=$(base_url "${1:-http://echo.localhost:8000}")

step "the echo service at $echo_url"

ask GET "$echo_url/health"
expect_status 200
expect_header content-type application/json
expect_member status '"healthy"'

ask GET "$echo_url/"
expect_status 200
expect_member name '"mcp-echo"'
expect_text '/mcp/capabilities'

ask GET "$echo_url/info"
expect_status 200
for key in service version hostname instance started_at pid uptime_seconds requests; do expect_key "$key"; done

ask GET "$echo_url/echo/hello"
expect_status 200
expect_member echo '"hello"'
ask GET "$echo_url/echo/hello%20world%2F%C3%A9"
expect_status 200
expect_member echo '"hello world/é"'

json=(--header 'content-type: application/json')
ask POST "$echo_url/echo" "${json[@]}" --data '{"message": "hello"}'
expect_status 200
expect_member echo '"hello"'
ask POST "$echo_url/echo" "${json[@]}" --data '{"message": {"list": [1, 2.5, null, "🦜"]}}'
expect_status 200
expect_member echo '{"list":[1,2.5,null,"🦜"]}'

ask POST "$echo_url/echo" "${json[@]}" --data '{"message": '
expect_status 400
expect_header content-type application/problem+json
expect_key remedy
ask POST "$echo_url/echo" "${json[@]}" --data '{"text": "hello"}'
expect_status 422
expect_text message
ask PUT "$echo_url/echo" "${json[@]}" --data '{"message": "hello"}'
expect_status 405
ask GET "$echo_url/no-such-page"
expect_status 404
expect_header content-type application/problem+json

ask GET "$echo_url/mcp/capabilities"
expect_status 200
expect_member endpoint '"/mcp"'
for version in 2025-11-25 2026-07-28; do expect_text "\"$version\""; done
for tool in add echo slow_echo; do expect_member name "\"$tool\""; done

step "all $checks answers are right"

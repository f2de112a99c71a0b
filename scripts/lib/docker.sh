# shellcheck shell=bash
# A Docker engine for tests: the one that runs, or one of our own that disturbs nothing, and Compose 2. Needs common.sh,
# machine.sh and build.sh; callers choose_cache first. Leaves out what is run on it.

compose_release=v2.40.3

# ensure_docker: sets $DOCKER_HOST (exported) and the array $on_docker, the prefix of commands that reach published ports.
# Where no engine answers, one is started in a network namespace of its own: its bridges, rules and ports are not this
# machine's, and go with it. stop_docker ends it.
docker_folder=''
on_docker=()
ensure_docker() {
  if docker info >/dev/null 2>&1; then
    step "using the Docker engine that runs: $(docker version --format '{{.Server.Version}}')"
    return
  fi
  am_root || fail "no Docker engine answers, and only root can start one" "Start Docker, or run this as root."
  ensure_packages "$cache/logs/apt.log" docker.io slirp4netns iproute2 util-linux
  local images=${MCP_DOCKER_IMAGES:-$cache/docker} mirror='' tries=0
  if [ -n "${MCP_TEST_HUB:-}" ]; then mirror=--registry-mirror=http://10.0.2.2:${MCP_TEST_HUB##*:}; fi
  hold_images "$images"
  step "starting a Docker engine of our own (images in $images)"
  # shellcheck disable=SC2016 # for the shell inside
  own_network 'exec dockerd --host "unix://$1/docker.sock" --data-root "$2" --exec-root "$1/exec" --pidfile "$1/dockerd.pid" $3' \
    "$images" "$mirror"
  export DOCKER_HOST=unix://$docker_folder/docker.sock
  until docker info >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -ge 300 ] || [ ! -d "/proc/$docker_pid" ]; then fail "dockerd did not start" "$(tail -n 5 "$docker_folder/log")"; fi
    sleep 0.1
  done
}

# hold_images FOLDER: one engine at a time has the images, which inherits the lock: they are in use as long as it, or anything
# of it, lives.
hold_images() {
  mkdir -p "$1"
  exec {docker_lock}>"$1.lock"
  flock --nonblock "$docker_lock" || { step "waiting for another engine to leave $1"; flock "$docker_lock"; }
}

# own_network SCRIPT ARGUMENT...: makes $docker_folder and runs the script, which must end in an exec, in a network of its own
# with a way out. It gets the folder as $1 and the arguments after that.
own_network() {
  local script=$1 tries=0
  shift
  docker_folder=$(mktemp -d /tmp/mcp-docker.XXXXXX)
  # shellcheck disable=SC2016 # for the shell inside
  setsid unshare --net --mount --propagation private bash -c '
    ip link set lo up
    echo $$ >"$1/pid"
    until [ -e "$1/connected" ]; do sleep 0.1; done
    sysctl -qw net.ipv4.ip_forward=1
    echo "nameserver 10.0.2.3" >"$1/resolv.conf"
    mount --bind "$1/resolv.conf" "$(realpath /etc/resolv.conf)"
    '"$script" - "$docker_folder" "$@" >"$docker_folder/log" 2>&1 </dev/null &
  until [ -s "$docker_folder/pid" ]; do sleep 0.1; done
  docker_pid=$(cat "$docker_folder/pid")
  slirp4netns --configure --mtu=65520 "$docker_pid" tap0 >"$docker_folder/slirp.log" 2>&1 </dev/null &
  slirp_pid=$!
  on_docker=(nsenter --target "$docker_pid" --net)
  until "${on_docker[@]}" ip route show default | grep -q tap0; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || fail "the network of the engine did not come up" "$(tail -n 3 "$docker_folder/slirp.log")"
    sleep 0.1
  done
  : >"$docker_folder/connected"
}

# stop_docker: ends what ensure_docker started.
stop_docker() {
  [ -n "$docker_folder" ] || return 0
  local pid
  for pid in "${docker_pid:-}" "${slirp_pid:-}"; do
    if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; fi
  done
  local tries=0
  while [ -d "/proc/${docker_pid:-none}" ] && [ "$tries" -lt 300 ]; do tries=$((tries + 1)); sleep 0.1; done
  # Mounts of its own namespace have gone with it.
  rm -rf "$docker_folder"
  docker_folder=''
  exec {docker_lock}>&-
}

# ensure_compose: sets the array $compose. The engine's container asks for something that Compose 1 has no word for.
ensure_compose() {
  local tool=$cache/tools/docker-compose-$compose_release
  if docker compose version >/dev/null 2>&1; then compose=(docker compose)
  elif have docker-compose && [[ $(docker-compose version --short 2>/dev/null) =~ ^v?2\. ]]; then compose=(docker-compose)
  else
    if [ ! -x "$tool" ]; then
      have go || fail "Compose 2 is missing, and there is no Go to build it with" "Install Docker's compose plugin."
      mkdir -p "$cache/tools" "$cache/logs"
      with_progress "building Compose $compose_release, once" "$cache/logs/compose.log" build_compose "$tool" ||
        fail "Compose could not be built" "The log: $cache/logs/compose.log"
    fi
    compose=("$tool")
  fi
}

# build_compose PROGRAM: its module excludes versions of others, so that it can be built in its own folder only.
build_compose() {
  local source
  source=$(mktemp -d)
  (cd "$source" && go mod download -json "github.com/docker/compose/v2@$compose_release") >"$source/module.json" &&
    cp -r "$(sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p' "$source/module.json")" "$source/compose" && chmod -R u+w "$source/compose" &&
    (cd "$source/compose" && go build -trimpath -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$compose_release" -o "$1" ./cmd)
  local status=$?
  rm -rf "$source"
  return "$status"
}

# shellcheck shell=bash
# podman-compose in the place of Docker and Compose, for tests, on a Podman of root's with a network, containers and images of
# its own. Needs docker.sh; callers choose_cache first. Leaves out what is run on it.

podman_compose_release=1.6.0
podman_run=/run/mcp-podman-compose

# use_podman: sets the arrays $compose and $on_docker; `docker` is Podman from then on, with $folder as its working directory.
# stop_podman ends it.
use_podman() {
  am_root || fail "only root can give Podman a network of its own" "Run this as root."
  # shellcheck disable=SC2046 # one word each
  ensure_packages "$cache/logs/apt.log" $(podman_packages) slirp4netns iproute2 util-linux
  ensure_python
  local images=${MCP_PODMAN_IMAGES:-$cache/podman-compose} program
  program=$(get_python_tool podman-compose "$podman_compose_release" podman-compose) ||
    fail "podman-compose could not be installed" "The log: $cache/logs/podman-compose.log"
  hold_images "$images"
  # Podman's database knows these places, so that they are the same in each run.
  rm -rf "$podman_run"
  mkdir -p "$podman_run"
  own_network 'exec sleep infinity'
  printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$images" "$podman_run/storage" >"$docker_folder/storage.conf"
  # Podman asks for more open files and processes than some machines allow.
  printf '[containers]\ndefault_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]\n' >"$docker_folder/containers.conf"
  printf '[engine]\ntmp_dir = "%s"\nlock_type = "file"\nevents_logger = "file"\n' \
    "$podman_run/tmp" >>"$docker_folder/containers.conf"
  printf '[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "%s"\n' "$podman_run/networks" >>"$docker_folder/containers.conf"
  : >"$docker_folder/registries.conf"
  if [ -n "${MCP_TEST_HUB:-}" ]; then
    printf '[[registry]]\nprefix = "docker.io"\nlocation = "10.0.2.2:%s"\ninsecure = true\n' "${MCP_TEST_HUB##*:}" >"$docker_folder/registries.conf"
  fi
  export CONTAINERS_STORAGE_CONF=$docker_folder/storage.conf CONTAINERS_CONF=$docker_folder/containers.conf
  export CONTAINERS_REGISTRIES_CONF=$docker_folder/registries.conf
  # Its mounts, and the name server by which names are looked up there, are in the mount namespace that goes with the network.
  inside=(nsenter --target "$docker_pid" --net --mount "--wd=$folder")
  compose=("${inside[@]}" "$program")
  docker() { "${inside[@]}" podman "$@"; }
  docker info >/dev/null || fail "Podman cannot be used here"
}

# stop_podman: removes what was run, and leaves the images.
stop_podman() {
  docker rm --all --force --time 0 >/dev/null 2>&1 || true
  docker volume prune --force >/dev/null 2>&1 || true
  stop_docker
  rm -rf "$podman_run"
}

#!/usr/bin/env bash
# Brings the composition up from a clean checkout of HEAD on a real Docker engine, calls it as README and docs say, looks
# at the rights of its containers, and takes it down so that nothing is left.
#
#   ./scripts/test-compose.sh                     images built by Docker, Rust included: 10 to 30 minutes the first time
#   ./scripts/test-compose.sh --binaries FOLDER   with programs built elsewhere; says aloud what that leaves out
#
# Options:
#   --binaries FOLDER   mcp-manager, mcp-bridge and mcp-echo, linked statically, for the images
#   --rights            take each right of the engine away in turn, and show what then fails (docs/compose.md has the table)
#   --managers          three managers under a mixed load while one is killed every ten seconds
#   --acme              certificates from an ACME server of our own (Debian's pebble)
#   --measure           time from 'up' to the first answer, beside one container of the same engine, five times each
#   --figures FILE      measure alone, and add the medians to FILE as scripts/bench.sh reads them
#   --podman            the same with podman-compose on a Podman of root's (Debian's): the calls, the rights, data in volumes, and
#                       what is left. Rights taken away, replaced parts, TLS, profiles and several managers are tried with Docker
#                       alone.
#   --keep              leave the composition and the Docker engine running, and say how to reach them
#   --help              this text
#
# It uses the Docker engine that runs; as root it starts one of its own where none does (Debian's docker.io, in a network
# namespace of its own). Compose 2 is used as plugin or program; where there is none it is built, which needs Go.
# Variables: MCP_TEST_HUB=127.0.0.1:PORT, a registry that stands in for Docker Hub; MCP_CACHE; MCP_DOCKER_IMAGES, where an
# engine of our own keeps images from run to run.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/machine.sh"
. "$(dirname "$0")/lib/build.sh"
. "$(dirname "$0")/lib/docker.sh"
. "$(dirname "$0")/lib/podman-compose.sh"

binaries='' rights='' managers='' acme='' measure='' figures='' podman='' keep=''
while [ $# -gt 0 ]; do
  case $1 in
    --binaries) [ $# -ge 2 ] || fail "$1 needs a folder"; binaries=$(realpath "$2"); shift ;;
    --rights) rights=yes ;;
    --managers) managers=yes ;;
    --acme) acme=yes ;;
    --measure) measure=yes ;;
    --figures) [ $# -ge 2 ] || fail "$1 needs a file"; figures=$(realpath "$2"); shift ;;
    --podman) podman=yes ;;
    --keep) keep=yes ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) fail "unknown option $1" "See: $0 --help" ;;
  esac
  shift
done

[ -z "$podman" ] || [ -z "$rights$managers$acme$measure$figures" ] || fail "--podman goes with --binaries and --keep alone" "See: $0 --help"
. "$(dirname "$0")/lib/http.sh"
. "$(dirname "$0")/lib/mcp.sh"
folder=$(mktemp -d /tmp/mcp-compose.XXXXXX)
project=mcptest$$
finish() {
  local result=$?
  trap - EXIT
  if [ -n "$keep" ]; then
    note "left running: DOCKER_HOST=${DOCKER_HOST:-} ${on_docker[*]} curl http://localhost/api/mcp/health   (checkout: $folder)"
    exit "$result"
  fi
  if [ "$result" != 0 ] && [ -n "${compose:-}" ]; then
    docker ps --all --filter "label=com.docker.compose.project=$project" || true
    here logs --tail 15 engine mcp-manager front traefik || true
  fi
  if [ -n "${compose:-}" ]; then COMPOSE_PROFILES=redis,postgres here down --volumes --timeout 5 >/dev/null 2>&1 || true; fi
  # shellcheck disable=SC2086 # two process ids
  if [ -n "${acme_pids:-}" ]; then kill $acme_pids 2>/dev/null || true; fi
  if [ -n "$podman" ]; then stop_podman; else stop_docker; fi
  rm -rf "$folder" "$answers"
  if [ "$result" = 0 ]; then step "passed in $SECONDS s, $checks answers right"; fi
  exit "$result"
}
trap finish EXIT
trap 'exit 130' INT TERM

# here ARGUMENT...: Compose in the clean checkout. Its name and profiles are variables, as .env has them, and no arguments.
here() { (cd "$folder" && COMPOSE_PROJECT_NAME=$project "${compose[@]}" "$@"); }
# Published ports of an engine of our own are in its network.
curl() { command ${on_docker[@]+"${on_docker[@]}"} curl "$@"; }
# of SERVICE: the ids of its containers that run.
of() { docker ps --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1"; }
# addresses CONTAINER: one a line, for each of its networks.
addresses() { docker inspect --format '{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{end}}' "$1"; }
# come_up: everything runs and is healthy.
come_up() {
  # podman-compose waits for nothing.
  if [ -n "$podman" ]; then here up --detach; until_answers http://localhost/api/mcp/ready
  else here up --detach --wait --wait-timeout 120 --quiet-pull; fi
}
# Everything of the project's that Docker knows.
left() {
  local label=label=com.docker.compose.project=$project
  docker ps --all --quiet --filter "$label"
  docker volume ls --quiet --filter "$label"
  docker network ls --quiet --filter "$label"
}

main() {
  choose_cache
  if [ -n "$podman" ]; then
    use_podman
    step "Podman $(docker version --format '{{.Client.Version}}'), podman-compose $podman_compose_release"
  else
    ensure_docker
    ensure_compose
    step "Docker $(docker version --format '{{.Server.Version}}'), Compose $("${compose[@]}" version --short)"
  fi
  step "a clean checkout"
  # What is committed, and nothing else, where that can be told.
  if git -C "$checkout" rev-parse HEAD >/dev/null 2>&1; then git -C "$checkout" archive HEAD | tar -x -C "$folder"
  else tar -c -C "$checkout" --exclude ./target . | tar -x -C "$folder"; fi
  configure
  secrets_of_an_installation
  build
  no_secret_in_images
  up
  if [ -n "$figures" ]; then start_up_time; down; return; fi
  calls
  if [ -z "$podman" ]; then by_either_path; fi
  rights_as_they_are
  volumes_stay
  if [ -n "$podman" ]; then
    warn "left out: what is replaced, which is tried with Docker (Podman's name server tells now and then late of a new container)"
    down
    return
  fi
  replaced
  several_managers
  encrypted
  if [ -n "$acme" ]; then by_acme; fi
  if [ -n "$managers" ]; then three_managers; fi
  if [ -n "$rights" ]; then each_right; fi
  if [ -n "$measure" ]; then start_up_time; fi
  with_a_profile
  rights_as_they_are
  down
}

configure() {
  local services names name
  cp "$folder/.env.example" "$folder/.env"
  if [ -n "$podman" ]; then sed -i 's/^#\(ENGINE_PROC=\)/\1/' "$folder/.env"; fi
  # What can be set is in .env.example.
  while read -r name; do
    grep -q "^#\{0,1\}$name=" "$folder/.env.example" || fail ".env.example does not have $name"
  done < <(sed 's/#.*//' "$folder"/docker-compose.yml "$folder"/docker/traefik/*.yml | grep -oE '[$][{][A-Z_]+' | tr -d '{$' | sort -u)
  # By .env alone, both files are one project; podman-compose does not say its name.
  if [ -z "$podman" ]; then
    names=$(cd "$folder" && for file in docker-compose.yml docker/traefik/docker-compose.yml; do
      env -u COMPOSE_PROJECT_NAME "${compose[@]}" --file "$file" config | sed -n 's/^name: //p'
    done)
    [ "$names" = $'mcp\nmcp' ] || fail "the two files are not one project: ${names//$'\n'/ }"
  fi
  services=$(here config --services | sort | tr '\n' ' ')
  [ "$services" = 'engine front mcp-manager traefik ' ] || fail "the composition has other services than it should: $services"
  [ "$(here --file docker/traefik/docker-compose.yml config --services | sort | tr '\n' ' ')" = "$services" ] ||
    fail "docker/traefik/docker-compose.yml is not the same composition"
  if [ -z "$podman" ]; then reads_compose_1; fi
  if [ -n "$docker_folder" ] && [ -n "${MCP_TEST_HUB:-}" ]; then
    printf 'REGISTRY_MIRROR=10.0.2.2:%s\nREGISTRY_MIRROR_INSECURE=true\n' "${MCP_TEST_HUB##*:}" >>"$folder/.env"
  fi
}

# reads_compose_1: Compose 1.29, where Debian has it, finds nothing wrong with the composition and its profiles.
reads_compose_1() {
  if am_root && ! have docker-compose && apt-cache show docker-compose 2>/dev/null | grep '^Version: 1[.]' >/dev/null; then
    ensure_packages "$cache/logs/apt.log" docker-compose
  fi
  if have docker-compose && [[ $(docker-compose version --short 2>/dev/null) == 1.* ]]; then
    (cd "$folder" && COMPOSE_PROFILES=redis,postgres docker-compose config --quiet) || fail "Compose 1 does not read the composition"
    note "ok  Compose $(docker-compose version --short) reads the composition"
  else
    warn "left out: that Compose 1.29 reads the composition (docker-compose 1.29 is not installed)"
  fi
}

# secrets_of_an_installation: where the documents put them, before images are built.
secrets_of_an_installation() {
  mkdir -p "$folder/docker/config/secrets" "$folder/docker/traefik/"{authority,certificates}
  echo hidden >"$folder/docker/config/secrets/installation-secret"
  echo hidden >"$folder/docker/traefik/authority/ca.key"
  echo hidden >"$folder/docker/traefik/certificates/tls.key"
}

no_secret_in_images() {
  local found
  found=$(docker run --rm --network none --entrypoint find localhost/mcp/engine:latest / -xdev \
    '(' -name installation-secret -o -name '*.key' -o -path '*/mcp-manager/images/*/Dockerfile' ')' 2>"$folder/find.log") || true
  case $found in *images/echo/Dockerfile*) ;; *) fail "the engine's image has no recipe of the echo server, or cannot be searched" "$found" "$(tail -n 3 "$folder/find.log")" ;; esac
  found=$(grep -v '/Dockerfile$' <<<"$found" || true)
  [ -z "$found" ] || fail "the engine's image holds secrets of the installation:" "$found"
  note "ok  the engine's image has the echo server's recipe, and no secret of the installation"
  rm -r "$folder/docker/config/secrets" "$folder/docker/traefik/"{authority/ca.key,certificates/tls.key}
}

build() {
  local from image
  # The engine's newer builder asks a registry without TLS for TLS; what is there already it does not ask for.
  if [ -n "$docker_folder" ] && [ -n "${MCP_TEST_HUB:-}" ]; then
    while read -r image; do
      docker pull --quiet "$image" >/dev/null </dev/null || fail "the image $image could not be fetched"
    done < <(sed -n "${binaries:+/^ARG RUST_IMAGE=/d;}"'s/^ARG [A-Z]*_IMAGE=//p' "$folder/docker/Dockerfile")
  fi
  from=$SECONDS
  if [ -z "$binaries" ]; then
    build_quietly || fail "the images could not be built" "$(tail -n 5 "$folder/build.log")"
    note "images built in $((SECONDS - from)) s"
    from=$SECONDS
    build_quietly
    note "and again in $((SECONDS - from)) s"
    [ $((SECONDS - from)) -lt 60 ] || fail "a second build took $((SECONDS - from)) s, though nothing had changed"
    return
  fi
  warn "left out: building the programs inside Docker (--binaries); everything else of the images is built from docker/Dockerfile"
  # The build stage with programs from outside in its place.
  mkdir -p "$folder/out/bin" "$folder/out/manager/"{run/engine,var/lib/mcp-manager,srv/mcp,tmp} "$folder/out/"{traefik/acme,redis/data}
  chmod 1777 "$folder/out/manager/tmp"
  cp "$binaries"/mcp-{manager,bridge,echo} "$folder/out/bin/"
  # shellcheck disable=SC2016 # Docker's variable
  sed '/^FROM ${RUST_IMAGE} AS build/,/^# ----/{/^# ----/!d}; s|^ARG REDIS_IMAGE=.*|&\nFROM scratch AS build\nCOPY out /out|' \
    "$folder/docker/Dockerfile" >"$folder/docker/Dockerfile.binaries"
  echo '!out' >>"$folder/.dockerignore"
  sed -i 's|dockerfile: docker/Dockerfile|&.binaries|' "$folder/docker-compose.yml"
  build_quietly || fail "the images could not be built" "$(tail -n 5 "$folder/build.log")"
  note "images built in $((SECONDS - from)) s"
}

# build_quietly: podman-compose has no word for that.
build_quietly() { if [ -n "$podman" ]; then here build >"$folder/build.log" 2>&1; else here build --quiet 2>&1 | tee "$folder/build.log"; fi; }

up() {
  local from
  from=$(date +%s%N)
  step "up"
  come_up >"$folder/up.log" 2>&1 || fail "the composition did not come up" "$(tail -n 5 "$folder/up.log")"
  until_answers http://localhost/api/mcp/ready
  note "the first answer came $((($(date +%s%N) - from) / 1000000)) ms after 'up'"
}

# until_answers URL [STATUS]: waits until it answers so, with 200 unless said otherwise.
until_answers() {
  local tries=0
  until [ "$(curl -s -o /dev/null --write-out '%{http_code}' --max-time 5 "$1")" = "${2:-200}" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 150 ] || fail "$1 did not answer ${2:-200} in time"
    sleep 0.2
  done
}

json=(--header 'content-type: application/json')
calls() {
  step "the calls of the documents"
  ask GET http://localhost/api/mcp/health
  expect_status 200
  ask GET http://localhost:8000/health
  expect_status 200
  ask POST http://localhost/api/mcp/containers/echo/start "${json[@]}" --data \
    '{"image": "mcp/echo:latest", "port": 8000, "environment": {"MCP_SERVICE_NAME": "echo"}}'
  expect_status 201
  expect_member url '"http://echo.localhost"'
  until_answers http://echo.localhost/health
  # Nobody was asked for the image that the engine has.
  if here logs engine 2>/dev/null | grep 'docker.io/mcp/echo'; then fail "the engine fetched the image of echo from a registry"; fi
  ask GET http://echo.localhost:8000/health
  expect_status 200
  ask GET http://echo.localhost/echo/hello
  expect_member echo '"hello"'
  ask GET http://localhost/api/mcp/containers
  expect_member name '"echo"'
  for path in status logs; do
    ask GET "http://localhost/api/mcp/containers/echo/$path"
    expect_status 200
  done
  if [ -n "${MCP_TEST_HUB:-}" ]; then
    ask POST http://localhost:8000/containers "${json[@]}" --data '{"service_name": "nginx", "template": "nginx"}'
    expect_status 201
    until_answers http://nginx.localhost
    ask GET http://nginx.localhost
    expect_text nginx
    ask POST http://localhost:8000/containers "${json[@]}" --max-time 300 --data \
      '{"service_name": "my-app", "template": "fastapi", "environment": {"DATABASE_URL": "sqlite:///app.db"}, "replicas": 2}'
    if [ "$status" = 502 ]; then
      expect_text registry-unavailable
      warn "left out: images of shipped templates, since containers do not reach a registry of packages from here: $body"
    else
      expect_status 201
      until_answers http://my-app.localhost/health
      ask DELETE http://localhost:8000/containers/my-app
      expect_status 204
    fi
  else
    warn "left out: services from images of a registry (MCP_TEST_HUB is not set)"
  fi
  ask GET http://localhost/api/mcp/templates
  expect_status 200
  ask GET http://localhost/api/mcp/metrics
  expect_status 200
  ask GET http://localhost:8080/metrics
  expect_status 200
  ask GET http://localhost:8080/api/http/routers
  expect_text echo.localhost
  ask GET http://traefik.localhost:8080/dashboard/
  expect_status 200
  ask POST http://localhost/api/mcp/containers/echo/stop
  expect_status 200
  # Traefik asks for the routes once a second.
  until_answers http://echo.localhost/health 503
  ask GET http://echo.localhost/health
  expect_text stopped
  ask POST http://localhost/api/mcp/containers/echo/start
  expect_status 200
  until_answers http://echo.localhost/health
  ask GET http://nobody.localhost/
  expect_status 404
  if [ -n "${MCP_TEST_HUB:-}" ]; then no_way_back; fi
}

# A service with a way to the outside has none to the manager, to Traefik and to what is before it.
no_way_back() {
  local targets='' container address script outside='' number=0 tries=0
  for container in mcp-manager/8000 mcp-manager/8082 traefik/8081 traefik/8000 traefik/8080 front/8081 front/8000 front/8080; do
    for address in $(addresses "$(of "${container%/*}")"); do
      targets+=" $address/${container#*/}" number=$((number + 1))
    done
  done
  # Where it is known, somebody outside shows that the service has a way out at all.
  if [ -n "$docker_folder" ]; then outside=10.0.2.2/${MCP_TEST_HUB##*:}; fi
  script="for place in $outside$targets; do { timeout 3 bash -c ': </dev/tcp/'\$place && echo REACHED \$place || echo refused \$place; } & done; wait; sleep infinity"
  ask POST http://localhost/api/mcp/containers/prober/start "${json[@]}" --data \
    "{\"image\": \"docker.io/library/debian:13-slim\", \"egress\": true, \"command\": [\"bash\", \"-c\", \"$script\"]}"
  expect_status 201
  until [ "$(grep -oE 'REACHED|refused' <<<"$body" | wc -l)" -ge $((number + (${#outside} > 0))) ] || [ "$tries" -gt 60 ]; do
    tries=$((tries + 1))
    sleep 0.5
    ask GET 'http://localhost/api/mcp/containers/prober/logs?stream=stdout'
  done
  if [ -n "$outside" ]; then
    expect_text "REACHED $outside"
    body=${body/REACHED $outside/}
  fi
  case $body in *REACHED*) wrong "no connection from a service to the manager, Traefik or the front" "$(shown)" ;; esac
  [ "$(grep -o refused <<<"$body" | wc -l)" = "$number" ] || wrong "$number attempts that were refused" "$(shown)"
  right "$number addresses of the manager, Traefik and the front are out of a service's reach"
  ask DELETE http://localhost/api/mcp/containers/prober
  expect_status 204
}

rights_as_they_are() {
  local id name line more
  step "rights"
  if [ -n "$podman" ]; then rights_by_podman; return; fi
  for id in $(here ps --quiet); do
    name=$(docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}}' "$id")
    line=$(docker inspect --format '{{.HostConfig.Privileged}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.CapAdd}} {{.Config.User}} {{.HostConfig.NetworkMode | printf "%.4s"}} {{range .Mounts}}{{.Source}} {{end}}' "$id")
    # Whatever takes confinement away, or another's namespaces and devices.
    more=$(docker inspect --format '{{.HostConfig.SecurityOpt}} {{range .HostConfig.Devices}}{{.PathOnHost}}:{{.PathInContainer}}:{{.CgroupPermissions}} {{end}}pid={{.HostConfig.PidMode}} ipc={{.HostConfig.IpcMode}} userns={{.HostConfig.UsernsMode}} uts={{.HostConfig.UTSMode}} masked={{len .HostConfig.MaskedPaths | lt 0}} writes={{range .Mounts}}{{if .RW}}{{.Destination}} {{end}}{{end}}' "$id")
    case $line in *.sock*) fail "$name has a socket of the host's engine: $line" ;; esac
    case $name in
      engine)
        [[ ${line//CAP_/} == 'false true [ALL] [SETGID SETUID] 1000:1000 '* ]] &&
          [[ $more == '[seccomp=unconfined apparmor=unconfined label=disable] /dev/net/tun:/dev/net/tun:rwm pid= ipc=private userns= uts= masked=false '* ]] ;;
      *)
        [[ $line == 'false true [ALL] [] '[1-9]* ]] &&
          [[ $more == '[no-new-privileges:true] pid= ipc=private userns= uts= masked=true '* ]] && [[ $more != *' writes='*/srv/mcp* ]] ;;
    esac || fail "$name has other rights than it should: $line" "$more"
    note "ok  $name: not privileged, read-only, no socket, $line"
    note "    $more"
  done
  here exec -T engine sh -c 'echo written >/srv/mcp/mark && rm /srv/mcp/mark' || fail "services could not write in /srv/mcp"
}

# by_either_path: the file under docker/traefik finds nothing to change in what the one at the top has started.
by_either_path() {
  local before
  before=$(here ps --quiet | sort)
  here --file docker/traefik/docker-compose.yml up --detach >/dev/null 2>&1 || fail "docker/traefik/docker-compose.yml does not come up"
  [ "$(here ps --quiet | sort)" = "$before" ] || fail "docker/traefik/docker-compose.yml started something else than docker-compose.yml"
  note "ok  docker/traefik/docker-compose.yml is the composition that runs"
}

# rights_by_podman: Podman tells of capabilities, masks and options in other words than Docker.
rights_by_podman() {
  local name line
  for name in front traefik mcp-manager engine; do
    line=$(docker inspect --format '{{.HostConfig.Privileged}} {{.HostConfig.ReadonlyRootfs}} {{.BoundingCaps}} {{.Config.User}} {{.HostConfig.SecurityOpt}} pid={{.HostConfig.PidMode}} ipc={{.HostConfig.IpcMode}} {{range .HostConfig.Devices}}{{.PathOnHost}} {{end}}{{range .Mounts}}{{.Source}} {{end}}' "$(of "$name")")
    case $line in *.sock*) fail "$name has a socket of the machine's engine: $line" ;; esac
    case $name in
      engine) [[ $line == 'false true [CAP_SETGID CAP_SETUID] 1000:1000 '* ]] ;;
      *) [[ $line == 'false true [] '[1-9]*no-new-privileges* ]] ;;
    esac || fail "$name has other rights than it should: $line"
    note "ok  $name: not privileged, read-only, no socket, $line"
  done
}

# clients_address: a service is told who asks it, and not who passed that on.
clients_address() {
  local front
  until_answers http://keeper.localhost/health
  front=$(addresses "$(of front)")
  ask GET http://keeper.localhost/headers --header 'x-forwarded-for: 192.0.2.7'
  expect_text x-forwarded-for
  case $body in *"\"$front\""* | *192.0.2.7*) wrong "the client's address, which is neither $front nor what the client says" "$(shown)" ;; esac
}

volumes_stay() {
  step "down and up again keep services and their files"
  ask POST http://localhost/api/mcp/containers/keeper/start "${json[@]}" --data \
    '{"image": "mcp/echo:latest", "port": 8000, "volumes": {"kept": "/data", "/srv/mcp": "/files"}, "restart_policy": "no",
      "environment": {"MCP_ECHO_TEST_CONTROLS": "true"}}'
  expect_status 201
  clients_address
  writer
  here down --timeout 30 >/dev/null 2>&1 || fail "down failed"
  come_up >/dev/null 2>&1 || fail "the composition did not come up again"
  until_answers http://keeper.localhost/health
  until_answers http://echo.localhost/health
  ask GET http://localhost/api/mcp/containers/keeper
  expect_member status '"running"'
  same_data
}

# with_a_profile: PostgreSQL comes and goes by what .env says, and so do volumes of every profile that was used before.
with_a_profile() {
  step "profiles in .env"
  printf 'COMPOSE_PROFILES=%s\nPOSTGRES_PASSWORD=%s\n' "${MCP_TEST_HUB:+redis,}postgres" "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" >>"$folder/.env"
  here up --detach --wait --wait-timeout 120 >/dev/null 2>&1 || fail "the composition did not come up with profiles"
  [ -n "$(here ps --quiet postgres)" ] || fail "COMPOSE_PROFILES=postgres in .env brings no PostgreSQL"
  note "ok  PostgreSQL came with the others"
}

down() {
  step "down --volumes"
  here down --volumes --timeout 20 >/dev/null 2>&1 || fail "down failed"
  [ -z "$(left)" ] || fail "down --volumes left something behind: $(left | tr '\n' ' ')"
  note "ok  nothing is left"
}

# shellcheck source=lib/compose-parts.sh
. "$(dirname "$0")/lib/compose-parts.sh"
# shellcheck source=lib/compose-cases.sh
. "$(dirname "$0")/lib/compose-cases.sh"
main

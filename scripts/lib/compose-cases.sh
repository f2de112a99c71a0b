# shellcheck shell=bash
# The long parts of test-compose.sh: each right taken away in turn, several managers under load, and the start-up time.

# each_right: every right of the engine, its mounts among them, in turn; what fails without it is printed as a row of a table. Nothing
# failing is a failure, but for rights that only machines with AppArmor or SELinux need.
each_right() {
  local original=$folder/original.yml name pattern fails
  step "each right taken away in turn"
  cp "$folder/docker-compose.yml" "$original"
  while IFS='|' read -r name pattern; do
    cp "$original" "$folder/docker-compose.yml"
    sed -i -E "$pattern" "$folder/docker-compose.yml"
    if cmp -s "$original" "$folder/docker-compose.yml"; then fail "the composition says nothing of: $name"; fi
    here down --volumes --timeout 1 >/dev/null 2>&1 || true
    fails=$(what_fails)
    # shellcheck disable=SC2016 # Markdown
    printf '| `%s` | %s |\n' "$name" "$fails"
    case $name:$fails in
      apparmor=* | label=*) ;;
      # It is for images of registries.
      "network egress:$nothing") [ -z "${MCP_TEST_HUB:-}" ] || fail "images are fetched without the network egress" ;;
      *":$nothing") fail "everything works without this right, so it should go: $name" ;;
    esac
  done <<'ROWS'
seccomp=unconfined|s/"seccomp=unconfined", //
systempaths=unconfined|s/, "\$\{ENGINE_PROC:-systempaths=unconfined\}"//
apparmor=unconfined|s/"apparmor=unconfined", //
label=disable|s/"label=disable", //
/dev/net/tun|/devices: /d
capability SETUID|s/cap_add: \[SETGID, SETUID\]/cap_add: [SETGID]/
capability SETGID|s/cap_add: \[SETGID, SETUID\]/cap_add: [SETUID]/
volume engine-storage|/engine-storage:\/home/d
volume engine-socket|/engine-socket:\/run/d
folder /tmp in memory|/its containers have gone/{n;d}
network egress|s/networks: \[services, egress\]/networks: [services]/
ROWS
  cp "$original" "$folder/docker-compose.yml"
  here down --volumes --timeout 1 >/dev/null 2>&1 || true
  up
}

nothing='nothing on this machine'

# what_fails: the first thing that does not work, in a few words.
what_fails() {
  local answer tries=0
  here up --detach >/dev/null 2>"$folder/up.log" || { echo "up: $(tail -n 1 "$folder/up.log" | cut -c 1-120)"; return; }
  until curl -fs -o /dev/null --max-time 2 http://localhost/api/mcp/ready; do
    tries=$((tries + 1))
    if [ "$tries" -gt 60 ]; then
      echo "\`GET /ready\` never says yes: $(here logs --no-color --no-log-prefix engine 2>&1 | grep -v warning | tail -n 1 | cut -c 1-160)"
      return
    fi
    sleep 0.25
  done
  answer=$(curl -s --max-time 60 -X POST http://localhost/api/mcp/containers/echo/start "${json[@]}" --data '{"image": "mcp/echo:latest", "port": 8000}')
  case $answer in *'"status":"running"'*) ;; *) echo "creating \`echo\`: $(said "$answer")"; return ;; esac
  if [ -n "${MCP_TEST_HUB:-}" ]; then
    answer=$(curl -s --max-time 90 -X POST http://localhost/api/mcp/containers "${json[@]}" --data '{"service_name": "nginx", "template": "nginx"}')
    case $answer in *'"status":"running"'*) ;; *) echo "creating \`nginx\`: $(said "$answer")"; return ;; esac
  fi
  echo "$nothing"
}

said() { sed -nE 's/.*"detail":"([^"]*)".*/\1/p' <<<"$1" | cut -c 1-200; }

# three_managers: 200 operations by eight clients, each repeated until it is settled, while a manager is killed every ten
# seconds; then every manager says the same, and what it says is what was asked for.
three_managers() {
  local client killer failures name id wanted seen names=()
  step "three managers, 200 operations, one manager killed every ten seconds"
  here up --detach --scale mcp-manager=3 --no-recreate >/dev/null 2>&1 || fail "three managers did not come up"
  until [ "$(here ps --quiet mcp-manager | wc -l)" = 3 ]; do sleep 0.5; done
  a_creation_is_seen_by_all
  (while sleep 10; do
    id=$(here ps --quiet mcp-manager | shuf -n 1)
    [ -z "$id" ] || { docker kill "$id" >/dev/null 2>&1; echo killed >>"$folder/killed"; docker start "$id" >/dev/null 2>&1; }
  done) &
  killer=$!
  : >"$folder/unsettled"
  for client in 1 2 3 4 5 6 7 8; do one_client "$client" & names+=("$!"); done
  wait "${names[@]}"
  kill "$killer" 2>/dev/null || true
  wait "$killer" 2>/dev/null || true
  [ "$(wc -l <"$folder/killed" 2>/dev/null || echo 0)" -ge 2 ] || fail "fewer than two managers were killed, which shows little"
  note "managers killed: $(wc -l <"$folder/killed"); requests repeated: $(cat "$folder"/repeated.* 2>/dev/null | wc -l)"
  [ ! -s "$folder/unsettled" ] || fail "requests that no repetition settled:" "$(cat "$folder/unsettled")"
  until_answers http://localhost/api/mcp/ready
  sleep 2
  wanted=$(cat "$folder"/kept.* 2>/dev/null | sort)
  for id in $(here ps --quiet mcp-manager); do
    seen=$(docker exec "$id" mcp-manager --quiet ls | grep '^load-' | sort || true)
    [ "$seen" = "$wanted" ] || fail "manager $id sees other services than were asked for" "wanted: ${wanted//$'\n'/ }" "seen: ${seen//$'\n'/ }"
  done
  # One container a service, and none of another.
  seen=$(docker exec "$(here ps --quiet engine)" podman ps --all --format '{{.Labels}}' 2>/dev/null | grep -c 'load-' || true)
  note "ok  all managers agree on $(wc -w <<<"$wanted") services; $seen containers"
  [ "$seen" = "$(wc -w <<<"$wanted")" ] || fail "there are $seen containers for $(wc -w <<<"$wanted") services"
  for name in $wanted; do settled DELETE "/containers/$name" '' 204 404; done
  here up --detach --scale mcp-manager=1 >/dev/null 2>&1
  until_answers http://localhost/api/mcp/ready
}

# a_creation_is_seen_by_all: by each manager, soon.
a_creation_is_seen_by_all() {
  local id from
  until_answers http://localhost/api/mcp/ready
  for id in $(here ps --quiet mcp-manager); do
    until docker exec "$id" mcp-manager --quiet health --ready; do sleep 0.2; done
  done
  ask POST 'http://localhost/api/mcp/containers?wait=none' "${json[@]}" --data '{"service_name": "seen", "template": "echo"}'
  from=$(date +%s%N)
  for id in $(here ps --quiet mcp-manager); do
    until docker exec "$id" mcp-manager --quiet status seen >/dev/null 2>&1; do
      [ $((($(date +%s%N) - from) / 1000000)) -lt 1000 ] || fail "a manager does not see the new service after a second"
    done
  done
  note "ok  all three see a new service; asking them one after the other took $((($(date +%s%N) - from) / 1000000)) ms"
  settled DELETE /containers/seen '' 204 404
}

# one_client N: 25 operations on services of its own, with pauses, so that several managers are killed meanwhile.
one_client() {
  local number=0 name
  while [ "$number" -lt 5 ]; do
    number=$((number + 1))
    name=load-$1-$number
    sleep 8
    settled POST /containers "{\"service_name\": \"$name\", \"template\": \"echo\"}" 201 409
    settled GET "/containers/$name" '' 200
    settled POST "/containers/$name/stop" '' 200
    settled POST "/containers/$name/start" '' 200
    if [ $((number % 2)) = 0 ]; then settled DELETE "/containers/$name" '' 204 404
    else echo "$name" >>"$folder/kept.$1"; settled GET "/containers/$name" '' 200; fi
  done
}

# settled METHOD PATH BODY STATUS...: asks until the answer is one of these; what was done by a request whose answer got lost
# counts, so that a second creation may find the first, and a second deletion nothing.
settled() {
  local method=$1 path=$2 data=$3 tries=0 got
  shift 3
  while :; do
    got=$(curl -s -o /dev/null --write-out '%{http_code}' --max-time 60 -X "$method" "${json[@]}" ${data:+--data "$data"} "http://localhost/api/mcp$path" || true)
    case " $* " in *" $got "*) return ;; esac
    tries=$((tries + 1))
    echo "$method $path $got" >>"$folder/repeated.${BASHPID}"
    if [ "$tries" -ge 30 ]; then echo "$method $path: $got" >>"$folder/unsettled"; return; fi
    sleep 0.5
  done
}

# settled_at_once METHOD PATH BODY STATUS: whether one request gets this answer.
settled_at_once() {
  [ "$(curl -s -o /dev/null --write-out '%{http_code}' --max-time 60 -X "$1" "${json[@]}" --data "$3" "http://localhost/api/mcp$2" || true)" = "$4" ]
}

# start_up_time: from `up`, with images built and volumes there, to the first answer of the manager through Traefik; and from
# `docker run` of one container with a static program to its first answer. Milliseconds, five rounds each.
start_up_time() {
  local round id from engine whole=() ready=() bare=() podman=()
  step "start-up time"
  id=$(docker create localhost/mcp/engine:latest)
  docker cp "$id:/usr/share/mcp-manager/images/echo/mcp-echo" "$folder/mcp-echo" >/dev/null
  docker rm "$id" >/dev/null
  printf 'FROM scratch\nCOPY mcp-echo /mcp-echo\nENTRYPOINT ["/mcp-echo"]\n' >"$folder/Dockerfile.bare"
  echo '!mcp-echo' >>"$folder/.dockerignore"
  docker build --quiet -t localhost/mcp/bare -f "$folder/Dockerfile.bare" "$folder" >/dev/null 2>&1 || fail "the image for comparison could not be built"
  for round in 1 2 3 4 5; do
    here down --timeout 5 >/dev/null 2>&1
    from=$(date +%s%N)
    here up --detach >/dev/null 2>&1
    first_answer http://localhost/api/mcp/health
    whole+=("$((($(date +%s%N) - from) / 1000000))")
    first_answer http://localhost/api/mcp/ready
    ready+=("$((($(date +%s%N) - from) / 1000000))")
    from=$(date +%s%N)
    id=$(docker run --detach --rm --publish 127.0.0.1:8099:8000 localhost/mcp/bare)
    first_answer http://127.0.0.1:8099/health
    bare+=("$((($(date +%s%N) - from) / 1000000))")
    docker kill "$id" >/dev/null
    # The same by the Podman inside, whose address is that of its container in the network of services.
    engine=$(here ps --quiet engine)
    from=$(date +%s%N)
    docker exec "$engine" podman run --detach --rm --name bare --read-only --cap-drop all --publish 0.0.0.0:8098:8000 localhost/mcp/echo >/dev/null
    first_answer "http://$(docker inspect --format "{{(index .NetworkSettings.Networks \"${project}_services\").IPAddress}}" "$engine"):8098/health"
    podman+=("$((($(date +%s%N) - from) / 1000000))")
    docker exec "$engine" podman kill bare >/dev/null
  done
  in_figures "composition, from 'up' to the manager's first answer through Traefik" "${whole[@]}"
  in_figures "composition, from 'up' to its readiness for services" "${ready[@]}"
  in_figures "one container by docker run, to its first answer" "${bare[@]}"
  in_figures "one container by podman run in the engine, to its first answer" "${podman[@]}"
}

# in_figures WHAT MILLISECONDS...: says them, and adds their median to the file of figures.
in_figures() {
  local what=$1
  shift
  note "$what: $* ms"
  if [ -n "$figures" ]; then
    printf 'compose\t%s: median of %d\t%d\tms\t\n' "$what" $# "$(printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p")" >>"$figures"
  fi
}

first_answer() { until curl -fs -o /dev/null --max-time 2 "$1"; do sleep 0.02; done; }

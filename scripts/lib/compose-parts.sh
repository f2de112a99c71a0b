# shellcheck shell=bash
# Parts of test-compose.sh that every run has: data, replacement of each part, several managers, TLS.

# writer: a service that writes its mark into a volume at its first start, and says the mark at each.
writer() {
  if [ -z "${MCP_TEST_HUB:-}" ]; then warn "left out: the data in volumes (MCP_TEST_HUB is not set)"; return; fi
  # shellcheck disable=SC2016 # for the shell inside
  ask POST http://localhost/api/mcp/containers/writer/start "${json[@]}" --data "$(printf '{"image": "docker.io/library/debian:13-slim",
    "volumes": {"written": "/data"}, "command": ["bash", "-c", "%s"]}' \
    'trap \"exit 0\" TERM; [ -e /data/mark ] || echo mark-$RANDOM$RANDOM$RANDOM >/data/mark; cat /data/mark; sleep infinity & wait')"
  expect_status 201
  mark=''
  same_data
}

# same_data: the newest container of the writer finds what the first one wrote.
same_data() {
  [ -n "${MCP_TEST_HUB:-}" ] || return 0
  local tries=0 said=''
  until [ -n "$said" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 150 ] || fail "the service with a volume says nothing" "$(shown)"
    sleep 0.2
    ask GET http://localhost/api/mcp/containers/writer
    case $(compact) in *'"status":"running"'*) ;; *) continue ;; esac
    ask GET 'http://localhost/api/mcp/containers/writer/logs?stream=stdout&tail=1'
    said=$(grep -oE 'mark-[0-9]+' <<<"$body" | tail -n 1 || true)
  done
  [ -z "$mark" ] || [ "$mark" = "$said" ] || fail "the volume holds something else than before" "before: $mark" "now: $said"
  mark=$said
  right "the volume holds $mark"
}

# replaced: a new manager disturbs no service, a new Traefik fails no request, also when a stream is open, and a new engine
# restarts all with their data.
replaced() {
  local stream late front part
  step "a new manager, a new Traefik, a new engine"
  front=$(of front)
  meanwhile "a new manager" http://echo.localhost/health up --detach --force-recreate --no-deps --wait mcp-manager
  all_answered 0
  until_answers http://localhost/api/mcp/ready
  meanwhile "a new manager" http://localhost:8000/health up --detach --force-recreate --no-deps --wait mcp-manager
  found_again
  # With a stream open, which the old one waits for, and an answer under way.
  curl -s -N -o /dev/null http://localhost/api/mcp/events &
  stream=$!
  curl -s -o /dev/null --write-out '%{http_code}' http://keeper.localhost/delay/4000 >"$folder/late" &
  late=$!
  another_traefik next
  TRAEFIK_BUILT_IMAGE=localhost/mcp/traefik:next meanwhile "a new version of Traefik" http://echo.localhost/health up --detach --wait
  all_answered 0
  wait "$stream" || true
  wait "$late" || true
  [ "$(cat "$folder/late")" = 200 ] || fail "an answer that was under way when Traefik was told to stop did not come: $(cat "$folder/late")"
  [ "$(docker inspect --format '{{.Config.Image}}' "$(of traefik)")" = localhost/mcp/traefik:next ] || fail "Traefik was not replaced"
  side_by_side
  until_answers http://localhost/api/mcp/ready
  # One that is gone is waited for, too, as soon as that is known.
  here kill traefik >/dev/null 2>&1
  sleep 2
  curl -s -o /dev/null --max-time 1 -X POST http://keeper.localhost/given-up || true
  meanwhile "Traefik, which was killed" http://echo.localhost/health up --detach --wait traefik
  all_answered 0
  curl -s -o /dev/null http://keeper.localhost/not-given-up
  until here logs --no-color traefik | grep '"/not-given-up"' >/dev/null; do sleep 0.2; done
  if here logs --no-color traefik | grep '"/given-up"'; then fail "what a client sent that did not wait for Traefik was carried out when it had gone"; fi
  docker rmi localhost/mcp/traefik:next localhost/mcp/traefik:last >/dev/null
  # From here on with the folder that Podman has as root, which is in the same volume.
  sed -i 's|^CONTAINERS_STORAGE_GRAPHROOT=.*|CONTAINERS_STORAGE_GRAPHROOT=/var/lib/containers/storage|' "$folder/.env"
  REVISION=next meanwhile "a new revision of all" http://localhost:8000/health up --detach --build --wait
  for part in mcp-manager traefik engine; do
    [ "$(docker inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' "$(of "$part")")" = next ] || fail "$part is not new"
  done
  until_answers http://echo.localhost/health
  until_answers http://keeper.localhost/health
  without_engine
  until_answers http://echo.localhost/health
  until_answers http://keeper.localhost/health
  [ "$(of front)" = "$front" ] || fail "the front was replaced, too, though nothing of it had changed"
  same_data
  podman_by_hand
}

# without_engine: where there are no routes, since the manager does not find its engine, it says so all the same.
without_engine() {
  local from
  here stop engine mcp-manager traefik >/dev/null 2>&1
  here start mcp-manager traefik >/dev/null 2>&1
  from=$SECONDS
  until_answers http://localhost/api/mcp/ready 503
  note "ok  without its engine the manager says so through Traefik, $((SECONDS - from)) s after both were started"
  here start engine >/dev/null 2>&1
  until_answers http://localhost/api/mcp/ready
}

# another_traefik TAG: an image of Traefik under this tag that is not the one that runs.
another_traefik() {
  printf 'FROM localhost/mcp/traefik:latest\nLABEL tag=%s\n' "$1" | docker build --quiet -t "localhost/mcp/traefik:$1" - >/dev/null 2>&1 ||
    fail "no other image of Traefik could be built"
}

# side_by_side: a new Traefik beside the old one, which then goes, as docs/compose.md says.
side_by_side() {
  another_traefik last
  export TRAEFIK_BUILT_IMAGE=localhost/mcp/traefik:last
  meanwhile "a second Traefik" http://echo.localhost/health up --detach --no-deps --no-recreate --scale traefik=2 --wait traefik
  all_answered 0 1000
  meanwhile "the first Traefik goes" http://echo.localhost/health up --detach --no-deps --wait traefik
  all_answered 0 1000
  [ "$(docker inspect --format '{{.Config.Image}}' "$(of traefik)")" = localhost/mcp/traefik:last ] || fail "the new Traefik is not the one that stayed"
  unset TRAEFIK_BUILT_IMAGE
}

# all_answered NUMBER [MILLISECONDS]: no more than so many requests went unanswered, and none took longer.
all_answered() {
  [ "$unanswered" -le "$1" ] || fail "$unanswered of $requests requests were not answered while something else was replaced"
  [ "$slowest" -le "${2:-15000}" ] || fail "an answer took $slowest ms while something else was replaced"
}

# podman_by_hand: Podman in the engine's container has the settings and the images of the service.
podman_by_hand() {
  local folders='{{.Store.GraphDriverName}} {{.Store.GraphRoot}} {{.Store.RunRoot}}' service by_hand
  service=$(here exec -T engine podman --url unix:///run/engine/podman.sock info --format "$folders")
  by_hand=$(here exec -T engine podman info --format "$folders")
  [ "$by_hand" = "$service" ] || fail "podman by hand has other folders than the service" "by hand: $by_hand" "service: $service"
  note "ok  podman by hand has the service's folders: $by_hand"
  if [ -n "${MCP_TEST_HUB:-}" ]; then
    here exec -T engine podman pull --quiet docker.io/library/debian:13-slim >/dev/null 2>&1 || fail "podman by hand does not find the registry of the settings"
    note "ok  podman by hand pulls from the registry of the settings"
  fi
}

# found_again: a manager that was away for long answers through Traefik as soon as it answers at all.
found_again() {
  local address from took
  here stop mcp-manager >/dev/null 2>&1
  # Long enough for whatever asks now and then whether the manager is there.
  sleep 11
  here start mcp-manager >/dev/null 2>&1
  address=$(addresses "$(here ps --quiet mcp-manager)")
  until_answers "http://$address:8000/health"
  from=$(date +%s%N)
  until_answers http://localhost:8000/health
  took=$((($(date +%s%N) - from) / 1000000))
  [ "$took" -lt 2000 ] || fail "Traefik led nobody to the manager for another $took ms after it was back"
  note "ok  a manager that was away answers through Traefik $took ms after it answers at all"
  until_answers http://localhost/api/mcp/ready
}

# meanwhile WHAT URL COMPOSE ARGUMENT...: four clients ask the URL again and again while Compose works, each with a connection that
# it keeps for some requests, and with these options of curl; $requests and $unanswered count, $slowest is in milliseconds.
asking_with=()
meanwhile() {
  local what=$1 url=$2 client clients=()
  shift 2
  : >"$folder/asking"
  for client in 1 2 3 4; do
    : >"$folder/asked.$client"
    while [ -e "$folder/asking" ]; do
      curl -s --max-time 20 "${asking_with[@]}" --write-out '%{stderr}%{http_code} %{time_total}\n' -o /dev/null "$url?number=[1-5]" 2>>"$folder/asked.$client" || true
      # Below the limit that the API has for an address.
      sleep 0.25
    done &
    clients+=("$!")
  done
  here "$@" >/dev/null 2>&1 || fail "compose $* failed"
  rm "$folder/asking"
  wait "${clients[@]}"
  cat "$folder"/asked.? >"$folder/asked"
  requests=$(wc -l <"$folder/asked") unanswered=$(grep -vc '^200 ' "$folder/asked" || true)
  slowest=$(awk '$2 > most { most = $2 } END { printf "%d", most * 1000 }' "$folder/asked")
  note "ok  $what: $unanswered of $requests requests to $url went unanswered meanwhile$(other_answers), the slowest took $slowest ms"
}

# other_answers: what there was in place of 200, where 000 is no answer.
other_answers() { grep -v '^200 ' "$folder/asked" | cut -d ' ' -f 1 | sort | uniq -c | awk '{ printf "%s%d times %s", NR == 1 ? ": " : ", ", $1, $2 }' || true; }

# several_managers: what one is told all know, and a session is found by each, also when they have it from Redis how.
several_managers() {
  local redis=()
  step "three managers"
  three_sessions
  if [ -z "${MCP_TEST_HUB:-}" ]; then warn "left out: the profile redis (MCP_TEST_HUB is not set)"; else
    step "three managers and Redis"
    redis=(COMPOSE_PROFILES=redis ENABLE_REDIS=true REDIS_URL=redis://redis:6379/0)
    (export "${redis[@]}"; here up --detach --wait redis >"$folder/redis.log" 2>&1) ||
      fail "Redis did not come up" "$(tail -n 5 "$folder/redis.log")" "$(COMPOSE_PROFILES=redis here logs --no-color --tail 5 redis)"
    (export "${redis[@]}"; three_sessions) || exit 1
    COMPOSE_PROFILES=redis here exec -T redis redis-cli --raw KEYS 'mcp-manager:*' | grep -q sessions || fail "nothing of the managers is in Redis"
    COMPOSE_PROFILES=redis here rm --stop --force redis >/dev/null 2>&1
  fi
  step "three managers and PostgreSQL"
  audited_in_postgres
  here up --detach --scale mcp-manager=1 >/dev/null 2>&1
  until_answers http://localhost/api/mcp/ready
}

# audited_in_postgres: the audit of three managers is in one table, and what it cannot take is not done.
audited_in_postgres() {
  local password tries=0 rows settings
  password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  settings=(COMPOSE_PROFILES=postgres POSTGRES_PASSWORD="$password" AUDIT_DATABASE_URL="postgres://mcp:$password@postgres:5432/mcp")
  (export "${settings[@]}"; here up --detach --wait postgres >"$folder/postgres.log" 2>&1) ||
    fail "PostgreSQL did not come up" "$(tail -n 5 "$folder/postgres.log")" "$(COMPOSE_PROFILES=postgres here logs --no-color --tail 5 postgres)"
  (export "${settings[@]}"; here up --detach --wait --scale mcp-manager=3) >/dev/null 2>&1 || fail "three managers did not come up with PostgreSQL"
  a_creation_is_seen_by_all
  in_table() { COMPOSE_PROFILES=postgres here exec -T postgres psql --no-align --tuples-only mcp --command "$1"; }
  rows=$(in_table "SELECT string_agg(event || ' ' || operation || ' ' || coalesce(result, '-'), ', ' ORDER BY at) FROM mcp_audit WHERE target = 'seen'")
  [ "$rows" = 'begin service_create -, end service_create ok, begin service_delete -, end service_delete ok' ] ||
    fail "the audit's table says something else than what was done" "it says: $rows"
  right "the table has: $rows"
  COMPOSE_PROFILES=postgres here stop postgres >/dev/null 2>&1
  ask POST 'http://localhost/api/mcp/containers?wait=none' "${json[@]}" --data '{"service_name": "unseen", "template": "echo"}'
  expect_status 500
  expect_text 'the audit cannot be written, so the operation was not done'
  ask GET http://localhost/api/mcp/containers
  expect_status 200
  case $body in *unseen*) wrong "no service whose creation could not be audited" "$(shown)" ;; esac
  COMPOSE_PROFILES=postgres here start postgres >/dev/null 2>&1
  until settled_at_once POST /containers '{"service_name": "unseen", "template": "echo"}' 201; do
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || fail "the managers did not find PostgreSQL again"
    sleep 0.5
  done
  right "the managers find PostgreSQL again"
  settled DELETE /containers/unseen '' 204 404
  # The other managers are told to do without it, before it goes.
  here up --detach --wait --scale mcp-manager=1 >/dev/null 2>&1 || fail "the manager did not come up without PostgreSQL"
  COMPOSE_PROFILES=postgres here rm --stop --force postgres >/dev/null 2>&1
}

# one_name_once: of managers that are asked to create the same at one moment one does it.
one_name_once() {
  local number id address askers
  for number in 1 2 3 4 5; do
    askers=()
    rm -f "$folder"/once.*
    for id in $(here ps --quiet mcp-manager); do
      address=$(addresses "$id")
      curl -s -o /dev/null --write-out '%{http_code}' "${json[@]}" "http://$address:8000/containers" \
        --data "{\"service_name\": \"once-$number\", \"template\": \"echo\"}" >"$folder/once.$address" &
      askers+=("$!")
    done
    wait "${askers[@]}"
    [ "$(for address in "$folder"/once.*; do cat "$address"; echo; done | sort | tr '\n' ' ')" = '201 409 409 ' ] ||
      fail "of three managers that were asked to create the same one should do it" "$(tail -n +1 "$folder"/once.*)"
    settled DELETE "/containers/once-$number" '' 204 404
  done
  note "ok  each of five names was created once, with all three managers asked for it at one moment"
}

three_sessions() {
  local id address owner managers=()
  here up --detach --wait --scale mcp-manager=3 >/dev/null 2>&1 || fail "three managers did not come up"
  a_creation_is_seen_by_all
  one_name_once
  session=''
  in_session http://localhost/api/mcp/mcp '{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}'
  expect_status 200
  session=$(header mcp-session-id)
  in_session http://localhost/api/mcp/mcp '{"jsonrpc": "2.0", "method": "notifications/initialized"}'
  expect_status 202
  for id in $(here ps --quiet mcp-manager); do
    address=$(addresses "$id")
    case $session in *".${address//./-}-8000."*) owner=$id ;; *) managers+=("$address") ;; esac
    in_session "http://$address:8000/mcp" '{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}'
    expect_status 200
    expect_text container_list
  done
  [ "${#managers[@]}" = 2 ] || fail "the session's id names none of the managers: $session"
  docker kill "$owner" >/dev/null
  in_session "http://${managers[0]}:8000/mcp" '{"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}'
  expect_status 404
  session=''
}

encrypted() {
  step "TLS with a certificate of our own"
  have openssl || { warn "left out: TLS (openssl is not installed)"; return; }
  if TLS=own here up --detach --wait --wait-timeout 60 >/dev/null 2>&1; then fail "Traefik without its certificate counts as healthy"; fi
  here logs --no-color traefik 2>&1 | grep 'traefik-health: TLS=own, but tls.crt is not in docker/traefik/certificates' >/dev/null ||
    fail "Traefik's log does not say which certificate is missing" "$(here logs --no-color --tail 5 traefik)"
  note "ok  Traefik without its certificate is unhealthy, and its log says why"
  "$folder/scripts/make-certificate.sh" echo >/dev/null
  TLS=own HTTPS_PORT=8443 here stop traefik >/dev/null 2>&1
  TLS=own HTTPS_PORT=8443 here up --detach --wait --wait-timeout 60 >"$folder/own.log" 2>&1 ||
    fail "the composition did not come up with TLS=own" "$(tail -n 5 "$folder/own.log")"
  local trusted=(--cacert "$folder/docker/traefik/certificates/ca.crt" --resolve localhost:8443:127.0.0.1) tries=0
  until curl -fs -o /dev/null "${trusted[@]}" --resolve echo.localhost:8443:127.0.0.1 https://echo.localhost:8443/health; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || fail "https://echo.localhost:8443 did not answer in time"
    sleep 0.2
  done
  ask GET https://localhost:8443/api/mcp/containers/echo "${trusted[@]}"
  expect_member url '"https://echo.localhost:8443"'
  ask GET http://echo.localhost/health
  expect_status 301
  expect_header location https://echo.localhost:8443/health
  # A new certificate counts with a restart.
  "$folder/scripts/make-certificate.sh" echo keeper >/dev/null
  asking_with=("${trusted[@]}" --resolve echo.localhost:8443:127.0.0.1)
  TLS=own HTTPS_PORT=8443 meanwhile "Traefik restarted, over TLS" https://echo.localhost:8443/health restart traefik
  all_answered 0
  asking_with=()
  tries=0
  until curl -fs -o /dev/null "${trusted[@]}" --resolve keeper.localhost:8443:127.0.0.1 https://keeper.localhost:8443/health; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || fail "https://keeper.localhost:8443 did not answer with the new certificate in time"
    sleep 0.2
  done
  if here logs --no-color mcp-manager | grep 'is set and counts'; then fail "the manager warns of settings that the composition made itself"; fi
  here up --detach --wait --wait-timeout 60 >/dev/null 2>&1
  until_answers http://echo.localhost/health
}

# by_acme: Traefik gets certificates from an ACME server, for each name that a service has.
by_acme() {
  local gateway work=$folder/acme tries=0 domain=mcp.test trusted
  step "TLS with certificates by ACME"
  [ -n "$docker_folder" ] || { warn "left out: ACME (the Docker engine is not ours, so its ports are this machine's)"; return; }
  ensure_packages "$cache/logs/apt.log" pebble openssl
  mkdir -p "$work"
  gateway=$(docker network inspect "${project}_edge" --format '{{(index .IPAM.Config 0).Gateway}}')
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=acme -addext "subjectAltName=IP:$gateway" \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
  chmod 644 "$work/cert.pem"
  printf '{"pebble": {"listenAddress": "%s:14000", "managementListenAddress": "127.0.0.1:15000", "certificate": "%s", "privateKey": "%s",
    "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": false}}' \
    "$gateway" "$work/cert.pem" "$work/key.pem" >"$work/config.json"
  # Every name leads to the published ports.
  "${on_docker[@]}" pebble-challtestsrv -defaultIPv4 127.0.0.1 -defaultIPv6 '' -dns01 127.0.0.1:8053 -http01 '' -https01 '' -tlsalpn01 '' \
    -management 127.0.0.1:8055 >"$work/names.log" 2>&1 &
  acme_pids=$!
  PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0 "${on_docker[@]}" pebble -config "$work/config.json" -dnsserver 127.0.0.1:8053 \
    >"$work/pebble.log" 2>&1 &
  acme_pids+=" $!"
  printf 'services: {traefik: {environment: {LEGO_CA_CERTIFICATES: /etc/acme.pem}, volumes: ["%s/cert.pem:/etc/acme.pem:ro"]}}\n' \
    "$work" >"$folder/acme.yml"
  (export TLS=acme DOMAIN=$domain ACME_EMAIL=me@$domain ACME_SERVER=https://$gateway:14000/dir
    here --file docker-compose.yml --file acme.yml up --detach --wait --wait-timeout 60) >/dev/null 2>&1 ||
    fail "the composition did not come up with TLS=acme"
  until curl -fs -o "$work/root.pem" --insecure https://127.0.0.1:15000/roots/0; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || fail "the ACME server does not answer" "$(tail -n 5 "$work/pebble.log")"
    sleep 0.2
  done
  trusted=(--cacert "$work/root.pem" --resolve "echo.$domain:443:127.0.0.1" --resolve "$domain:443:127.0.0.1")
  tries=0
  until curl -fs -o /dev/null "${trusted[@]}" "https://echo.$domain/health" && curl -fs -o /dev/null "${trusted[@]}" "https://$domain/api/mcp/health"; do
    tries=$((tries + 1))
    [ "$tries" -lt 150 ] || fail "no certificate that can be trusted came" "$(tail -n 5 "$work/pebble.log")" "$(here logs --no-color --tail 5 traefik)"
    sleep 0.4
  done
  ask GET "https://$domain/api/mcp/containers/echo" "${trusted[@]}"
  expect_member url "\"https://echo.$domain\""
  ask GET "http://echo.$domain/health" --resolve "echo.$domain:80:127.0.0.1"
  expect_status 301
  # shellcheck disable=SC2086 # two process ids
  kill $acme_pids 2>/dev/null || true
  acme_pids=''
  here up --detach --wait --wait-timeout 60 >/dev/null 2>&1
  until_answers http://echo.localhost/health
}

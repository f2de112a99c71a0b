# shellcheck shell=bash
# The manager as quickstart.sh installs it for the target: files, process, services. Needs rootless.sh.

echo_image=localhost/mcp/echo:latest

# use_installation: names the places below the target's home.
use_installation() {
  installation=$target_home/.local/share/mcp-manager
  state=$target_home/.local/state/mcp-manager
  manager=$installation/bin/mcp-manager
  manager_log=$state/manager.log
}

# put_file FROM TO MODE: copies a file for the target, at once or not at all, only if it differs; says by its status
# (0) that it did. The target need not be able to read FROM.
put_file() {
  if cmp -s "$1" "$2"; then return 0; fi
  # shellcheck disable=SC2016 # the inner shell expands
  as_target sh -c 'mkdir -p "$(dirname "$1")" && cat >"$1.new" && chmod "$2" "$1.new" && mv "$1.new" "$1"' sh "$2" "$3" <"$1"
}

install_files() {
  use_installation
  remember installation "$installation"
  remember instance "${MCP_MANAGER_BACKEND_INSTANCE:-${MCP_MANAGER_INSTANCE:-mcp}}"
  if [ -x "$manager" ] && ! cmp -s "$binaries/mcp-manager" "$manager"; then manager_changed=yes; else manager_changed=''; fi
  as_target mkdir -p "$state" "$installation/bin"
  put_file "$binaries/mcp-manager" "$manager" 755
  # For servers that speak stdio; the manager looks for it beside itself.
  if [ -x "$binaries/mcp-bridge" ]; then put_file "$binaries/mcp-bridge" "$(dirname "$manager")/mcp-bridge" 755; fi
  install_templates
  # The recipes of the images that the templates name, without what belongs to an installation of the composition.
  tar -C "$checkout" --exclude=docker/config --exclude=docker/traefik -cf - docker | as_target tar -C "$installation" --no-same-owner -xf -
}

# install_templates: ships templates, keeping what was edited, added or deleted since they were last shipped.
install_templates() {
  local file name mine=$installation/templates shipped=$installation/templates.shipped
  as_target mkdir -p "$mine" "$shipped"
  for file in "$checkout"/templates/*; do
    [ -f "$file" ] || continue
    name=$(basename "$file")
    if [ -e "$shipped/$name" ]; then
      if [ ! -e "$mine/$name" ]; then continue; fi
      if ! cmp -s "$shipped/$name" "$mine/$name"; then
        cmp -s "$file" "$shipped/$name" || note "keeping your edited $mine/$name; the new one is $file"
        continue
      fi
    elif [ -e "$mine/$name" ]; then
      continue
    fi
    put_file "$file" "$mine/$name" 644
    put_file "$file" "$shipped/$name" 644
  done
}

# manager_pid: the process id of the running manager of this installation, or nothing.
manager_pid() {
  local pid
  pid=$(cat "$state/manager.pid" 2>/dev/null) || return 0
  case $(readlink "/proc/$pid/exe" 2>/dev/null) in "$manager" | "$manager (deleted)") echo "$pid" ;; esac
}
manager_runs() { [ -n "$(manager_pid)" ]; }

# Settings of the manager that whoever starts this script may set for it.
manager_settings='MCP_MANAGER_.*|MCP_NETWORK|MAX_CONTAINERS|DEFAULT_(MEMORY|CPU)_LIMIT|ENABLE_.*|CORS_ORIGINS'
manager_settings+='|HEALTH_CHECK_INTERVAL|LOG_.*|CONTAINERS_STORAGE_.*|REGISTRY_AUTH_FILE|REDIS_URL'

start_manager() {
  if manager_runs; then
    if [ -z "$manager_changed" ] && [ "$(recalled port)" = "$port" ]; then
      wait_until_ready
      step "the manager runs already (process $(manager_pid))"
      return
    fi
    step "restarting the manager: its $([ -n "$manager_changed" ] && echo binary || echo port) changed; services go on"
    stop_manager
  fi
  port_taken "$port" && fail "port $port of 127.0.0.1 is taken by $(port_owner "$port")" "Choose another with --port."
  step "starting the manager on 127.0.0.1:$port as $target"
  sed -i '/^port=/d' "$record"
  remember port "$port"
  mapfile -t hand_over < <(compgen -e | grep -E "^($manager_settings)\$" || true)
  launch_for_good MCP_MANAGER_SERVER_LISTEN="127.0.0.1:$port" MCP_MANAGER_TEMPLATES_DIR="$installation/templates"
  hand_over=()
  wait_until_ready
}

# launch SETTING...: the manager as a process of its own, not of this script's terminal; its id goes to manager.pid.
# Where systemd runs, as a unit of the target's own systemd, because only there it gets cgroups to hand on.
launch() {
  prepare_launch "$@"
  if has_systemd; then
    # Left behind, the unit holds the processes of the containers' networks, and they keep its name taken: every start
    # needs a new one.
    # shellcheck disable=SC2046 # one word each
    as_target systemd-run --user --quiet --collect --unit="mcp-manager-$(date +%s)" \
      $(unit_properties | sed 's/^/--property=/') "$installation/bin/launch" "$state" "$manager" ||
      fail "systemd did not start the manager" "systemd's message is above."
  else
    as_target setsid --fork "$installation/bin/launch" "$state" "$manager"
  fi
}

# launch_for_good SETTING...: as launch, and where systemd runs it starts the manager again with the machine, and when it
# breaks down. The services need nothing more: the manager starts what should run.
launch_for_good() {
  local folder=$target_home/.config/systemd/user
  if ! has_systemd; then launch "$@"; return; fi
  prepare_launch "$@"
  # shellcheck disable=SC2016 # the inner shell expands
  printf '%s\n' "[Unit]" "Description=mcp-manager, set up by quickstart.sh" "" \
    "[Service]" "ExecStart=\"${installation//%/%%}/bin/launch\" \"${state//%/%%}\" \"${manager//%/%%}\"" \
    "$(unit_properties)" "Restart=on-failure" "RestartSec=2" "" "[Install]" "WantedBy=default.target" |
    as_target sh -c 'mkdir -p "$1" && cat >"$1/mcp-manager.service"' sh "$folder"
  as_target systemctl --user daemon-reload
  as_target systemctl --user --quiet enable mcp-manager.service
  as_target systemctl --user restart mcp-manager.service ||
    fail "systemd did not start the manager" "systemd's message is above."
}

# prepare_launch SETTING...: the file of its settings, and the program that reads it and becomes the manager.
prepare_launch() {
  local settings setting value quote=\' escaped="'\\''"
  target_settings
  as_target rm -f "$state/manager.pid"
  put_file "$checkout/scripts/lib/launch.sh" "$installation/bin/launch" 755
  # Nobody else's to read: some settings are secrets.
  # shellcheck disable=SC2016 # the inner shell expands
  for setting in "${settings[@]}" "$@"; do
    value=${setting#*=}
    printf "export %s='%s'\n" "${setting%%=*}" "${value//$quote/"$escaped"}"
  done | as_target sh -c 'umask 077; cat >"$1"' sh "$state/settings"
}

# unit_properties: what the manager's unit needs. Delegate: Podman looks at its own group for what it can limit, and there
# the CPU is only when it is asked for. KillMode: the unit also holds the processes behind the containers' networks, which
# go on when the manager ends.
unit_properties() { printf '%s\n' Delegate=yes KillMode=process; }

wait_until_ready() {
  local tries=0
  until curl -fs -o /dev/null --max-time 5 "http://127.0.0.1:$port/ready"; do
    tries=$((tries + 1))
    if [ "$tries" -gt 10 ] && ! manager_runs; then
      tail -n 20 "$manager_log" >&2
      fail "the manager ended; its last words are above" "The log: $manager_log"
    fi
    if [ "$tries" -gt 300 ]; then
      curl -sS --max-time 5 "http://127.0.0.1:$port/ready" >&2 || true
      tail -n 20 "$manager_log" >&2
      fail "the manager is not ready after a minute; its answer and its last words are above" "The log: $manager_log"
    fi
    sleep 0.2
  done
}

stop_manager() {
  local pid tries=0
  pid=$(manager_pid)
  [ -n "$pid" ] || return 0
  # Its unit must know that it was stopped on purpose, however it ends.
  if has_systemd && [ "$(as_target systemctl --user show --property=MainPID --value mcp-manager.service)" = "$pid" ]; then
    as_target systemctl --user stop mcp-manager.service || true
  else
    kill -TERM "$pid"
  fi
  while [ -d "/proc/$pid" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 200 ]; then warn "the manager does not end; killing it"; kill -KILL "$pid"; fi
    sleep 0.1
  done
  as_target rm -f "$state/manager.pid"
}

# remove_services: from somebody's own Podman, what this installation's manager made there: nothing else has its label.
remove_services() {
  have podman || return 0
  step "removing the manager's containers, volumes, networks and secrets from $target's Podman"
  remove_owned "$(recalled instance)"
  if [ -n "$(recalled image)" ]; then as_target podman rmi --force "$(recalled image)" >/dev/null 2>&1 || true; fi
}

# remove_owned INSTANCE: everything in Podman that managers of that instance made.
remove_owned() {
  local owner=label=io.mcp-manager.owner=$1 ids
  ids=$(as_target podman ps --all --quiet --filter "$owner")
  # Podman 4.3 complains about a network namespace that is busy, and removes it all the same.
  # shellcheck disable=SC2086 # one word each
  [ -z "$ids" ] || as_target podman rm --force --time 5 $ids 2>&1 >/dev/null | sed '/Unable to clean up network/d' >&2
  ids=$(as_target podman volume ls --quiet --filter "$owner")
  # shellcheck disable=SC2086
  [ -z "$ids" ] || as_target podman volume rm --force $ids >/dev/null
  ids=$(as_target podman network ls --quiet --filter "$owner")
  # shellcheck disable=SC2086
  [ -z "$ids" ] || as_target podman network rm --force $ids >/dev/null
  ids=$(as_target podman secret ls --format '{{.Name}}' | grep "^$1\." || true)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || as_target podman secret rm $ids >/dev/null
}

remove_files() {
  local unit=$target_home/.config/systemd/user/mcp-manager.service
  if [ -e "$unit" ]; then
    as_target systemctl --user --quiet disable --now mcp-manager.service || true
    as_target rm -f "$unit"
    as_target systemctl --user daemon-reload || true
  fi
  as_target rm -rf "$installation" "$state" "$target_runtime/mcp-manager/$(recalled instance)"
  as_target rmdir --ignore-fail-on-non-empty "$target_runtime/mcp-manager" 2>/dev/null || true
}

#!/usr/bin/env bash
# guest.sh: runs as root in the machine of test-machine.sh, once at each of its starts: sets up and stops one service, then
# restarts the machine; looks, changes places, then cuts the power; looks again. The last line it writes is its status.
# The machine is thrown away: this changes it as it likes.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/machine.sh"
. "$(dirname "$0")/rootless.sh"
. "$(dirname "$0")/http.sh"
. "$(dirname "$0")/installation.sh"
cd "$(dirname "$0")/../.."

api=http://localhost:8000
stage_file=/var/lib/mcp-machine-test-stage
json=(--header 'content-type: application/json')
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin no_proxy='*'

end() {
  local status=$?
  trap - EXIT
  if [ "$status" != 0 ] && [ -f "${manager_log:-}" ]; then tail -n 40 "$manager_log"; fi
  echo "guest-status=$status"
  sync
  systemctl poweroff
  sleep infinity
}

main() {
  trap end EXIT
  local stage
  stage=$(cat "$stage_file" 2>/dev/null || echo set_up)
  step "stage $stage, $(cut -d. -f1 /proc/uptime) s after the start of the machine"
  # Only this line names what comes next: a machine that starts once more than it should ends here.
  echo none >"$stage_file"
  choose_target mcp-manager
  "stage_$stage"
}

stage_none() { fail "the machine started when nobody asked it to"; }

stage_set_up() {
  connect
  # The kernel comes from outside, and emulated this takes minutes.
  if [ -f /etc/initramfs-tools/update-initramfs.conf ]; then sed -i 's/^update_initramfs=.*/update_initramfs=no/' /etc/initramfs-tools/update-initramfs.conf; fi
  ./scripts/quickstart.sh --binaries binaries
  look_up_target
  use_installation
  step "the machine enforces limits, and says so"
  limits_are_enforced
  a_hog_is_killed
  shell_image
  a_burner_gets_its_share
  a_fork_bomb_is_stopped
  step "storage is limited where the engine can do that"
  storage_is_limited
  step "a manager that breaks down is started again, and its services go on"
  kill -KILL "$(manager_pid)"
  wait_for_answer
  step "a second service, which is stopped"
  ask POST "$api/containers" "${json[@]}" --data '{"service_name": "idle", "template": "echo"}'
  expect_status 201
  ask POST "$api/containers/idle/stop"
  expect_status 200
  step "a restart of the machine"
  echo restarted >"$stage_file"
  restart_machine systemctl reboot
}

stage_restarted() {
  use_installation
  runs echo
  is_stopped idle
  step "now the other way round, and the power is cut"
  ask POST "$api/containers/idle/start"
  expect_status 200
  ask POST "$api/containers/echo/stop"
  expect_status 200
  echo power_cut >"$stage_file"
  # What the disk was given is the disk's affair; containers and manager go without a word.
  sync
  echo 1 >/proc/sys/kernel/sysrq
  restart_machine sh -c 'echo b >/proc/sysrq-trigger'
}

stage_power_cut() {
  use_installation
  runs idle
  is_stopped echo
  step "a unit of the manager's own making in the place of the quick start's"
  its_own_unit
  step "everything is taken away again"
  connect
  ./scripts/quickstart.sh --down
  local uid=$target_uid
  look_up_target
  [ -z "$target_uid" ] || fail "the user is still there"
  [ -z "$(ps -u "$uid" -o pid= 2>/dev/null)" ] || fail "processes of the user are still there"
  local left
  for left in "/home/$target" "/var/lib/systemd/linger/$target" "/run/user/$uid" /var/lib/mcp-manager-setup "/etc/systemd/system/user@$uid.service.d"; do
    [ ! -e "$left" ] || fail "$left is still there"
  done
}

# its_own_unit: 'install' replaces nobody's unit, sets the manager up so that systemd keeps it running, changes nothing the
# second time; 'uninstall' leaves the services running and nothing of the unit.
its_own_unit() {
  local unit=$target_home/.config/systemd/user/mcp-manager.service before
  own() { as_target "$manager" --quiet "$@"; }
  if own install >"$answers/install" 2>&1; then fail "a unit of somebody else was replaced"; fi
  grep -q 'was not written by' "$answers/install" || fail "the refusal has another reason" "$(cat "$answers/install")"
  as_target systemctl --user --quiet disable --now mcp-manager.service
  as_target rm -f "$unit"
  own --output table install --templates "$installation/templates" || fail "install failed" "$(as_target journalctl --user -n 20)"
  wait_for ready
  runs idle
  as_target systemctl --user is-enabled mcp-manager.service
  before=$(unit_pid)
  own --output table install --templates "$installation/templates" | tee "$answers/install"
  if ! grep -q unchanged "$answers/install" || [ "$(unit_pid)" != "$before" ]; then fail "installing it again changed something"; fi
  kill -KILL "$before"
  wait_for is_another "$before"
  wait_for ready
  runs idle
  note "ok  systemd started another manager in the place of a killed one"
  own --output table uninstall
  if [ -e "$unit" ] || [ -e "$(dirname "$unit")/default.target.wants/mcp-manager.service" ]; then fail "uninstall left its unit behind"; fi
  if curl -fs -o /dev/null --max-time 5 "$api/health"; then fail "the manager still runs"; fi
  [ "$(as_target podman inspect mcp-idle-1-1 --format '{{.State.Running}}')" = true ] || fail "the service did not go on"
  note "ok  the unit is gone, the service goes on"
}
unit_pid() { as_target systemctl --user show --property=MainPID --value mcp-manager.service; }
is_another() { case $(unit_pid) in 0 | '' | "$1") false ;; esac; }

# restart_machine COMMAND...: does not come back.
restart_machine() {
  trap - EXIT
  "$@"
  sleep infinity
}

# connect: the network that QEMU gives, by its fixed addresses.
connect() {
  local device
  device=$(find /sys/class/net -mindepth 1 -not -name lo -printf '%f\n' | head -n 1)
  [ -n "$device" ] || fail "the machine has no network card"
  ip link set lo up
  ip link set "$device" up
  ip address replace 10.0.2.15/24 dev "$device"
  ip route replace default via 10.0.2.2
  echo nameserver 10.0.2.3 >/etc/resolv.conf
}

# wait_for COMMAND...: until it succeeds; emulated machines are slow, so that the deadline is far away.
wait_for() {
  local tries=0
  until "$@"; do
    tries=$((tries + 1))
    [ "$tries" -lt 180 ] || fail "this did not come true within three minutes: $*"
    sleep 1
  done
}

ready() { curl -fs -o /dev/null --max-time 5 "$api/ready"; }
wait_for_answer() { wait_for curl -fs -o /dev/null --max-time 5 --resolve echo.localhost:8000:127.0.0.1 http://echo.localhost:8000/health; }
status_of() { curl -fs --max-time 5 "$api/containers/$1" | jq -r .status; }
has_status() { [ "$(status_of "$1")" = "$2" ]; }

# runs NAME: nobody but systemd started the manager, and nobody but the manager the service.
runs() {
  wait_for ready
  wait_for has_status "$1" running
  ask GET "http://$1.localhost:8000/echo/again"
  expect_status 200
  expect_member echo '"again"'
}

is_stopped() {
  ask GET "$api/containers/$1"
  expect_member status '"stopped"'
  expect_member desired '"stopped"'
  ask GET "http://$1.localhost:8000/echo/again"
  expect_status 503
}

# limits_are_enforced: the kernel's own files say what the template of echo asks for, and nobody warns.
limits_are_enforced() {
  local pid group
  ask GET "$api/containers/echo"
  [ "$(jq '.warnings // [] | length' <<<"$body")" = 0 ] || wrong "no warnings" "$body"
  pid=$(as_target podman inspect mcp-echo-1-1 --format '{{.State.Pid}}')
  group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
  same memory.max 67108864 "$(cat "$group/memory.max")"
  same pids.max 32 "$(cat "$group/pids.max")"
  same cpu.max '50000 100000' "$(cat "$group/cpu.max")"
  as_target "$manager" doctor >"$answers/doctor" || fail "doctor fails" "$(cat "$answers/doctor")"
  grep -E '^ok +limits' "$answers/doctor" || fail "doctor does not say that limits are enforced" "$(cat "$answers/doctor")"
}

same() { [ "$2" = "$3" ] || fail "$1 is $3, not $2"; note "ok  $1 is $2"; }

# a_hog_is_killed: by its limit, and nothing else: who else runs goes on with the processes that it had.
a_hog_is_killed() {
  local others
  others=$(others)
  ask POST "$api/containers" "${json[@]}" --data '{"service_name": "hog", "template": "echo", "memory_limit": "32m",
    "restart_policy": "no", "environment": {"MCP_ECHO_TEST_CONTROLS": "true"}}'
  expect_status 201
  curl -s --max-time 60 --resolve hog.localhost:8000:127.0.0.1 -o /dev/null -X POST http://hog.localhost:8000/allocate/100 || true
  wait_for has_status hog exited
  ask GET "$api/containers/hog"
  expect_member oom_killed true
  expect_member code 137
  same 'the processes of the others' "$others" "$(others)"
  "$manager" status hog | tee "$answers/status"
  ask DELETE "$api/containers/hog"
  expect_status 204
}

# others: the processes of the manager, of Podman's service and of echo.
others() {
  echo "manager $(manager_pid), podman $(pgrep --uid "$target_uid" --full 'podman.* system service' | tr '\n' ' '), echo" \
    "$(as_target podman inspect mcp-echo-1-1 --format '{{.State.Pid}} {{.RestartCount}}')"
}

# shell_image: localhost/shell, the machine's own shell with what it is linked with, since nothing else is at hand.
shell_image() {
  local folder library
  folder=$(as_target mktemp -d)
  for library in /bin/sh $(ldd /bin/sh | grep -oE '/[^ ]+'); do
    # shellcheck disable=SC2016 # for the shell inside
    as_target sh -c 'mkdir -p "$1/root$(dirname "$2")" && cp -L "$2" "$1/root$2"' sh "$folder" "$library"
  done
  # shellcheck disable=SC2016 # for the shell inside
  as_target sh -c 'cd "$1" && printf "FROM scratch\nCOPY root/ /\n" >Dockerfile && podman build --quiet -t localhost/shell . && cd / && rm -rf "$1"' \
    sh "$folder" >/dev/null || fail "the image of a shell could not be made"
}

# shell_service NAME SCRIPT MEMBERS: a service that runs the script; $group is then its control group.
shell_service() {
  local pid
  ask POST "$api/containers" "${json[@]}" --data "{\"service_name\": \"$1\", \"image\": \"localhost/shell\", \"pull_policy\": \"never\",
    \"command\": [\"/bin/sh\", \"-c\", \"$2\"], $3}"
  expect_status 201
  pid=$(as_target podman inspect "mcp-$1-1-1" --format '{{.State.Pid}}')
  group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
}

was_refused() { [ "$(sed -n 's/^max //p' "$group/pids.events")" -gt 0 ]; }
used() { sed -n 's/^usage_usec //p' "$group/cpu.stat"; }

# a_burner_gets_its_share: two loops without end on two processors get half of one, within 15 %.
a_burner_gets_its_share() {
  local used began share
  shell_service burner 'while :; do :; done & while :; do :; done' '"cpu_limit": "0.5"'
  sleep 2
  began=$(date +%s%N) used=$(used)
  sleep 20
  share=$((($(used) - used) * 100000 / ($(date +%s%N) - began)))
  note "ok  with a limit of 0.50 it used 0.$share of a processor"
  if [ "$share" -lt 42 ] || [ "$share" -gt 58 ]; then fail "a limit of half a processor gave $share hundredths"; fi
  ask DELETE "$api/containers/burner"
  expect_status 204
}

# a_fork_bomb_is_stopped: it gets no further process, and the manager and another service go on answering.
a_fork_bomb_is_stopped() {
  shell_service bomb 'while :; do sh -c \"while :; do :; done\" & done 2>/dev/null' '"pids_limit": 24, "cpu_limit": "0.3", "restart_policy": "no"'
  wait_for was_refused
  [ "$(cat "$group/pids.current")" -le 24 ] || fail "there are $(cat "$group/pids.current") processes, not 24"
  note "ok  $(cat "$group/pids.current") processes of 24, $(sed -n 's/^max //p' "$group/pids.events") refused"
  ask GET "$api/containers/bomb"
  expect_status 200
  ask GET http://echo.localhost:8000/echo/still
  expect_status 200
  ask DELETE "$api/containers/bomb"
  expect_status 204
}

# storage_is_limited: by an engine of root's, on XFS with quotas for projects, since no other one can; a service that writes
# without end gets as much as it asked for, within a quarter, and twice as much where it asked for twice.
storage_is_limited() {
  local folder=/var/tmp/quota podman pid tries=0 limit written
  ensure_packages /var/log/quota-packages.log xfsprogs
  mkdir -p "$folder/storage"
  truncate -s 1G "$folder/disk"
  mkfs.xfs -q "$folder/disk"
  mount -o loop,pquota "$folder/disk" "$folder/storage"
  podman="podman --root $folder/storage --runroot $folder/run --tmpdir $folder/tmp"
  as_target podman save --quiet localhost/shell | $podman load --quiet >/dev/null
  $podman system service --time 0 "unix://$folder/podman.sock" >"$folder/podman.log" 2>&1 &
  pid=$!
  "$manager" serve --listen 127.0.0.1:8100 --set "backend.socket=$folder/podman.sock" --set backend.instance=quota \
    --set "audit.file=$folder/audit.jsonl" --templates "$installation/templates" >"$folder/manager.log" 2>&1 &
  pid+=" $!"
  until curl -fs -o /dev/null --max-time 5 http://127.0.0.1:8100/ready; do
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || fail "the manager of root's engine is not ready" "$(tail -n 5 "$folder/manager.log" "$folder/podman.log")"
    sleep 1
  done
  for limit in 4 8; do
    # A kilobyte after the other, until that fails; nobody may write into the topmost folder.
    # shellcheck disable=SC2016 # for the shell inside
    ask POST http://127.0.0.1:8100/containers "${json[@]}" --data "$(printf '{"service_name": "writer-%s", "image": "localhost/shell",
      "pull_policy": "never", "read_only": false, "restart_policy": "no", "storage_limit": "%sm", "command": ["/bin/sh", "-c", "%s"]}' "$limit" "$limit" \
      'b=$(printf %1023s); i=0; while echo \"$b\" >>/bin/fill; do i=$((i+1)); done 2>/dev/null; echo wrote-$i-KiB')"
    expect_status 201
    tries=0
    until [[ $body == *wrote-* ]]; do
      tries=$((tries + 1))
      [ "$tries" -lt 180 ] || fail "writer-$limit does not come to an end" "$(shown)"
      sleep 1
      ask GET "http://127.0.0.1:8100/containers/writer-$limit/logs?stream=stdout"
    done
    written=$(sed -nE 's/.*wrote-([0-9]+)-KiB.*/\1/p' <<<"$body" | head -n 1)
    if [ "$written" -gt $((limit * 1024)) ] || [ "$written" -lt $((limit * 768)) ]; then
      fail "with a limit of $limit MiB a service wrote $written KiB"
    fi
    right "with a limit of $limit MiB a service wrote $written KiB"
    ask DELETE "http://127.0.0.1:8100/containers/writer-$limit"
    expect_status 204
  done
  # shellcheck disable=SC2086 # two process ids
  kill $pid
  # shellcheck disable=SC2086
  wait $pid || true
  umount "$folder/storage/overlay" 2>/dev/null || true
  umount "$folder/storage" && rm -rf "$folder"
}

main

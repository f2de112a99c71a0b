# shellcheck shell=bash
# Rootless Podman for one user: the user, its id ranges, runtime folder, devices and, only where Podman's defaults
# cannot work on this machine, settings. Everything made is written to the record first and unmade by undo_rootless.
# Needs common.sh and machine.sh. Callers first run `choose_target NAME`.

# Ids inside the containers, root's among them, are mapped to as many of the user's extra ids outside.
subids=65536

# choose_target NAME: sets $target, $target_uid, $target_gid, $target_home, $target_runtime and $record.
# For root NAME is a user made for the purpose; for anybody else the target is that person.
choose_target() {
  if am_root; then
    target=$1
    record=/var/lib/mcp-manager-setup/$target.record
    if [ "$target" = root ]; then fail "the manager's user cannot be root: containers run unprivileged, always"; fi
  else
    target=$(id -un)
    record=${XDG_STATE_HOME:-$HOME/.local/state}/mcp-manager-setup/record
  fi
  look_up_target
}

look_up_target() {
  local entry
  target_uid='' target_gid='' target_home='' target_runtime=''
  entry=$(getent passwd "$target") || return 0
  target_uid=$(cut -d: -f3 <<<"$entry")
  target_gid=$(cut -d: -f4 <<<"$entry")
  target_home=$(cut -d: -f6 <<<"$entry")
  target_runtime=/run/user/$target_uid
  if ! am_root && [ -n "${XDG_RUNTIME_DIR:-}" ]; then target_runtime=$XDG_RUNTIME_DIR; fi
}

# as_target COMMAND...: runs it as the target, in its home, with the environment of target_settings and nothing else.
# Signals that scripts ignore are reset and the script's lock is closed, because what runs on would inherit both.
as_target() {
  local settings become=()
  target_settings
  if am_root; then become=(setpriv --reuid "$target_uid" --regid "$target_gid" --init-groups); fi
  (cd "$target_home" && exec 9<&- && exec ${become[@]+"${become[@]}"} env -i --default-signal "${settings[@]}" "$@")
}

# target_settings: fills $settings with the target's environment. The array $hand_over names variables of ours to add.
hand_over=()
target_settings() {
  local name
  settings=(HOME="$target_home" USER="$target" LOGNAME="$target" LANG=C.UTF-8
    PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin XDG_RUNTIME_DIR="$target_runtime"
    PODMAN_IGNORE_CGROUPSV1_WARNING=1) # we say ourselves what old cgroups cannot do
  if [ -S "$target_runtime/bus" ]; then settings+=(DBUS_SESSION_BUS_ADDRESS="unix:path=$target_runtime/bus"); fi
  for name in http_proxy https_proxy no_proxy SSL_CERT_FILE SSL_CERT_DIR ${hand_over[@]+"${hand_over[@]}"}; do
    if [ -n "${!name:-}" ]; then settings+=("$name=${!name}"); fi
  done
}

# set_up_rootless: all of it. Quick and silent where everything is there already.
set_up_rootless() {
  remember_folders
  ensure_user
  ensure_subids
  ensure_runtime_folder
  ensure_devices
  check_user_namespaces
  ensure_podman_settings
  check_podman
}

ensure_user() {
  [ -z "$target_uid" ] || return 0
  step "making the user $target, who will run the containers (rootless: nothing runs them as root)"
  remember user "$target"
  # No ids here: ensure_subids gives them, in one place for new and existing users.
  as_root useradd --create-home --shell /usr/sbin/nologin --comment "mcp-manager containers" \
    -K SUB_UID_COUNT=0 -K SUB_GID_COUNT=0 "$target" || fail "the user $target could not be made" "See useradd's message above."
  look_up_target
}

# subids_of FILE: how many ids the target has there.
subids_of() { awk -F: -v name="$target" -v uid="$target_uid" '$1 == name || $1 == uid { sum += $3 } END { print sum + 0 }' "$1" 2>/dev/null || echo 0; }

ensure_subids() {
  [ "$(subids_of /etc/subuid)" -ge "$subids" ] && [ "$(subids_of /etc/subgid)" -ge "$subids" ] && return
  local first last
  # One range for both files, above every range that anybody has.
  first=$(awk -F: '{ end = $2 + $3; if (end > top) top = end } END { print (top < 100000 ? 100000 : top) }' /etc/subuid /etc/subgid 2>/dev/null || echo 100000)
  last=$((first + subids - 1))
  [ "$last" -lt 4294967294 ] || fail "there is no free range of $subids ids above the ones in /etc/subuid and /etc/subgid" \
    "Give $target a range of at least $subids there by hand."
  step "giving $target the ids $first to $last for its containers (/etc/subuid, /etc/subgid)"
  remember subids "$first-$last"
  as_root touch /etc/subuid /etc/subgid
  as_root usermod --add-subuids "$first-$last" --add-subgids "$first-$last" "$target" ||
    fail "the ids could not be added to /etc/subuid and /etc/subgid" "See usermod's message above."
  # A user namespace that Podman keeps from before does not know the new ids.
  if have podman && [ -d "$target_runtime/libpod" ]; then as_target podman system migrate || true; fi
}

ensure_runtime_folder() {
  if has_systemd; then
    delegate_cgroups
    # The target's own systemd gives it its runtime folder, its cgroups, and keeps containers when nobody is logged in.
    if [ ! -e "/var/lib/systemd/linger/$target" ]; then
      step "letting $target's processes live without a login (loginctl enable-linger)"
      remember linger "$target"
      as_root loginctl enable-linger "$target" || fail "loginctl could not enable lingering for $target" "Is systemd-logind running?"
    fi
    local tries=0
    until [ -S "$target_runtime/bus" ]; do
      tries=$((tries + 1))
      [ "$tries" -le 300 ] || fail "the user session of $target did not start within a minute" \
        "Look at: systemctl status user@$target_uid.service"
      sleep 0.2
    done
    return
  fi
  [ -d "$target_runtime" ] && [ "$(stat -c %u "$target_runtime")" = "$target_uid" ] && return
  step "making $target_runtime (no systemd here that would)"
  remember folder "$target_runtime"
  if [ ! -d "$(dirname "$target_runtime")" ]; then
    remember parent "$(dirname "$target_runtime")"
    as_root mkdir -p -m 755 "$(dirname "$target_runtime")"
  fi
  as_root install -d -o "$target_uid" -g "$target_gid" -m 700 "$target_runtime"
}

# delegate_cgroups: Debian 12's systemd gives users memory and pids, but not the CPU, whose limits would not count. It reads
# the setting when it starts the user's session, so that only a user whom we made gets it: nobody's session is restarted.
delegate_cgroups() {
  local folder=/etc/systemd/system/user@$target_uid.service.d
  [ -n "$(recalled user)" ] && [ ! -d "$folder" ] || return 0
  [[ " $(systemctl show --property=DelegateControllers --value "user@$target_uid.service") " != *" cpu "* ]] || return 0
  step "letting $target limit its containers' CPU ($folder)"
  remember folder "$folder"
  mkdir -p "$folder"
  printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >"$folder/50-mcp-manager.conf"
  systemctl daemon-reload
}

# ensure_devices: the two devices that rootless containers open, with the access Debian's udev gives them.
ensure_devices() {
  ensure_device /dev/net/tun 10 200 "rootless networks (slirp4netns, pasta)"
  ensure_device /dev/fuse 10 229 "rootless storage where the kernel has no overlay for users (fuse-overlayfs)"
}

ensure_device() {
  local device=$1 major=$2 minor=$3 purpose=$4
  if [ ! -c "$device" ]; then
    step "making $device: $purpose"
    remember device "$device"
    if [ ! -d "$(dirname "$device")" ]; then remember parent "$(dirname "$device")"; fi
    as_root mkdir -p "$(dirname "$device")"
    as_root mknod -m 666 "$device" c "$major" "$minor" ||
      fail "there is no $device, and it cannot be made here; $purpose need it." \
        "In a container: start it with '--device $device'. Else: modprobe $(basename "$device")."
  fi
  as_target test -r "$device" -a -w "$device" && return
  step "opening $device to all users, as Debian's udev does: $purpose"
  remember mode "$(stat -c %a "$device") $device"
  as_root chmod 666 "$device"
}

check_user_namespaces() {
  local answer
  answer=$(as_target unshare --user --map-root-user true 2>&1) && return
  local sysctl
  for sysctl in kernel/unprivileged_userns_clone:1 user/max_user_namespaces:65536 kernel/apparmor_restrict_unprivileged_userns:0; do
    local file=/proc/sys/${sysctl%:*} want=${sysctl#*:} value
    [ -r "$file" ] || continue
    value=$(cat "$file")
    case ${sysctl%:*}:$value in
      kernel/unprivileged_userns_clone:0 | user/max_user_namespaces:0 | kernel/apparmor_restrict_unprivileged_userns:1)
        fail "the kernel does not let users make user namespaces; rootless containers are made of them." \
          "As root: sysctl -w $(tr / . <<<"${sysctl%:*}")=$want    (and a line in /etc/sysctl.d/ to keep it)" ;;
    esac
  done
  fail "$target may not make user namespaces: ${answer:-no reason given}" \
    "In a container: start it with '--security-opt seccomp=unconfined --security-opt systempaths=unconfined'." \
    "In a chroot: the kernel allows none there; enter it with pivot_root, or as a machine of its own."
}

# ensure_podman_settings: settings for what cannot work by default, in files of our own, and the reason of each.
ensure_podman_settings() {
  local folder=$target_home/.config/containers wanted=() reasons=() layout
  layout=$(cgroup_layout)
  if [ "$layout" != v2 ]; then
    if have runc; then
      wanted+=('runtime = "runc"')
      reasons+=("cgroups here are $layout, where crun refuses to start rootless containers: runc does it")
    fi
    wanted+=('cgroup_manager = "cgroupfs"')
    reasons+=("systemd hands out no cgroups to users here: cgroupfs (limits cannot be enforced on $layout; the manager says so)")
  elif ! has_systemd; then
    wanted+=('cgroup_manager = "cgroupfs"')
    reasons+=("no systemd runs: cgroupfs")
  fi
  if ! has_systemd; then
    wanted+=('events_logger = "file"')
    reasons+=("no journal runs: events go to a file")
  fi
  # Health checks that are commands run often; each would leave two processes behind for these seconds, 300 by default.
  wanted+=('exit_command_delay = 2')
  reasons+=("a command that ran in a container leaves two processes behind for so many seconds")
  local index own=$folder/containers.conf ours=$folder/containers.conf.d/50-mcp-manager.conf lines=''
  for index in "${!wanted[@]}"; do
    # What somebody set on purpose stays.
    grep -qsE "^[[:space:]]*${wanted[index]%% *}[[:space:]]*=" "$own" && continue
    lines+="# ${reasons[index]}"$'\n'"${wanted[index]}"$'\n'
  done
  [ -z "$lines" ] || put_setting "$ours" "[engine]"$'\n'"$lines"
  # Podman may choose vfs, which copies every layer whole, unless told otherwise before the first image.
  if [ ! -e "$folder/storage.conf" ] && [ ! -e /etc/containers/storage.conf ] && [ ! -e "$target_home/.local/share/containers/storage" ]; then
    put_setting "$folder/storage.conf" '[storage]'$'\n''# Left alone, Podman may choose vfs, which copies every layer whole.'$'\n''driver = "overlay"'$'\n'
  fi
}

# put_setting FILE TEXT: writes a settings file of ours, unless it says that already, and says what is in it.
put_setting() {
  # shellcheck disable=SC2016 # the inner shell expands
  as_target sh -c 'test -f "$1" && test "$(cat "$1")" = "$(printf %s "$2")"' sh "$1" "$2" && return
  step "writing $1:"
  local line
  while IFS= read -r line; do note "  $line"; done <<<"${2%$'\n'}"
  remember file "$1"
  # shellcheck disable=SC2016 # the inner shell expands
  as_target sh -c 'mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1"' sh "$1" "$2"
}

# ask_hub: has the target's Podman ask MCP_TEST_HUB, a registry that stands in for Docker Hub; false where none answers.
ask_hub() {
  local text
  [ -n "${MCP_TEST_HUB:-}" ] && curl -fs -o /dev/null --max-time 5 "http://$MCP_TEST_HUB/v2/" || return 1
  text=$(printf '[[registry]]\nprefix = "docker.io"\nlocation = "%s"\ninsecure = true' "$MCP_TEST_HUB")
  if [ -n "$(recalled user)" ]; then
    put_setting "$(hub_setting)" "$text"
  else
    # Somebody's own Podman keeps asking whom it asks; only what is done here is told otherwise.
    printf '%s\n' "$text" >"$cache/registries.conf"
    export CONTAINERS_REGISTRIES_CONF=$cache/registries.conf
    hand_over+=(CONTAINERS_REGISTRIES_CONF)
  fi
}

# forget_hub: takes back what ask_hub has set for a user that was made here.
forget_hub() { if [ -n "$(recalled user)" ]; then as_target rm -f "$(hub_setting)"; fi; }

hub_setting() { echo "$target_home/.config/containers/registries.conf.d/50-mcp-manager-test.conf"; }

# ask_podman: asks the target's Podman for its storage driver, which every command of it needs; what it says instead.
ask_podman() { as_target podman info --format '{{.Store.GraphDriverName}}' 2>&1; }

# check_podman: that Podman starts for the target; tries fuse-overlayfs where the kernel has no overlay for users.
check_podman() {
  local answer tries=0 storage=$target_home/.config/containers/storage.conf
  if [ ! -e "$target_home/.local/share/containers" ]; then remember storage "$target_home/.local/share/containers"; fi
  answer=$(ask_podman) && return
  # Whatever ends all of Podman's processes at once and keeps its runtime folder, as the restart of a container does that
  # this runs in, leaves containers that Podman takes for running. It names the way out itself, and gives up at each of them
  # in turn; after that it still takes their file systems for mounted.
  while grep -q 'system migrate' <<<"$answer" && [ "$tries" -lt 100 ]; do
    [ "$tries" -gt 0 ] || step "Podman of $target lost all its processes; having it look anew (podman system migrate)"
    tries=$((tries + 1))
    as_target podman system migrate >/dev/null 2>&1 || true
    if answer=$(ask_podman); then
      as_target podman container cleanup --all >/dev/null 2>&1 || true
      return
    fi
  done
  if [ -c /dev/fuse ] && have fuse-overlayfs && [ "$(recalled_all file | grep -c "^$storage$")" != 0 ] && grep -qi overlay <<<"$answer"; then
    warn "this kernel has no overlay for users; using fuse-overlayfs"
    put_setting "$storage" '[storage]'$'\n''driver = "overlay"'$'\n''[storage.options.overlay]'$'\n''mount_program = "/usr/bin/fuse-overlayfs"'$'\n'
    answer=$(ask_podman) && return
  fi
  fail "rootless Podman does not start for $target:" "$(tail -n 5 <<<"$answer")" \
    "newuidmap and newgidmap (package uidmap) must keep their setuid bit: a nosuid file system takes it away."
}

# target_processes: the ids of the processes of the target and of its containers (which run under its extra ids).
target_processes() {
  local folder uid range ranges
  mapfile -t ranges < <(awk -F: -v name="$target" '$1 == name { print $2 " " $2 + $3 - 1 }' /etc/subuid 2>/dev/null)
  for folder in /proc/[0-9]*; do
    uid=$(stat -c %u "$folder" 2>/dev/null) || continue
    if [ "$uid" = "$target_uid" ]; then echo "${folder#/proc/}"; continue; fi
    for range in ${ranges[@]+"${ranges[@]}"}; do
      if [ "$uid" -ge "${range% *}" ] && [ "$uid" -le "${range#* }" ]; then echo "${folder#/proc/}"; fi
    done
  done
}

# undo_rootless: takes away what the record says was made, and nothing else. Status 1: some of it is still needed.
undo_rootless() {
  local item made
  [ -f "$record" ] || return 0
  made=$(recalled_all made)
  if [ -n "$(recalled user)" ]; then
    if [ -n "$target_uid" ]; then end_target_user; fi
  else
    undo_settings_of_a_person || return 1
  fi
  while read -r item; do [ ! -e "$item" ] || as_root rm -rf "$item"; done < <(recalled_all folder)
  while read -r item; do [ ! -e "${item#* }" ] || as_root chmod "${item%% *}" "${item#* }"; done < <(recalled_all mode)
  while read -r item; do [ ! -e "$item" ] || as_root rm -f "$item"; done < <(recalled_all device)
  while read -r item; do [ ! -e "$item" ] || as_root rmdir --ignore-fail-on-non-empty "$item"; done < <(recalled_all parent)
  if [ -z "${keep_packages:-}" ]; then remove_packages; fi
  rm -f "$record"
  rmdir "$(dirname "$record")" 2>/dev/null || true
  while read -r item; do [ ! -d "$item" ] || rmdir --ignore-fail-on-non-empty "$item"; done <<<"$made"
}

# undo_settings_of_a_person: the target was there before us and stays, with all that is its own. While it keeps things
# of its own in Podman, what Podman needs here stays too (status 1).
undo_settings_of_a_person() {
  local item storage
  storage=$(recalled storage)
  if [ -n "$storage" ] && have podman && [ -d "$storage" ]; then
    if [ -n "$(as_target podman ps -aq)$(as_target podman images -aq)$(as_target podman volume ls -q)" ]; then
      note "$target has containers, images or volumes that are not ours: $storage and Podman's settings stay for them."
      note "Remove them (podman system prune --all --volumes) and run this again to be rid of those, too."
      return 1
    fi
    # Files of other ids inside are removed as root of the user's namespace; Podman holds one folder mounted until it ends.
    as_target podman unshare rm -rf "$storage" 2>/dev/null || true
    as_target podman system migrate >/dev/null 2>&1 || true
    as_target rm -rf "$storage" "$target_runtime/containers" "$target_runtime/libpod" "$target_runtime/crun" "$target_runtime/runc" \
      "/dev/shm/libpod_rootless_lock_$target_uid"
    as_target rm -rf "$target_runtime/netns" 2>/dev/null || true
  fi
  while read -r item; do as_target rm -f "$item"; done < <(recalled_all file)
  # Podman 4 leaves a lock there, even where it never uses the folder.
  if recalled_all made | grep -q '/cni$'; then as_target rm -f "$target_home/.config/cni/net.d/cni.lock"; fi
  if [ -n "$(recalled linger)" ]; then as_root loginctl disable-linger "$target" || true; fi
  if [ -n "$(recalled subids)" ]; then
    as_root usermod --del-subuids "$(recalled subids)" --del-subgids "$(recalled subids)" "$target" || true
  fi
}

# remember_folders: which common folders of a person's home are not there yet, before anything makes them.
remember_folders() {
  local folder
  # Packages are installed, and noted, before there is a user whose home it could be.
  [ -n "$target_uid" ] && ! grep -qsv '^package=' "$record" || return 0
  local missing=()
  for folder in .config .config/cni .config/cni/net.d .config/containers .config/containers/containers.conf.d \
    .config/systemd .config/systemd/user .config/systemd/user/default.target.wants .cache .local .local/share .local/state; do
    [ -d "$target_home/$folder" ] || missing+=("$target_home/$folder")
  done
  for folder in ${missing[@]+"${missing[@]}"}; do remember made "$folder"; done
}

# end_target_user: a user that we made goes with all it has: processes, containers, storage, home, ids.
end_target_user() {
  step "removing the user $target with its containers, storage, home and processes"
  local tries=0 ids
  if has_systemd; then
    as_root loginctl disable-linger "$target" 2>/dev/null || true
    as_root systemctl stop "user@$target_uid.service" 2>/dev/null || true
  fi
  while ids=$(target_processes) && [ -n "$ids" ]; do
    # shellcheck disable=SC2086 # one word each
    if [ "$tries" -lt 15 ]; then kill -TERM $ids 2>/dev/null || true; else kill -KILL $ids 2>/dev/null || true; fi
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || fail "processes of $target do not end: $(tr '\n' ' ' <<<"$ids")"
    sleep 0.2
  done
  # Podman keeps its state of the moment in the runtime folder, and in /tmp when that is missing; its locks are shared memory.
  rm -rf "$target_runtime" /tmp/{podman-run,containers-user,storage-run,run}-"$target_uid" "/dev/shm/libpod_rootless_lock_$target_uid"
  rm -rf "$target_home"
  userdel "$target" || fail "the user $target could not be removed" "See userdel's message above."
  look_up_target
}

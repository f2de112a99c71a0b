# shellcheck shell=bash
# The machine as it is: distribution, packages, disk, ports, unprivileged user namespaces, cgroups.
# Asks and installs; leaves users and Podman's settings to rootless.sh.

# debian_release: 12, 13, or another version number of Debian; ID and version elsewhere; fails without apt.
debian_release() {
  local ID='' VERSION_ID=''
  # shellcheck source=/dev/null
  [ -r /etc/os-release ] && . /etc/os-release
  have apt-get || fail "this machine has no apt-get (${ID:-unknown system}); the script sets up Debian 12 and 13." \
    "Elsewhere: install rootless Podman 4.3 or newer and Rust 1.95, then 'cargo build --release' and 'mcp-manager serve'."
  if [ "$ID" = debian ]; then echo "${VERSION_ID:-sid}"; else echo "$ID-$VERSION_ID"; fi
}

# podman_packages: what rootless Podman needs on this release.
podman_packages() {
  # crun is Debian's choice, but cannot run on the older layouts of cgroups.
  local runtime=crun
  [ "$(cgroup_layout)" = v2 ] || runtime=runc
  case $(debian_release) in
    12) echo podman "$runtime" uidmap slirp4netns fuse-overlayfs netavark aardvark-dns catatonit iptables ;;
    13) echo podman "$runtime" uidmap passt fuse-overlayfs netavark aardvark-dns catatonit nftables ;;
    *)
      warn "$(debian_release) is neither Debian 12 nor 13; trying Debian 13's package names"
      echo podman "$runtime" uidmap passt fuse-overlayfs netavark aardvark-dns catatonit nftables ;;
  esac
  # Where systemd runs, Podman asks the user's own systemd for cgroups, through the user's own bus.
  if has_systemd; then echo dbus-user-session; fi
}

build_packages() { echo gcc libc6-dev make pkg-config; }
basic_packages() { echo ca-certificates curl util-linux; }

has_systemd() { [ -d /run/systemd/system ]; }

# ensure_packages LOG PACKAGE...: installs what is missing; asks nobody and writes nothing when nothing is.
ensure_packages() {
  local log=$1 package missing=() unreachable cut_off=''
  unreachable='Could not resolve|Temporary failure resolving|Could not connect|Connection refused|Network is unreachable|Failed to fetch'
  shift
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! am_root; then need_sudo "apt-get install ${missing[*]}"; fi
  with_progress "refreshing apt's lists" "$log" as_root apt-get -q update ||
    warn "apt's lists could not be refreshed completely; trying with what is there"
  # apt counts lists that it could not fetch as a success.
  if grep -qE "$unreachable" "$log"; then cut_off=yes; fi
  remember_packages "${missing[@]}"
  with_progress "installing ${missing[*]}" "$log" \
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" || {
    # Who installs them by other means keeps them.
    forget_packages
    # Without lists it knows no package at all.
    if grep -qE "$unreachable${cut_off:+|Unable to locate package|has no installation candidate}" "$log"; then
      fail "apt cannot reach the Debian archive, and these packages are missing: ${missing[*]}" \
        "Give the machine network (or a proxy: export http_proxy), or install them by other means:" \
        "  apt-get install --no-install-recommends ${missing[*]}"
    fi
    if grep -q 'Unable to locate package' "$log"; then
      fail "apt does not know: $(sed -n 's/.*Unable to locate package //p' "$log" | tr '\n' ' ')" \
        "Without lists (no network?) or without Debian's 'main' in /etc/apt/sources.list* it cannot." "The log: $log"
    fi
    fail "apt-get could not install ${missing[*]}" "See the lines above, or $log. Another apt may be running."
  }
}

# remember_packages PACKAGE...: which packages their installation will bring that are not there yet.
remember_packages() {
  local package
  while read -r package; do remember package "$package"; done < <(
    LC_ALL=C apt-get -q -s install --no-install-recommends "$@" 2>/dev/null | sed -n 's/^Inst \([^ ]*\) (.*/\1/p'
  )
}

# forget_packages: those noted that are not there after all.
forget_packages() {
  local package
  while read -r package; do
    is_installed "$package" || sed -i "/^package=$package\$/d" "$record"
  done < <(recalled_all package)
}

# is_installed PACKAGE
is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# other_setups: the records of everybody else who has set something up here, root's users and people.
other_setups() {
  local home other
  for other in /var/lib/mcp-manager-setup/*.record; do echo "$other"; done
  while IFS=: read -r _ _ _ _ _ home _; do echo "$home/.local/state/mcp-manager-setup/record"; done < <(getent passwd)
}

# remove_packages: takes away the packages that were installed for this set-up, but for those that something else has
# come to need. Another set-up inherits them.
remove_packages() {
  local package other installed=() fit kept=()
  while read -r package; do if is_installed "$package"; then installed+=("$package"); fi; done < <(recalled_all package)
  [ ${#installed[@]} -gt 0 ] || return 0
  # In a process of its own, which is all that ends where root's rights are not to be had.
  (am_root || need_sudo "apt-get purge of the packages that were installed") || {
    warn "the Debian packages stay: ${installed[*]}"
    return 0
  }
  while read -r other; do
    if [ "$other" = "$record" ] || ! as_root test -f "$other"; then continue; fi
    printf 'package=%s\n' "${installed[@]}" | as_root tee -a "$other" >/dev/null
    note "The Debian packages stay for another set-up: $other"
    return 0
  done < <(other_setups)
  step "looking which of ${#installed[@]} Debian packages others need by now"
  # What needs one of those that stay is itself among them, hence again until nothing else would go.
  while [ ${#installed[@]} -gt 0 ] && [ -n "$(goes_besides "${installed[*]}" "${installed[@]}")" ]; do
    fit=()
    for package in "${installed[@]}"; do
      if [ -z "$(goes_besides "$package" "${installed[@]}")" ]; then fit+=("$package"); else kept+=("$package"); fi
    done
    # Only together do they take something along: which of them is needed cannot be told.
    if [ ${#fit[@]} = ${#installed[@]} ]; then kept+=("${fit[@]}") fit=(); fi
    installed=(${fit[@]+"${fit[@]}"})
  done
  if [ ${#kept[@]} -gt 0 ]; then
    note "Debian packages that others need by now stay: ${kept[*]}"
    # They go with those others.
    as_root apt-mark auto "${kept[@]}" >/dev/null || true
  fi
  [ ${#installed[@]} -gt 0 ] || return 0
  with_progress "removing ${#installed[@]} Debian packages that were installed for it" "$cache/logs/apt.log" \
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q purge -y "${installed[@]}" ||
    warn "they could not be removed; the lines above say why. By hand: apt-get purge ${installed[*]}"
  for package in "${installed[@]}"; do as_root rm -f "/var/cache/apt/archives/$package"_*.deb || true; done
}

# goes_besides PACKAGES PACKAGE...: what would go with PACKAGES (in one word) that is not among the others.
goes_besides() {
  local going=$1
  shift
  # shellcheck disable=SC2086 # one word each
  LC_ALL=C apt-get -q -s purge $going 2>/dev/null | sed -n 's/^\(Purg\|Remv\) \([^ ]*\) .*/\2/p' | grep -vxF -f <(printf '%s\n' "$@") || true
}

# check_disk FOLDER MEGABYTES WHAT_FOR
check_disk() {
  local folder=$1 free
  while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
  free=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1024) }')
  [ "$free" -ge "$2" ] || fail "$folder has $free MB free; $3 needs about $2 MB." \
    "Free some, or put it elsewhere (see --help for the variables)."
}

# port_taken PORT: whether somebody listens on loopback's PORT (or on all addresses').
port_taken() {
  awk -v port=":$(printf '%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# port_owner PORT: "PID (command)" of the listener, as far as we may know it.
port_owner() {
  local inode descriptor pid
  inode=$(awk -v port=":$(printf '%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port { print $10; exit }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  descriptor=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$inode\]" 2>/dev/null | head -n 1)
  pid=${descriptor#/proc/}
  pid=${pid%%/*}
  if [ -n "$pid" ]; then
    echo "process $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c 1-80))"
  else
    echo "a process of another user (as root: ss -ltnp 'sport = :$1')"
  fi
}

# cgroup_layout: v2, hybrid or v1.
cgroup_layout() {
  if [ "$(stat -fc %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ]; then echo v2
  elif [ "$(stat -fc %T /sys/fs/cgroup/unified 2>/dev/null)" = cgroup2fs ]; then echo hybrid
  else echo v1; fi
}

#!/usr/bin/env bash
# What only a machine of one's own can show, in a virtual one: the quick start on a bare Debian with systemd, limits that
# the kernel enforces, and services that come back as they were after a restart of the machine and after a power cut.
#
#   MCP_TEST_VM=FOLDER ./scripts/test-machine.sh [--binaries FOLDER] [--seconds N]
#
# Options:
#   --binaries FOLDER   use mcp-manager and mcp-echo from there rather than building them
#   --seconds N         give up after N seconds (default 1500; emulated, a run takes 4 to 8 minutes)
#   --help              this text
#
# MCP_TEST_VM is the root folder of a Linux with qemu-system-x86_64, and in it vm/vmlinuz, vm/initrd and vm/guest.img: a
# Debian 13 with systemd, curl and jq, whose disk is not changed. The machine gets 2 processors, 2 GiB, and the network of
# this one through QEMU, because the quick start installs packages in it. Runs as root. What happens inside is
# scripts/lib/guest.sh, which is all that the machine needs to bring to a test by hand, too.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/machine.sh"
. "$(dirname "$0")/lib/build.sh"

binaries='' seconds=1500
while [ $# -gt 0 ]; do
  case $1 in
    --binaries | --seconds)
      [ $# -ge 2 ] || fail "$1 needs a value" "See: $0 --help"
      case $1 in --binaries) binaries=$2 ;; --seconds) seconds=$2 ;; esac
      shift ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) fail "unknown argument $1" "See: $0 --help" ;;
  esac
  shift
done

main() {
  local vm=${MCP_TEST_VM:-}
  am_root || fail "run this as root: QEMU is entered by chroot"
  [ -n "$vm" ] || fail "MCP_TEST_VM is not set: there is no machine" "See: $0 --help"
  [ -f "$vm/vm/guest.img" ] && [ -x "$vm/usr/bin/qemu-system-x86_64" ] || fail "$vm holds no machine" "See: $0 --help"
  choose_cache
  find_binaries
  work=$(mktemp -d "$vm/vm/test.XXXXXX") qemu=''
  trap clean_up EXIT
  trap 'exit 130' INT TERM
  pack
  boot "$vm"
}

clean_up() {
  if [ -n "$qemu" ]; then kill -KILL "$qemu" 2>/dev/null || true; fi
  rm -rf "$work"
}

find_binaries() {
  if [ -z "$binaries" ]; then
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
    mkdir -p "$cache/logs"
    # shellcheck disable=SC2046 # one word each
    ensure_packages "$cache/logs/apt.log" $(basic_packages) $(build_packages)
    ensure_rust
    step "building the binaries"
    cargo_here build --release --locked --quiet --bins || fail "the build failed"
    binaries=$CARGO_TARGET_DIR/$(host_triple)/release
  fi
  [ -x "$binaries/mcp-manager" ] && [ -x "$binaries/mcp-echo" ] || fail "$binaries lacks mcp-manager or mcp-echo"
}

# pack: a disk with the checkout and the binaries, which the machine mounts as /job.
pack() {
  mkdir -p "$work/job/binaries"
  tar -C "$checkout" -cf - scripts docker templates Cargo.toml | tar -C "$work/job" --no-same-owner -xf -
  cp "$binaries/mcp-manager" "$binaries/mcp-echo" "$work/job/binaries/"
  truncate -s "$(($(du -sm "$work/job" | cut -f1) * 3 / 2 + 64))M" "$work/job.img"
  mkfs.ext4 -q -F -d "$work/job" "$work/job.img"
}

# boot VM: runs the machine until it turns itself off, showing what it says; its last line is its status.
boot() {
  local inside=${work#"$1"} unit shown=0 status=''
  unit=$(printf '%s\n' '[Unit]' 'After=multi-user.target' '[Service]' 'Type=oneshot' \
    'ExecStart=/bin/sh -c "mount /dev/vdb /mnt; exec /bin/bash /mnt/scripts/lib/guest.sh"' \
    'StandardOutput=tty' 'StandardError=tty' 'TTYPath=/dev/ttyS1' | base64 -w 0)
  step "booting"
  : >"$work/out"
  # The disk is written to a scratch file that outlives the machine's own restarts, and goes with QEMU.
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/tmp chroot "$1" qemu-system-x86_64 -accel kvm -accel tcg,thread=multi -cpu max -smp 2 -m 2048 \
    -nographic -monitor none -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= -kernel /vm/vmlinuz -initrd /vm/initrd \
    -append "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 systemd.mask=guest-run.service systemd.wants=job.service \
systemd.set_credential_binary=systemd.extra-unit.job.service:$unit" \
    -drive file=/vm/guest.img,format=raw,if=virtio,snapshot=on -drive "file=$inside/job.img,format=raw,if=virtio" \
    -serial "file:$inside/console" -serial "file:$inside/out" </dev/null >"$work/qemu.log" 2>&1 &
  qemu=$!
  while kill -0 "$qemu" 2>/dev/null && [ "$SECONDS" -lt "$seconds" ]; do
    sleep 1
    shown=$(show_from "$shown")
  done
  kill -KILL "$qemu" 2>/dev/null || true
  wait "$qemu" 2>/dev/null || true
  qemu=''
  show_from "$shown" >/dev/null
  status=$(tr -d '\r' <"$work/out" | sed -n 's/^guest-status=//p' | tail -n 1)
  [ -n "$status" ] || fail "the machine said no status within $seconds s" "$(tail -n 15 "$work/qemu.log"; tail -n 15 "$work/console")"
  [ "$status" = 0 ] || fail "the machine's status is $status; the reason is above"
  step "passed in $SECONDS s"
}

# show_from N: shows what the machine said after its line N, and prints the number of lines there are.
show_from() {
  tail -n "+$(($1 + 1))" "$work/out" | tr -d '\r' >&2
  wc -l <"$work/out"
}

main

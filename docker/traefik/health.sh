#!/usr/local/bin/busybox sh
# Whether Traefik is healthy: it answers, and had the certificate that it was told of. Without one every handshake fails,
# though Traefik itself runs on. What is missing is said in the container's log, too.
set -u
missing=/tmp/certificate-missing

unhealthy() {
  echo "traefik-health: $1" >&2
  # The first process's output is the container's log.
  { echo "traefik-health: $1" >/proc/1/fd/2; } 2>/dev/null || true
  exit 1
}

for file in ${MCP_CERTIFICATE:+"$MCP_CERTIFICATE.crt" "$MCP_CERTIFICATE.key"}; do
  if [ ! -s "$file" ] || [ ! -r "$file" ]; then
    : >"$missing"
    unhealthy "TLS=own, but ${file##*/} is not in docker/traefik/certificates or cannot be read; see ./scripts/make-certificate.sh --help, then restart traefik"
  fi
done
# Traefik reads certificates when it starts, and /tmp is empty then.
[ ! -e "$missing" ] || unhealthy "the certificate is there now, and Traefik takes it with a restart: docker compose restart traefik"
exec traefik healthcheck

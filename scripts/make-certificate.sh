#!/usr/bin/env bash
# Makes a certificate for the composition's TLS (TLS=own in .env), signed by an authority of this checkout's own.
#
#   ./scripts/make-certificate.sh [NAME...]       for localhost, traefik.localhost and NAME.localhost each
#
# Writes docker/traefik/certificates/tls.crt and tls.key, and the authority's ca.crt once. Its key is kept in
# docker/traefik/authority, which no container sees. Traefik takes up a new certificate after
# `docker compose restart traefik`. Names with a dot are taken as they are (*.mcp.example.org). Clients must be told to trust ca.crt: curl --cacert docker/traefik/certificates/ca.crt.
# A wildcard for *.localhost is in it too, but many clients take no wildcard directly below a top-level name, so name
# the services. Needs openssl.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/common.sh"
case ${1:-} in -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
have openssl || fail "openssl is missing" "Install it: apt-get install openssl"
folder=$checkout/docker/traefik/certificates
authority=$checkout/docker/traefik/authority
names='DNS:localhost,DNS:*.localhost,DNS:traefik.localhost,IP:127.0.0.1'
for name in "$@"; do
  [[ $name =~ ^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || fail "'$name' is not a name"
  case $name in *.*) names+=,DNS:$name ;; *) names+=,DNS:$name.localhost ;; esac
done
umask 077
mkdir -p "$folder" "$authority"
# Earlier it lay beside the certificates.
if [ -e "$folder/ca.key" ]; then mv "$folder/ca.key" "$authority/ca.key"; fi
rm -f "$folder/ca.srl"
if [ ! -e "$authority/ca.key" ]; then
  step "making an authority of this checkout's own"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=mcp-manager local authority" \
    -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign \
    -keyout "$authority/ca.key" -out "$folder/ca.crt" 2>/dev/null || fail "openssl could not make the authority"
fi
step "a certificate for ${names//DNS:/}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout "$work/tls.key" -out "$work/tls.csr" 2>/dev/null
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' "$names" >"$work/extensions"
openssl x509 -req -in "$work/tls.csr" -CA "$folder/ca.crt" -CAkey "$authority/ca.key" -CAserial "$authority/ca.srl" \
  -CAcreateserial -days 825 -sha256 -extfile "$work/extensions" -out "$work/tls.crt" 2>/dev/null || fail "openssl could not sign the certificate"
# Traefik's user is not the one who runs this, so the folder and the key are readable; the authority's key is not.
install -m 644 "$work/tls.crt" "$folder/tls.crt"
install -m 644 "$work/tls.key" "$folder/tls.key"
chmod 755 "$folder"
chmod 644 "$folder/ca.crt"
note "in $folder; next: TLS=own in .env, then docker compose up -d"

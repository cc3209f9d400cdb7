#!/usr/bin/env bash
# Makes a self-signed certificate for localhost: certs/dev.crt and certs/dev.key (git-ignored). Development only.
#
#   scripts/dev-cert.sh [--force]    --force replaces a certificate that is still valid
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
"" | --force) ;;
-h | --help)
    sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
*) fail "unknown argument \`$1\`, expected \`--force\` or nothing" 2 ;;
esac

certificate="$root/certs/dev.crt"
key="$root/certs/dev.key"
command -v openssl >/dev/null || fail "openssl is missing: run \`make setup\`" 2

if [ "${1:-}" != --force ] && [ -s "$key" ] &&
    openssl x509 -in "$certificate" -noout -checkend 86400 >/dev/null 2>&1; then
    say "certs/dev.crt is still valid"
    exit 0
fi

# The key is created unreadable to others, not made so afterwards.
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -sha256 \
    -subj "/CN=localhost" \
    -addext "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1" \
    -addext "basicConstraints=critical,CA:FALSE" \
    -addext "keyUsage=critical,digitalSignature" \
    -addext "extendedKeyUsage=serverAuth" \
    -keyout "$key.new" -out "$certificate.new" 2>/dev/null || fail "openssl could not make the certificate"
chmod 0644 "$certificate.new"
mv "$key.new" "$key"
mv "$certificate.new" "$certificate"
say "made certs/dev.crt and certs/dev.key for localhost, 127.0.0.1 and ::1, valid for 90 days"

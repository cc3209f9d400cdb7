#!/usr/bin/env bash
# Looks at what is shipped without starting it: the Dockerfile (hadolint), the compose file, the Kubernetes example and the
# systemd unit against their schemas and each other, their configurations by riskgate itself, the bill of materials.
#
#   scripts/lint-deploy.sh [BINARY]     default: target/debug/riskgate
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

binary=$(realpath "${1:-$root/target/debug/riskgate}")
[ -x "$binary" ] || fail "$binary is missing: build it first" 2

requirements="$root/tests/deploy/requirements.txt"
place="$vendor/deploy-venv"
if ! cmp --silent "$requirements" "$place/requirements.txt"; then
    say "fetching what looks at deploy/"
    rm -rf "$place"
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    # Last: an interrupted run is seen as not done.
    cp "$requirements" "$place/requirements.txt"
fi

say "Dockerfile: hadolint"
"$place/bin/hadolint" "$root/Dockerfile"
say "compose, Kubernetes, systemd, bill of materials, licences"
cd "$root"
RISKGATE_BIN=$binary "$place/bin/python" -B -m unittest discover --quiet --start-directory tests/deploy

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

place="$vendor/deploy-venv"
python_environment "$place" "$root/tests/deploy/requirements.txt" "what looks at deploy/"

say "Dockerfile: hadolint"
"$place/bin/hadolint" "$root/Dockerfile"
say "compose, Kubernetes, systemd, bill of materials, licences"
cd "$root"
RISKGATE_BIN=$binary "$place/bin/python" -B -m unittest discover --quiet --start-directory tests/deploy

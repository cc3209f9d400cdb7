#!/usr/bin/env bash
# Checks the spelling of the repository with typos, from its pinned Python package, in an environment under vendor/.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=1.52.0
place="$vendor/typos-venv"
if [ "$("$place/bin/typos" --version 2>/dev/null)" != "typos-cli $version" ]; then
    say "fetching typos $version"
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check "typos==$version"
fi
say "spelling: typos"
"$place/bin/typos" --config "$root/typos.toml" "$root"
say "spelling: no typos found"

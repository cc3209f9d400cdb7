#!/usr/bin/env bash
# Tests what deploy/ and the Dockerfile promise, without a container engine: lints the Dockerfile and the examples, lays the
# image's root out by the image's own script, and runs it confined (tests/image/check_image.py).
#
#   scripts/test-image.sh [BINARY] [SIMULATOR]     default: target/debug/riskgate and target/debug/wso2-sim
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

binary=$(realpath "${1:-$root/target/debug/riskgate}")
simulator=$(realpath "${2:-$root/target/debug/wso2-sim}")
for program in "$binary" "$simulator"; do
    [ -x "$program" ] || fail "$program is missing: build it first" 2
done

"$root/scripts/lint-deploy.sh" "$binary"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
# The databases are data of 170 MB that change nothing here; with them the image differs in one folder.
"$root/scripts/image-root.sh" "$binary" "$work/root" --without-geo
say "running the image's root"
python3 "$root/tests/image/check_image.py" "$work/root" "$simulator"

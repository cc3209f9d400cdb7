#!/usr/bin/env bash
# Fetches the ONNX Runtime shared library into vendor/onnxruntime/ (git-ignored).
#
# The library comes out of the published Python wheel, whose digest is pinned here: the build itself links
# nothing and riskgate loads the file at start. Without it riskgate runs on its native evaluator and says so.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=1.31.1
case "$(uname -s)-$(uname -m)" in
Linux-x86_64)
    platform=manylinux_2_28_x86_64
    pin=1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536
    ;;
Linux-aarch64)
    platform=manylinux_2_28_aarch64
    pin=0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc
    ;;
*) fail "no ONNX Runtime is pinned for $(uname -s) on $(uname -m)" 2 ;;
esac

target="$vendor/onnxruntime"
library="libonnxruntime.so.$version"
stamp="$target/.pin"

if [ -s "$target/$library" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$pin" ]; then
    say "ONNX Runtime $version: already in vendor/onnxruntime"
    exit 0
fi

say "fetching ONNX Runtime $version (about 24 MB)"
mkdir -p "$target"
work=$(mktemp -d "$vendor/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
# The library is the same whatever the Python version of the wheel is.
fetch_wheel "$work" "onnxruntime==$version" \
    --platform "$platform" --implementation cp --python-version 312 --abi cp312
wheel=$(find "$work" -name '*.whl')
verify "$wheel" "$pin"
python3 -m zipfile -e "$wheel" "$work/wheel"

# The stamp goes first and comes back last: an interrupted run is seen as not done.
rm -f "$stamp"
install -m 0755 "$work/wheel/onnxruntime/capi/$library" "$target/$library.new"
mv "$target/$library.new" "$target/$library"
ln -sfn "$library" "$target/libonnxruntime.so"
install -m 0644 "$work/wheel/onnxruntime/LICENSE" "$work/wheel/onnxruntime/ThirdPartyNotices.txt" "$target/"
printf '%s\n' "$pin" >"$stamp"
say "ONNX Runtime $version: ready in vendor/onnxruntime"

#!/usr/bin/env bash
# Another program's opinion of the framing (docs/SECURITY-TESTS.md, B5): installs smugglex into target/tools, once, and lets
# the test run it against a gateway on the loopback. Debug build unless told otherwise.
#
#   scripts/smugglex.sh
#   scripts/smugglex.sh --release

set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=0.4.0
if ! [ -x target/tools/bin/smugglex ]; then
    cargo install --quiet --locked --root target/tools --version "$version" smugglex
fi
RISKGATE_SMUGGLEX="$PWD/target/tools/bin/smugglex" \
    cargo test --quiet --locked --package riskgate "$@" --test gateway -- --ignored --nocapture another_program_smuggles_nothing

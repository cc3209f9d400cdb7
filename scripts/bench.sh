#!/usr/bin/env bash
# Runs the benches.
#
#   scripts/bench.sh load     requests per second, latency and CPU beside a bare proxy; two minutes (default)
#   scripts/bench.sh micro    single steps: canonical form, features, score, decision, whole request, state
#
# Both build what they measure, optimised and with the locked dependencies. docs/PERFORMANCE.md says how to read the
# numbers. Everything listens on loopback and ends with the run.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

case "${1:-load}" in
load)
    command -v taskset >/dev/null || fail "taskset is missing; Debian has it in util-linux" 2
    say "building riskgate and the load bench (optimised; the first time takes several minutes)"
    cargo build --release --locked --package riskgate --bin riskgate
    say "load bench: about two minutes; ratios are paired within each round"
    cargo bench --quiet --locked --package riskgate --bench load
    ;;
micro)
    say "single steps"
    cargo bench --locked --package riskgate \
        --bench admit --bench decide --bench features --bench request --bench score --bench signing --bench state
    ;;
-h | --help)
    sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    ;;
*) fail "unknown bench \`$1\`, expected \`load\` or \`micro\`" 2 ;;
esac

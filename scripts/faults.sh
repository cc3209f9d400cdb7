#!/usr/bin/env bash
# Runs the faults of the state store against real redis-server processes, through a running gateway and against the
# stores alone, and prints a table. A test that fails is a login that failed, a decision that was late, a breaker that
# was late or a ticket that was redeemed twice; the script fails with it.
#
#   scripts/faults.sh            ten minutes, five of them with a server that flaps
#   FAULT_SECONDS=300 FLAP_SECONDS=20 FAILOVERS=1000 scripts/faults.sh

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/tries.sh
. scripts/tries.sh

export RISKGATE_FAULT_SECONDS="${FAULT_SECONDS:-20}"
export RISKGATE_FLAP_SECONDS="${FLAP_SECONDS:-300}"
export RISKGATE_FAILOVERS="${FAILOVERS:-100}"

run faults state:: fleet:: model:: disk:: sources::
run stores faults:: failovers:: cluster:: hostile two_nodes

table row '%-46.46s %6s %8s %9s %9s %9s %14s %9s %9s\n' \
    fault logins requests p99 slowest unscored 'without state' 'opened in' 'closed in'
echo "every login above went through: one that does not ends its test; tests that failed: $(grep -c 'panicked at' "$log" || true)"
echo
echo 'coming back, and what the stores say alone:'
also '.*(scored as before|scored after|recovered after|served again|tickets over failovers|every count is exact).*'
finish 'a fault was felt: see above'

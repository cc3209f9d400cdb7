#!/usr/bin/env bash
# Runs the faults of the state store against real redis-server processes, through a running gateway and against the
# stores alone, and prints a table. A test that fails is a login that failed, a decision that was late, a breaker that
# was late or a ticket that was redeemed twice; the script fails with it.
#
#   scripts/faults.sh            ten minutes, five of them with a server that flaps
#   FAULT_SECONDS=300 FLAP_SECONDS=20 FAILOVERS=1000 scripts/faults.sh

set -euo pipefail
cd "$(dirname "$0")/.."

export RISKGATE_FAULT_SECONDS="${FAULT_SECONDS:-20}"
export RISKGATE_FLAP_SECONDS="${FLAP_SECONDS:-300}"
export RISKGATE_FAILOVERS="${FAILOVERS:-100}"
export RUST_BACKTRACE=0

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
failed=0

run() {
    echo "--> $*"
    "$@" -- --nocapture --test-threads 1 >>"$log" 2>&1 || failed=1
}

for tests in state:: fleet::; do
    run cargo test --quiet --test faults "$tests"
done
for tests in faults:: failovers:: cluster:: hostile two_nodes; do
    run cargo test --quiet --test stores "$tests"
done

# "row|NAME|LOGINS|REQUESTS|P99|SLOWEST|UNSCORED|WITHOUT STATE|OPEN|CLOSED", after the end of another line perhaps.
echo
line='%-46.46s %6s %8s %9s %9s %9s %14s %9s %9s\n'
# shellcheck disable=SC2059 # the format is the one above
printf "$line" fault logins requests p99 slowest unscored 'without state' 'opened in' 'closed in'
grep -aoE 'row[|].*' "$log" | while IFS='|' read -r _ name logins requests p99 slowest unscored stateless open closed; do
    # shellcheck disable=SC2059
    printf "$line" "$name" "$logins" "$requests" "$p99" "$slowest" "$unscored" "$stateless" "$open" "$closed"
done
echo
echo "every login above went through: one that does not ends its test; tests that failed: $(grep -c 'panicked at' "$log" || true)"
echo
echo 'coming back, and what the stores say alone:'
grep -E 'scored as before|scored after|recovered after|served again|tickets over failovers|every count is exact' "$log" | sed 's/^/  /' || true
echo
grep -E '^test result|panicked at' "$log" || true
if [ "$failed" -ne 0 ]; then
    echo
    grep -E 'panicked at|assertion|FAILED' -A 3 "$log" | head -40 || true
    echo 'a fault was felt: see above'
    exit 1
fi

#!/usr/bin/env bash
# Runs the faults of the state store against real redis-server processes, through a running gateway and against the
# stores alone, and prints a table. A test that fails is a login that failed, a decision that was late or a ticket that was
# redeemed twice; the script fails with it.
#
#   scripts/faults.sh            some minutes
#   FAULT_SECONDS=300 FAILOVERS=1000 scripts/faults.sh

set -euo pipefail
cd "$(dirname "$0")/.."

export RISKGATE_FAULT_SECONDS="${FAULT_SECONDS:-20}"
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
for tests in faults:: failovers:: hostile two_nodes; do
    run cargo test --quiet --test stores "$tests"
done

# "NAME: 24 logins, 48 scored requests; decision median 1ms, p99 2ms, max 3ms; client …; scored {"state_timeout": 3}"
echo
printf '%-46s %7s %9s %12s %12s %12s\n' fault logins requests 'p99' 'slowest' 'stateless'
sed -i "s/^\.\+//" "$log"
awk '
    / logins, [0-9]+ scored requests; decision / {
        name = $0; sub(/: [0-9]+ logins,.*/, "", name)
        if (name ~ /once more/) next
        rest = substr($0, length(name) + 3)
        split(rest, words, " ")
        logins = words[1]; requests = words[3]
        match(rest, /p99 [^,]*/); p99 = substr(rest, RSTART + 4, RLENGTH - 4)
        match(rest, /max [^;]*/); slowest = substr(rest, RSTART + 4, RLENGTH - 4)
        stateless = 0
        while (match(rest, /"state_[a-z]*": [0-9]+/)) {
            part = substr(rest, RSTART, RLENGTH); sub(/.*: /, "", part); stateless += part
            rest = substr(rest, RSTART + RLENGTH)
        }
        share = requests > 0 ? sprintf("%.1f %%", 100 * stateless / requests) : "-"
        printf "%-46.46s %7d %9d %12s %12s %12s\n", name, logins, requests, p99, slowest, share
    }
    / logins went through; / {
        name = $0; sub(/: [0-9]+ logins .*/, "", name)
        rest = substr($0, length(name) + 3)
        split(rest, words, " ")
        match(rest, /[0-9.]+ % without/); share = substr(rest, RSTART, RLENGTH - 8)
        match(rest, /slowest decision .*/); slowest = substr(rest, RSTART + 17)
        printf "%-46.46s %7d %9d %12s %12s %12s\n", name, words[1], words[5], "-", slowest, share
    }
' "$log"
echo
echo "every login above went through: one that does not ends its test; tests that failed: $(grep -c 'panicked at' "$log" || true)"
echo
echo 'coming back, and what the stores say alone:'
grep -E 'scored as before|scored after|recovered after|served again after|tickets over failovers|moves its slots: [0-9]+ times' "$log" | sed 's/^/  /' || true
echo
grep -E '^test result|panicked at' "$log" || true
if [ "$failed" -ne 0 ]; then
    echo
    grep -E 'panicked at|assertion|FAILED' -A 3 "$log" | head -40 || true
    echo 'a fault was felt: see above'
    exit 1
fi

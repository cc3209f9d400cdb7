#!/usr/bin/env bash
# Runs the large tries of docs/SECURITY-TESTS.md with an optimised build and prints a row for each: what was tried, how
# often, how much of it was refused (or failed), and how much passed that should not have. A test that fails stops nothing,
# but the script ends with an error.
#
#   scripts/hardening.sh                      some minutes
#   SPELLINGS=1000000 LOGINS=10000 scripts/hardening.sh

set -euo pipefail
cd "$(dirname "$0")/.."

export RISKGATE_SPELLINGS="${SPELLINGS:-100000}"
export RISKGATE_REUSE_LOGINS="${LOGINS:-100000}"
export RISKGATE_FLOOD_LOGINS="${FLOOD_LOGINS:-3000}"
export RISKGATE_HARDENING=1
export RISKGATE_SOAK_SECONDS="${SOAK_SECONDS:-120}"
export RISKGATE_SOAK_SEED="${SOAK_SEED:-1}"
export RUST_BACKTRACE=0

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
failed=0

run() {
    echo "--> $*"
    cargo test --quiet --release --locked --package riskgate "$@" >>"$log" 2>&1 || failed=1
}

run --test tomcat -- --nocapture --test-threads 1
run --test faults -- --nocapture --test-threads 1 reuse flood saturation
run --test gateway -- --nocapture --test-threads 1 patience places smuggling http2
run --test lifecycle -- --nocapture --test-threads 1

# "hardening|NAME|TRIES|REFUSED|PASSED", after the end of another line perhaps.
echo
line='%-84.84s %9s %9s %14s\n'
# shellcheck disable=SC2059 # the format is the one above
printf "$line" row tries refused 'passed wrongly'
grep -aoE 'hardening[|].*' "$log" | while IFS='|' read -r _ name tries refused passed; do
    # shellcheck disable=SC2059
    printf "$line" "$name" "$tries" "$refused" "$passed"
done
echo
echo 'and beside them:'
grep -aoE '(spellings|forms|probes)[^|]*[0-9].*|[a-zA-Z ]+: given up after .*|[0-9]+ idle connections.*|(reload|faults|memory|open files): .*' "$log" | sed 's/^/  /' || true
echo
grep -aE '^test result' "$log" || true
if [ "$failed" -ne 0 ]; then
    grep -aE 'panicked at|error' -A 3 "$log" | head -40 || true
    echo 'something was not held: see above'
    exit 1
fi

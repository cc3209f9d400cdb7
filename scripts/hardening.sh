#!/usr/bin/env bash
# Runs the large tries of docs/SECURITY-TESTS.md with an optimised build and prints a row for each: what was tried, how
# often, how much of it was refused (or failed), and how much passed that should not have.
#
#   scripts/hardening.sh                      an hour, on two cores
#   SPELLINGS=1000000 LOGINS=10000 scripts/hardening.sh
#   scripts/hardening.sh faults               one of its test binaries: tomcat, faults, gateway, lifecycle;
#                                             or smugglex

set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/tries.sh
. scripts/tries.sh

export RISKGATE_SPELLINGS="${SPELLINGS:-100000}"
export RISKGATE_REUSE_LOGINS="${LOGINS:-100000}"
export RISKGATE_FLOOD_LOGINS="${FLOOD_LOGINS:-3000}"
export RISKGATE_HARDENING=1
export RISKGATE_SOAK_SECONDS="${SOAK_SECONDS:-120}"
export RISKGATE_SOAK_SEED="${SOAK_SEED:-1}"
build=(--release)

wanted() {
    [ "$only" = all ] || [ "$only" = "$1" ]
}
only="${1:-all}"
wanted tomcat && run tomcat
wanted faults && run faults reuse flood saturation
wanted gateway && run gateway patience places smuggling http2 canary terminal
wanted lifecycle && run lifecycle
# Another program's opinion of the framing; installed when it is not there yet.
wanted smugglex && { scripts/smugglex.sh "${build[@]}" >>"$log" 2>&1 || failed=1; }

table hardening '%-84.84s %9s %9s %14s\n' row tries refused 'passed wrongly'
echo 'and beside them:'
also '([0-9]+ of )?[0-9]+ (spellings|forms|probes)[^|]*[0-9].*|[a-zA-Z ]+: given up after .*|[0-9]+ idle connections.*|(reload|faults|memory|open files|canaries|smugglex): .*'
finish 'something was not held: see above'

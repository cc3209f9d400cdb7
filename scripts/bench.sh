#!/usr/bin/env bash
# Runs the benches.
#
#   scripts/bench.sh load     requests per second, latency and CPU beside a bare proxy; some minutes (default). With
#                             BENCH_PROFILE=dist as it is shipped (optimised over all crates)
#   scripts/bench.sh peers    installs what others offer (nginx, HAProxy: Debian, as root; Envoy, FastAPI: vendor/bench-venv);
#                             the load bench then measures those as well
#   scripts/bench.sh instructions  instructions of a request beside the bare proxy's, by valgrind; runs of one build differ
#   scripts/bench.sh micro    single steps: canonical form, features, score, decision, plan, record, whole request, state;
#                             fails where one is above the budget that stands beside it
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
    profile=${BENCH_PROFILE:-release}
    say "building riskgate and the load bench (profile $profile; the first time takes several minutes)"
    cargo build --profile "$profile" --locked --package riskgate --bin riskgate
    say "load bench: some minutes; ratios are paired within each round"
    cargo bench --quiet --profile "$profile" --locked --package riskgate --bench load
    if [ -x "$vendor/bench-venv/bin/python" ]; then
        "$vendor/bench-venv/bin/python" benches/load/plot.py target/bench/load.json target/bench/load.svg
        say "target/bench/load.svg"
    fi
    ;;
peers)
    missing=()
    for program in nginx haproxy; do
        PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || missing+=("$program")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        [ "$(id -u)" = 0 ] || fail "missing: ${missing[*]}; as root: apt-get install ${missing[*]}" 2
        say "installing ${missing[*]}"
        # Debian starts what it installs; the bench has processes of its own.
        RUNLEVEL=1 apt-get install --yes --no-install-recommends "${missing[@]}"
    fi
    python_environment "$vendor/bench-venv" "$root/benches/load/requirements.txt" "Envoy and the scorers' libraries"
    say "\`make bench\` compares with them now"
    ;;
instructions)
    command -v valgrind >/dev/null || fail "valgrind is missing: apt-get install valgrind" 2
    say "instructions of a request (profile release; some minutes)"
    cargo bench --quiet --locked --package riskgate --bench load -- instructions
    ;;
micro)
    say "single steps"
    cargo bench --locked --package riskgate --bench admit --bench audit --bench decide --bench features \
        --bench request --bench score --bench signing --bench state --no-fail-fast
    ;;
-h | --help)
    sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    ;;
*) fail "unknown bench \`$1\`, expected \`load\`, \`peers\`, \`instructions\` or \`micro\`" 2 ;;
esac
